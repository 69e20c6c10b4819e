//! `vit`: Hugging Face's vision transformer (Dosovitskiy et al., 2021).
//!
//! ```text
//! x = [class; patches] + positions        x = post_norm(blocks(x))
//! pooled = tanh(pooler(x[class])), or x[class]
//! ```

use clip_nn::clip_core::Result;
use clip_nn::layers::{
    Activation, BlockConfig, Dropout, LayerNorm, PatchTokens, Patches, Pooled, Pooler, PreNormStack, Visible,
};
use clip_nn::tch::Tensor;
use clip_nn::{ImageBackbone, ImageEncoder, Init, Params, Pass, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// How the class token becomes the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VitPooling {
    /// A dense layer and tanh: Hugging Face's `pooler_output`, which `vision-text-dual-encoder` takes.
    #[default]
    Pooler,
    /// As it is.
    Cls,
}

/// The fields of a canonical `vision_config`; defaults are Hugging Face's `ViTConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VitConfig {
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
    /// Share of the values dropped in training.
    pub hidden_dropout_prob: f64,
    /// Share of the attention weights dropped in training.
    pub attention_probs_dropout_prob: f64,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// How the class token becomes the feature.
    pub pooling: VitPooling,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224,
            patch_size: 16,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            layer_norm_eps: 1e-12,
            qkv_bias: true,
            pooling: VitPooling::Pooler,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct Vit {
    tokens: PatchTokens,
    dropout: Dropout,
    blocks: PreNormStack,
    post_norm: LayerNorm,
    pooler: Option<Pooler>,
}

impl ImageBackbone for Vit {
    const MODEL_TYPES: &'static [&'static str] = &["vit"];

    type Config = VitConfig;

    fn build(config: VitConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        let width = config.hidden_size;
        let blocks = BlockConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            qkv_bias: config.qkv_bias,
            dropout: config.hidden_dropout_prob,
            attention_dropout: config.attention_probs_dropout_prob,
        };
        sizes::blocks(name, &blocks)?;
        sizes::patches(name, config.image_size, config.patch_size)?;
        sizes::share(name, "hidden_dropout_prob", blocks.dropout)?;
        sizes::share(name, "attention_probs_dropout_prob", blocks.attention_dropout)?;
        let first = params.layer(0);
        let init = Init::Normal(0.02);
        let patches = Patches::with_bias(&first.at("patch_embedding"), config.patch_size, width);
        Ok(Self {
            tokens: PatchTokens::with_class(&first, patches, config.image_size, init),
            dropout: Dropout::new(blocks.dropout),
            blocks: PreNormStack::new(params, &blocks),
            post_norm: LayerNorm::new(&params.at("post_norm"), width, config.layer_norm_eps),
            pooler: (config.pooling == VitPooling::Pooler).then(|| Pooler::new(&params.at("pooler"), width, init)),
        })
    }
}

impl ImageEncoder for Vit {
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
        let x = self.dropout.forward(&self.tokens.forward(pixels, pass), pass);
        let x = self.blocks.forward(x, Visible::All, Pooled::First, pass);
        let output = TowerOutput::from_stack(self.post_norm.forward(&x), Pooled::First, pass);
        let pooled = match &self.pooler {
            Some(pooler) => pooler.forward(&output.pooled, pass),
            None => output.pooled,
        };
        TowerOutput { pooled, ..output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::{self, Device, Kind};
    use clip_nn::{Fresh, ParamOptions, Parameters};

    fn tower(change: impl FnOnce(&mut VitConfig)) -> Result<(Vit, Parameters)> {
        tch::set_num_threads(1);
        let mut config = VitConfig {
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            image_size: 9,
            patch_size: 4,
            ..Default::default()
        };
        change(&mut config);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        let params = Params::new(None, options);
        let tower = Vit::build(config, &params)?;
        Ok((tower, params.finish()?))
    }

    fn pixels() -> Tensor {
        (Tensor::arange(2 * 3 * 81, (Kind::Float, Device::Cpu)) * 0.37)
            .sin()
            .view([2, 3, 9, 9])
    }

    #[test]
    fn the_class_token_is_pooled_as_it_is_or_by_the_pooler() {
        let pass = Pass {
            tokens: true,
            ..Pass::INFER
        };
        let plain = tower(|config| config.pooling = VitPooling::Cls)
            .unwrap()
            .0
            .forward(&pixels(), pass);
        let tokens = plain.tokens.unwrap();
        assert_eq!(tokens.size(), [2, 5, 8]);
        assert_eq!(plain.pooled, tokens.select(1, 0));
        let pooled = tower(|_| ()).unwrap().0.forward(&pixels(), Pass::INFER).pooled;
        assert!(pooled.abs().max().double_value(&[]) <= 1.0);
        assert_ne!(pooled, plain.pooled);
    }

    #[test]
    fn biases_of_attention_can_be_left_out() {
        let names = |qkv_bias| {
            let (_, parameters) = tower(|config| config.qkv_bias = qkv_bias).unwrap();
            parameters
                .iter()
                .map(|parameter| parameter.name.clone())
                .collect::<Vec<_>>()
        };
        let (with, without) = (names(true), names(false));
        let gone: Vec<&String> = with.iter().filter(|name| !without.contains(name)).collect();
        assert_eq!(gone, ["blocks.0.attention.qkv.bias", "blocks.1.attention.qkv.bias"]);
    }

    #[test]
    fn dropout_is_for_training() {
        let (tower, _) = tower(|config| config.hidden_dropout_prob = 0.5).unwrap();
        tch::manual_seed(1);
        let train = tower.forward(&pixels(), Pass::TRAIN).pooled;
        let infer = tower.forward(&pixels(), Pass::INFER).pooled;
        assert_eq!(infer, tower.forward(&pixels(), Pass::INFER).pooled);
        assert_ne!(train, infer);
        assert!(super::tests::tower(|config| config.hidden_dropout_prob = 1.0).is_err());
    }
}
