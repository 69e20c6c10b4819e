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
        let hidden = self.fc1.forward_activated(x, self.activation, &self.fc2, pass);
        self.fc2.forward_hidden(&hidden, other, pass)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::layers::testing::{assert_close, built, wave};
    use crate::{Calibration, Compute, Fresh, InputWatch, Int8, LayerInput, ParamOptions};
    use tch::Kind;

    // With `wave` as in testing.rs, x = wave(0.3, 2, 3):
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
    fn in_bytes_it_is_near_whether_the_second_layers_input_is_known_or_not() {
        tch::set_num_threads(1);
        let build = |int8, activation| {
            let options = ParamOptions {
                fresh: Fresh::Everything,
                int8,
                ..ParamOptions::default()
            };
            let init = MlpInit {
                fc1: Init::Normal(0.2),
                fc2: Init::Normal(0.2),
            };
            let params = Params::new(None, options).tower("text").at("mlp");
            Mlp::new(&params, [32, 64], activation, init)
        };
        let known = |least, greatest| LayerInput {
            least,
            greatest,
            smoothing: Vec::new(),
        };
        let layers = [("text.mlp.fc1", known(-1.0, 1.0)), ("text.mlp.fc2", known(-0.2, 3.0))];
        let layers = layers.map(|(name, input)| (name.to_owned(), input)).into();
        let calibrated = Int8::Calibrated(Arc::new(Calibration { layers }));
        let x = wave(0.3, &[2, 5, 32]);
        let pass = Pass {
            compute: Compute::Int8,
            ..Pass::INFER
        };
        for activation in [Activation::QuickGelu, Activation::Gelu, Activation::Relu6] {
            let want = build(Int8::Uncalibrated, activation).forward(&x, Pass::INFER);
            for int8 in [Int8::Uncalibrated, calibrated.clone()] {
                let mlp = build(int8, activation);
                let got = mlp.forward_added(&x, &want, pass) - &want;
                let (a, b) = (got.flatten(0, -1), want.flatten(0, -1));
                let cosine = (a.dot(&b) / (a.norm() * b.norm())).double_value(&[]);
                assert!(cosine > 0.999, "{activation:?} {cosine}");
            }
        }
    }

    #[test]
    fn who_watches_sees_the_activations_themselves() {
        tch::set_num_threads(1);
        let watch = InputWatch::default();
        let options = ParamOptions {
            fresh: Fresh::Everything,
            watch: Some(watch.clone()),
            ..ParamOptions::default()
        };
        let init = MlpInit {
            fc1: Init::Normal(0.5),
            fc2: Init::Normal(0.5),
        };
        let params = Params::new(None, options).tower("text").at("mlp");
        let mlp = Mlp::new(&params, [32, 64], Activation::QuickGelu, init);
        let x = wave(0.3, &[10, 32]);
        let _ = mlp.forward(&x, Pass::INFER);
        let activations = Activation::QuickGelu.forward(&mlp.fc1.forward(&x, Pass::INFER));
        let seen = watch.seen()["text.mlp.fc2"].input(false);
        // Where products are packed, they give 1.702 times QuickGELU.
        assert!((seen.greatest - activations.max().double_value(&[])).abs() < 1e-4);
        assert!((seen.least - activations.min().double_value(&[])).abs() < 1e-4);
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
