//! Low-rank adapters, as run.toml says them.

use clip_core::{Error, Result};
use clip_nn::Lora;
use serde::{Deserialize, Serialize};

/// LoRA (Hu et al., 2021): the towers keep their weights, and thin matrices beside some of their linear layers are trained
/// in their place. Projections and temperature are trained as without, unless `lock` names them. The models that are
/// written have the adapters merged: they are ordinary ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table, as `lora = { rank = 8, alpha = 16, targets = [\"qkv\"] }` or `--set lora.rank=8`"
)]
pub struct LoraConfig {
    /// Rows of the thin matrices.
    pub rank: i64,
    /// Their product is multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The layers, by the last part of their name: `qkv`, `out`, `fc1`, `fc2` in transformers.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: vec!["qkv".into(), "out".into()],
        }
    }
}

impl LoraConfig {
    /// What the model has to be built with: [`ParamOptions::lora`](clip_nn::ParamOptions::lora).
    pub fn lora(&self) -> Lora {
        Lora {
            rank: self.rank,
            alpha: self.alpha,
            targets: self.targets.clone(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = if self.rank < 1 {
            "lora.rank is below 1"
        } else if !(self.alpha.is_finite() && self.alpha > 0.0) {
            "lora.alpha is no number above 0"
        } else if self.targets.is_empty() {
            "lora.targets names no layer"
        } else {
            return Ok(());
        };
        Err(Error::invalid(wrong).remedy("correct it in run.toml"))
    }
}
