//! Checks of a config's sizes, so that a wrong one is an error that names it and not a panic further in.

use clip_nn::clip_core::{Error, Result};
use clip_nn::layers::BlockConfig;

/// More than any backbone has; keeps a nonsense config from asking for all memory there is.
const MOST: i64 = 1 << 24;

/// More blocks than any backbone has: each is kept in memory with the names of its tensors, also where the file has none of
/// them.
pub(crate) const MOST_BLOCKS: u32 = 1 << 10;

/// Every field is 1 or more, and not absurd.
pub(crate) fn positive(part: &str, fields: &[(&str, i64)]) -> Result<()> {
    fields
        .iter()
        .try_for_each(|(field, value)| at_least(part, field, *value, 1))
}

/// A field has a least value.
pub(crate) fn at_least(part: &str, field: &str, value: i64, least: i64) -> Result<()> {
    if (least..=MOST).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("config of `{part}`: {field} is {value}"))
        .remedy(format!("it is {least} or more, and at most {MOST}")))
}

/// The sizes of a stack of blocks, by Hugging Face's names.
pub(crate) fn blocks(part: &str, config: &BlockConfig) -> Result<()> {
    positive(
        part,
        &[
            ("hidden_size", config.width),
            ("intermediate_size", config.hidden),
            ("num_hidden_layers", config.layers.into()),
        ],
    )?;
    if config.layers > MOST_BLOCKS {
        let what = format!("config of `{part}`: num_hidden_layers is {}", config.layers);
        return Err(Error::invalid(what).remedy(format!("it is at most {MOST_BLOCKS}")));
    }
    heads(part, config.width, config.heads)
}

/// A picture has a patch or more.
pub(crate) fn patches(part: &str, image_size: i64, patch_size: i64) -> Result<()> {
    at_least(part, "patch_size", patch_size, 1)?;
    at_least(part, "image_size", image_size, patch_size)
}

/// A text has a token or more, and what pads it is one of the vocabulary.
pub(crate) fn texts(part: &str, positions: i64, vocabulary: i64, pad_id: i64) -> Result<()> {
    at_least(part, "max_position_embeddings", positions, 1)?;
    at_least(part, "pad_token_id", pad_id, 0)?;
    at_least(part, "vocab_size", vocabulary, pad_id + 1)
}

/// Heads share the width equally.
pub(crate) fn heads(part: &str, width: i64, heads: i64) -> Result<()> {
    at_least(part, "num_attention_heads", heads, 1)?;
    if width % heads == 0 {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "config of `{part}`: {heads} attention heads do not divide a width of {width}"
    ))
    .remedy("each head has the same share of the width"))
}

/// A share of values is 0 or more, below 1.
pub(crate) fn share(part: &str, field: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!("config of `{part}`: {field} is {value}")).remedy("it is 0 or more, below 1"))
}
