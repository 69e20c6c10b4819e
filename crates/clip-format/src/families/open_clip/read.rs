//! From `vision_cfg` and `text_cfg` to canonical towers.

use clip_core::Result;
use serde_json::{Value, json};

use super::super::resnet;
use super::super::towers::{CLIP_TEXT, CLIP_VISION};
use super::EPS;
use crate::fields::Fields;

/// Switches of the transformer that are not built, with the values that leave it plain.
pub(super) fn plain_blocks() -> Vec<(&'static str, Value)> {
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

/// The vision tower, with open_clip's defaults; what is not built is refused by name.
pub(super) fn vision_config(vision: &Fields<'_>, activation: &str) -> Result<Value> {
    let plain = [
        ("timm_model_name", Value::Null),
        ("attentional_pool", json!(false)),
        ("no_ln_pre", json!(false)),
        ("pos_embed_type", json!("learnable")),
        ("pool_type", json!("tok")),
    ];
    vision.expect(&[&plain[..], &plain_blocks()].concat())?;
    deny_unknown_vision(vision)?;
    let width = vision.size("width", 768)?;
    let head_width = vision.size("head_width", 64)?;
    if let Some(layers) = resnet::stages(vision, "layers")? {
        return Ok(resnet::tower(layers, width, square(vision)?, head_width));
    }
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

/// The text tower, likewise.
pub(super) fn text_config(text: &Fields<'_>, activation: &str) -> Result<Value> {
    let plain = [
        ("hf_model_name", Value::Null),
        ("embed_cls", json!(false)),
        ("no_causal_mask", json!(false)),
        ("proj_type", json!("linear")),
    ];
    text.expect(&[&plain[..], &plain_blocks()].concat())?;
    deny_unknown_text(text)?;
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

/// Refuses keys that `CLIPVisionCfg` does not have.
pub(super) fn deny_unknown_vision(vision: &Fields<'_>) -> Result<()> {
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
    ])
}

/// Refuses keys that `CLIPTextCfg` does not have.
pub(super) fn deny_unknown_text(text: &Fields<'_>) -> Result<()> {
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
    ])
}

/// Which tokenizer the model was trained with.
pub(super) fn tokenizer(text: &Fields<'_>) -> Result<Value> {
    let kwargs = text.get("tokenizer_kwargs").filter(|kwargs| *kwargs != &json!({}));
    let name = text.get("hf_tokenizer_name");
    let (mut rule, usual) = match name {
        Some(name) => (json!({"type": "hugging_face", "name": name}), "whitespace"),
        None => (json!({"type": "clip_bpe", "cleaning": "open_clip"}), "lower"),
    };
    match kwargs {
        None => {}
        Some(kwargs) if *kwargs == json!({"clean": usual}) => {}
        Some(kwargs) if *kwargs == json!({"clean": "canonicalize"}) => rule["cleaning"] = "canonical".into(),
        // Other cleaning gives other ids; said when a tokenizer is asked for, since weights alone do not need it.
        Some(kwargs) => rule = json!({"type": "unsupported", "name": format!("tokenizer_kwargs {kwargs}")}),
    }
    Ok(rule)
}

/// `int(width * mlp_ratio)`, in floating point as in Python.
pub(super) fn intermediate(fields: &Fields<'_>, width: usize) -> Result<usize> {
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

pub(super) fn eps(fields: &Fields<'_>) -> Result<f64> {
    let Some(value) = fields.get("norm_kwargs") else {
        return Ok(EPS);
    };
    let kwargs = Fields::new(value, "norm_kwargs")?;
    kwargs.deny_unknown(&["eps"])?;
    kwargs.number("eps", EPS)
}
