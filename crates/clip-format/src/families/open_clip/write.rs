//! From canonical towers back to `vision_cfg` and `text_cfg`.

use clip_core::Result;
use serde_json::{Value, json};

use super::super::resnet;
use super::super::towers::cannot;
use super::{EPS, NAME};
use crate::fields::Fields;

/// The vision tower; `mlp_ratio` and `norm_kwargs` only where they are not the defaults.
pub(super) fn vision_cfg(vision: &Fields<'_>) -> Result<Value> {
    if let Some(layers) = resnet::stages(vision, "layers")? {
        let [heads, width] = resnet::heads(vision)?;
        return Ok(json!({
            "image_size": vision.required_size("image_size")?,
            "layers": layers,
            "width": vision.required_size("width")?,
            "patch_size": null,
            "head_width": head_width(width, heads)?,
        }));
    }
    let width = vision.required_size("hidden_size")?;
    let heads = vision.required_size("num_attention_heads")?;
    let mut own = json!({
        "image_size": vision.required_size("image_size")?,
        "patch_size": vision.required_size("patch_size")?,
        "width": width,
        "layers": vision.required_size("num_hidden_layers")?,
        "head_width": head_width(width, heads)?,
    });
    add_block_sizes(&mut own, vision, width)?;
    Ok(own)
}

fn head_width(width: usize, heads: usize) -> Result<usize> {
    if width.is_multiple_of(heads) {
        Ok(width / heads)
    } else {
        Err(cannot(NAME, "heads that do not divide the width"))
    }
}

/// The text tower, likewise.
pub(super) fn text_cfg(text: &Fields<'_>, config: &Value) -> Result<Value> {
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
    if config.pointer("/tokenizer/cleaning") == Some(&json!("canonical")) {
        own["tokenizer_kwargs"] = json!({"clean": "canonicalize"});
    }
    Ok(own)
}

/// `mlp_ratio` and `norm_kwargs`, where they are not the defaults.
fn add_block_sizes(own: &mut Value, fields: &Fields<'_>, width: usize) -> Result<()> {
    if let Some(ratio) = mlp_ratio(width, fields.required_size("intermediate_size")?) {
        own["mlp_ratio"] = ratio.into();
    }
    let eps = fields.number("layer_norm_eps", EPS)?;
    if eps != EPS {
        own["norm_kwargs"] = json!({"eps": eps});
    }
    Ok(())
}

/// The ratio that gives this width between the layers of an MLP; none where it is the default.
pub(super) fn mlp_ratio(width: usize, hidden: usize) -> Option<f64> {
    if width.checked_mul(4) == Some(hidden) {
        return None;
    }
    let exact = hidden as f64 / width as f64;
    // The reference rounds down, so a quotient just below the whole number is lifted by half a unit.
    let lifted = (hidden as f64 + 0.5) / width as f64;
    Some(if (width as f64 * exact) as usize == hidden {
        exact
    } else {
        lifted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_gives_the_width_back() {
        assert_eq!(mlp_ratio(64, 256), None);
        for (width, hidden) in [(64, 128), (768, 3073), (1152, 4304)] {
            let ratio = mlp_ratio(width, hidden).unwrap();
            assert_eq!((width as f64 * ratio) as usize, hidden);
        }
        // A bare file may claim any width beside a side of 0.
        assert_eq!(mlp_ratio(1 << 62, 0), Some(0.0));
    }
}
