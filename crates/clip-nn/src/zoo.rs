//! The registries of what a checkpoint or a run.toml names.

use std::path::Path;
use std::sync::Arc;

use clip_core::{Error, Registry, Result, Tokenizer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ImageBackbone, ImageEncoder, ModelShape, Objective, ObjectiveKind, Params, TextBackbone, TextEncoder};

type BuildImage = fn(&Value, &Params) -> Result<Box<dyn ImageEncoder>>;
type BuildText = fn(&Value, &Params) -> Result<Box<dyn TextEncoder>>;

/// Opens a tokenizer from a model directory.
pub type OpenTokenizer = fn(&Path) -> Result<Arc<dyn Tokenizer>>;

/// How an objective is resolved and built.
#[derive(Debug, Clone, Copy)]
pub struct ObjectiveEntry {
    /// Its settings with every default written out.
    pub resolve: fn(&Value) -> Result<Value>,
    /// Builds it from settings.
    pub build: fn(&Value, &ModelShape, &Params) -> Result<Box<dyn Objective>>,
}

/// Backbones, objectives and tokenizers by name. Empty at first; `clip_models::register` and `clip_train::register` fill
/// in ours by the same methods that a third party's parts use.
#[derive(Debug, Clone)]
pub struct Zoo {
    images: Registry<BuildImage>,
    texts: Registry<BuildText>,
    objectives: Registry<ObjectiveEntry>,
    tokenizers: Registry<OpenTokenizer>,
}

impl Default for Zoo {
    fn default() -> Self {
        Self {
            images: Registry::new("image backbone"),
            texts: Registry::new("text backbone"),
            objectives: Registry::new("objective"),
            tokenizers: Registry::new("tokenizer"),
        }
    }
}

/// A config table as a part's own type; an error names part and field.
fn parse<C: DeserializeOwned>(part: &str, name: &str, value: &Value) -> Result<C> {
    serde_json::from_value(value.clone()).map_err(|error| {
        Error::invalid(format!("config of {part} `{name}`: {error}"))
            .remedy("correct it there")
            .source(error)
    })
}

fn write<C: Serialize>(name: &str, config: &C) -> Result<Value> {
    serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("settings of `{name}`: {error}")).source(error))
}

fn model_type<'a>(part: &str, config: &'a Value) -> Result<&'a str> {
    config.get("model_type").and_then(Value::as_str).ok_or_else(|| {
        Error::invalid(format!("the config of the {part} names no `model_type`")).remedy("add it to the config")
    })
}

impl Zoo {
    /// No parts at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image backbone under its model types.
    pub fn image<B: ImageBackbone>(&mut self) -> Result<&mut Self> {
        for name in B::MODEL_TYPES {
            self.images.register(*name, |config, params| {
                let name = model_type("image tower", config)?;
                Ok(Box::new(B::build(parse("image backbone", name, config)?, params)?))
            })?;
        }
        Ok(self)
    }

    /// Adds a text backbone under its model types.
    pub fn text<B: TextBackbone>(&mut self) -> Result<&mut Self> {
        for name in B::MODEL_TYPES {
            self.texts.register(*name, |config, params| {
                let name = model_type("text tower", config)?;
                Ok(Box::new(B::build(parse("text backbone", name, config)?, params)?))
            })?;
        }
        Ok(self)
    }

    /// Adds an objective under its name.
    pub fn objective<O: ObjectiveKind>(&mut self) -> Result<&mut Self> {
        let entry = ObjectiveEntry {
            resolve: |value| write(O::NAME, &parse::<O::Config>("objective", O::NAME, value)?),
            build: |value, shape, params| Ok(Box::new(O::build(parse("objective", O::NAME, value)?, shape, params)?)),
        };
        self.objectives.register(O::NAME, entry)?;
        Ok(self)
    }

    /// Adds a tokenizer that a config may name.
    pub fn tokenizer(&mut self, name: &'static str, open: OpenTokenizer) -> Result<&mut Self> {
        self.tokenizers.register(name, open)?;
        Ok(self)
    }

    /// Builds the image tower that a canonical `vision_config` names.
    pub fn build_image(&self, config: &Value, params: &Params) -> Result<Box<dyn ImageEncoder>> {
        (self.images.get(model_type("image tower", config)?)?)(config, params)
    }

    /// Builds the text tower that a canonical `text_config` names.
    pub fn build_text(&self, config: &Value, params: &Params) -> Result<Box<dyn TextEncoder>> {
        (self.texts.get(model_type("text tower", config)?)?)(config, params)
    }

    /// Names of the image backbones.
    pub fn image_backbones(&self) -> impl Iterator<Item = &str> {
        self.images.names()
    }

    /// Names of the text backbones.
    pub fn text_backbones(&self) -> impl Iterator<Item = &str> {
        self.texts.names()
    }

    /// The objectives.
    pub fn objectives(&self) -> &Registry<ObjectiveEntry> {
        &self.objectives
    }

    /// The tokenizers that a config may name.
    pub fn tokenizers(&self) -> &Registry<OpenTokenizer> {
        &self.tokenizers
    }
}
