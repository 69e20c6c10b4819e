//! `clip_vision_model`: CLIP's picture tower, a vision transformer whose class token is pooled.
//!
//! ```text
//! x = [class; patches] + positions        x = blocks(pre_norm(x))        pooled = post_norm(x[class])
//! ```

use clip_nn::clip_core::Result;
use clip_nn::layers::{Activation, LayerNorm, Patches, Pooled, PreNormConfig, PreNormStack, Visible, drop_patches};
use clip_nn::tch::Tensor;
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, Role, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// The fields of a canonical `vision_config`; defaults are Hugging Face's `CLIPVisionConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// Width of a token.
    pub hidden_size: i64,
    /// Width between the two layers of an MLP.
    pub intermediate_size: i64,
    /// Blocks.
    pub num_hidden_layers: u32,
    /// Heads of attention.
    pub num_attention_heads: i64,
    /// Height and width of the pixels.
    pub image_size: i64,
    /// Height and width of a patch.
    pub patch_size: i64,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// Share of the attention weights dropped in training.
    pub attention_dropout: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            attention_dropout: 0.0,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct ClipVision {
    class: Tensor,
    positions: Tensor,
    patches: Patches,
    pre_norm: LayerNorm,
    blocks: PreNormStack,
    post_norm: LayerNorm,
    width: i64,
    image_size: i64,
}

impl ImageBackbone for ClipVision {
    const MODEL_TYPES: &'static [&'static str] = &["clip_vision_model"];

    type Config = ClipVisionConfig;

    fn build(config: ClipVisionConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        sizes::positive(
            name,
            &[
                ("hidden_size", config.hidden_size),
                ("intermediate_size", config.intermediate_size),
                ("num_hidden_layers", config.num_hidden_layers.into()),
                ("patch_size", config.patch_size),
            ],
        )?;
        sizes::heads(name, config.hidden_size, config.num_attention_heads)?;
        sizes::share(name, "attention_dropout", config.attention_dropout)?;
        sizes::at_least(name, "image_size", config.image_size, config.patch_size)?;
        let width = config.hidden_size;
        let blocks = PreNormConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            qkv_bias: true,
        };
        let first = params.layer(0);
        let spread = Init::Normal((width as f64).powf(-0.5));
        let patches = Patches::new(&first.at("patch_embedding"), config.patch_size, width);
        let tokens = patches.count([config.image_size; 2]) + 1;
        Ok(Self {
            class: first.tensor("class_embedding", &[width], Role::Embedding, spread),
            positions: first.tensor("position_embedding", &[tokens, width], Role::Embedding, spread),
            patches,
            pre_norm: LayerNorm::new(&first.at("pre_norm"), width, config.layer_norm_eps),
            blocks: PreNormStack::new(params, &blocks).with_dropout(0.0, config.attention_dropout),
            post_norm: LayerNorm::new(&params.at("post_norm"), width, config.layer_norm_eps),
            width,
            image_size: config.image_size,
        })
    }
}

impl ImageEncoder for ClipVision {
    fn width(&self) -> i64 {
        self.width
    }

    fn image_size(&self) -> [i64; 2] {
        [self.image_size; 2]
    }

    fn drops_patches(&self) -> bool {
        true
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let patches = self.patches.forward(pixels, pass);
        let class = self.class.expand([pixels.size()[0], 1, self.width], false);
        let x = Tensor::cat(&[class, patches], 1) + &self.positions;
        let x = self.pre_norm.forward(&drop_patches(&x, 1, pass));
        let x = self.blocks.forward(x, Visible::All, Pooled::First, pass);
        TowerOutput::from_stack(self.post_norm.forward(&x), Pooled::First, pass)
    }
}
