//! Convolution over pictures.

use tch::{Kind, Tensor};

use super::weight::Weight;
use crate::{Init, Params, Pass, Role};

/// What is added around a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// As much as `⌈side / stride⌉` outputs need, one more at the right and at the bottom where it is odd: TensorFlow's
    /// `SAME`, which depends on the picture's size.
    Same,
    /// This much at every side, as PyTorch pads: `⌊(side + 2 padding − kernel) / stride⌋ + 1` outputs.
    Sides(i64),
}

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Channels it takes.
    pub input: i64,
    /// Channels it gives.
    pub output: i64,
    /// Height and width of the kernel.
    pub kernel: i64,
    /// Step of the window.
    pub stride: i64,
    /// Groups of channels that see only each other; `input` for a depthwise convolution.
    pub groups: i64,
    /// What is added around.
    pub padding: Padding,
}

/// A convolution without bias, `[batch, input, height, width] -> [batch, output, rows, columns]`, as many as the
/// [`Padding`] says.
///
/// Computes in the pass's type and returns f32, like [`Linear`](super::Linear).
#[derive(Debug)]
pub struct Conv {
    weight: Weight,
    shape: ConvShape,
}

impl Conv {
    /// Takes `weight` `[output, input / groups, kernel, kernel]` from `params`. Fresh: normal with variance
    /// 2 / (outputs a pixel reaches), as EfficientNet starts.
    pub fn new(params: &Params, shape: ConvShape) -> Self {
        let ConvShape {
            input,
            output,
            kernel,
            groups,
            ..
        } = shape;
        let reached = (kernel * kernel * output / groups).max(1) as f64;
        let init = Init::Normal((2.0 / reached).sqrt());
        let sizes = [output, input / groups, kernel, kernel];
        Self {
            weight: Weight::new(params.tensor("weight", &sizes, Role::Weight, init)),
            shape,
        }
    }

    /// Pictures or feature maps, f32.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let weight = self.weight.to_kind(pass.compute.kind());
        self.convolve(x, &weight, None).to_kind(Kind::Float)
    }

    /// The kernel, f32.
    pub(crate) fn weight(&self) -> Tensor {
        self.weight.to_kind(Kind::Float)
    }

    /// With another kernel of the same shape, in that kernel's type.
    pub(crate) fn convolve(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let ConvShape {
            kernel, stride, groups, ..
        } = self.shape;
        let size = x.size();
        let [[top, bottom], [left, right]] = [size[2], size[3]].map(|side| match self.shape.padding {
            Padding::Same => same(side, kernel, stride),
            Padding::Sides(padding) => [padding; 2],
        });
        // Even padding is the operator's own, which spares a copy.
        let (x, padding) = if top == bottom && left == right {
            (x.shallow_clone(), [top, left])
        } else {
            (x.constant_pad_nd([left, right, top, bottom]), [0, 0])
        };
        x.to_kind(weight.kind())
            .conv2d(weight, bias, [stride, stride], padding, [1, 1], groups)
    }
}

/// How much `SAME` adds before and after a side of this length.
fn same(length: i64, kernel: i64, stride: i64) -> [i64; 2] {
    let windows = (length + stride - 1) / stride;
    let total = ((windows - 1) * stride + kernel - length).max(0);
    [total / 2, total - total / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{built, wave};

    #[test]
    fn same_padding_follows_the_size() {
        // As TensorFlow documents it: 224 at stride 2 with kernel 3 pads nothing before and one after.
        assert_eq!(same(224, 3, 2), [0, 1]);
        assert_eq!(same(225, 3, 2), [1, 1]);
        assert_eq!(same(7, 5, 1), [2, 2]);
        assert_eq!(same(14, 5, 2), [1, 2]);
        assert_eq!(same(5, 1, 2), [0, 0]);
    }

    #[test]
    fn equal_sides_are_pytorchs() {
        let shape = ConvShape {
            input: 2,
            output: 3,
            kernel: 3,
            stride: 2,
            groups: 1,
            padding: Padding::Sides(1),
        };
        let (conv, parameters) = built(|params| Conv::new(params, shape));
        let weight = &parameters.iter().next().unwrap().tensor;
        for side in [6, 7] {
            let x = wave(0.3, &[1, 2, side, side]);
            let want = x.conv2d(weight, None::<&Tensor>, [2, 2], [1, 1], [1, 1], 1);
            let got = conv.forward(&x, Pass::INFER);
            assert_eq!(got.size(), [1, 3, (side + 1) / 2, (side + 1) / 2]);
            assert_eq!(got, want);
        }
    }

    #[test]
    fn every_window_is_where_same_puts_it() {
        for ([height, width], groups) in [([6, 6], 1), ([7, 9], 1), ([6, 7], 2), ([1, 3], 2)] {
            let shape = ConvShape {
                input: 2,
                output: 4,
                kernel: 5,
                stride: 2,
                groups,
                padding: Padding::Same,
            };
            let (conv, parameters) = built(|params| Conv::new(params, shape));
            let x = wave(0.3, &[1, 2, height, width]);
            let y = conv.forward(&x, Pass::INFER);
            assert_eq!(y.size(), [1, 4, (height + 1) / 2, (width + 1) / 2]);
            let weight = &parameters.iter().next().unwrap().tensor;
            // The same sum by hand at each place, with zeros outside.
            let [top, left] = [same(height, 5, 2)[0], same(width, 5, 2)[0]];
            let at = |c: i64, row: i64, column: i64| {
                let inside = (0..height).contains(&row) && (0..width).contains(&column);
                if inside {
                    x.double_value(&[0, c, row, column])
                } else {
                    0.0
                }
            };
            for (o, row, column) in [(0, 0, 0), (3, 0, 0), (2, y.size()[2] - 1, y.size()[3] - 1)] {
                let first = if groups == 1 { 0 } else { o / 2 };
                let mut sum = 0.0;
                for c in 0..2 / groups {
                    for (i, j) in (0..5).flat_map(|i| (0..5).map(move |j| (i, j))) {
                        let pixel = at(first + c, row * 2 + i - top, column * 2 + j - left);
                        sum += weight.double_value(&[o, c, i, j]) * pixel;
                    }
                }
                assert!((y.double_value(&[0, o, row, column]) - sum).abs() < 1e-5);
            }
        }
    }
}
