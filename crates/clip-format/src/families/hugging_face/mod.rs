//! Hugging Face's layouts of whole models: an object of config for each tower, and what stands between the towers.
//!
//! Source of keys, defaults and names: the configuration and modelling files of transformers 5.23.0. Real directories
//! leave out what is a default, so every key has one.

mod chinese_clip;
mod clip;
mod configs;
mod dual_encoder;
mod rows;
mod siglip;

pub(crate) use chinese_clip::ChineseClip;
pub(crate) use clip::Clip;
pub(crate) use dual_encoder::DualEncoder;
pub(crate) use siglip::{Siglip, tokenizer as siglip_tokenizer};

use clip_core::Result;
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::towers::{LOGIT_SCALE, expect_linear, expect_softmax, linear, with_rest};
use super::{Evidence, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};
use crate::preprocess::PREPROCESSOR;

/// The temperature of two towers that are compared by softmax.
const TEMPERATURE: &[Row] = &[Row::Reshape {
    file: "logit_scale",
    model: "logit_scale",
    file_rank: 0,
    model_rank: 0,
}];

/// Their projections, without bias.
pub(super) const PROJECTIONS: &[Row] = &[
    Row::Same {
        file: "visual_projection.weight",
        model: "image_projection.weight",
    },
    Row::Same {
        file: "text_projection.weight",
        model: "text_projection.weight",
    },
];

/// The mapping of what stands between them.
fn head() -> Result<Mapping> {
    Mapping::new().under("", "", TEMPERATURE)?.under("", "", PROJECTIONS)
}

/// The whole config.
fn config<'a>(evidence: &Evidence<'a>) -> Result<Fields<'a>> {
    let (file, config) = evidence.required_config()?;
    Fields::new(config, file)
}

/// A canonical config without its towers, of a model that has a [`head`].
fn canonical(fields: &Fields<'_>) -> Result<Value> {
    Ok(json!({
        "model_type": "clipzoo",
        "embed_dim": fields.size("projection_dim", 512)?,
        "image_projection": linear(),
        "text_projection": linear(),
        "logit_scale_init": fields.number("logit_scale_init_value", LOGIT_SCALE)?,
        "logit_bias": false,
        "probability": "softmax",
    }))
}

/// A tower's config by its key, read by `read`; none at all is all defaults.
///
/// Directories from before 2023 have a tower's config twice, the second time under `text_config_dict` or
/// `vision_config_dict`. Then every key that the reference knows counts as it stands there, or as its default.
fn tower<'a>(
    fields: &Fields<'a>,
    [key, twin]: [&'a str; 2],
    read: impl Fn(&Value, &str) -> Result<Value>,
) -> Result<Value> {
    let empty = json!({});
    let own = match fields.get(key) {
        Some(own) => own,
        None => &empty,
    };
    match fields.get(twin) {
        Some(other) => Ok(with_rest(read(other, twin)?, own)),
        None => read(own, key),
    }
}

const TEXT: [&str; 2] = ["text_config", "text_config_dict"];
const VISION: [&str; 2] = ["vision_config", "vision_config_dict"];

/// The keys beside the towers, from a canonical config; an error names what a model with a [`head`] cannot be.
fn restored(config: &Value, family: &str, model_type: &str, architecture: &str) -> Result<Value> {
    for key in ["image_projection", "text_projection"] {
        expect_linear(config, key, family)?;
    }
    expect_softmax(config, family)?;
    let fields = Fields::new(config, "config")?;
    Ok(json!({
        "architectures": [architecture],
        "logit_scale_init_value": fields.number("logit_scale_init", LOGIT_SCALE)?,
        "model_type": model_type,
        "projection_dim": fields.required_size("embed_dim")?,
    }))
}

fn layout(own: Value, transform: Option<&TransformConfig>) -> Result<Layout> {
    let mut files = vec![("config.json", own)];
    if let Some(transform) = transform {
        files.push((PREPROCESSOR, transform.to_json(ConfigForm::HuggingFace)?));
    }
    Ok(Layout {
        weights: "model.safetensors",
        files,
    })
}

/// What a processor does that squashes pictures to a square of a size, and all else by its own defaults.
fn squashing(processor: &str, size: usize) -> Result<TransformConfig> {
    TransformConfig::from_json(&json!({
        "image_processor_type": processor,
        "size": {"height": size, "width": size},
        "do_center_crop": false,
    }))
}
