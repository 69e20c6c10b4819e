//! `y = (x − mean) / sqrt(variance + eps) · weight + bias` over the last dimension.

use tch::Tensor;

use crate::{Init, Params, Role};

/// Layer normalisation (Ba et al., 2016), in f32 whatever the pass computes in.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `weight` (fresh: one) and `bias` (fresh: zero), `[width]` each, from `params`.
    pub fn new(params: &Params, width: i64, eps: f64) -> Self {
        Self {
            weight: params.tensor("weight", &[width], Role::Norm, Init::Constant(1.0)),
            bias: params.tensor("bias", &[width], Role::Norm, Init::Constant(0.0)),
            eps,
        }
    }

    /// `[.., width] -> [.., width]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

    // With `wave` as in testing.rs:
    // print(torch.nn.functional.layer_norm(wave(0.3, 2, 4), (4,), wave(0.1, 4), wave(0.17, 4), eps=0.01))
    const EXPECTED: [f32; 8] = [
        0.0353494, 0.272907, 0.6467562, 1.060612, 0.2432233, 0.4517917, 0.4620676, 0.1424956,
    ];

    #[test]
    fn agrees_with_pytorch() {
        let (norm, _) = built(|params| LayerNorm::new(params, 4, 0.01));
        assert_close(&norm.forward(&wave(0.3, &[2, 4])), &EXPECTED, 1e-6);
    }
}
