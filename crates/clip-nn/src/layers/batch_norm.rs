//! `y = (x − mean) / sqrt(variance + eps) · weight + bias` a channel, with statistics that stay as they are.

use tch::Tensor;

use crate::{Init, Params, Role};

/// Batch normalisation (Ioffe and Szegedy, 2015) with frozen statistics, in training too: pictures of a batch then do not
/// depend on each other, so that micro-batches add up to the batch. Weight and bias are trained.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: f64,
}

impl BatchNorm {
    /// Takes `weight`, `bias`, `running_mean` and `running_var`, `[channels]` each, from `params`; a file's
    /// `num_batches_tracked` is of no use here.
    pub fn new(params: &Params, channels: i64, eps: f64) -> Self {
        Self::starting(params, channels, eps, 1.0)
    }

    /// With another fresh weight than one.
    pub(crate) fn starting(params: &Params, channels: i64, eps: f64, weight: f64) -> Self {
        params.disregard("num_batches_tracked");
        let take = |name, role, value| params.tensor(name, &[channels], role, Init::Constant(value));
        Self {
            weight: take("weight", Role::Norm, weight),
            bias: take("bias", Role::Norm, 0.0),
            mean: take("running_mean", Role::Buffer, 0.0),
            variance: take("running_var", Role::Buffer, 1.0),
            eps,
        }
    }

    /// The same as one factor and one summand a channel, `[channels]` each: `y = x · scale + shift`.
    pub(crate) fn scale_and_shift(&self) -> (Tensor, Tensor) {
        let scale = &self.weight / (&self.variance + self.eps).sqrt();
        let shift = &self.bias - &self.mean * &scale;
        (scale, shift)
    }

    /// Its tensors: what [`scale_and_shift`](Self::scale_and_shift) depends on.
    pub(crate) fn tensors(&self) -> [&Tensor; 4] {
        [&self.weight, &self.bias, &self.mean, &self.variance]
    }

    /// `[batch, channels, height, width]`, f32, to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.mean),
            Some(&self.variance),
            false,
            0.0,
            self.eps,
            true,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{built, values, wave};
    use tch::Kind;

    #[test]
    fn follows_the_formula_and_leaves_the_statistics() {
        let (norm, parameters) = built(|params| BatchNorm::new(params, 2, 1e-3));
        let tensors: Vec<Vec<f32>> = parameters.iter().map(|p| values(&p.tensor)).collect();
        let x = wave(0.3, &[2, 2, 1, 2]);
        let y = norm.forward(&x);
        for (i, (x, y)) in values(&x).iter().zip(values(&y)).enumerate() {
            let c = i / 2 % 2;
            let want = (x - tensors[2][c]) / (tensors[3][c] + 1e-3).sqrt() * tensors[0][c] + tensors[1][c];
            assert!((y - want).abs() < 1e-5);
        }
        y.sum(Kind::Float).backward();
        let after: Vec<Vec<f32>> = parameters.iter().map(|p| values(&p.tensor)).collect();
        assert_eq!(tensors, after);
        assert_eq!(parameters.trainable().count(), 2);
    }
}
