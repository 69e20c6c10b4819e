//! How a model is written.

use std::path::Path;

use clip_core::Result;

use crate::DualEncoder;

/// Writes a model as a directory that opens again. Who trains is handed one, so that training names no family;
/// `clip-models` implements it over the checkpoint that a model came from.
pub trait ModelWriter: Send {
    /// Writes weights, config, and whatever belongs beside them into `directory`, which exists and is empty. The caller
    /// makes it appear under its name when this has returned.
    fn write(&self, model: &DualEncoder, directory: &Path) -> Result<()>;
}
