//! What a run learns from beside its pairs.

use std::path::PathBuf;

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A teacher's features of the training pairs, for the objective `distill`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherConfig {
    /// A safetensors file of `image_features` and `text_features`, `[rows, teacher dim]`, with a row for each row of the
    /// training table in order, as `clipzoo predict --table` writes it.
    pub features: Option<PathBuf>,
    /// What the teacher multiplies cosines by; without it, what the file says.
    pub scale: Option<f64>,
}

impl TeacherConfig {
    pub(super) fn check(&self) -> Result<()> {
        match self.scale {
            Some(scale) if !(scale.is_finite() && scale > 0.0) => {
                Err(Error::invalid("teacher.scale is not above 0").remedy("set 100 for most CLIP models"))
            }
            _ => Ok(()),
        }
    }
}
