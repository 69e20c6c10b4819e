//! What the two kinds of transformer blocks have in common: their sizes, and the parts that these make.

use super::{Activation, Attention, AttentionInit, LayerNorm, Mlp, MlpInit};
use crate::Params;

/// Sizes of a stack of blocks: [`PreNormStack`](super::PreNormStack) and [`PostNormStack`](super::PostNormStack).
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width of a token.
    pub width: i64,
    /// Width between the two layers of an MLP.
    pub hidden: i64,
    /// Heads; a divisor of the width.
    pub heads: i64,
    /// Blocks, at least one.
    pub layers: u32,
    /// The MLP's activation.
    pub activation: Activation,
    /// The norms' eps.
    pub eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Share of the values dropped before each sum, in training.
    pub dropout: f64,
    /// Share of the attention weights dropped in training.
    pub attention_dropout: f64,
}

impl BlockConfig {
    pub(super) fn norm(&self, params: &Params) -> LayerNorm {
        LayerNorm::new(params, self.width, self.eps)
    }

    pub(super) fn attention(&self, params: &Params, init: AttentionInit) -> Attention {
        let attention = if self.qkv_bias {
            Attention::new(params, self.width, self.heads, init)
        } else {
            Attention::without_qkv_bias(params, self.width, self.heads, init)
        };
        attention.with_dropout(self.attention_dropout)
    }

    pub(super) fn mlp(&self, params: &Params, init: MlpInit) -> Mlp {
        Mlp::new(params, [self.width, self.hidden], self.activation, init)
    }
}
