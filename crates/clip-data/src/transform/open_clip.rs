//! OpenCLIP's `preprocess_cfg`.

use clip_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::config::{Alpha, Order, Rescale, TransformConfig};
use super::filter::Filter;
use super::geometry::{Crop, Resize};
use super::json::{Keys, pixels, unfit};

/// The `preprocess_cfg` of a configuration, or the object itself if it looks like one; `model_cfg` alone stands for
/// the defaults.
pub(super) fn recognise(value: &Value) -> Option<&Map<String, Value>> {
    static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let object = value.as_object()?;
    if let Some(inner) = object.get("preprocess_cfg") {
        return inner.as_object();
    }
    if object.contains_key("model_cfg") {
        return Some(&NOTHING);
    }
    let known = [
        "size",
        "mode",
        "mean",
        "std",
        "interpolation",
        "resize_mode",
        "fill_color",
    ];
    let marks = ["mean", "std", "interpolation", "resize_mode", "fill_color"];
    (marks.iter().any(|key| object.contains_key(*key)) && object.keys().all(|key| known.contains(&key.as_str())))
        .then_some(object)
}

/// Reads it; `whole` is the configuration around it, whose model fixes the size, as OpenCLIP has it.
pub(super) fn read(object: &Map<String, Value>, whole: &Value) -> Result<TransformConfig> {
    let keys = Keys(object);
    if let Some(mode) = keys.word("mode")?
        && mode != "RGB"
    {
        return Err(unfit("mode", &mode.into(), "`RGB`"));
    }
    let model = whole
        .pointer("/model_cfg/vision_cfg/image_size")
        .filter(|size| !size.is_null());
    let size = match model
        .map(|size| ("image_size", size))
        .or_else(|| keys.get("size").map(|size| ("size", size)))
    {
        Some((key, value)) => size(key, value)?,
        None => [224, 224],
    };
    // OpenCLIP takes a size of its own for one that is not square, and forgets the interpolation there.
    let square = size[0] == size[1];
    let resize = match keys.word("resize_mode")? {
        None | Some("shortest") if square => Resize::Shortest(size[0]),
        None | Some("shortest") => Resize::Cover,
        Some("longest") => Resize::Longest,
        Some("squash") => Resize::Squash(size),
        Some(other) => return Err(unfit("resize_mode", &other.into(), "`shortest`, `squash` or `longest`")),
    };
    let filter = match keys.word("interpolation")? {
        // `random` is a choice at training; OpenCLIP evaluates it as bicubic.
        None | Some("bicubic" | "random") => Filter::Bicubic,
        Some("bilinear") if resize == Resize::Cover => Filter::Bicubic,
        Some("bilinear") => Filter::Bilinear,
        Some(other) => {
            return Err(unfit(
                "interpolation",
                &other.into(),
                "`bicubic`, `bilinear` or `random`",
            ));
        }
    };
    let defaults = TransformConfig::open_clip(224);
    Ok(TransformConfig {
        size,
        resize,
        filter,
        fill: fill(&keys)?,
        mean: keys.channels("mean")?.unwrap_or(defaults.mean),
        std: keys.channels("std")?.unwrap_or(defaults.std),
        ..defaults
    })
}

/// One number for a square, or height and width.
fn size(key: &str, value: &Value) -> Result<[usize; 2]> {
    let sides = match value {
        Value::Array(sides) => sides.iter().map(pixels).collect::<Option<Vec<_>>>(),
        _ => pixels(value).map(|side| vec![side]),
    };
    match sides.as_deref() {
        Some(&[side]) => Ok([side, side]),
        Some(&[height, width]) => Ok([height, width]),
        _ => Err(unfit(key, value, "a whole number or a list of height and width")),
    }
}

/// One level for all channels; a list of three equal ones says the same.
fn fill(keys: &Keys<'_>) -> Result<u8> {
    let Some(value) = keys.get("fill_color") else {
        return Ok(0);
    };
    let levels = keys.channels("fill_color").ok().flatten();
    match levels {
        Some([a, b, c]) if a == b && b == c && a.fract() == 0.0 && (0.0..=255.0).contains(&a) => Ok(a as u8),
        _ => Err(unfit("fill_color", value, "one whole number from 0 to 255")),
    }
}

/// What it can say that is nearest to a transform.
pub(super) fn nearest(config: &TransformConfig) -> TransformConfig {
    let square = config.size[0] == config.size[1];
    let resize = match config.resize {
        Resize::Squash(_) => Resize::Squash(config.size),
        Resize::Longest => Resize::Longest,
        _ if square => Resize::Shortest(config.size[0]),
        _ => Resize::Cover,
    };
    let filter = match config.filter {
        Filter::Bilinear if resize != Resize::Cover => Filter::Bilinear,
        _ => Filter::Bicubic,
    };
    TransformConfig {
        size: config.size,
        resize,
        filter,
        fill: config.fill,
        mean: config.mean,
        std: config.std,
        ..TransformConfig::open_clip(config.size[0])
    }
}

/// Writes it.
pub(super) fn write(config: &TransformConfig) -> Result<Value> {
    let no = |what: &str| {
        Error::invalid(format!("OpenCLIP's preprocess_cfg has no word for {what}"))
            .remedy("write the configuration in Hugging Face's form, or use OpenCLIP's own rule")
    };
    if config.alpha != Alpha::Drop {
        return Err(no("laying transparent pictures on white"));
    }
    if config.order != Order::ResizeFirst {
        return Err(no("converting to RGB before the resize"));
    }
    if config.crop != Crop::HalfToEven && !matches!(config.resize, Resize::Squash(to) if to == config.size) {
        return Err(no("a crop that does not round half to even"));
    }
    if !matches!(config.rescale, Rescale::By255) {
        return Err(no("another rescale than by 255"));
    }
    let mode = match config.resize {
        Resize::Shortest(edge) if config.size == [edge, edge] => "shortest",
        Resize::Cover if config.size[0] != config.size[1] => "shortest",
        Resize::Longest => "longest",
        Resize::Squash(to) if to == config.size => "squash",
        _ => return Err(no("this resize")),
    };
    let interpolation = match config.filter {
        Filter::Bicubic => "bicubic",
        Filter::Bilinear if config.resize != Resize::Cover => "bilinear",
        _ => return Err(no("this filter")),
    };
    let size = if config.size[0] == config.size[1] {
        json!(config.size[0])
    } else {
        json!(config.size)
    };
    Ok(json!({ "preprocess_cfg": {
        "size": size,
        "mode": "RGB",
        "mean": config.mean,
        "std": config.std,
        "interpolation": interpolation,
        "resize_mode": mode,
        "fill_color": config.fill,
    }}))
}
