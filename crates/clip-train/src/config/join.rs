//! What stands between two single towers that become a model.

use clip_nn::layers::ProjectionConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How two single towers become a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JoinConfig {
    /// Dimensions of the common space.
    pub embed_dim: usize,
    /// From the image tower into it.
    pub image_projection: ProjectionConfig,
    /// From the text tower into it.
    pub text_projection: ProjectionConfig,
    /// Whether the model has a bias, as SigLIP: what `[objectives.sigmoid]` trains.
    pub logit_bias: bool,
    /// Fields of the image tower's config to change, as `{ image_size = 128 }`.
    pub image: Map<String, Value>,
    /// Fields of the text tower's config to change.
    pub text: Map<String, Value>,
}

impl Default for JoinConfig {
    fn default() -> Self {
        Self {
            embed_dim: 512,
            image_projection: ProjectionConfig::default(),
            text_projection: ProjectionConfig::default(),
            logit_bias: false,
            image: Map::new(),
            text: Map::new(),
        }
    }
}
