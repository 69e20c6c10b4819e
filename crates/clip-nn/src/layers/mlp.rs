//! `fc2(activation(fc1(x)))`: what stands behind attention in a transformer block.

use tch::Tensor;

use super::{Activation, Linear};
use crate::{Init, Params, Pass};

/// How fresh matrices start.
#[derive(Debug, Clone, Copy)]
pub struct MlpInit {
    /// The first.
    pub fc1: Init,
    /// The second.
    pub fc2: Init,
}

/// Two linear layers and an activation, `[.., width] -> [.., width]`.
#[derive(Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    /// Takes `fc1` `[hidden, width]` and `fc2` `[width, hidden]`, with biases, from `params`.
    pub fn new(params: &Params, [width, hidden]: [i64; 2], activation: Activation, init: MlpInit) -> Self {
        Self {
            fc1: Linear::new(&params.at("fc1"), [width, hidden], init.fc1),
            fc2: Linear::new(&params.at("fc2"), [hidden, width], init.fc2),
            activation,
        }
    }

    /// Any leading dimensions. The activation stays in the type of values between layers, as under PyTorch's autocast: in
    /// bf16 half the memory, and no casts.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.apply(x, None, pass)
    }

    /// What it makes of `x`, added to `other`.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor, pass: Pass) -> Tensor {
        self.apply(x, Some(other), pass)
    }

    fn apply(&self, x: &Tensor, other: Option<&Tensor>, pass: Pass) -> Tensor {
        let (hidden, factor) = self.fc1.forward_activated(x, self.activation, &self.fc2, pass);
        self.fc2.forward_scaled(&hidden, factor, other, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::layers::testing::{assert_close, built, wave};
    use tch::Kind;

    // With `wave` as in linear.rs, x = wave(0.3, 2, 3):
    // h = F.gelu(F.linear(x, wave(0.1, 5, 3), wave(0.17, 5)))
    // print(F.linear(h, wave(0.24, 3, 5), wave(0.31, 3)))
    const EXPECTED: [f32; 6] = [5.827683, 6.8106785, -0.2062851, 8.875068, 10.296326, -0.7275665];

    #[test]
    fn agrees_with_pytorch() {
        let zero = Init::Constant(0.0);
        let init = MlpInit { fc1: zero, fc2: zero };
        let (mlp, _) = built(|params| Mlp::new(params, [3, 5], Activation::Gelu, init));
        assert_close(&mlp.forward(&wave(0.3, &[2, 3]), Pass::INFER), &EXPECTED, 1e-6);
    }

    #[test]
    fn in_bf16_it_is_near_and_returns_f32() {
        let zero = Init::Constant(0.0);
        let init = MlpInit { fc1: zero, fc2: zero };
        let (mlp, parameters) = built(|params| Mlp::new(params, [3, 5], Activation::Gelu, init));
        let pass = Pass {
            compute: Compute::Bf16,
            ..Pass::TRAIN
        };
        let y = mlp.forward(&wave(0.3, &[2, 3]), pass);
        assert_eq!(y.kind(), Kind::Float);
        assert_close(&y, &EXPECTED, 6e-2);
        y.sum(Kind::Float).backward();
        assert!(
            parameters
                .iter()
                .all(|parameter| parameter.tensor.grad().kind() == Kind::Float)
        );
    }
}
