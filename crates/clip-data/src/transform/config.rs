//! What a transform does, as data.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::filter::Filter;
use super::geometry::{Crop, Resize};
use super::resize::Passes;
use super::{hugging_face, open_clip};

/// Mean of the pictures CLIP was trained on, by channel.
pub(super) const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Standard deviation of the pictures CLIP was trained on, by channel.
pub(super) const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

/// How a picture becomes the model's pixels. Made by [`TransformConfig::from_json`] from a model's own file, or by one
/// of the constructors; every field may be changed.
///
/// ```
/// use clip_data::{Resize, TransformConfig};
/// let config = TransformConfig::open_clip(224);
/// assert_eq!(config.resize, Resize::Shortest(224));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformConfig {
    /// Height and width of the result, in pixels.
    pub size: [usize; 2],
    /// What the picture is resized to before the crop.
    pub resize: Resize,
    /// The resampling filter. Palette and 1-bit pictures take the nearest pixel where they are resized in their mode.
    pub filter: Filter,
    /// Where the middle is; a picture smaller than `size` is padded.
    pub crop: Crop,
    /// The level of every channel of the padding, in the mode of the picture that is padded: a palette picture takes
    /// the colour of that index.
    pub fill: u8,
    /// Whether the picture is resized or converted to RGB first.
    pub order: Order,
    /// What becomes of transparency in the conversion to RGB.
    pub alpha: Alpha,
    /// From bytes to fractions.
    pub rescale: Rescale,
    /// Subtracted from each channel after the rescale.
    pub mean: [f64; 3],
    /// Divides each channel after that.
    pub std: [f64; 3],
    /// The order of the two passes of a resize.
    pub passes: Passes,
}

/// Whether a picture is resized in its own mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Resized in the mode of its file, then converted: OpenCLIP, Chinese-CLIP, EasyNLP.
    #[default]
    ResizeFirst,
    /// Converted, then resized: Hugging Face.
    RgbFirst,
}

/// What becomes of transparency in the conversion to RGB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// Alpha is dropped and the colours stand as they are: OpenCLIP, Chinese-CLIP, EasyNLP.
    #[default]
    Drop,
    /// The picture is laid on white: Hugging Face's processors since version 5, where they convert.
    OnWhite,
}

/// From bytes to fractions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rescale {
    /// Divided by 255 in f32: torchvision.
    #[default]
    By255,
    /// Multiplied in f64, then rounded to f32: Hugging Face.
    Factor(f64),
}

/// The forms a configuration is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigForm {
    /// `{"preprocess_cfg": {…}}`, a part of `open_clip_config.json`.
    OpenClip,
    /// `preprocessor_config.json`.
    HuggingFace,
}

impl TransformConfig {
    /// OpenCLIP's: shorter side to `size`, centre crop, CLIP's mean and deviation.
    pub fn open_clip(size: usize) -> Self {
        Self {
            size: [size, size],
            resize: Resize::Shortest(size),
            filter: Filter::Bicubic,
            crop: Crop::HalfToEven,
            fill: 0,
            order: Order::ResizeFirst,
            alpha: Alpha::Drop,
            rescale: Rescale::By255,
            mean: CLIP_MEAN,
            std: CLIP_STD,
            passes: Passes::Pillow13,
        }
    }

    /// Chinese-CLIP's own: squashed to a square.
    pub fn chinese_clip(size: usize) -> Self {
        Self {
            resize: Resize::Squash([size, size]),
            ..Self::open_clip(size)
        }
    }

    /// EasyNLP's, for every family it reads: as OpenCLIP's, but the middle of an odd rest lies one pixel further.
    pub fn easynlp(size: usize) -> Self {
        Self {
            crop: Crop::HalfUp,
            ..Self::open_clip(size)
        }
    }

    /// Reads a model's own configuration, recognised by its content: a Hugging Face preprocessor's (`image_mean`,
    /// `do_resize`, …, also inside `image_processor`), or an OpenCLIP one (`preprocess_cfg`, or what is in it).
    ///
    /// # Errors
    /// Neither of the two, or a value that is unknown, contradictory or out of range; the message names the key.
    pub fn from_json(value: &Value) -> Result<Self> {
        let config = match (hugging_face::recognise(value), open_clip::recognise(value)) {
            (Some(object), None) => hugging_face::read(object)?,
            (None, Some(object)) => open_clip::read(object, value)?,
            (Some(_), Some(_)) => {
                return Err(Error::invalid(
                    "the preprocessing configuration holds both Hugging Face's keys and OpenCLIP's",
                )
                .remedy("keep `preprocess_cfg` alone, or take it out"));
            }
            (None, None) => return Err(unknown_form(value)),
        };
        config.check()?;
        Ok(config)
    }

    /// Writes the configuration in the form of a family.
    ///
    /// # Errors
    /// The form cannot say what this transform does.
    pub fn to_json(&self, form: ConfigForm) -> Result<Value> {
        self.check()?;
        match form {
            ConfigForm::OpenClip => open_clip::write(self),
            ConfigForm::HuggingFace => hugging_face::write(self),
        }
    }

    /// Checks that every number is in range.
    ///
    /// # Errors
    /// Names the field that is not.
    pub fn check(&self) -> Result<()> {
        let size = |name: &str, sides: &[usize]| match sides.iter().find(|side| !(1..=MAX_SIZE).contains(*side)) {
            Some(side) => Err(out_of_range(name, side, &format!("1 to {MAX_SIZE}"))),
            None => Ok(()),
        };
        size("size", &self.size)?;
        match self.resize {
            Resize::Shortest(edge) => size("resize", &[edge])?,
            Resize::Squash(to) => size("resize", &to)?,
            Resize::Cover | Resize::Longest | Resize::Keep => {}
        }
        if let Some(mean) = self.mean.iter().find(|mean| !mean.is_finite()) {
            return Err(out_of_range("mean", mean, "three finite numbers"));
        }
        if let Some(std) = self.std.iter().find(|std| !std.is_finite() || **std <= 0.0) {
            return Err(out_of_range("std", std, "three numbers above 0"));
        }
        match self.rescale {
            Rescale::Factor(factor) if !factor.is_finite() || factor <= 0.0 => {
                Err(out_of_range("rescale", &factor, "a number above 0"))
            }
            _ => Ok(()),
        }
    }
}

/// The largest side of a result; beyond any model, and small enough that a mistyped size does not fill the memory.
const MAX_SIZE: usize = 8192;

fn out_of_range(name: &str, value: &dyn std::fmt::Display, wanted: &str) -> Error {
    Error::invalid(format!("the transform's `{name}` is {value}")).remedy(format!("it must be {wanted}"))
}

fn unknown_form(value: &Value) -> Error {
    let what = match value {
        Value::Object(object) if object.is_empty() => "an empty object".to_owned(),
        Value::Object(object) => {
            let keys: Vec<_> = object.keys().take(8).map(|key| format!("`{key}`")).collect();
            format!("an object with {}", keys.join(", "))
        }
        _ => "no object".to_owned(),
    };
    Error::invalid(format!(
        "the preprocessing configuration is {what}, which no known family writes"
    ))
    .remedy(
        "give a Hugging Face preprocessor_config.json (`image_mean`, `size`, `do_resize`, …) or an OpenCLIP \
         configuration with `preprocess_cfg`",
    )
}
