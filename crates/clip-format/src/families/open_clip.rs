//! OpenCLIP's layout: `open_clip_config.json` and the names of OpenAI's release.
//!
//! Source of keys and defaults: `CLIPVisionCfg`, `CLIPTextCfg` and `CLIP` of open_clip 3.3.0.

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::towers::{CLIP_TEXT, CLIP_VISION, cannot, expect_linear, image_size, linear, model_type, required_tower};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = "open_clip";

/// ln(1 / 0.07).
const LOGIT_SCALE: f64 = 2.659_260_036_932_778;
/// How OpenCLIP's sigmoid models start.
const LOGIT_BIAS: f64 = -10.0;
const EPS: f64 = 1e-5;

/// A config with `model_cfg`, or a bare file with OpenAI's names.
pub(crate) struct OpenClip;

const BLOCKS: &[Row] = &[
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

const VISION: &[Row] = &[
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

const TEXT: &[Row] = &[
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
const TEXT_PROJECTION: &[Row] = &[Row::Transpose {
    file: "text_projection",
    model: "text_projection.weight",
}];
/// With a bias it is a linear layer in theirs too.
const TEXT_PROJECTION_WITH_BIAS: &[Row] = &[Row::Same {
    file: "text_projection.{p}",
    model: "text_projection.{p}",
}];

const HEAD: &[Row] = &[
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

/// Switches of the transformer that are not built, with the values that leave it plain.
fn plain_blocks() -> Vec<(&'static str, Value)> {
    let off = [
        "qk_norm",
        "scaled_cosine_attn",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
    ];
    let mut plain: Vec<_> = off.into_iter().map(|key| (key, json!(false))).collect();
    plain.extend([
        ("block_type", json!("default")),
        ("ls_init_value", Value::Null),
        ("act_kwargs", Value::Null),
    ]);
    plain.push(("final_ln_after_pool", json!(false)));
    plain
}

fn vision_config(vision: &Fields<'_>, activation: &str) -> Result<Value> {
    let plain = [
        ("timm_model_name", Value::Null),
        ("attentional_pool", json!(false)),
        ("no_ln_pre", json!(false)),
        ("pos_embed_type", json!("learnable")),
        ("pool_type", json!("tok")),
    ];
    vision.expect(&[&plain[..], &plain_blocks()].concat())?;
    if let Some(layers @ Value::Array(_)) = vision.get("layers") {
        return Err(vision.wrong("layers", layers, "one number: ResNet towers are not supported"));
    }
    vision.deny_unknown(&[
        "layers",
        "width",
        "head_width",
        "mlp_ratio",
        "patch_size",
        "image_size",
        "ls_init_value",
        "patch_dropout",
        "attentional_pool",
        "attn_pooler_queries",
        "attn_pooler_heads",
        "no_ln_pre",
        "pos_embed_type",
        "final_ln_after_pool",
        "pool_type",
        "output_tokens",
        "act_kwargs",
        "norm_kwargs",
        "block_type",
        "qk_norm",
        "scaled_cosine_attn",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
        "timm_model_name",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
        "timm_drop",
        "timm_drop_path",
    ])?;
    let width = vision.size("width", 768)?;
    let head_width = vision.size("head_width", 64)?;
    Ok(json!({
        "model_type": CLIP_VISION,
        "hidden_size": width,
        "intermediate_size": intermediate(vision, width)?,
        "num_hidden_layers": vision.size("layers", 12)?,
        "num_attention_heads": (width / head_width).max(1),
        "image_size": square(vision)?,
        "patch_size": vision.size("patch_size", 16)?,
        "hidden_act": activation,
        "layer_norm_eps": eps(vision)?,
    }))
}

fn text_config(text: &Fields<'_>, activation: &str) -> Result<Value> {
    let plain = [
        ("hf_model_name", Value::Null),
        ("embed_cls", json!(false)),
        ("no_causal_mask", json!(false)),
        ("proj_type", json!("linear")),
    ];
    text.expect(&[&plain[..], &plain_blocks()].concat())?;
    text.deny_unknown(&[
        "context_length",
        "vocab_size",
        "hf_tokenizer_name",
        "tokenizer_mode",
        "tokenizer_kwargs",
        "width",
        "heads",
        "layers",
        "mlp_ratio",
        "ls_init_value",
        "embed_cls",
        "pad_id",
        "eos_id",
        "no_causal_mask",
        "final_ln_after_pool",
        "pool_type",
        "proj_bias",
        "proj_type",
        "output_tokens",
        "act_kwargs",
        "norm_kwargs",
        "block_type",
        "qk_norm",
        "scaled_cosine_attn",
        "scale_heads",
        "scale_attn_inner",
        "scale_attn",
        "scale_fc",
        "hf_model_name",
        "hf_model_pretrained",
        "hf_proj_type",
        "hf_pooler_type",
    ])?;
    let width = text.size("width", 512)?;
    let vocab_size = text.size("vocab_size", 49408)?;
    // Pooling at the largest id needs no end token; there it is the last of the vocabulary.
    let (pooling, eos) = match text.text("pool_type", "argmax")? {
        "argmax" => ("argmax", vocab_size - 1),
        "eos" => ("eos", text.index("eos_id", 2)?),
        other => {
            return Err(text.wrong(
                "pool_type",
                &other.into(),
                "\"argmax\" or \"eos\"; others are not supported",
            ));
        }
    };
    Ok(json!({
        "model_type": CLIP_TEXT,
        "hidden_size": width,
        "intermediate_size": intermediate(text, width)?,
        "num_hidden_layers": text.size("layers", 12)?,
        "num_attention_heads": text.size("heads", 8)?,
        "vocab_size": vocab_size,
        "max_position_embeddings": text.size("context_length", 77)?,
        "hidden_act": activation,
        "layer_norm_eps": eps(text)?,
        "pooling": pooling,
        "eos_token_id": eos,
        "pad_token_id": text.index("pad_id", 0)?,
    }))
}

fn tokenizer(text: &Fields<'_>) -> Result<Value> {
    if let Some(name) = text.get("hf_tokenizer_name") {
        return Ok(json!({"type": "hugging_face", "name": name}));
    }
    // Other cleaning gives other ids; said when a tokenizer is asked for, since weights alone do not need it.
    match text
        .get("tokenizer_kwargs")
        .filter(|kwargs| *kwargs != &json!({}) && *kwargs != &json!({"clean": "lower"}))
    {
        Some(kwargs) => Ok(json!({"type": "unsupported", "name": format!("tokenizer_kwargs {kwargs}")})),
        None => Ok(json!({"type": "clip_bpe", "cleaning": "open_clip"})),
    }
}

/// `int(width * mlp_ratio)`, in floating point as in Python.
fn intermediate(fields: &Fields<'_>, width: usize) -> Result<usize> {
    let ratio = fields.number("mlp_ratio", 4.0)?;
    let size = (width as f64 * ratio) as usize;
    if size == 0 {
        Err(fields.wrong("mlp_ratio", &json!(ratio), "positive"))
    } else {
        Ok(size)
    }
}

fn square(vision: &Fields<'_>) -> Result<usize> {
    match vision.get("image_size") {
        Some(value @ Value::Array(sides)) => match sides.as_slice() {
            [height, width] if height == width => {
                let side = height.as_u64().and_then(|side| usize::try_from(side).ok());
                side.ok_or_else(|| vision.wrong("image_size", value, "a whole number"))
            }
            _ => Err(vision.wrong("image_size", value, "a square; others are not supported")),
        },
        _ => vision.size("image_size", 224),
    }
}

fn eps(fields: &Fields<'_>) -> Result<f64> {
    let Some(value) = fields.get("norm_kwargs") else {
        return Ok(EPS);
    };
    let kwargs = Fields::new(value, "norm_kwargs")?;
    kwargs.deny_unknown(&["eps"])?;
    kwargs.number("eps", EPS)
}

fn vision_cfg(vision: &Fields<'_>) -> Result<Value> {
    let width = vision.required_size("hidden_size")?;
    let heads = vision.required_size("num_attention_heads")?;
    if !width.is_multiple_of(heads) {
        return Err(cannot(NAME, "heads that do not divide the width"));
    }
    let mut own = json!({
        "image_size": vision.required_size("image_size")?,
        "patch_size": vision.required_size("patch_size")?,
        "width": width,
        "layers": vision.required_size("num_hidden_layers")?,
        "head_width": width / heads,
    });
    add_block_sizes(&mut own, vision, width)?;
    Ok(own)
}

fn text_cfg(text: &Fields<'_>, config: &Value) -> Result<Value> {
    let width = text.required_size("hidden_size")?;
    let vocab_size = text.required_size("vocab_size")?;
    let mut own = json!({
        "context_length": text.required_size("max_position_embeddings")?,
        "vocab_size": vocab_size,
        "width": width,
        "heads": text.required_size("num_attention_heads")?,
        "layers": text.required_size("num_hidden_layers")?,
    });
    add_block_sizes(&mut own, text, width)?;
    if text.text("pooling", "argmax")? == "eos" {
        own["pool_type"] = "eos".into();
        own["eos_id"] = text.index("eos_token_id", 2)?.into();
    }
    if text.index("pad_token_id", 0)? != 0 {
        own["pad_id"] = text.index("pad_token_id", 0)?.into();
    }
    if config.pointer("/text_projection/bias") == Some(&json!(true)) {
        own["proj_bias"] = true.into();
    }
    match config.pointer("/tokenizer/type").and_then(Value::as_str) {
        Some("hugging_face") => own["hf_tokenizer_name"] = config["tokenizer"]["name"].clone(),
        None | Some("clip_bpe") => {}
        Some(other) => return Err(cannot(NAME, &format!("the tokenizer `{other}`"))),
    }
    Ok(own)
}

/// `mlp_ratio` and `norm_kwargs`, where they are not the defaults.
fn add_block_sizes(own: &mut Value, fields: &Fields<'_>, width: usize) -> Result<()> {
    let size = fields.required_size("intermediate_size")?;
    if size != 4 * width {
        let exact = size as f64 / width as f64;
        // The reference rounds down, so a quotient just below the whole number is lifted by half a unit.
        let lifted = (size as f64 + 0.5) / width as f64;
        own["mlp_ratio"] = if (width as f64 * exact) as usize == size {
            exact
        } else {
            lifted
        }
        .into();
    }
    let eps = fields.number("layer_norm_eps", EPS)?;
    if eps != EPS {
        own["norm_kwargs"] = json!({"eps": eps});
    }
    Ok(())
}
