//! A dense layer over the token that is pooled, as BERT has it.

use tch::Tensor;

use super::Linear;
use crate::{Init, Params, Pass};

/// `tanh(x Wᵀ + b)` (Devlin et al., 2019): what Hugging Face calls `pooler_output`.
#[derive(Debug)]
pub struct Pooler {
    linear: Linear,
}

impl Pooler {
    /// Takes `weight` `[width, width]` and `bias` `[width]` from `params`.
    pub fn new(params: &Params, width: i64, init: Init) -> Self {
        Self {
            linear: Linear::new(params, [width, width], init),
        }
    }

    /// `[batch, width] -> [batch, width]`, f32.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.linear.forward(x, pass).tanh()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

    // With `wave` as in testing.rs:
    // print(torch.tanh(F.linear(wave(0.3, 2, 3), wave(0.1, 3, 3), wave(0.17, 3))))
    const EXPECTED: [f32; 6] = [0.4947657, 0.8215514, 0.935059, 0.6340705, 0.9384074, 0.9882835];

    #[test]
    fn agrees_with_pytorch() {
        let (pooler, _) = built(|params| Pooler::new(params, 3, Init::Constant(0.0)));
        assert_close(&pooler.forward(&wave(0.3, &[2, 3]), Pass::INFER), &EXPECTED, 1e-6);
    }
}
