//! A picture as a row of patches, each projected: a convolution whose windows do not overlap.

use tch::Tensor;

use super::Linear;
use crate::{Init, Params, Pass, Role};

/// The patches of a picture, `[batch, 3, height, width] -> [batch, patches, width]`, row by row from the top left.
///
/// Where the windows do not overlap, a convolution is one matrix product over rearranged pixels, which is faster than
/// libtorch's convolution on a CPU and equal up to the order of sums.
#[derive(Debug)]
pub struct Patches {
    linear: Linear,
    size: i64,
    width: i64,
}

impl Patches {
    /// Takes the kernel `weight` `[width, 3, size, size]` from `params`; no bias, as in CLIP.
    pub fn new(params: &Params, size: i64, width: i64) -> Self {
        // PyTorch's default of a convolution: uniform within 1 / √inputs.
        let init = Init::Uniform(((3 * size * size) as f64).powf(-0.5));
        let weight = params.tensor("weight", &[width, 3, size, size], Role::Weight, init);
        Self {
            linear: Linear::over(params, weight),
            size,
            width,
        }
    }

    /// As [`new`](Self::new), with a `bias` `[width]`: ViT's and SigLIP's.
    pub fn with_bias(params: &Params, size: i64, width: i64) -> Self {
        let patches = Self::new(params, size, width);
        let bias = params.tensor("bias", &[width], Role::Bias, Init::Constant(0.0));
        Self {
            linear: patches.linear.with_bias(bias),
            ..patches
        }
    }

    /// How wide a projected patch is.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// How many patches a picture of a height and a width has; rests at the right and at the bottom are left out.
    pub fn count(&self, [height, width]: [i64; 2]) -> i64 {
        (height / self.size) * (width / self.size)
    }

    /// Pixels to projected patches.
    pub fn forward(&self, pixels: &Tensor, pass: Pass) -> Tensor {
        let size = pixels.size();
        let (batch, height, width) = (size[0], size[2], size[3]);
        let (rows, columns, size) = (height / self.size, width / self.size, self.size);
        let windows = pixels
            .narrow(2, 0, rows * size)
            .narrow(3, 0, columns * size)
            .reshape([batch, 3, rows, size, columns, size])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch, rows * columns, 3 * size * size]);
        self.linear.forward(&windows, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{built, wave};

    #[test]
    fn equals_the_convolution_also_where_patches_leave_a_rest() {
        for make in [Patches::new, Patches::with_bias] {
            let (patches, parameters) = built(|params| make(params, 4, 6));
            let mut parameters = parameters.iter();
            let weight = &parameters.next().unwrap().tensor;
            let bias = parameters.next().map(|bias| &bias.tensor);
            for [height, width] in [[8, 12], [11, 9]] {
                let pixels = wave(0.3, &[2, 3, height, width]);
                let got = patches.forward(&pixels, Pass::INFER);
                let want = pixels
                    .conv2d(weight, bias, [4, 4], [0, 0], [1, 1], 1)
                    .flatten(2, 3)
                    .transpose(1, 2);
                assert_eq!(got.size(), [2, patches.count([height, width]), 6]);
                let difference = (got - want).abs().max().double_value(&[]);
                assert!(difference < 1e-5, "{difference}");
            }
        }
    }
}
