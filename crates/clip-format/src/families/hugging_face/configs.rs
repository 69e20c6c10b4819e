//! Configs of the towers that only Hugging Face's families have, with the reference's defaults; what else they hold stays.

use clip_core::{Error, Result};
use serde_json::{Value, json};

use super::super::towers::{CLIP_TEXT, with_rest};
use crate::fields::Fields;

/// The `model_type` of each.
pub(super) const SIGLIP_TEXT: &str = "siglip_text_model";
pub(super) const SIGLIP_VISION: &str = "siglip_vision_model";
pub(super) const VIT: &str = "vit";

/// The `eos_token_id` that means: pool at the largest id. Configs had it by mistake until July 2023, and transformers
/// keeps what it did then.
pub(super) const LEGACY_EOS: usize = 2;

/// `CLIPTextConfig`.
pub(super) fn clip_text_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    let vocab_size = fields.size("vocab_size", 49408)?;
    let (pooling, eos) = match fields.index("eos_token_id", 49407)? {
        // No end token is needed then; it is the last of the vocabulary, as in OpenCLIP's layout.
        LEGACY_EOS => ("argmax", vocab_size - 1),
        eos => ("eos", eos),
    };
    let known = json!({
        "model_type": CLIP_TEXT,
        "hidden_size": fields.size("hidden_size", 512)?,
        "intermediate_size": fields.size("intermediate_size", 2048)?,
        "num_hidden_layers": fields.size("num_hidden_layers", 12)?,
        "num_attention_heads": fields.size("num_attention_heads", 8)?,
        "vocab_size": vocab_size,
        "max_position_embeddings": fields.size("max_position_embeddings", 77)?,
        "hidden_act": fields.text("hidden_act", "quick_gelu")?,
        "layer_norm_eps": fields.number("layer_norm_eps", 1e-5)?,
        "pooling": pooling,
        "eos_token_id": eos,
        "pad_token_id": fields.index("pad_token_id", 1)?,
    });
    Ok(with_rest(known, config))
}

/// `SiglipTextConfig`, without the width of the head, which is the common space's; `pad` is what the tokenizer pads
/// with, where it says so.
pub(super) fn siglip_text_config(config: &Value, path: &str, pad: Option<usize>) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    let pad = match pad {
        Some(pad) => pad,
        None => fields.index("pad_token_id", 1)?,
    };
    let known = json!({
        "model_type": SIGLIP_TEXT,
        "hidden_size": fields.size("hidden_size", 768)?,
        "intermediate_size": fields.size("intermediate_size", 3072)?,
        "num_hidden_layers": fields.size("num_hidden_layers", 12)?,
        "num_attention_heads": fields.size("num_attention_heads", 12)?,
        "vocab_size": fields.size("vocab_size", 32000)?,
        "max_position_embeddings": fields.size("max_position_embeddings", 64)?,
        "hidden_act": fields.text("hidden_act", "gelu_pytorch_tanh")?,
        "layer_norm_eps": fields.number("layer_norm_eps", 1e-6)?,
        "pad_token_id": pad,
    });
    let mut config = with_rest(known, config);
    if let Some(map) = config.as_object_mut() {
        map.shift_remove("projection_size");
    }
    Ok(config)
}

/// `SiglipVisionConfig`.
pub(super) fn siglip_vision_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[("num_channels", json!(3)), ("vision_use_head", json!(true))])?;
    let known = json!({
        "model_type": SIGLIP_VISION,
        "hidden_size": fields.size("hidden_size", 768)?,
        "intermediate_size": fields.size("intermediate_size", 3072)?,
        "num_hidden_layers": fields.size("num_hidden_layers", 12)?,
        "num_attention_heads": fields.size("num_attention_heads", 12)?,
        "image_size": fields.size("image_size", 224)?,
        "patch_size": fields.size("patch_size", 16)?,
        "hidden_act": fields.text("hidden_act", "gelu_pytorch_tanh")?,
        "layer_norm_eps": fields.number("layer_norm_eps", 1e-6)?,
    });
    Ok(with_rest(known, config))
}

/// `ViTConfig`.
pub(super) fn vit_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[("num_channels", json!(3)), ("pooler_act", json!("tanh"))])?;
    let width = fields.size("hidden_size", 768)?;
    let pooled = fields.size("pooler_output_size", width)?;
    if pooled != width {
        return Err(Error::invalid(format!(
            "`{path}.pooler_output_size` is {pooled}; other widths than the tower's {width} are not supported"
        )));
    }
    let known = json!({
        "model_type": VIT,
        "hidden_size": width,
        "intermediate_size": fields.size("intermediate_size", 3072)?,
        "num_hidden_layers": fields.size("num_hidden_layers", 12)?,
        "num_attention_heads": fields.size("num_attention_heads", 12)?,
        "image_size": fields.size("image_size", 224)?,
        "patch_size": fields.size("patch_size", 16)?,
        "hidden_act": fields.text("hidden_act", "gelu")?,
        "hidden_dropout_prob": fields.number("hidden_dropout_prob", 0.0)?,
        "attention_probs_dropout_prob": fields.number("attention_probs_dropout_prob", 0.0)?,
        "layer_norm_eps": fields.number("layer_norm_eps", 1e-12)?,
        "qkv_bias": fields.flag("qkv_bias", true)?,
        "pooling": "pooler",
    });
    Ok(with_rest(known, config))
}
