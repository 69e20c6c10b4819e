//! EasyNLP's own layouts: flat configs whose every key is required, OpenAI's tensor names under a prefix.
//!
//! EasyNLP reads weights from `pytorch_model.bin` alone. Nothing here writes pickle, so a restored directory holds the
//! same tensors under the same names in `model.safetensors`; EasyNLP takes it once they are written as
//! `pytorch_model.bin`. The layouts have no key for the length of texts (EasyNLP's is a flag) nor for the preparation
//! of pictures (EasyNLP has one for all). Another preparation stands in `preprocessor_config.json`, which we read and
//! EasyNLP passes over.

mod chinese_clip;
mod open_clip;

pub(crate) use chinese_clip::ChineseClip;
pub(crate) use open_clip::OpenClip;

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::open_clip::{BLOCKS, HEAD, LOGIT_SCALE, TEXT_PROJECTION, VISION};
use super::towers::{
    CLIP_VISION, cannot, expect_linear, expect_softmax, image_size, linear, model_type, required_tower,
};
use super::{Evidence, Layout};
use crate::fields::Fields;
use crate::mapping::Mapping;
use crate::preprocess::PREPROCESSOR;

/// A head of attention in the vision tower is this wide; no key says so.
const HEAD_WIDTH: usize = 64;
/// Eps of the norms of CLIP's towers.
const CLIP_EPS: f64 = 1e-5;
/// The only activation of CLIP's towers.
const CLIP_ACTIVATION: &str = "quick_gelu";

/// Keys of the vision tower, which both layouts share.
const VISION_KEYS: [&str; 4] = ["image_resolution", "vision_layers", "vision_width", "vision_patch_size"];

/// The config, with exactly the keys of the layout: EasyNLP hands all of them to its model by name, so one missing or
/// one more is an error there too. ResNet towers have a list of layers and no patches; they are refused first.
fn flat_config<'a>(evidence: &Evidence<'a>, keys: &[&str]) -> Result<Fields<'a>> {
    let (file, config) = evidence.config.ok_or_else(|| Error::invalid("the config is missing"))?;
    let fields = Fields::new(config, file)?;
    if let Some(layers @ Value::Array(_)) = fields.get("vision_layers") {
        return Err(fields.wrong("vision_layers", layers, "one number: ResNet towers are not supported"));
    }
    fields.require(&VISION_KEYS)?;
    fields.require(keys)?;
    let known = [&["model_type"], &VISION_KEYS[..], keys].concat();
    fields.deny_unknown(&known)?;
    Ok(fields)
}

/// A canonical config without its text.
fn canonical(fields: &Fields<'_>) -> Result<Value> {
    Ok(json!({
        "model_type": "clipzoo",
        "embed_dim": fields.required_size("embed_dim")?,
        "image_projection": linear(),
        "text_projection": linear(),
        "logit_scale_init": LOGIT_SCALE,
        "logit_bias": false,
        "probability": "softmax",
        "vision_config": vision_config(fields)?,
    }))
}

fn vision_config(fields: &Fields<'_>) -> Result<Value> {
    let width = fields.required_size("vision_width")?;
    let heads = width / HEAD_WIDTH;
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(fields.wrong("vision_width", &width.into(), "a multiple of 64, the width of a head"));
    }
    Ok(json!({
        "model_type": CLIP_VISION,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": fields.required_size("vision_layers")?,
        "num_attention_heads": heads,
        "image_size": fields.required_size("image_resolution")?,
        "patch_size": fields.required_size("vision_patch_size")?,
        "hidden_act": CLIP_ACTIVATION,
        "layer_norm_eps": CLIP_EPS,
    }))
}

/// The rows of the vision tower and of what stands between the towers, under the layout's prefix and without it. Both
/// are read; the first one is written.
fn shared_rows(prefix: &str) -> Result<Mapping> {
    [prefix, ""].into_iter().try_fold(Mapping::new(), |mapping, prefix| {
        let visual = format!("{prefix}visual.");
        mapping
            .under(prefix, "", HEAD)?
            .under(prefix, "", TEXT_PROJECTION)?
            .under(&visual, "image.", VISION)?
            .under(&visual, "image.", BLOCKS)
    })
}

/// The keys that both layouts share, from a canonical config; an error names what they cannot express.
fn restored(config: &Value, model_type: &str, family: &str, text_tower: &str) -> Result<Value> {
    for (key, wanted) in [("vision_config", CLIP_VISION), ("text_config", text_tower)] {
        expect_tower(config, key, wanted, family)?;
    }
    for key in ["image_projection", "text_projection"] {
        expect_linear(config, key, family)?;
    }
    expect_softmax(config, family)?;
    let fields = Fields::new(config, "config")?;
    let vision = fields.object("vision_config")?;
    let width = vision.required_size("hidden_size")?;
    expect_fixed(
        config,
        "vision_config",
        family,
        &[
            ("intermediate_size", (4 * width).into()),
            ("num_attention_heads", (width / HEAD_WIDTH).into()),
            ("hidden_act", CLIP_ACTIVATION.into()),
            ("layer_norm_eps", CLIP_EPS.into()),
        ],
    )?;
    Ok(json!({
        "model_type": model_type,
        "embed_dim": fields.required_size("embed_dim")?,
        "image_resolution": vision.required_size("image_size")?,
        "vision_layers": vision.required_size("num_hidden_layers")?,
        "vision_width": width,
        "vision_patch_size": vision.required_size("patch_size")?,
    }))
}

fn expect_tower(config: &Value, key: &str, wanted: &str, family: &str) -> Result<()> {
    required_tower(config, key, family)?;
    match model_type(config, key) {
        Some(tower) if tower == wanted => Ok(()),
        tower => Err(cannot(
            family,
            &format!("the tower `{}`", tower.unwrap_or("of no type")),
        )),
    }
}

/// Refuses values that EasyNLP's code fixes: no key of the layout could say another.
fn expect_fixed(config: &Value, tower: &str, family: &str, fixed: &[(&str, Value)]) -> Result<()> {
    for (key, only) in fixed {
        let value = &config[tower][*key];
        if value != only {
            return Err(cannot(family, &format!("`{tower}.{key}` {value}, only {only}")));
        }
    }
    Ok(())
}

/// Refuses a tokenizer that is not the layout's, told by its kind and by one more word about it.
fn expect_tokenizer(config: &Value, family: &str, kind: &str, (key, word): (&str, &str)) -> Result<()> {
    let Some(tokenizer) = config.get("tokenizer").filter(|tokenizer| !tokenizer.is_null()) else {
        return Ok(());
    };
    let own = tokenizer.get("type") == Some(&json!(kind)) && tokenizer.get(key).is_none_or(|own| own == word);
    if own {
        Ok(())
    } else {
        Err(cannot(family, &format!("the tokenizer {tokenizer}")))
    }
}

fn layout(own: Value, config: &Value, transform: Option<&TransformConfig>, family: &str) -> Result<Layout> {
    let mut files = vec![("config.json", own)];
    if let Some(transform) = transform
        && *transform != default_transform(config)?
    {
        let form = transform
            .to_json(ConfigForm::HuggingFace)
            .or_else(|_| transform.to_json(ConfigForm::OpenClip))
            .map_err(|error| cannot(family, "this preparation of pictures").source(error))?;
        files.push((PREPROCESSOR, form));
    }
    Ok(Layout {
        weights: "model.safetensors",
        files,
    })
}

/// EasyNLP's code has 224 pixels whatever the config says; for other models its rules are taken at their size.
fn default_transform(config: &Value) -> Result<TransformConfig> {
    Ok(TransformConfig::easynlp(image_size(config)?))
}
