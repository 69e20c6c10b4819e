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
    /// The picture is laid on white: Hugging Face's processors since version 5, where they convert. A PNG's key colour
    /// outside a palette is not seen: a picture of that mode has no alpha.
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

    /// The nearest transform that a form can say: size, filter, mean and deviation are kept, and so is the resize where
    /// the form has a word for it; for the rest the form's own rule counts.
    pub fn nearest(&self, form: ConfigForm) -> Self {
        match form {
            ConfigForm::OpenClip => open_clip::nearest(self),
            ConfigForm::HuggingFace => hugging_face::nearest(self),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> TransformConfig {
        TransformConfig::from_json(&value).unwrap()
    }

    fn refuse(value: Value) -> String {
        TransformConfig::from_json(&value).unwrap_err().to_string()
    }

    #[test]
    fn open_clip_defaults_fill_what_is_missing() {
        assert_eq!(
            read(json!({ "model_cfg": {}, "preprocess_cfg": {} })),
            TransformConfig::open_clip(224)
        );
        assert_eq!(
            read(json!({ "mean": null, "size": 32, "resize_mode": "squash" })),
            TransformConfig::chinese_clip(32)
        );
        // The model fixes the size, as it does in OpenCLIP.
        let config = json!({ "model_cfg": { "vision_cfg": { "image_size": 336 } }, "preprocess_cfg": { "size": 224 } });
        assert_eq!(read(config).size, [336, 336]);
    }

    #[test]
    fn open_clip_sizes_that_are_not_square() {
        let config = read(json!({ "preprocess_cfg": { "size": [30, 20], "interpolation": "bilinear" } }));
        assert_eq!(
            (config.size, config.resize, config.filter),
            ([30, 20], Resize::Cover, Filter::Bicubic)
        );
        let config = read(json!({ "preprocess_cfg": { "size": [30, 20], "resize_mode": "longest", "fill_color": 7 } }));
        assert_eq!((config.resize, config.fill), (Resize::Longest, 7));
    }

    #[test]
    fn hugging_face_sizes_of_all_kinds() {
        let clip = |size: Value, crop: Value| {
            let config = read(json!({ "image_mean": [0.1, 0.2, 0.3], "size": size, "crop_size": crop }));
            (config.resize, config.size)
        };
        assert_eq!(clip(json!(40), json!(32)), (Resize::Shortest(40), [32, 32]));
        assert_eq!(
            clip(json!({ "shortest_edge": 40 }), json!({ "height": 32, "width": 30 })),
            (Resize::Shortest(40), [32, 30])
        );
        assert_eq!(
            clip(json!({ "height": 40, "width": 41 }), json!(32)),
            (Resize::Squash([40, 41]), [32, 32])
        );
        let vit = read(json!({ "image_processor_type": "ViTImageProcessor", "size": 48 }));
        assert_eq!(
            (vit.resize, vit.size, vit.filter),
            (Resize::Squash([48, 48]), [48, 48], Filter::Bilinear)
        );
        assert_eq!(
            (vit.mean, vit.alpha, vit.order),
            ([0.5; 3], Alpha::Drop, Order::RgbFirst)
        );
        let inside = read(json!({ "image_processor": { "image_processor_type": "CLIPImageProcessorFast" } }));
        assert_eq!(
            (inside.size, inside.alpha, inside.crop),
            ([224, 224], Alpha::OnWhite, Crop::Floor)
        );
        let plain = read(json!({ "do_normalize": false, "do_rescale": false, "do_resize": false }));
        assert_eq!(
            (plain.resize, plain.rescale, plain.std),
            (Resize::Keep, Rescale::Factor(1.0), [1.0; 3])
        );
    }

    #[test]
    fn wrong_values_name_their_key() {
        for (value, key) in [
            (json!({ "preprocess_cfg": { "resize_mode": "fit" } }), "`resize_mode`"),
            (
                json!({ "preprocess_cfg": { "interpolation": "area" } }),
                "`interpolation`",
            ),
            (json!({ "preprocess_cfg": { "size": [1, 2, 3] } }), "`size`"),
            (json!({ "preprocess_cfg": { "size": 0 } }), "`size`"),
            (json!({ "preprocess_cfg": { "fill_color": 300 } }), "`fill_color`"),
            (json!({ "preprocess_cfg": { "std": [1, 0, 1] } }), "`std`"),
            (json!({ "preprocess_cfg": { "mode": "L" } }), "`mode`"),
            (json!({ "do_resize": "yes" }), "`do_resize`"),
            (json!({ "do_resize": true, "resample": 9 }), "`resample`"),
            (json!({ "do_resize": true, "size": { "longest_edge": 3 } }), "`size`"),
            (
                json!({ "do_resize": true, "size": { "shortest_edge": 3, "height": 4 } }),
                "`size`",
            ),
            (json!({ "crop_size": "big" }), "`crop_size`"),
            (
                json!({ "do_resize": true, "do_center_crop": false }),
                "`do_center_crop`",
            ),
            (json!({ "image_mean": [1, 2] }), "`image_mean`"),
            (
                json!({ "image_processor_type": "DetrImageProcessor" }),
                "`image_processor_type`",
            ),
            (json!({ "image_mean": 1, "preprocess_cfg": {} }), "`preprocess_cfg`"),
            (json!({ "hidden_size": 4 }), "`hidden_size`"),
            (json!([]), "no object"),
        ] {
            let message = refuse(value);
            assert!(message.contains(key), "{key}: {message}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut odd = TransformConfig::open_clip(30);
        odd.size = [30, 20];
        odd.resize = Resize::Longest;
        odd.fill = 9;
        for config in [TransformConfig::open_clip(224), TransformConfig::chinese_clip(32), odd] {
            assert_eq!(read(config.to_json(ConfigForm::OpenClip).unwrap()), config);
            config.to_json(ConfigForm::HuggingFace).unwrap_err();
        }
        for value in [
            json!({ "do_resize": true }),
            json!({ "image_processor_type": "SiglipImageProcessor" }),
            json!({ "do_resize": false, "crop_size": 40, "do_convert_rgb": false }),
            json!({ "resample": 2, "size": 9, "do_resize": true }),
        ] {
            let config = read(value);
            assert_eq!(read(config.to_json(ConfigForm::HuggingFace).unwrap()), config);
            config.to_json(ConfigForm::OpenClip).unwrap_err();
        }
        let hugging = read(json!({ "do_resize": true, "size": 40, "crop_size": 32, "image_mean": 0.5 }));
        let keep = TransformConfig {
            resize: Resize::Keep,
            fill: 3,
            filter: Filter::Lanczos,
            ..hugging.clone()
        };
        let cover = TransformConfig {
            resize: Resize::Cover,
            size: [30, 20],
            ..TransformConfig::easynlp(30)
        };
        for config in [
            TransformConfig::easynlp(224),
            TransformConfig::chinese_clip(32),
            hugging,
            keep,
            cover,
        ] {
            for form in [ConfigForm::OpenClip, ConfigForm::HuggingFace] {
                let near = config.nearest(form);
                assert_eq!(read(near.to_json(form).unwrap()), near);
                assert_eq!(near.nearest(form), near);
                assert_eq!((near.size, near.mean, near.std), (config.size, config.mean, config.std));
                // What the form can say is what it was.
                assert!(config.to_json(form).is_err() || read(config.to_json(form).unwrap()) == near);
            }
        }
        TransformConfig::easynlp(224).to_json(ConfigForm::OpenClip).unwrap_err();
        let own = serde_json::to_value(TransformConfig::easynlp(224)).unwrap();
        assert_eq!(
            serde_json::from_value::<TransformConfig>(own).unwrap(),
            TransformConfig::easynlp(224)
        );
    }
}
