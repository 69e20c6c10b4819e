//! The bend between two linear layers, by the names that configs use.

use clip_core::Error;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// An activation function.
///
/// ```
/// use clip_nn::layers::Activation;
/// let activation: Activation = serde_json::from_str("\"gelu_pytorch_tanh\"").unwrap();
/// assert_eq!(activation, Activation::GeluTanh);
/// assert!(serde_json::from_str::<Activation>("\"gelux\"").unwrap_err().to_string().contains("quick_gelu"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Activation {
    /// `x Φ(x)`, Φ by the error function.
    #[default]
    Gelu,
    /// `x σ(1.702 x)`: OpenAI's approximation of GELU.
    QuickGelu,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`: another.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x σ(x)`.
    Silu,
}

/// Every name a config may use; the first of an activation is the one written.
const NAMES: [(&str, Activation); 9] = [
    ("gelu", Activation::Gelu),
    ("quick_gelu", Activation::QuickGelu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("relu6", Activation::Relu6),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
];

impl Activation {
    /// Applies it to every element, in the tensor's own type.
    pub fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::QuickGelu => x * (x * 1.702).sigmoid(),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::Silu => x.silu(),
        }
    }
}

impl TryFrom<String> for Activation {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, activation)| *activation).ok_or_else(|| {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Error::invalid(format!("there is no activation `{name}`; known: {}", known.join(", ")))
        })
    }
}

impl From<Activation> for String {
    fn from(activation: Activation) -> Self {
        let found = NAMES.iter().find(|(_, known)| *known == activation);
        found.map_or_else(Self::new, |(name, _)| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::assert_close;

    // x = torch.tensor([-3.0, -0.5, 0.25, 2.0, 7.0])
    // for y in (F.gelu(x), x * torch.sigmoid(1.702 * x), F.gelu(x, approximate="tanh"), F.relu6(x), F.silu(x)): print(y)
    #[rustfmt::skip]
    const EXPECTED: [(&str, [f32; 5]); 5] = [
        ("gelu", [-0.0040502, -0.1542688, 0.1496766, 1.9544997, 7.0]),
        ("quick_gelu", [-0.0180713, -0.1496116, 0.1511997, 1.9356586, 6.9999533]),
        ("gelu_pytorch_tanh", [-0.0036374, -0.154286, 0.1496754, 1.9545977, 7.0]),
        ("relu6", [0.0, 0.0, 0.25, 2.0, 6.0]),
        ("silu", [-0.1422776, -0.1887703, 0.1405441, 1.761594, 6.993623]),
    ];

    #[test]
    fn agree_with_pytorch_and_names_round_trip() {
        let x = Tensor::from_slice(&[-3f32, -0.5, 0.25, 2.0, 7.0]);
        for (name, expected) in &EXPECTED {
            let activation = Activation::try_from((*name).to_owned()).unwrap();
            assert_close(&activation.forward(&x), expected, 1e-6);
            assert_eq!(String::from(activation), *name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Activation::try_from("mish".to_owned()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no activation `mish`; known: gelu, quick_gelu, gelu_pytorch_tanh, gelu_new, gelu_fast, relu, \
             relu6, silu, swish"
        );
    }
}
