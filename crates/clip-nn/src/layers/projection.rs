//! From a tower's width to the common space.

use clip_core::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Init, Params, Pass, Role};

/// What stands between a tower and the common space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ProjectionConfig {
    /// `x W` (+ bias): CLIP's.
    Linear {
        /// Whether it has a bias.
        #[serde(default)]
        bias: bool,
    },
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self::Linear { bias: false }
    }
}

/// A projection `[batch, width] -> [batch, dim]`.
#[derive(Debug)]
pub struct Projection {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Projection {
    /// Takes its weights from `params`.
    pub fn new(config: &ProjectionConfig, width: i64, dim: i64, params: &Params) -> Result<Self> {
        let ProjectionConfig::Linear { bias } = config;
        let weight = params.tensor(
            "weight",
            &[dim, width],
            Role::Weight,
            Init::Normal((width as f64).powf(-0.5)),
        );
        let bias = bias.then(|| params.tensor("bias", &[dim], Role::Bias, Init::Constant(0.0)));
        Ok(Self { weight, bias })
    }

    /// `[batch, width] -> [batch, dim]`.
    pub fn forward(&self, pooled: &Tensor, _: Pass) -> Tensor {
        pooled.linear(&self.weight, self.bias.as_ref())
    }
}
