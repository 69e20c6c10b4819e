//! The two doors of the library: all bundled parts, and a model ready for use.

use std::path::Path;

use clip_core::Result;
use clip_format::Families;
use clip_models::OpenOptions;
use clip_nn::{Pipeline, Zoo};

/// All bundled backbones and objectives. Add yours: `zoo.image::<Mine>()?`.
pub fn zoo() -> Result<Zoo> {
    let mut zoo = Zoo::new();
    clip_models::register(&mut zoo)?;
    clip_train::register(&mut zoo)?;
    Ok(zoo)
}

/// Opens a model directory, a weights file or a name on a hub (`hf:owner/name`) on the CPU, in f32, with the bundled parts.
///
/// # Errors
/// Nothing there, a family that none or several match, weights that do not fit.
pub fn open(path: impl AsRef<Path>) -> Result<Pipeline> {
    clip_models::open(path.as_ref(), &zoo()?, &Families::bundled(), &OpenOptions::default())
}
