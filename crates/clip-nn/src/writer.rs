//! How a trained model is written, handed to the trainer.

use std::path::Path;

use clip_core::Result;

use crate::DualEncoder;

/// Writes a model as a directory that opens again. The trainer holds one and so names no family and no layout;
/// `clip-models` implements it for whatever the model was opened from.
pub trait ModelWriter: Send {
    /// Writes weights, config and all that belongs to them into `dir`, which exists. Files appear whole or not at all.
    fn write(&self, model: &DualEncoder, dir: &Path) -> Result<()>;
}
