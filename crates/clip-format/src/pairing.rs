//! Two single towers under fresh projections.

use clip_core::{Error, Result};
use serde_json::{Value, json};

/// The canonical config of a new model: the image tower of one config, the text tower of another, linear projections
/// to `embed_dim`. Transform, tokenizer and context length come along with their towers. The weights are those of
/// the two checkpoints under `image.` and `text.`; projections and temperature start fresh.
pub fn pair_towers(image: &Value, text: &Value, embed_dim: usize) -> Result<Value> {
    let tower = |config: &Value, key: &str, what: &str| {
        let tower = config.get(key).filter(|tower| tower.is_object()).cloned();
        tower.ok_or_else(|| Error::invalid(format!("the model named for the {what} tower has none")))
    };
    let mut paired = json!({
        "model_type": "clipzoo",
        "embed_dim": embed_dim,
        "image_projection": {"type": "linear", "bias": false},
        "text_projection": {"type": "linear", "bias": false},
        "logit_scale_init": 2.6592,
        "logit_bias": false,
        "probability": "softmax",
        "vision_config": tower(image, "vision_config", "image")?,
        "text_config": tower(text, "text_config", "text")?,
    });
    for (from, key) in [(text, "context_length"), (text, "tokenizer"), (image, "transform")] {
        if let Some(value) = from.get(key) {
            paired[key] = value.clone();
        }
    }
    Ok(paired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tower_brings_what_belongs_to_it() {
        let image = json!({"vision_config": {"model_type": "a"}, "transform": {"x": 1}, "context_length": 9});
        let text = json!({"text_config": {"model_type": "b"}, "context_length": 52, "transform": {"x": 2}});
        let paired = pair_towers(&image, &text, 64).unwrap();
        assert_eq!(paired["embed_dim"], 64);
        assert_eq!(paired["context_length"], 52);
        assert_eq!(paired["transform"], json!({"x": 1}));
        let error = pair_towers(&text, &image, 64).unwrap_err().to_string();
        assert_eq!(error, "the model named for the image tower has none");
    }
}
