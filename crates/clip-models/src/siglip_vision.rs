//! `siglip_vision_model`: SigLIP's picture tower, a vision transformer without a class token (Zhai et al., 2023).
//!
//! ```text
//! x = patches + positions        x = post_norm(blocks(x))        pooled = head(x), a learnt query over all of x
//! ```

use clip_nn::clip_core::Result;
use clip_nn::layers::{
    Activation, LayerNorm, Patches, Pooled, PoolingHead, PreNormConfig, PreNormStack, Visible, drop_patches,
};
use clip_nn::tch::Tensor;
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, Role, TowerOutput};
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
    positions: Tensor,
    patches: Patches,
    blocks: PreNormStack,
    post_norm: LayerNorm,
    head: PoolingHead,
    width: i64,
    image_size: i64,
}

impl ImageBackbone for SiglipVision {
    const MODEL_TYPES: &'static [&'static str] = &["siglip_vision_model"];

    type Config = SiglipVisionConfig;

    fn build(config: SiglipVisionConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        sizes::positive(
            name,
            &[
                ("hidden_size", width),
                ("intermediate_size", config.intermediate_size),
                ("num_hidden_layers", config.num_hidden_layers.into()),
                ("patch_size", config.patch_size),
            ],
        )?;
        sizes::heads(name, width, config.num_attention_heads)?;
        sizes::at_least(name, "image_size", config.image_size, config.patch_size)?;
        sizes::share(name, "attention_dropout", config.attention_dropout)?;
        let blocks = PreNormConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps,
            qkv_bias: true,
        };
        let first = params.layer(0);
        let spread = Init::Normal((width as f64).powf(-0.5));
        let patches = Patches::with_bias(&first.at("patch_embedding"), config.patch_size, width);
        let tokens = patches.count([config.image_size; 2]);
        let sizes = [width, config.intermediate_size];
        let (heads, activation) = (config.num_attention_heads, config.hidden_act);
        Ok(Self {
            positions: first.tensor("position_embedding", &[tokens, width], Role::Embedding, spread),
            patches,
            blocks: PreNormStack::new(params, &blocks).with_dropout(0.0, config.attention_dropout),
            post_norm: LayerNorm::new(&params.at("post_norm"), width, eps),
            head: PoolingHead::new(&params.at("head"), sizes, heads, activation, eps),
            width,
            image_size: config.image_size,
        })
    }
}

impl ImageEncoder for SiglipVision {
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
        let x = drop_patches(&(self.patches.forward(pixels, pass) + &self.positions), 0, pass);
        // The head looks at every token, whoever else wants them.
        let all = Pass { tokens: true, ..pass };
        let x = self
            .post_norm
            .forward(&self.blocks.forward(x, Visible::All, Pooled::First, all));
        TowerOutput {
            pooled: self.head.forward(&x, pass),
            tokens: pass.tokens.then_some(x),
        }
    }
}
