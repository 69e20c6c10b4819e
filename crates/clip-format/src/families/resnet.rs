//! OpenAI's ModifiedResNet, as a list of four numbers of blocks announces it: its config and its tensor names.
//!
//! Its last layer, `attnpool.c_proj`, is the projection into the common space; the tower ends before it.

use clip_core::Result;
use serde_json::{Value, json};

use super::towers::MODIFIED_RESNET;
use crate::fields::Fields;
use crate::mapping::Row;

/// The stem halves a picture twice, and each stage but the first once.
pub(crate) const STRIDE: usize = 32;
/// How much wider than the stem's the features are.
const EXPANSION: usize = 32;

/// Names under `visual.` and under `image.`.
pub(crate) const ROWS: &[Row] = &[
    Row::Counter {
        file: "bn{i}.num_batches_tracked",
        model: "stem.norm{i}.num_batches_tracked",
        beside: "stem.norm{i}.running_mean",
    },
    Row::Same {
        file: "conv{i}.weight",
        model: "stem.conv{i}.weight",
    },
    Row::Same {
        file: "bn{i}.{*}",
        model: "stem.norm{i}.{*}",
    },
    Row::Counter {
        file: "layer{i}.{j}.bn{i}.num_batches_tracked",
        model: "stages.{i}.{j}.norm{i}.num_batches_tracked",
        beside: "stages.{i}.{j}.norm{i}.running_mean",
    },
    Row::Same {
        file: "layer{i}.{j}.conv{i}.weight",
        model: "stages.{i}.{j}.conv{i}.weight",
    },
    Row::Same {
        file: "layer{i}.{j}.bn{i}.{*}",
        model: "stages.{i}.{j}.norm{i}.{*}",
    },
    Row::Counter {
        file: "layer{i}.{j}.downsample.1.num_batches_tracked",
        model: "stages.{i}.{j}.downsample.norm.num_batches_tracked",
        beside: "stages.{i}.{j}.downsample.norm.running_mean",
    },
    Row::Same {
        file: "layer{i}.{j}.downsample.0.weight",
        model: "stages.{i}.{j}.downsample.conv.weight",
    },
    Row::Same {
        file: "layer{i}.{j}.downsample.1.{*}",
        model: "stages.{i}.{j}.downsample.norm.{*}",
    },
    Row::Same {
        file: "attnpool.positional_embedding",
        model: "pool.position_embedding",
    },
    Row::Concat {
        file: &["attnpool.q_proj.{p}", "attnpool.k_proj.{p}", "attnpool.v_proj.{p}"],
        model: "pool.attention.qkv.{p}",
    },
];

/// The projection, under `visual.` and at the root.
pub(crate) const PROJECTION: &[Row] = &[Row::Same {
    file: "attnpool.c_proj.{p}",
    model: "image_projection.{p}",
}];

/// The blocks of each of the four stages, where the key holds a list; Chinese-CLIP writes it as a text, `"[3,4,6,3]"`.
pub(crate) fn stages(fields: &Fields<'_>, key: &str) -> Result<Option<[usize; 4]>> {
    let read;
    let value = match fields.get(key) {
        Some(list @ Value::Array(_)) => list,
        Some(Value::String(text)) => {
            let list = text.trim().replace(['(', '['], "[").replace([')', ']'], "]");
            read = serde_json::from_str(&list).unwrap_or(Value::Null);
            &read
        }
        _ => return Ok(None),
    };
    let number = |value: &Value| value.as_u64().filter(|n| (1..1 << 10).contains(n)).map(|n| n as usize);
    let numbers: Option<Vec<usize>> = value.as_array().and_then(|list| list.iter().map(number).collect());
    match numbers.and_then(|numbers| <[usize; 4]>::try_from(numbers).ok()) {
        Some(stages) => Ok(Some(stages)),
        None => Err(fields.wrong(
            key,
            fields.get(key).unwrap_or(&Value::Null),
            "one number, or a list of four: the blocks of a ResNet's stages",
        )),
    }
}

/// The canonical tower. Heads of the attention pool are `width · 32 / head_width`, rounded down as in the reference.
pub(crate) fn tower(layers: [usize; 4], width: usize, image_size: usize, head_width: usize) -> Value {
    json!({
        "model_type": MODIFIED_RESNET,
        "layers": layers,
        "width": width,
        "image_size": image_size,
        "num_attention_heads": (width * EXPANSION / head_width).max(1),
    })
}

/// The heads of a canonical tower's attention pool, and the width they share.
pub(crate) fn heads(vision: &Fields<'_>) -> Result<[usize; 2]> {
    let width = vision.required_size("width")? * EXPANSION;
    Ok([vision.required_size("num_attention_heads")?, width])
}
