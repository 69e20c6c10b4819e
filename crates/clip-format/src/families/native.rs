//! The project's own layout: the canonical config in config.json, canonical names in model.safetensors. It expresses
//! every model the zoo can build.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use super::towers::{
    BertDefaults, CLIP_TEXT, CLIP_VISION, CLIP_VOCABULARY, bert_config_from, clip_text_sizes, clip_vision_config,
    image_size, linear, model_type, required_type, tower, with_rest,
};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::Mapping;

pub(crate) const NAME: &str = "clipzoo";

/// `model_type` `clipzoo`.
pub(crate) struct Native;

impl Family for Native {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"clipzoo\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some(NAME)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (file, config) = evidence.required_config()?;
        let fields = Fields::new(config, file)?;
        let towers: Vec<&str> = ["vision_config", "text_config"]
            .into_iter()
            .filter(|key| fields.get(key).is_some())
            .collect();
        if towers.is_empty() {
            return Err(
                Error::invalid("the config has neither `vision_config` nor `text_config`").remedy("add a tower or two"),
            );
        }
        for key in &towers {
            required_type(&fields.object(key)?)?;
        }
        if towers.len() == 2 {
            fields.required_size("embed_dim")?;
        }
        Ok(config.clone())
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        Ok(Mapping::identity())
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut config = config.clone();
        config["model_type"] = NAME.into();
        if let Some(transform) = transform {
            config["transform"] = serde_json::to_value(transform)
                .map_err(|error| Error::internal(format!("the transform is no JSON: {error}")).source(error))?;
        }
        Ok(Layout {
            weights: "model.safetensors",
            files: vec![("config.json", config)],
        })
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        Ok(TransformConfig::open_clip(image_size(config)?))
    }
}

/// The config with the fields filled in that it may leave out, as the towers have them: other layouts have no defaults,
/// or other ones. Towers of a stranger's own stay as they are.
pub(crate) fn complete(config: &Value) -> Result<Value> {
    let mut full = config.clone();
    if let (Some(vision), Some(CLIP_VISION)) = (tower(config, "vision_config"), model_type(config, "vision_config")) {
        full["vision_config"] = clip_vision_config(vision, "vision_config")?;
    }
    let text = tower(config, "text_config").cloned().unwrap_or(Value::Null);
    let kind = model_type(config, "text_config").unwrap_or_default();
    if let Some(defaults) = BertDefaults::of(kind) {
        let pooling = Fields::new(&text, "text_config")?.text("pooling", "pooler")?;
        full["text_config"] = bert_config_from(defaults, &text, "text_config", pooling)?;
    } else if kind == CLIP_TEXT {
        full["text_config"] = clip_text_config(&text)?;
    }
    if tower(config, "vision_config").is_some() && tower(config, "text_config").is_some() {
        for key in ["image_projection", "text_projection"] {
            if config.get(key).is_none() {
                full[key] = linear();
            }
        }
    }
    Ok(full)
}

/// CLIP's text tower with what it takes for granted; what else the config holds stays.
fn clip_text_config(config: &Value) -> Result<Value> {
    let fields = Fields::new(config, "text_config")?;
    let mut known = clip_text_sizes(&fields)?;
    known["pooling"] = fields.text("pooling", "argmax")?.into();
    known["eos_token_id"] = fields.index("eos_token_id", CLIP_VOCABULARY - 1)?.into();
    known["pad_token_id"] = fields.index("pad_token_id", 0)?.into();
    Ok(with_rest(known, config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_config_leaves_out_is_filled_in() {
        let short = json!({
            "model_type": "clipzoo", "embed_dim": 4,
            "vision_config": {"model_type": "clip_vision_model", "hidden_size": 64, "mine": 1},
            "text_config": {"model_type": "clip_text_model", "hidden_act": "gelu"},
        });
        let full = complete(&short).unwrap();
        assert_eq!(full["vision_config"]["hidden_act"], "quick_gelu");
        assert_eq!(
            (&full["vision_config"]["hidden_size"], &full["vision_config"]["mine"]),
            (&json!(64), &json!(1))
        );
        assert_eq!(
            (&full["text_config"]["hidden_act"], &full["text_config"]["pooling"]),
            (&json!("gelu"), &json!("argmax"))
        );
        assert_eq!(full["image_projection"], linear());
        assert_eq!(complete(&full).unwrap(), full);
        let bert = json!({"text_config": {"model_type": "bert", "pooling": "mean"}});
        let full = complete(&bert).unwrap();
        assert_eq!(
            (&full["text_config"]["pooling"], &full["text_config"]["vocab_size"]),
            (&json!("mean"), &json!(30522))
        );
        assert!(full.get("text_projection").is_none());
        let mine = json!({"vision_config": {"model_type": "mine"}, "text_projection": {"type": "mlp"}});
        assert_eq!(complete(&mine).unwrap(), mine);
    }
}
