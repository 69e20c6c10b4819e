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

    /// Any leading dimensions.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let hidden = self.activation.forward(&self.fc1.forward(x, pass));
        self.fc2.forward(&hidden, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

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
}
