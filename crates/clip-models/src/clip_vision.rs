//! `clip_vision_model`: CLIP's picture tower, a vision transformer whose class token is pooled.
//!
//! ```text
//! x = [class; patches] + positions        x = blocks(pre_norm(x))        pooled = post_norm(x[class])
//! ```

use clip_nn::clip_core::Result;
use clip_nn::layers::{Activation, BlockConfig, LayerNorm, PatchTokens, Patches, Pooled, PreNormStack, Visible};
use clip_nn::tch::Tensor;
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, TowerOutput};
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
    tokens: PatchTokens,
    pre_norm: LayerNorm,
    blocks: PreNormStack,
    post_norm: LayerNorm,
}

impl ImageBackbone for ClipVision {
    const MODEL_TYPES: &'static [&'static str] = &["clip_vision_model"];

    type Config = ClipVisionConfig;

    fn build(config: ClipVisionConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let blocks = BlockConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps,
            qkv_bias: true,
            dropout: 0.0,
            attention_dropout: config.attention_dropout,
        };
        sizes::blocks(name, &blocks)?;
        sizes::patches(name, config.image_size, config.patch_size)?;
        sizes::share(name, "attention_dropout", blocks.attention_dropout)?;
        let first = params.layer(0);
        let spread = Init::Normal((width as f64).powf(-0.5));
        let patches = Patches::new(&first.at("patch_embedding"), config.patch_size, width);
        Ok(Self {
            tokens: PatchTokens::with_class(&first, patches, config.image_size, spread),
            pre_norm: LayerNorm::new(&first.at("pre_norm"), width, eps),
            blocks: PreNormStack::new(params, &blocks),
            post_norm: LayerNorm::new(&params.at("post_norm"), width, eps),
        })
    }
}

impl ImageEncoder for ClipVision {
    fn width(&self) -> i64 {
        self.tokens.width()
    }

    fn image_size(&self) -> [i64; 2] {
        self.tokens.image_size()
    }

    fn drops_patches(&self) -> bool {
        true
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let x = self.pre_norm.forward(&self.tokens.forward(pixels, pass));
        let x = self.blocks.forward(x, Visible::All, Pooled::First, pass);
        TowerOutput::from_stack(self.post_norm.forward(&x), Pooled::First, pass)
    }
}
