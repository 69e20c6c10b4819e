//! `bert`: a bidirectional text tower (Devlin et al., 2019).
//!
//! ```text
//! x = norm(words + positions + type)        x = blocks(x), each token seeing all that are no padding
//! pooled = tanh(pooler(x[first])), x[first], or the mean of x over the tokens
//! ```
//!
//! The first token has position 0; [`Roberta`](crate::Roberta) counts otherwise.

use clip_nn::clip_core::Result;
use clip_nn::layers::{
    Activation, BlockConfig, Dropout, Embedding, LayerNorm, Pooled, Pooler, PostNormStack, Ragged, Visible,
};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Init, Params, Pass, TextBackbone, TextEncoder, Tokens, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes;

/// How tokens become one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BertPooling {
    /// A dense layer and tanh over the first token: Hugging Face's `pooler_output`.
    #[default]
    Pooler,
    /// The first token.
    Cls,
    /// The mean over the tokens: sentence-transformers' rule.
    Mean,
}

/// The fields of a canonical `text_config`; defaults are Hugging Face's `BertConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// Token ids are below this.
    pub vocab_size: i64,
    /// Width of a token.
    pub hidden_size: i64,
    /// Blocks.
    pub num_hidden_layers: u32,
    /// Heads of attention.
    pub num_attention_heads: i64,
    /// Width between the two layers of an MLP.
    pub intermediate_size: i64,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Share of the values dropped in training.
    pub hidden_dropout_prob: f64,
    /// Share of the attention weights dropped in training.
    pub attention_probs_dropout_prob: f64,
    /// The most tokens of a text.
    pub max_position_embeddings: i64,
    /// Kinds of segments; only the first is used.
    pub type_vocab_size: i64,
    /// Eps of the norms.
    pub layer_norm_eps: f64,
    /// The id that shorter texts are padded with.
    pub pad_token_id: i64,
    /// How tokens become one feature.
    pub pooling: BertPooling,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
            pooling: BertPooling::Pooler,
        }
    }
}

/// The tower.
#[derive(Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    dropout: Dropout,
    blocks: PostNormStack,
    pooler: Option<Pooler>,
    numbering: Numbering,
    config: BertConfig,
}

/// How the tokens of a text are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// From 0, padding as well.
    FromZero,
    /// RoBERTa's: what pads has its id for a position, and the others follow on it.
    BehindPadding,
}

impl Numbering {
    /// The position of a text's first token, where texts are padded with this id.
    fn first(self, padding: i64) -> i64 {
        match self {
            Self::FromZero => 0,
            Self::BehindPadding => padding + 1,
        }
    }
}

impl TextBackbone for Bert {
    const MODEL_TYPES: &'static [&'static str] = &["bert"];

    type Config = BertConfig;

    fn build(config: BertConfig, params: &Params) -> Result<Self> {
        Self::new(Self::MODEL_TYPES[0], config, Numbering::FromZero, params)
    }
}

impl Bert {
    /// The tower; errors call it `name`.
    pub(crate) fn new(name: &str, config: BertConfig, numbering: Numbering, params: &Params) -> Result<Self> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let blocks = BlockConfig {
            width,
            hidden: config.intermediate_size,
            heads: config.num_attention_heads,
            layers: config.num_hidden_layers,
            activation: config.hidden_act,
            eps,
            qkv_bias: true,
            dropout: config.hidden_dropout_prob,
            attention_dropout: config.attention_probs_dropout_prob,
        };
        let (vocabulary, positions, padding) = (config.vocab_size, config.max_position_embeddings, config.pad_token_id);
        sizes::blocks(name, &blocks)?;
        sizes::texts(name, positions, vocabulary, padding)?;
        sizes::at_least(name, "max_position_embeddings", positions, numbering.first(padding) + 1)?;
        sizes::at_least(name, "type_vocab_size", config.type_vocab_size, 1)?;
        sizes::share(name, "hidden_dropout_prob", blocks.dropout)?;
        sizes::share(name, "attention_probs_dropout_prob", blocks.attention_dropout)?;
        let init = Init::Normal(0.02);
        let embeddings = params.at("embeddings").layer(0);
        let table = |name, rows| Embedding::new(&embeddings.at(name), [rows, width], init);
        let words = table("word", vocabulary).with_padding(padding);
        let positions = table("position", positions);
        Ok(Self {
            words,
            positions: match numbering {
                Numbering::FromZero => positions,
                Numbering::BehindPadding => positions.with_padding(padding),
            },
            types: table("token_type", config.type_vocab_size),
            norm: LayerNorm::new(&embeddings.at("norm"), width, eps),
            dropout: Dropout::new(blocks.dropout),
            blocks: PostNormStack::new(params, &blocks, init),
            pooler: (config.pooling == BertPooling::Pooler).then(|| Pooler::new(&params.at("pooler"), width, init)),
            numbering,
            config,
        })
    }

    /// The vectors of the tokens' positions, `[batch, tokens, width]` or `[tokens, width]`.
    fn positions(&self, ids: &Tensor) -> Tensor {
        match self.numbering {
            Numbering::FromZero => self.positions.first(ids.size()[1]),
            Numbering::BehindPadding => self.positions.forward(&behind_padding(ids, self.config.pad_token_id)),
        }
    }
}

/// RoBERTa's positions, `[batch, tokens]`: of padding its id, of the nth other token that and `n`.
pub(crate) fn behind_padding(ids: &Tensor, padding: i64) -> Tensor {
    let tokens = ids.ne(padding).to_kind(Kind::Int64);
    tokens.cumsum(1, Kind::Int64) * tokens + padding
}

impl TextEncoder for Bert {
    fn width(&self) -> i64 {
        self.config.hidden_size
    }

    fn context_length(&self) -> i64 {
        self.config.max_position_embeddings - self.numbering.first(self.config.pad_token_id)
    }

    fn vocabulary(&self) -> i64 {
        self.config.vocab_size
    }

    fn pad_id(&self) -> i64 {
        self.config.pad_token_id
    }

    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput {
        if !pass.tokens
            && self.config.pooling != BertPooling::Mean
            && let Some(ragged) = Ragged::whole(&tokens.mask)
        {
            return self.forward_ragged(&tokens.ids, &ragged, pass);
        }
        let (ids, mask) = trimmed(tokens, pass);
        let embedded = self.words.forward(&ids) + self.types.first(1) + self.positions(&ids);
        let x = self.dropout.forward(&self.norm.forward(&embedded), pass);
        let visible = Visible::Keys(&mask);
        if self.config.pooling == BertPooling::Mean {
            let x = self.blocks.forward(x, visible, None, pass);
            return TowerOutput {
                pooled: mean(&x, &mask),
                tokens: pass.tokens.then_some(x),
            };
        }
        let one = (!pass.tokens).then_some(Pooled::First);
        let x = self.blocks.forward(x, visible, one, pass);
        let output = TowerOutput::from_stack(x, Pooled::First, pass);
        TowerOutput {
            pooled: self.pool(output.pooled, pass),
            ..output
        }
    }
}

impl Bert {
    /// The tokens alone, where none stands behind padding.
    fn forward_ragged(&self, ids: &Tensor, ragged: &Ragged, pass: Pass) -> TowerOutput {
        let positions = match self.numbering {
            Numbering::FromZero => self.positions.forward(ragged.positions()),
            Numbering::BehindPadding => {
                let positions = behind_padding(ids, self.config.pad_token_id);
                self.positions.forward(&ragged.pack(&positions))
            }
        };
        let embedded = self.words.forward(&ragged.pack(ids)) + self.types.first(1) + positions;
        let x = self.dropout.forward(&self.norm.forward(&embedded), pass);
        let pooled = Pooled::Own(ragged);
        let x = self.blocks.forward(x, Visible::Own(ragged), Some(pooled), pass);
        let output = TowerOutput::from_stack(x, pooled, pass);
        TowerOutput {
            pooled: self.pool(ragged.restore(&output.pooled), pass),
            tokens: None,
        }
    }

    /// Through the pooler, where there is one.
    fn pool(&self, first: Tensor, pass: Pass) -> Tensor {
        match &self.pooler {
            Some(pooler) => pooler.forward(&first, pass),
            None => first,
        }
    }
}

/// Ids and mask without the columns that are padding in every row: exact, since nobody looks at them.
fn trimmed(tokens: &Tokens, pass: Pass) -> (Tensor, Tensor) {
    let whole = || (tokens.ids.shallow_clone(), tokens.mask.shallow_clone());
    if pass.tokens || tokens.mask.numel() == 0 {
        return whole();
    }
    let columns = tokens.mask.any_dim(0, false).nonzero().flatten(0, -1);
    if columns.numel() == 0 {
        return whole();
    }
    let used = columns.max().int64_value(&[]) + 1;
    (tokens.ids.narrow(1, 0, used), tokens.mask.narrow(1, 0, used))
}

/// The mean over the tokens that the mask leaves, `[batch, width]`; zero for a text without one.
fn mean(x: &Tensor, mask: &Tensor) -> Tensor {
    let weights = mask.unsqueeze(-1).to_kind(Kind::Float);
    let sum = (x * &weights).sum_dim_intlist(1, false, Kind::Float);
    sum / weights.sum_dim_intlist(1, false, Kind::Float).clamp_min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch;
    use clip_nn::{Fresh, ParamOptions};

    fn tower(pooling: BertPooling) -> Bert {
        tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        let config = BertConfig {
            vocab_size: 20,
            hidden_size: 8,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 16,
            max_position_embeddings: 6,
            pooling,
            ..Default::default()
        };
        Bert::build(config, &Params::new(None, options)).unwrap()
    }

    /// Rows of 6 ids, of which as many are tokens.
    fn tokens(ids: &[i64], lengths: &[i64]) -> Tokens {
        let lengths = Tensor::from_slice(lengths).unsqueeze(1);
        Tokens {
            ids: Tensor::from_slice(ids).view([-1, 6]),
            mask: Tensor::arange(6, (Kind::Int64, tch::Device::Cpu))
                .unsqueeze(0)
                .lt_tensor(&lengths),
        }
    }

    #[test]
    fn pooling_is_the_first_token_or_the_mean_of_the_tokens() {
        let given = tokens(&[2, 7, 3, 0, 0, 0, 2, 3, 0, 0, 0, 0], &[3, 2]);
        let pass = Pass {
            tokens: true,
            ..Pass::INFER
        };
        let first = tower(BertPooling::Cls).forward(&given, pass);
        let x = first.tokens.unwrap();
        assert!(first.pooled.equal(&x.select(1, 0)));
        // Weights are drawn by name and seed, so that the towers are the same.
        let mean = tower(BertPooling::Mean).forward(&given, Pass::INFER).pooled;
        let want = Tensor::stack(
            &[
                x.get(0).narrow(0, 0, 3).mean_dim(0, false, Kind::Float),
                x.get(1).narrow(0, 0, 2).mean_dim(0, false, Kind::Float),
            ],
            0,
        );
        assert!((mean - want).abs().max().double_value(&[]) < 1e-5);
        let pooled = tower(BertPooling::Pooler).forward(&given, Pass::INFER).pooled;
        assert!(pooled.abs().max().double_value(&[]) <= 1.0);
    }

    #[test]
    fn what_the_mask_hides_changes_nothing() {
        for pooling in [BertPooling::Pooler, BertPooling::Cls, BertPooling::Mean] {
            let tower = tower(pooling);
            let run = |ids: &[i64]| tower.forward(&tokens(ids, &[3]), Pass::INFER).pooled;
            let difference = run(&[2, 7, 3, 0, 0, 0]) - run(&[2, 7, 3, 9, 9, 9]);
            assert!(difference.abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn a_text_without_tokens_is_finite() {
        for pooling in [BertPooling::Pooler, BertPooling::Cls, BertPooling::Mean] {
            let tower = tower(pooling);
            for lengths in [[0, 3], [0, 0]] {
                let given = tokens(&[0, 0, 0, 0, 0, 0, 2, 7, 3, 0, 0, 0], &lengths);
                for pass in [Pass::INFER, Pass::TRAIN] {
                    let pooled = tower.forward(&given, pass).pooled;
                    assert!(pooled.isfinite().all().int64_value(&[]) == 1, "{pooling:?} {lengths:?}");
                }
            }
        }
    }
}
