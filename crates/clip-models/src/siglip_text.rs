//! `siglip_text_model`: SigLIP's text tower, a bidirectional transformer that pools the last position (Zhai et al., 2023).
//!
//! ```text
//! x = tokens + positions        x = blocks(x), each position seeing all        pooled = final_norm(x[last])
//! ```
//!
//! It was trained without a mask, on texts padded to its context length: padding takes part like any token, and the last
//! position mostly is padding. So texts of any length are padded to that here. What the reference calls its head is the
//! projection into the common space.

use clip_nn::clip_core::Result;
use clip_nn::layers::{Activation, BlockConfig, Embedding, LayerNorm, Pooled, PreNormStack, Visible};
use clip_nn::tch::Tensor;
use clip_nn::{Init, Params, Pass, Role, TextBackbone, TextEncoder, Tokens, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// The fields of a canonical `text_config`; defaults are Hugging Face's `SiglipTextConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiglipTextConfig {
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
    /// The tokens of every text, padding among them.
    pub max_position_embeddings: i64,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// Share of the attention weights dropped in training.
    pub attention_dropout: f64,
    /// The id that texts are padded with.
    pub pad_token_id: i64,
}

impl Default for SiglipTextConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            vocab_size: 32000,
            max_position_embeddings: 64,
            hidden_act: Activation::GeluTanh,
            layer_norm_eps: 1e-6,
            attention_dropout: 0.0,
            pad_token_id: 1,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct SiglipText {
    tokens: Embedding,
    positions: Tensor,
    blocks: PreNormStack,
    final_norm: LayerNorm,
    config: SiglipTextConfig,
}

impl TextBackbone for SiglipText {
    const MODEL_TYPES: &'static [&'static str] = &["siglip_text_model"];

    type Config = SiglipTextConfig;

    fn build(config: SiglipTextConfig, params: &Params) -> Result<Self> {
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

impl SiglipText {
    /// Ids padded to the context length, `[batch, positions]`.
    fn padded(&self, ids: &Tensor) -> Tensor {
        let size = ids.size();
        let short = self.config.max_position_embeddings - size[1];
        if short <= 0 {
            return ids.shallow_clone();
        }
        let padding = ids.new_full([size[0], short], self.config.pad_token_id, (ids.kind(), ids.device()));
        Tensor::cat(&[ids, &padding], 1)
    }
}

impl TextEncoder for SiglipText {
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
        let x = self.tokens.forward(&self.padded(&tokens.ids)) + &self.positions;
        let x = self.blocks.forward(x, Visible::All, Pooled::Last, pass);
        let output = TowerOutput::from_stack(self.final_norm.forward(&x), Pooled::Last, pass);
        TowerOutput {
            // A feature for each token that was given.
            tokens: output.tokens.map(|all| all.narrow(1, 0, tokens.ids.size()[1])),
            ..output
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::{self, Kind};
    use clip_nn::{Fresh, ParamOptions};

    fn tower(change: impl FnOnce(&mut SiglipTextConfig)) -> Result<SiglipText> {
        tch::set_num_threads(1);
        let mut config = SiglipTextConfig {
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            vocab_size: 20,
            max_position_embeddings: 6,
            ..Default::default()
        };
        change(&mut config);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        SiglipText::build(config, &Params::new(None, options))
    }

    fn run(tower: &SiglipText, ids: &[i64], tokens: bool) -> TowerOutput {
        let ids = Tensor::from_slice(ids).view([1, -1]);
        let mask = ids.ne(tower.pad_id());
        tower.forward(&Tokens { ids, mask }, Pass { tokens, ..Pass::INFER })
    }

    #[test]
    fn a_short_text_is_the_padded_one() {
        let tower = tower(|_| ()).unwrap();
        let short = run(&tower, &[7, 9, 3], false).pooled;
        assert_eq!(short, run(&tower, &[7, 9, 3, 1, 1, 1], false).pooled);
        // Padding takes part: another id there is another text.
        let other = run(&tower, &[7, 9, 3, 2, 2, 2], false).pooled;
        assert!((short - other).abs().max().double_value(&[]) > 1e-4);
    }

    #[test]
    fn tokens_are_those_that_were_given() {
        let tower = tower(|_| ()).unwrap();
        let all = run(&tower, &[7, 9, 3], true);
        assert_eq!(all.tokens.unwrap().size(), [1, 3, 8]);
        let one = run(&tower, &[7, 9, 3], false).pooled;
        assert!((one - all.pooled).abs().max().double_value(&[]) < 1e-6);
        let full = run(&tower, &[7, 9, 3, 4, 5, 6], true);
        assert_eq!(full.pooled, full.tokens.unwrap().select(1, 5));
        assert_eq!(full.pooled.kind(), Kind::Float);
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_by_name() {
        let refused = |change: fn(&mut SiglipTextConfig)| tower(change).unwrap_err().to_string();
        assert!(refused(|config| config.pad_token_id = 20).contains("vocab_size is 20"));
        assert!(refused(|config| config.num_attention_heads = 3).contains("3 attention heads do not divide"));
        assert!(refused(|config| config.attention_dropout = -0.5).contains("attention_dropout is -0.5"));
    }
}
