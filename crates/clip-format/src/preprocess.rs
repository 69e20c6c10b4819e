//! The transform a checkpoint asks for.

use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use crate::families::{Family, no_image_tower};
use crate::json::read_json;

pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
/// What transformers writes since its version 5, for texts and pictures in one.
const PROCESSOR: &str = "processor_config.json";

/// The files that may say how pictures are prepared.
pub(crate) const NAMES: [&str; 2] = [PROCESSOR, PREPROCESSOR];

/// The file that says how pictures are prepared, and what it says. As in transformers, the newer one counts where it
/// speaks of pictures.
pub(crate) fn file(directory: &Path) -> Result<Option<(PathBuf, Value)>> {
    for (name, part) in [(PROCESSOR, Some("image_processor")), (PREPROCESSOR, None)] {
        let path = directory.join(name);
        if path.is_file() {
            let value = read_json(&path)?;
            if part.is_none_or(|part| value.get(part).is_some_and(Value::is_object)) {
                return Ok(Some((path, value)));
            }
        }
    }
    Ok(None)
}

/// What the config says, else what a file beside it says, else what the family does by itself.
pub(crate) fn transform(directory: &Path, family: &dyn Family, config: &Value) -> Result<TransformConfig> {
    let vision = config.get("vision_config").filter(|vision| vision.is_object());
    let vision = vision.ok_or_else(no_image_tower)?;
    let mut path = directory.join(PREPROCESSOR);
    let transform = if let Some(transform) = config.get("transform") {
        parse(transform)?
    } else if let Some((file, value)) = file(directory)? {
        path = file;
        TransformConfig::from_json(&value).map_err(|error| error.file(&path))?
    } else {
        family.default_transform(config)?
    };
    let side = vision.get("image_size").and_then(Value::as_u64);
    if let Some(side) = side
        && transform.size.iter().any(|&size| size as u64 != side)
    {
        let [height, width] = transform.size;
        return Err(Error::invalid(format!(
            "the preprocessing makes pictures of {height} x {width}, but the model takes {side} x {side}"
        ))
        .file(&path)
        .remedy("correct the preprocessing's size"));
    }
    Ok(transform)
}

/// A transform in our own form, or in one of the references'.
pub(crate) fn parse(value: &Value) -> Result<TransformConfig> {
    match serde_json::from_value::<TransformConfig>(value.clone()) {
        Ok(config) => config.check().map(|()| config),
        // Our own form has a key that no other has; then its own message says more.
        Err(error) if value.get("passes").is_some() => {
            Err(Error::invalid(format!("`transform` of the config: {error}")).source(error))
        }
        Err(_) => TransformConfig::from_json(value),
    }
}
