//! `siglip_vision_model`: SigLIP's picture tower, a vision transformer without a class token (Zhai et al., 2023).
//!
//! ```text
//! x = patches + positions        x = post_norm(blocks(x))        pooled = head(x), a learnt query over all of x
//! ```

use clip_nn::clip_core::Result;
use clip_nn::layers::{
    Activation, BlockConfig, LayerNorm, PatchTokens, Patches, Pooled, PoolingHead, PreNormStack, Visible,
};
use clip_nn::tch::Tensor;
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// The fields of a canonical `vision_config`; defaults are Hugging Face's `SiglipVisionConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiglipVisionConfig {
    /// Width of a token.
    pub hidden_size: i64,
    /// Width between the two layers of an MLP, the head's too.
    pub intermediate_size: i64,
    /// Blocks.
    pub num_hidden_layers: u32,
    /// Heads of attention, the head's too.
    pub num_attention_heads: i64,
    /// Height and width of the pixels.
    pub image_size: i64,
    /// Height and width of a patch.
    pub patch_size: i64,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// Share of the blocks' attention weights dropped in training.
    pub attention_dropout: f64,
}

impl Default for SiglipVisionConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            hidden_act: Activation::GeluTanh,
            layer_norm_eps: 1e-6,
            attention_dropout: 0.0,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct SiglipVision {
    tokens: PatchTokens,
    blocks: PreNormStack,
    post_norm: LayerNorm,
    head: PoolingHead,
}

impl ImageBackbone for SiglipVision {
    const MODEL_TYPES: &'static [&'static str] = &["siglip_vision_model"];

    type Config = SiglipVisionConfig;

    fn build(config: SiglipVisionConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        let width = config.hidden_size;
        let blocks = BlockConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            qkv_bias: true,
            dropout: 0.0,
            attention_dropout: config.attention_dropout,
        };
        sizes::blocks(name, &blocks)?;
        sizes::patches(name, config.image_size, config.patch_size)?;
        sizes::share(name, "attention_dropout", blocks.attention_dropout)?;
        let first = params.layer(0);
        let spread = Init::Normal((width as f64).powf(-0.5));
        let patches = Patches::with_bias(&first.at("patch_embedding"), config.patch_size, width);
        Ok(Self {
            tokens: PatchTokens::new(&first, patches, config.image_size, spread),
            blocks: PreNormStack::new(params, &blocks),
            post_norm: LayerNorm::new(&params.at("post_norm"), width, config.layer_norm_eps),
            head: PoolingHead::new(&params.at("head"), &blocks),
        })
    }
}

impl ImageEncoder for SiglipVision {
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
        let x = self.tokens.forward(pixels, pass);
        // The head looks at every token, whoever else wants them.
        let all = Pass { tokens: true, ..pass };
        let x = self.blocks.forward(x, Visible::All, Pooled::First, all);
        let x = self.post_norm.forward(&x);
        TowerOutput {
            pooled: self.head.forward(&x, pass),
            tokens: pass.tokens.then_some(x),
        }
    }
}
