//! OpenCLIP's layout: `open_clip_config.json` and the names of OpenAI's release.
//!
//! Source of keys and defaults: `CLIPVisionCfg`, `CLIPTextCfg` and `CLIP` of open_clip 3.3.0.

mod bare;
mod read;
mod rows;
mod siglip;
mod write;

pub(crate) use rows::{BLOCKS, HEAD, TEXT, TEXT_PROJECTION, with_image};
pub(crate) use siglip::Siglip;

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::towers::{
    CLIP_TEXT, CLIP_VISION, MODIFIED_RESNET, cannot, expect_image_projection, image_projection, image_size, model_type,
    required_tower,
};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};
use read::{text_config, tokenizer, vision_config};
use rows::TEXT_PROJECTION_WITH_BIAS;
use write::{text_cfg, vision_cfg};

const NAME: &str = "open_clip";

/// ln(1 / 0.07).
pub(super) const LOGIT_SCALE: f64 = 2.659_260_036_932_778;
/// How OpenCLIP's sigmoid models start.
const LOGIT_BIAS: f64 = -10.0;
const EPS: f64 = 1e-5;

/// A config with `model_cfg`, or a bare file with OpenAI's names.
pub(crate) struct OpenClip;

impl Family for OpenClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "a config with `model_cfg`, or a bare file with OpenAI's names"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        match evidence.config() {
            Some(config) => model_cfg(config).is_some() && siglip::timm_name(config).is_none(),
            None => bare::fits(evidence),
        }
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        match evidence.config() {
            Some(config) => from_config(config),
            None => from_config(&bare::config(evidence)?),
        }
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        let projection = text_projection(config);
        let mut mapping = with_image(Mapping::new().under("", "", HEAD)?, "", config)?;
        // Both places of the text tower are read; the config's own is written.
        let prefixes = if custom_text(config) {
            ["text.", ""]
        } else {
            ["", "text."]
        };
        for prefix in prefixes {
            mapping = mapping
                .under(prefix, "text.", TEXT)?
                .under(prefix, "text.", BLOCKS)?
                .under(prefix, "", projection)?;
        }
        Ok(mapping)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let fields = Fields::new(config, "config")?;
        required_tower(config, "vision_config", NAME)?;
        required_tower(config, "text_config", NAME)?;
        let known: [(_, &[&str]); 2] = [
            ("vision_config", &[CLIP_VISION, MODIFIED_RESNET]),
            ("text_config", &[CLIP_TEXT]),
        ];
        for (key, known) in known {
            let tower = model_type(config, key).unwrap_or("of no type");
            if !known.contains(&tower) {
                return Err(cannot(NAME, &format!("the tower `{tower}`")));
            }
        }
        expect_image_projection(config, NAME)?;
        if config.pointer("/text_projection/type").and_then(Value::as_str) != Some("linear") {
            return Err(cannot(
                NAME,
                &format!("the `text_projection` {}", config["text_projection"]),
            ));
        }
        let sigmoid = fields.text("probability", "softmax")? == "sigmoid";
        let bias = fields.flag("logit_bias", false)?;
        if sigmoid != bias {
            return Err(cannot(
                NAME,
                "a sigmoid model without a logit bias, or a softmax model with one",
            ));
        }
        let (vision, text) = (fields.object("vision_config")?, fields.object("text_config")?);
        let activation = text.text("hidden_act", "gelu")?;
        // A ResNet has an activation of its own.
        let alike = vision.get("hidden_act").is_none_or(|own| own == activation);
        if !alike || !["gelu", "quick_gelu"].contains(&activation) {
            let own = vision.get("hidden_act").unwrap_or(&Value::Null);
            let what = format!(
                "the activations {own} of pictures and \"{activation}\" of texts, only one of gelu and quick_gelu"
            );
            return Err(cannot(NAME, &what));
        }
        let mut model = json!({"embed_dim": fields.required_size("embed_dim")?});
        if activation == "quick_gelu" {
            model["quick_gelu"] = true.into();
        }
        let scale = fields.number("logit_scale_init", LOGIT_SCALE)?;
        // Hugging Face rounds the same start to four places.
        if (scale - LOGIT_SCALE).abs() > 1e-4 {
            model["init_logit_scale"] = scale.into();
        }
        if bias {
            model["init_logit_bias"] = LOGIT_BIAS.into();
        }
        if custom_text(config) {
            model["custom_text"] = true.into();
        }
        model["vision_cfg"] = vision_cfg(&vision)?;
        model["text_cfg"] = text_cfg(&text, config)?;
        layout(model, transform)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        Ok(TransformConfig::open_clip(image_size(config)?))
    }
}

/// The files of a model's part of the config and its transform.
fn layout(model: Value, transform: Option<&TransformConfig>) -> Result<Layout> {
    let mut own = json!({"model_cfg": model});
    if let Some(transform) = transform {
        let form = transform.to_json(ConfigForm::OpenClip)?;
        own["preprocess_cfg"] = form.get("preprocess_cfg").cloned().unwrap_or(form);
    }
    Ok(Layout {
        weights: "open_clip_model.safetensors",
        files: vec![("open_clip_config.json", own)],
    })
}

/// How the text tower's projection is called: with a bias it is a layer.
fn text_projection(config: &Value) -> &'static [Row] {
    match config.pointer("/text_projection/bias") {
        Some(Value::Bool(true)) => TEXT_PROJECTION_WITH_BIAS,
        _ => TEXT_PROJECTION,
    }
}

/// Adds the preparation of pictures, where the config brings one.
fn add_transform(canonical: &mut Value, config: &Value) {
    if let Some(preprocess) = config.get("preprocess_cfg").filter(|preprocess| preprocess.is_object()) {
        // The model's size counts, as in OpenCLIP.
        let mut preprocess = preprocess.clone();
        preprocess["size"] = canonical["vision_config"]["image_size"].clone();
        canonical["transform"] = json!({"preprocess_cfg": preprocess});
    }
}

/// The canonical config of one of OpenCLIP's.
fn from_config(config: &Value) -> Result<Value> {
    let model = model_fields(config)?;
    let activation = if model.flag("quick_gelu", false)? {
        "quick_gelu"
    } else {
        "gelu"
    };
    let (vision, text) = (model.object("vision_cfg")?, model.object("text_cfg")?);
    let vision_config = vision_config(&vision, activation)?;
    let sigmoid = model.get("init_logit_bias").is_some();
    let mut canonical = json!({
        "model_type": "clipzoo",
        "embed_dim": model.required_size("embed_dim")?,
        "image_projection": image_projection(&vision_config),
        "text_projection": {"type": "linear", "bias": text.flag("proj_bias", false)?},
        "logit_scale_init": model.number("init_logit_scale", LOGIT_SCALE)?,
        "logit_bias": sigmoid,
        "probability": if sigmoid { "sigmoid" } else { "softmax" },
        "context_length": text.size("context_length", 77)?,
        "vision_config": vision_config,
        "text_config": text_config(&text, activation)?,
        "tokenizer": tokenizer(&text)?,
    });
    if model.flag("custom_text", false)? {
        canonical["layout"] = json!({"custom_text": true});
    }
    add_transform(&mut canonical, config);
    Ok(canonical)
}

/// The model's part of the config, without strange keys.
fn model_fields(config: &Value) -> Result<Fields<'_>> {
    let model = Fields::new(model_cfg(config).unwrap_or(config), "model_cfg")?;
    model.deny_unknown(&[
        "embed_dim",
        "vision_cfg",
        "text_cfg",
        "quick_gelu",
        "init_logit_scale",
        "init_logit_bias",
        "custom_text",
        "multimodal_cfg",
        "nonscalar_logit_scale",
        "output_dict",
        "cast_dtype",
    ])?;
    if model.get("multimodal_cfg").is_some() {
        return Err(
            Error::invalid("`model_cfg.multimodal_cfg` (CoCa) is not supported").remedy("name a model without it")
        );
    }
    Ok(model)
}

/// Whether the text tower stands under `text.`, as in OpenCLIP's `CustomTextCLIP`.
fn custom_text(config: &Value) -> bool {
    config.pointer("/layout/custom_text") == Some(&json!(true))
}

/// The model's part of the config: under `model_cfg` on the hub, the whole file in OpenCLIP's own folder of configs.
fn model_cfg(config: &Value) -> Option<&Value> {
    if let Some(model) = config.get("model_cfg") {
        return Some(model);
    }
    let bare = ["embed_dim", "vision_cfg", "text_cfg"]
        .iter()
        .all(|key| config.get(key).is_some());
    bare.then_some(config)
}
