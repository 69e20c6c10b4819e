//! Blocks that norm after they worked: `x = norm(x + attention(x)); x = norm(x + mlp(x))`. BERT's.

use tch::Tensor;

use super::{Attention, AttentionInit, BlockConfig, Dropout, LayerNorm, Mlp, MlpInit, Pooled, Visible};
use crate::{Init, Params, Pass};

/// A block, `[batch, tokens, width] -> [batch, tokens, width]`.
#[derive(Debug)]
pub struct PostNormBlock {
    attention: Attention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    norm: LayerNorm,
    dropout: Dropout,
}

impl PostNormBlock {
    /// Takes `attention`, `attention.norm`, `mlp` and `norm` from `params`; fresh matrices start by `init`.
    pub fn new(params: &Params, config: &BlockConfig, init: Init) -> Self {
        let inside = params.at("attention");
        Self {
            attention: config.attention(&inside, AttentionInit { qkv: init, out: init }),
            attention_norm: config.norm(&inside.at("norm")),
            mlp: config.mlp(&params.at("mlp"), MlpInit { fc1: init, fc2: init }),
            norm: config.norm(&params.at("norm")),
            dropout: Dropout::new(config.dropout),
        }
    }

    /// All tokens.
    pub fn forward(&self, x: &Tensor, visible: Visible<'_>, pass: Pass) -> Tensor {
        if self.dropout.share(pass) == 0.0 {
            return self.finish(&self.attention.forward_added(x, x, visible, pass), pass);
        }
        let attended = self.attention.forward(x, visible, pass);
        self.finish(&(x + self.dropout.forward(&attended, pass)), pass)
    }

    /// The pooled token of [`forward`](Self::forward) alone, `[batch, 1, width]`, for about a third of the work.
    pub fn forward_pooled(&self, x: &Tensor, visible: Visible<'_>, pooled: Pooled<'_>, pass: Pass) -> Tensor {
        let attended = self.attention.forward_pooled(x, visible, pooled, pass);
        self.finish(&(pooled.pick(x) + self.dropout.forward(&attended, pass)), pass)
    }

    /// From the sum of the stream and what attention saw.
    fn finish(&self, sum: &Tensor, pass: Pass) -> Tensor {
        let x = self.attention_norm.forward(sum);
        if self.dropout.share(pass) == 0.0 {
            return self.norm.forward(&self.mlp.forward_added(&x, &x, pass));
        }
        let worked = self.dropout.forward(&self.mlp.forward(&x, pass), pass);
        self.norm.forward(&(&x + worked))
    }
}

/// Blocks on top of each other.
#[derive(Debug)]
pub struct PostNormStack {
    blocks: Vec<PostNormBlock>,
}

impl PostNormStack {
    /// Takes `blocks.{i}` from `params`, each at depth `i + 1`; fresh matrices start by `init`.
    pub fn new(params: &Params, config: &BlockConfig, init: Init) -> Self {
        let block = |i: u32| PostNormBlock::new(&params.at("blocks").at(i).layer(i + 1), config, init);
        Self {
            blocks: (0..config.layers).map(block).collect(),
        }
    }

    /// Through all blocks: every token, `[batch, tokens, width]`, where `pooled` is `None`, else that one alone,
    /// `[batch, 1, width]`.
    pub fn forward(&self, mut x: Tensor, visible: Visible<'_>, pooled: Option<Pooled<'_>>, pass: Pass) -> Tensor {
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            x = match pooled {
                Some(pooled) if last => block.forward_pooled(&x, visible, pooled, pass),
                _ => block.forward(&x, visible, pass),
            };
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Activation;
    use crate::layers::testing::{built, values, wave};

    fn stack(dropout: f64) -> PostNormStack {
        let config = BlockConfig {
            width: 8,
            hidden: 12,
            heads: 2,
            layers: 2,
            activation: Activation::Gelu,
            eps: 1e-12,
            qkv_bias: true,
            dropout,
            attention_dropout: dropout,
        };
        built(|params| PostNormStack::new(params, &config, Init::Normal(0.02))).0
    }

    #[test]
    fn the_last_block_for_the_pooled_token_alone_is_exact() {
        let (stack, x) = (stack(0.1), wave(0.3, &[2, 3, 8]));
        let mask = Tensor::from_slice(&[true, true, false, true, true, true]).view([2, 3]);
        let run = |pooled| stack.forward(x.shallow_clone(), Visible::Keys(&mask), pooled, Pass::INFER);
        let (one, all) = (run(Some(Pooled::First)), run(None));
        let difference = (one - all.narrow(1, 0, 1)).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{difference}");
    }

    #[test]
    fn masked_tokens_change_nothing() {
        let stack = stack(0.0);
        let mask = Tensor::from_slice(&[true, true, false]).view([1, 3]);
        let run = |x: &Tensor, mask: &Tensor| {
            let y = stack.forward(x.shallow_clone(), Visible::Keys(mask), None, Pass::INFER);
            values(&y.narrow(1, 0, 2))
        };
        let x = wave(0.3, &[1, 3, 8]);
        let short = x.narrow(1, 0, 2);
        let (padded, alone) = (run(&x, &mask), run(&short, &mask.narrow(1, 0, 2)));
        assert!(padded.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
