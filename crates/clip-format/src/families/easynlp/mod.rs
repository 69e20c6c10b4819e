//! EasyNLP's own layouts: two with flat configs whose every key is required and OpenAI's tensor names under a prefix, and
//! two that join towers of Hugging Face.
//!
//! EasyNLP reads weights from `pytorch_model.bin` alone, so that is what is written, and no safetensors beside it: one
//! copy is enough, since we map either. The layouts have no key for the length of texts (EasyNLP's is a flag) nor for
//! the preparation of pictures (EasyNLP has one for all). Another preparation stands in `preprocessor_config.json`,
//! which we read and EasyNLP passes over.

mod chinese_clip;
mod open_clip;
mod two_towers;

pub(crate) use chinese_clip::ChineseClip;
pub(crate) use open_clip::OpenClip;
pub(crate) use two_towers::{TwoTowers, has_names_of_two_towers};

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::Value;

use super::flat::{self, HEAD_WIDTH};
use super::towers::{cannot, image_size};
use super::{Evidence, Layout};
use crate::fields::Fields;

/// What users call these layouts.
const EASYNLP: &str = "easynlp";

/// What of the two layouts a file of weights shows that has no config: the picture tower under the prefix.
fn has_picture_tower(evidence: &Evidence<'_>, prefix: &str) -> bool {
    evidence.config.is_none() && evidence.shape(&format!("{prefix}visual.conv1.weight")).is_some()
}

/// Reads the flat config, the one beside the weights or what their shapes say. What shapes do not say EasyNLP fixes
/// (activation, heads of the picture tower) or has alike in every model it released (heads of the text tower, as wide).
fn with_config(
    evidence: &Evidence<'_>,
    infer: impl FnOnce() -> Result<Value>,
    read: impl FnOnce(&Fields<'_>) -> Result<Value>,
) -> Result<Value> {
    if let Some((file, config)) = evidence.config {
        return read(&Fields::new(config, file)?);
    }
    infer()
        .and_then(|config| read(&Fields::new(&config, "shapes")?))
        .map_err(|error| error.remedy("put the model's config.json into the same folder"))
}

/// The keys of the picture tower; its heads have one width.
fn restored(config: &Value, kind: &str, family: &str) -> Result<Value> {
    let (mut own, [heads, width]) = flat::restored_vision(config, family)?;
    if heads != (width / HEAD_WIDTH).max(1) {
        let what = format!("`vision_config.num_attention_heads` {heads}, only one for every {HEAD_WIDTH} of {width}");
        return Err(cannot(family, &what));
    }
    own["model_type"] = kind.into();
    Ok(own)
}

fn layout(own: Value, config: &Value, transform: Option<&TransformConfig>, family: &str) -> Result<Layout> {
    let default = default_transform(config)?;
    flat::layout(
        "pytorch_model.bin",
        vec![("config.json", own)],
        [transform, Some(&default)],
        family,
    )
}

/// EasyNLP's code has 224 pixels whatever the config says; for other models its rules are taken at their size.
fn default_transform(config: &Value) -> Result<TransformConfig> {
    Ok(TransformConfig::easynlp(image_size(config)?))
}
