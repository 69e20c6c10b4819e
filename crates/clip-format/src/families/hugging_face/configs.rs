//! Configs of the towers that only Hugging Face's families have, with the reference's defaults; what else they hold stays.

use clip_core::{Error, Result};
use serde_json::{Value, json};

use super::super::towers::{CLIP_VOCABULARY, SIGLIP_TEXT, SIGLIP_VISION, clip_text_sizes, known, with_rest, without};
use crate::fields::Fields;

/// The `model_type` of `ViTModel`.
pub(super) const VIT: &str = "vit";

/// The `eos_token_id` that means: pool at the largest id. Configs had it by mistake until July 2023, and transformers
/// keeps what it did then.
pub(super) const LEGACY_EOS: usize = 2;

/// `CLIPTextConfig`.
pub(super) fn clip_text_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    let mut known = clip_text_sizes(&fields)?;
    let (pooling, eos) = match fields.index("eos_token_id", CLIP_VOCABULARY - 1)? {
        // No end token is needed then; it is the last of the vocabulary, as in OpenCLIP's layout.
        LEGACY_EOS => ("argmax", fields.size("vocab_size", CLIP_VOCABULARY)? - 1),
        eos => ("eos", eos),
    };
    known["pooling"] = pooling.into();
    known["eos_token_id"] = eos.into();
    known["pad_token_id"] = fields.index("pad_token_id", 1)?.into();
    Ok(with_rest(known, config))
}

/// `SiglipTextConfig`, without the width of the head, which is the common space's; `pad` is what the tokenizer pads
/// with, where it says so.
pub(super) fn siglip_text_config(config: &Value, path: &str, pad: Option<usize>) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    let mut known = known(
        &fields,
        SIGLIP_TEXT,
        json!({
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": 32000,
            "max_position_embeddings": 64,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        }),
    )?;
    let pad = match pad {
        Some(pad) => pad,
        None => fields.index("pad_token_id", 1)?,
    };
    known["pad_token_id"] = pad.into();
    Ok(with_rest(known, &without(config, &["projection_size"])))
}

/// `SiglipVisionConfig`.
pub(super) fn siglip_vision_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[("num_channels", json!(3)), ("vision_use_head", json!(true))])?;
    let known = known(
        &fields,
        SIGLIP_VISION,
        json!({
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 16,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        }),
    )?;
    Ok(with_rest(known, config))
}

/// `ViTConfig`.
pub(super) fn vit_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[("num_channels", json!(3)), ("pooler_act", json!("tanh"))])?;
    let mut known = known(
        &fields,
        VIT,
        json!({
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 16,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": 1e-12,
            "qkv_bias": true,
        }),
    )?;
    let width = &known["hidden_size"];
    match fields.get("pooler_output_size") {
        Some(pooled) if pooled != width => {
            return Err(
                Error::invalid(format!("`{path}.pooler_output_size` is {pooled}")).remedy(format!(
                    "supported: {width}, the tower's own width (`{path}.hidden_size`)"
                )),
            );
        }
        _ => {}
    }
    known["pooling"] = "pooler".into();
    Ok(with_rest(known, config))
}
