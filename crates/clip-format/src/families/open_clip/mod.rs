//! OpenCLIP's layout: `open_clip_config.json` and the names of OpenAI's release.
//!
//! Source of keys and defaults: `CLIPVisionCfg`, `CLIPTextCfg` and `CLIP` of open_clip 3.3.0.

mod read;
mod write;

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::towers::{CLIP_TEXT, CLIP_VISION, cannot, expect_linear, image_size, linear, model_type, required_tower};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};
use read::{text_config, tokenizer, vision_config};
use write::{text_cfg, vision_cfg};

const NAME: &str = "open_clip";

/// ln(1 / 0.07).
pub(super) const LOGIT_SCALE: f64 = 2.659_260_036_932_778;
/// How OpenCLIP's sigmoid models start.
const LOGIT_BIAS: f64 = -10.0;
const EPS: f64 = 1e-5;

/// A config with `model_cfg`, or a bare file with OpenAI's names.
pub(crate) struct OpenClip;

pub(super) const BLOCKS: &[Row] = &[
    Row::Same {
        file: "transformer.resblocks.{i}.ln_1.{p}",
        model: "blocks.{i}.norm1.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.ln_2.{p}",
        model: "blocks.{i}.norm2.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.attn.in_proj_{p}",
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.attn.out_proj.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.mlp.c_fc.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.mlp.c_proj.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
];

pub(super) const VISION: &[Row] = &[
    Row::Same {
        file: "class_embedding",
        model: "class_embedding",
    },
    Row::Same {
        file: "positional_embedding",
        model: "position_embedding",
    },
    Row::Same {
        file: "conv1.weight",
        model: "patch_embedding.weight",
    },
    Row::Same {
        file: "ln_pre.{p}",
        model: "pre_norm.{p}",
    },
    Row::Same {
        file: "ln_post.{p}",
        model: "post_norm.{p}",
    },
];

pub(super) const TEXT: &[Row] = &[
    Row::Same {
        file: "token_embedding.weight",
        model: "token_embedding.weight",
    },
    Row::Same {
        file: "positional_embedding",
        model: "position_embedding",
    },
    Row::Same {
        file: "ln_final.{p}",
        model: "final_norm.{p}",
    },
    Row::Drop { file: "attn_mask" },
];

/// `x @ P` in their code, a linear layer in ours.
pub(super) const TEXT_PROJECTION: &[Row] = &[Row::Transpose {
    file: "text_projection",
    model: "text_projection.weight",
}];
/// With a bias it is a linear layer in theirs too.
const TEXT_PROJECTION_WITH_BIAS: &[Row] = &[Row::Same {
    file: "text_projection.{p}",
    model: "text_projection.{p}",
}];

pub(super) const HEAD: &[Row] = &[
    Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 0,
        model_rank: 0,
    },
    Row::Reshape {
        file: "logit_bias",
        model: "logit_bias",
        file_rank: 0,
        model_rank: 0,
    },
    Row::Transpose {
        file: "visual.proj",
        model: "image_projection.weight",
    },
    // OpenAI's archives carry three facts as tensors.
    Row::Drop {
        file: "input_resolution",
    },
    Row::Drop { file: "context_length" },
    Row::Drop { file: "vocab_size" },
];

impl Family for OpenClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "a config with `model_cfg`"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        match evidence.config() {
            Some(config) => model_cfg(config).is_some(),
            None => {
                evidence.shape("visual.conv1.weight").is_some() && evidence.shape("token_embedding.weight").is_some()
            }
        }
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let config = evidence.config().ok_or_else(|| {
            // Heads and activation leave no trace in the weights; guessing them would give wrong features in silence.
            Error::invalid("the weights are OpenCLIP's, but open_clip_config.json is missing beside them")
                .remedy("put the model's open_clip_config.json into the same folder")
        })?;
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
            return Err(Error::invalid("`model_cfg.multimodal_cfg` (CoCa) is not supported"));
        }
        let activation = if model.flag("quick_gelu", false)? {
            "quick_gelu"
        } else {
            "gelu"
        };
        let (vision, text) = (model.object("vision_cfg")?, model.object("text_cfg")?);
        let sigmoid = model.get("init_logit_bias").is_some();
        let mut canonical = json!({
            "model_type": "clipzoo",
            "embed_dim": model.required_size("embed_dim")?,
            "image_projection": linear(),
            "text_projection": {"type": "linear", "bias": text.flag("proj_bias", false)?},
            "logit_scale_init": model.number("init_logit_scale", LOGIT_SCALE)?,
            "logit_bias": sigmoid,
            "probability": if sigmoid { "sigmoid" } else { "softmax" },
            "context_length": text.size("context_length", 77)?,
            "vision_config": vision_config(&vision, activation)?,
            "text_config": text_config(&text, activation)?,
            "tokenizer": tokenizer(&text)?,
        });
        if let Some(preprocess) = config.get("preprocess_cfg").filter(|preprocess| preprocess.is_object()) {
            // The model's size counts, as in OpenCLIP.
            let mut preprocess = preprocess.clone();
            preprocess["size"] = canonical["vision_config"]["image_size"].clone();
            canonical["transform"] = json!({"preprocess_cfg": preprocess});
        }
        Ok(canonical)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        let bias = config
            .pointer("/text_projection/bias")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let projection = if bias {
            TEXT_PROJECTION_WITH_BIAS
        } else {
            TEXT_PROJECTION
        };
        let mut mapping = Mapping::new()
            .under("", "", HEAD)?
            .under("visual.", "image.", VISION)?
            .under("visual.", "image.", BLOCKS)?;
        // With `custom_text` the text tower stands under `text.`; both are read, the plain one is written.
        for prefix in ["", "text."] {
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
        for (key, wanted) in [("vision_config", CLIP_VISION), ("text_config", CLIP_TEXT)] {
            if model_type(config, key) != Some(wanted) {
                let tower = model_type(config, key).unwrap_or("of no type");
                return Err(cannot(NAME, &format!("the tower `{tower}`")));
            }
        }
        expect_linear(config, "image_projection", NAME)?;
        if config.pointer("/text_projection/type").and_then(Value::as_str) != Some("linear") {
            return Err(cannot(NAME, "this text projection"));
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
        let activation = vision.text("hidden_act", "gelu")?;
        if activation != text.text("hidden_act", "gelu")? || !["gelu", "quick_gelu"].contains(&activation) {
            return Err(cannot(NAME, "these activations"));
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
        model["vision_cfg"] = vision_cfg(&vision)?;
        model["text_cfg"] = text_cfg(&text, config)?;
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

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        Ok(TransformConfig::open_clip(image_size(config)?))
    }
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
