//! Small transformers for both towers: layers that may have adapters, blocks with a depth, patches.

use clip_nn::clip_core::Result;
use clip_nn::layers::{
    Activation, BlockConfig, Embedding, LayerNorm, Patches, Pooled, PreNormStack, Visible, drop_patches,
};
use clip_nn::serde::{Deserialize, Serialize};
use clip_nn::tch::Tensor;
use clip_nn::{
    DualEncoder, ImageBackbone, ImageEncoder, Init, Lora, Params, Pass, Role, TextBackbone, TextEncoder, Tokens,
    TowerOutput,
};
use serde_json::{Value, json};

use crate::tiny::fresh_with;

const WIDTH: i64 = 6;

#[derive(Serialize, Deserialize)]
#[serde(crate = "clip_nn::serde")]
pub(crate) struct Depth {
    blocks: u32,
}

fn stack(params: &Params, depth: &Depth) -> PreNormStack {
    let config = BlockConfig {
        width: WIDTH,
        hidden: 10,
        heads: 2,
        layers: depth.blocks,
        activation: Activation::Gelu,
        eps: 1e-5,
        qkv_bias: true,
        dropout: 0.0,
        attention_dropout: 0.0,
    };
    PreNormStack::new(params, &config)
}

/// A vision transformer on 4 x 4 pixels in patches of 2 x 2.
pub(crate) struct DeepImage {
    patches: Patches,
    class: Tensor,
    positions: Tensor,
    blocks: PreNormStack,
    norm: LayerNorm,
}

impl ImageBackbone for DeepImage {
    const MODEL_TYPES: &'static [&'static str] = &["deep_image"];

    type Config = Depth;

    fn build(config: Depth, params: &Params) -> Result<Self> {
        let first = params.layer(0);
        let table = |name, shape: &[i64]| first.tensor(name, shape, Role::Embedding, Init::Normal(0.5));
        Ok(Self {
            patches: Patches::new(&first.at("patches"), 2, WIDTH),
            class: table("class", &[WIDTH]),
            positions: table("positions", &[5, WIDTH]),
            blocks: stack(params, &config),
            norm: LayerNorm::new(&params.at("norm"), WIDTH, 1e-5),
        })
    }
}

impl ImageEncoder for DeepImage {
    fn width(&self) -> i64 {
        WIDTH
    }

    fn image_size(&self) -> [i64; 2] {
        [4, 4]
    }

    fn drops_patches(&self) -> bool {
        true
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let class = self.class.expand([pixels.size()[0], 1, WIDTH], false);
        let x = Tensor::cat(&[class, self.patches.forward(pixels, pass)], 1) + &self.positions;
        let x = drop_patches(&x, 1, pass);
        let x = self.blocks.forward(x, Visible::All, Pooled::First, pass);
        TowerOutput::from_stack(self.norm.forward(&x), Pooled::First, pass)
    }
}

/// A transformer over words whose first word is pooled.
pub(crate) struct DeepText {
    words: Embedding,
    blocks: PreNormStack,
}

impl TextBackbone for DeepText {
    const MODEL_TYPES: &'static [&'static str] = &["deep_text"];

    type Config = Depth;

    fn build(config: Depth, params: &Params) -> Result<Self> {
        let words = Embedding::new(&params.layer(0).at("words"), [20, WIDTH], Init::Normal(1.0));
        let blocks = stack(params, &config);
        Ok(Self { words, blocks })
    }
}

impl TextEncoder for DeepText {
    fn width(&self) -> i64 {
        WIDTH
    }

    fn context_length(&self) -> i64 {
        5
    }

    fn vocabulary(&self) -> i64 {
        20
    }

    fn pad_id(&self) -> i64 {
        0
    }

    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput {
        let x = self.words.forward(&tokens.ids);
        let x = self.blocks.forward(x, Visible::Keys(&tokens.mask), Pooled::First, pass);
        TowerOutput::from_stack(x, Pooled::First, pass)
    }
}

pub(crate) fn config() -> Value {
    json!({
        "embed_dim": 5,
        "vision_config": { "model_type": "deep_image", "blocks": 3 },
        "text_config": { "model_type": "deep_text", "blocks": 2 },
    })
}

pub(crate) fn deep(lora: Option<Lora>) -> DualEncoder {
    fresh_with(config(), lora)
}
