//! Hugging Face's `preprocessor_config.json`, with the rules of its Pillow processors.

use clip_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::config::{Alpha, CLIP_MEAN, CLIP_STD, Order, Rescale, TransformConfig};
use super::filter::Filter;
use super::geometry::{Crop, Resize};
use super::json::{Keys, pixels, unfit};
use super::resize::Passes;

/// The image processor's object, at the top or inside `image_processor`.
pub(super) fn recognise(value: &Value) -> Option<&Map<String, Value>> {
    let object = value.as_object()?;
    if let Some(inner) = object.get("image_processor").and_then(Value::as_object) {
        return Some(inner);
    }
    let marks = [
        "image_processor_type",
        "feature_extractor_type",
        "image_mean",
        "image_std",
        "do_resize",
        "do_normalize",
        "crop_size",
    ];
    marks.iter().any(|key| object.contains_key(*key)).then_some(object)
}

/// What a processor does where its file says nothing.
struct Defaults {
    resize: Size,
    crop: Option<[usize; 2]>,
    filter: Filter,
    mean: [f64; 3],
    std: [f64; 3],
    /// Whether a single number means a square.
    square: bool,
    /// Whether it converts to RGB.
    convert: bool,
}

/// A `size`.
#[derive(Clone, Copy)]
enum Size {
    Shortest(usize),
    Exact([usize; 2]),
}

impl Defaults {
    /// By the name of the processor; a file that names none is read as CLIP's.
    fn of(kind: Option<&str>) -> Result<Self> {
        let clip = Self {
            resize: Size::Shortest(224),
            crop: Some([224, 224]),
            filter: Filter::Bicubic,
            mean: CLIP_MEAN,
            std: CLIP_STD,
            square: false,
            convert: true,
        };
        let plain = Self {
            resize: Size::Exact([224, 224]),
            crop: None,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..clip
        };
        let name = kind.unwrap_or("CLIPImageProcessor");
        let stem = [
            "ImageProcessorPil",
            "ImageProcessorFast",
            "ImageProcessor",
            "FeatureExtractor",
        ]
        .iter()
        .find_map(|ending| name.strip_suffix(ending));
        match stem {
            Some("CLIP" | "ChineseCLIP") => Ok(clip),
            Some("Siglip") => Ok(plain),
            Some("ViT") => Ok(Self {
                filter: Filter::Bilinear,
                square: true,
                convert: false,
                ..plain
            }),
            _ => Err(unfit(
                "image_processor_type",
                &name.into(),
                "CLIP's, ChineseCLIP's, Siglip's or ViT's image processor",
            )),
        }
    }
}

/// Reads it.
pub(super) fn read(object: &Map<String, Value>) -> Result<TransformConfig> {
    let keys = Keys(object);
    let kind = keys
        .word("image_processor_type")?
        .or(keys.word("feature_extractor_type")?);
    let defaults = Defaults::of(kind)?;
    let resize = match keys.flag("do_resize")?.unwrap_or(true) {
        true => Some(
            keys.get("size")
                .map_or(Ok(defaults.resize), |value| size(value, defaults.square))?,
        ),
        false => None,
    };
    let crop = match keys.flag("do_center_crop")?.unwrap_or(defaults.crop.is_some()) {
        true => Some(crop_size(&keys, &defaults)?),
        false => None,
    };
    let (resize, size) = match (resize, crop) {
        (Some(Size::Shortest(edge)), Some(crop)) => (Resize::Shortest(edge), crop),
        (Some(Size::Exact(to)), crop) => (Resize::Squash(to), crop.unwrap_or(to)),
        (None, Some(crop)) => (Resize::Keep, crop),
        (_, None) => {
            return Err(Error::invalid("the preprocessing configuration gives each picture another size: `do_center_crop` is false, and `size` fixes one side at most")
                .remedy("set `do_center_crop` to true, or `size` to {\"height\": …, \"width\": …}"));
        }
    };
    if keys.flag("do_pad")? == Some(true) {
        return Err(unfit(
            "do_pad",
            &true.into(),
            "false: padding to the largest picture of a batch is not supported",
        ));
    }
    let normalise = keys.flag("do_normalize")?.unwrap_or(true);
    let channels = |key: &str, given: [f64; 3], none: f64| match normalise {
        true => Ok(keys.channels(key)?.unwrap_or(given)),
        false => Ok::<_, Error>([none; 3]),
    };
    Ok(TransformConfig {
        size,
        resize,
        filter: filter(&keys, defaults.filter)?,
        crop: Crop::Floor,
        fill: 0,
        // A processor that does not convert refuses other pictures than RGB; here they are converted all the same.
        order: Order::RgbFirst,
        alpha: match keys.flag("do_convert_rgb")?.unwrap_or(defaults.convert) {
            true => Alpha::OnWhite,
            false => Alpha::Drop,
        },
        rescale: match keys.flag("do_rescale")?.unwrap_or(true) {
            true => Rescale::Factor(keys.number("rescale_factor")?.unwrap_or(1.0 / 255.0)),
            false => Rescale::Factor(1.0),
        },
        mean: channels("image_mean", defaults.mean, 0.0)?,
        std: channels("image_std", defaults.std, 1.0)?,
        passes: Passes::Pillow13,
    })
}

const SIZES: &str = "a whole number, {\"shortest_edge\": …} or {\"height\": …, \"width\": …}";

fn size(value: &Value, square: bool) -> Result<Size> {
    let wrong = || unfit("size", value, SIZES);
    match value {
        Value::Object(object) => match named(object, &["shortest_edge"]) {
            Some(sides) => Ok(Size::Shortest(sides[0])),
            None => exact(object).map(Size::Exact).ok_or_else(wrong),
        },
        Value::Array(sides) => {
            let sides: Option<Vec<_>> = sides.iter().map(pixels).collect();
            sides
                .and_then(|sides| sides.try_into().ok())
                .map(Size::Exact)
                .ok_or_else(wrong)
        }
        _ => {
            let side = pixels(value).ok_or_else(wrong)?;
            Ok(if square {
                Size::Exact([side, side])
            } else {
                Size::Shortest(side)
            })
        }
    }
}

fn crop_size(keys: &Keys<'_>, defaults: &Defaults) -> Result<[usize; 2]> {
    let Some(value) = keys.get("crop_size") else {
        return defaults.crop.ok_or_else(|| {
            Error::invalid("`do_center_crop` of the preprocessing configuration is true, and there is no `crop_size`")
                .remedy("add `crop_size`")
        });
    };
    let wrong = || unfit("crop_size", value, "a whole number or {\"height\": …, \"width\": …}");
    match value {
        Value::Object(object) => exact(object).ok_or_else(wrong),
        _ => match size(value, true).map_err(|_| wrong())? {
            Size::Exact(size) => Ok(size),
            Size::Shortest(_) => Err(wrong()),
        },
    }
}

fn exact(object: &Map<String, Value>) -> Option<[usize; 2]> {
    named(object, &["height", "width"]).and_then(|sides| sides.try_into().ok())
}

/// The sides of exactly these names; others that are null do not count.
fn named(object: &Map<String, Value>, names: &[&str]) -> Option<Vec<usize>> {
    let given = object.values().filter(|value| !value.is_null()).count();
    let sides: Option<Vec<usize>> = names.iter().map(|name| object.get(*name).and_then(pixels)).collect();
    sides.filter(|_| given == names.len())
}

/// Pillow's numbers of its filters.
const FILTERS: [Filter; 6] = [
    Filter::Nearest,
    Filter::Lanczos,
    Filter::Bilinear,
    Filter::Bicubic,
    Filter::Box,
    Filter::Hamming,
];

fn filter(keys: &Keys<'_>, default: Filter) -> Result<Filter> {
    let Some(value) = keys.get("resample") else {
        return Ok(default);
    };
    let number = pixels(value).and_then(|number| FILTERS.get(number).copied());
    number.ok_or_else(|| unfit("resample", value, "one of Pillow's numbers 0 to 5 (3 is bicubic)"))
}

/// What it can say that is nearest to a transform.
pub(super) fn nearest(config: &TransformConfig) -> TransformConfig {
    let resize = match config.resize {
        // Covered, the shorter side is what the crop asks for; of two lengths only the larger is sure to.
        Resize::Cover | Resize::Longest => Resize::Shortest(config.size[0].max(config.size[1])),
        resize => resize,
    };
    TransformConfig {
        resize,
        crop: Crop::Floor,
        fill: 0,
        order: Order::RgbFirst,
        rescale: match config.rescale {
            Rescale::By255 => Rescale::Factor(1.0 / 255.0),
            factor => factor,
        },
        passes: Passes::Pillow13,
        ..config.clone()
    }
}

/// Writes it, as CLIP's processor where there is a crop or the mean is CLIP's.
pub(super) fn write(config: &TransformConfig) -> Result<Value> {
    let no = |what: &str| {
        Error::invalid(format!("Hugging Face's preprocessor has no word for {what}"))
            .remedy("write the configuration in OpenCLIP's form, or use Hugging Face's own rule")
    };
    let squash = matches!(config.resize, Resize::Squash(to) if to == config.size);
    if config.order != Order::RgbFirst {
        return Err(no("a resize before the conversion to RGB"));
    }
    if config.crop != Crop::Floor && !squash {
        return Err(no("a crop that does not round down"));
    }
    let size = match config.resize {
        Resize::Shortest(edge) => json!({ "shortest_edge": edge }),
        Resize::Squash([height, width]) => json!({ "height": height, "width": width }),
        Resize::Keep => Value::Null,
        Resize::Cover | Resize::Longest => return Err(no("this resize")),
    };
    if config.fill != 0 {
        return Err(no("a padding that is not black"));
    }
    let factor = match config.rescale {
        Rescale::By255 => 1.0 / 255.0,
        Rescale::Factor(factor) => factor,
    };
    let [height, width] = config.size;
    let mut object = json!({
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": config.alpha == Alpha::OnWhite,
        "do_resize": config.resize != Resize::Keep,
        "size": size,
        "resample": FILTERS.iter().position(|filter| *filter == config.filter),
        "do_center_crop": !squash,
        "crop_size": { "height": height, "width": width },
        "do_rescale": true,
        "rescale_factor": factor,
        "do_normalize": true,
        "image_mean": config.mean,
        "image_std": config.std,
    });
    if let Some(map) = object.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
    Ok(object)
}
