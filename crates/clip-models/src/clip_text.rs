//! `clip_text_model`: CLIP's text tower, a causal transformer that pools the token which ends the text.
//!
//! ```text
//! x = tokens + positions        x = blocks(x), each token seeing itself and those before        pooled = final_norm(x[end])
//! ```
//!
//! Since a token sees nothing behind it, what stands behind a text's end changes nothing: the tower leaves it out, and
//! needs no mask. On a CPU it works on the tokens alone, without padding.

use clip_nn::clip_core::Result;
use clip_nn::layers::{Activation, BlockConfig, Embedding, LayerNorm, Pooled, PreNormStack, Ragged, Visible};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Init, Params, Pass, Role, TextBackbone, TextEncoder, Tokens, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// Which token ends a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipPooling {
    /// The first of the largest id: OpenAI's and OpenCLIP's rule.
    #[default]
    Argmax,
    /// The first `eos_token_id`; the first token where there is none.
    Eos,
}

/// The fields of a canonical `text_config`; defaults are Hugging Face's `CLIPTextConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// Width of a token.
    pub hidden_size: i64,
    /// Width between the two layers of an MLP.
    pub intermediate_size: i64,
    /// Blocks.
    pub num_hidden_layers: u32,
    /// Heads of attention.
    pub num_attention_heads: i64,
    /// Token ids are below this.
    pub vocab_size: i64,
    /// The most tokens of a text.
    pub max_position_embeddings: i64,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// Share of the attention weights dropped in training.
    pub attention_dropout: f64,
    /// Which token is pooled.
    pub pooling: ClipPooling,
    /// The id that `eos` pooling looks for.
    pub eos_token_id: i64,
    /// The id that shorter texts are padded with.
    pub pad_token_id: i64,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            vocab_size: 49408,
            max_position_embeddings: 77,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
            attention_dropout: 0.0,
            pooling: ClipPooling::Argmax,
            eos_token_id: 49407,
            pad_token_id: 0,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct ClipText {
    tokens: Embedding,
    positions: Tensor,
    blocks: PreNormStack,
    final_norm: LayerNorm,
    config: ClipTextConfig,
}

impl TextBackbone for ClipText {
    const MODEL_TYPES: &'static [&'static str] = &["clip_text_model"];

    type Config = ClipTextConfig;

    fn build(config: ClipTextConfig, params: &Params) -> Result<Self> {
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
        let (vocabulary, context) = (config.vocab_size, config.max_position_embeddings);
        sizes::blocks(name, &blocks)?;
        sizes::texts(name, context, vocabulary, config.pad_token_id)?;
        sizes::share(name, "attention_dropout", blocks.attention_dropout)?;
        let first = params.layer(0);
        Ok(Self {
            tokens: Embedding::new(&first.at("token_embedding"), [vocabulary, width], Init::Normal(0.02)),
            positions: first.tensor(
                "position_embedding",
                &[context, width],
                Role::Embedding,
                Init::Normal(0.01),
            ),
            blocks: PreNormStack::new(params, &blocks),
            final_norm: LayerNorm::new(&params.at("final_norm"), width, config.layer_norm_eps),
            config,
        })
    }
}

impl ClipText {
    /// Where each text ends, `[batch]`.
    fn ends(&self, ids: &Tensor) -> Tensor {
        match self.config.pooling {
            ClipPooling::Argmax => ids.argmax(-1, false),
            // The first of the largest, as for the ids themselves.
            ClipPooling::Eos => ids.eq(self.config.eos_token_id).to_kind(Kind::Int64).argmax(-1, false),
        }
    }

    /// The tokens up to each text's end alone.
    fn forward_ragged(&self, ids: &Tensor, ragged: &Ragged, pass: Pass) -> TowerOutput {
        let positions = self.positions.index_select(0, ragged.positions());
        let x = self.tokens.forward(&ragged.pack(ids)) + positions;
        let pooled = Pooled::Own(ragged);
        let x = self.blocks.forward(x, Visible::Own(ragged), pooled, pass);
        let output = TowerOutput::from_stack(self.final_norm.forward(&x), pooled, pass);
        TowerOutput {
            pooled: ragged.restore(&output.pooled),
            tokens: None,
        }
    }
}

impl TextEncoder for ClipText {
    fn width(&self) -> i64 {
        self.config.hidden_size
    }

    fn context_length(&self) -> i64 {
        self.config.max_position_embeddings
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn pad_id(&self) -> i64 {
        self.config.pad_token_id
    }

    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput {
        let ends = self.ends(&tokens.ids);
        if !pass.tokens
            && let Some(ragged) = Ragged::causal(&ends, tokens.ids.size()[1])
        {
            return self.forward_ragged(&tokens.ids, &ragged, pass);
        }
        let all = tokens.ids.size()[1];
        let used = if pass.tokens || ends.numel() == 0 {
            all
        } else {
            ends.max().int64_value(&[]) + 1
        };
        let ids = tokens.ids.narrow(1, 0, used);
        let x = self.tokens.forward(&ids) + self.positions.narrow(0, 0, used);
        let pooled = Pooled::At(&ends);
        let x = self.blocks.forward(x, Visible::Causal, pooled, pass);
        TowerOutput::from_stack(self.final_norm.forward(&x), pooled, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch;
    use clip_nn::{Fresh, ParamOptions};

    fn tower(config: ClipTextConfig) -> Result<ClipText> {
        tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        ClipText::build(config, &Params::new(None, options))
    }

    fn small() -> ClipTextConfig {
        ClipTextConfig {
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            vocab_size: 20,
            max_position_embeddings: 6,
            ..Default::default()
        }
    }

    fn ends(pooling: ClipPooling, eos_token_id: i64, ids: &[i64]) -> i64 {
        let config = ClipTextConfig {
            pooling,
            eos_token_id,
            ..small()
        };
        let ids = Tensor::from_slice(ids).view([1, -1]);
        tower(config).unwrap().ends(&ids).int64_value(&[0])
    }

    #[test]
    fn a_text_ends_at_the_first_of_its_end_tokens() {
        assert_eq!(ends(ClipPooling::Argmax, 0, &[18, 3, 19, 5, 19, 0]), 2);
        assert_eq!(ends(ClipPooling::Eos, 2, &[18, 3, 2, 19, 2, 2]), 2);
        // None at all: the first token, as the reference answers.
        assert_eq!(ends(ClipPooling::Eos, 2, &[18, 3, 4]), 0);
    }

    #[test]
    fn what_stands_behind_the_end_changes_nothing() {
        let tower = tower(small()).unwrap();
        let run = |ids: &[i64]| {
            let ids = Tensor::from_slice(ids).view([2, -1]);
            let mask = ids.ones_like().to_kind(Kind::Bool);
            tower.forward(&Tokens { ids, mask }, Pass::INFER).pooled
        };
        let short = run(&[18, 3, 19, 18, 19, 0]);
        let long = run(&[18, 3, 19, 0, 0, 0, 18, 19, 7, 7, 7, 7]);
        assert!((short - long).abs().max().double_value(&[]) < 1e-6);
    }

    #[test]
    fn texts_without_padding_are_those_with_it() {
        let tower = tower(small()).unwrap();
        let ids = Tensor::from_slice(&[18i64, 3, 4, 5, 6, 19, 18, 19, 0, 0, 0, 0, 18, 3, 19, 0, 0, 0]).view([3, 6]);
        let tokens = Tokens { mask: ids.ne(0), ids };
        let whole = Pass {
            tokens: true,
            ..Pass::INFER
        };
        let (alone, padded) = (tower.forward(&tokens, Pass::INFER), tower.forward(&tokens, whole));
        let difference = (alone.pooled - padded.pooled).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_by_name() {
        let refused = |config| tower(config).unwrap_err().to_string();
        let heads = ClipTextConfig {
            num_attention_heads: 3,
            ..small()
        };
        assert_eq!(
            refused(heads),
            "config of `clip_text_model`: 3 attention heads do not divide a width of 8; each head has the same share of the \
             width"
        );
        let layers = ClipTextConfig {
            num_hidden_layers: 0,
            ..small()
        };
        assert!(refused(layers).contains("num_hidden_layers is 0"));
        let deep = ClipTextConfig {
            num_hidden_layers: 1_000_000,
            ..small()
        };
        assert!(refused(deep).contains("at most 1024"));
        let pad = ClipTextConfig {
            pad_token_id: 20,
            ..small()
        };
        assert!(refused(pad).contains("vocab_size is 20"));
        let huge = ClipTextConfig {
            vocab_size: i64::MAX,
            ..small()
        };
        assert!(refused(huge).contains("vocab_size is 9223372036854775807"));
    }
}
