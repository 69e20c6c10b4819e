//! When and by what a run is evaluated.

use serde::{Deserialize, Serialize};

use super::Every;

/// How a run is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// How often.
    pub every: Every,
    /// The figure that `best` is best by.
    pub metric: String,
    /// The run ends after so many evaluations in a row without a new best; without it, only when all steps are done.
    pub patience: Option<u64>,
    /// Pairs embedded at once.
    pub batch_size: usize,
    /// Whether the features of the newest evaluation are kept: `valid.safetensors` in the output directory, as `predict`
    /// writes and `evaluate` reads features.
    pub keep_features: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            every: Every::Epoch,
            metric: "valid_mean_recall".into(),
            patience: None,
            batch_size: 64,
            keep_features: false,
        }
    }
}
