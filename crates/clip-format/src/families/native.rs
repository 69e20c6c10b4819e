//! The project's own layout: the canonical config in config.json, canonical names in model.safetensors. It expresses
//! every model the zoo can build.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use super::towers::{image_size, tower};
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
        let config = evidence
            .config()
            .ok_or_else(|| Error::invalid("the config is missing"))?;
        let fields = Fields::new(config, "config.json")?;
        let towers: Vec<&str> = ["vision_config", "text_config"]
            .into_iter()
            .filter(|key| fields.get(key).is_some())
            .collect();
        if towers.is_empty() {
            return Err(Error::invalid(
                "the config has neither `vision_config` nor `text_config`",
            ));
        }
        for key in &towers {
            if fields.object(key)?.text("model_type", "")?.is_empty() {
                return Err(Error::invalid(format!("`{key}.model_type` is missing")));
            }
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
        tower(config, "vision_config").ok_or_else(|| Error::invalid("the model has no image tower"))?;
        Ok(TransformConfig::open_clip(image_size(config)?))
    }
}
