//! Blocks that norm before they work: `x += attention(norm1(x)); x += mlp(norm2(x))`. CLIP's.

use tch::Tensor;

use super::{Attention, AttentionInit, BlockConfig, Dropout, LayerNorm, Mlp, MlpInit, Pooled, Visible};
use crate::{Init, Params, Pass};

/// A block, `[batch, tokens, width] -> [batch, tokens, width]`.
#[derive(Debug)]
pub struct PreNormBlock {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    dropout: Dropout,
}

impl PreNormBlock {
    /// Takes `norm1`, `attention`, `norm2` and `mlp` from `params`. Fresh matrices start as OpenAI's CLIP starts its own:
    /// what is added to the stream is the smaller, the deeper the stack.
    pub fn new(params: &Params, config: &BlockConfig) -> Self {
        let width = config.width as f64;
        let residual = Init::Normal(width.powf(-0.5) * f64::from(2 * config.layers).powf(-0.5));
        let attention = AttentionInit {
            qkv: Init::Normal(width.powf(-0.5)),
            out: residual,
        };
        let mlp = MlpInit {
            fc1: Init::Normal((2.0 * width).powf(-0.5)),
            fc2: residual,
        };
        Self {
            norm1: config.norm(&params.at("norm1")),
            attention: config.attention(&params.at("attention"), attention),
            norm2: config.norm(&params.at("norm2")),
            mlp: config.mlp(&params.at("mlp"), mlp),
            dropout: Dropout::new(config.dropout),
        }
    }

    /// All tokens: of a batch, or of a ragged batch's `[rows, width]`.
    pub fn forward(&self, x: &Tensor, visible: Visible<'_>, pass: Pass) -> Tensor {
        let normed = self.norm1.forward(x);
        if self.dropout.share(pass) == 0.0 {
            return self.finish(&self.attention.forward_added(&normed, x, visible, pass), pass);
        }
        let attended = self.attention.forward(&normed, visible, pass);
        self.finish(&(x + self.dropout.forward(&attended, pass)), pass)
    }

    /// The pooled token of [`forward`](Self::forward) alone, `[batch, 1, width]`, for about a third of the work.
    pub fn forward_pooled(&self, x: &Tensor, visible: Visible<'_>, pooled: Pooled<'_>, pass: Pass) -> Tensor {
        let normed = self.norm1.forward(x);
        let picked = pooled.pick(x);
        if self.dropout.share(pass) == 0.0 {
            let x = self
                .attention
                .forward_pooled_added(&normed, &picked, visible, pooled, pass);
            return self.finish(&x, pass);
        }
        let attended = self.attention.forward_pooled(&normed, visible, pooled, pass);
        self.finish(&(picked + self.dropout.forward(&attended, pass)), pass)
    }

    /// From the sum of the stream and what attention saw.
    fn finish(&self, x: &Tensor, pass: Pass) -> Tensor {
        let normed = self.norm2.forward(x);
        if self.dropout.share(pass) == 0.0 {
            return self.mlp.forward_added(&normed, x, pass);
        }
        x + self.dropout.forward(&self.mlp.forward(&normed, pass), pass)
    }
}

/// Blocks on top of each other.
#[derive(Debug)]
pub struct PreNormStack {
    blocks: Vec<PreNormBlock>,
}

impl PreNormStack {
    /// Takes `blocks.{i}` from `params`, each at depth `i + 1`.
    pub fn new(params: &Params, config: &BlockConfig) -> Self {
        let block = |i: u32| PreNormBlock::new(&params.at("blocks").at(i).layer(i + 1), config);
        Self {
            blocks: (0..config.layers).map(block).collect(),
        }
    }

    /// Through all blocks: every token, `[batch, tokens, width]`, where the pass asks for tokens, else the pooled one
    /// alone, `[batch, 1, width]`.
    pub fn forward(&self, mut x: Tensor, visible: Visible<'_>, pooled: Pooled<'_>, pass: Pass) -> Tensor {
        for (i, block) in self.blocks.iter().enumerate() {
            let last = i + 1 == self.blocks.len();
            x = if last && !pass.tokens {
                block.forward_pooled(&x, visible, pooled, pass)
            } else {
                block.forward(&x, visible, pass)
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
    use tch::Kind;

    const CONFIG: BlockConfig = BlockConfig {
        width: 8,
        hidden: 12,
        heads: 2,
        layers: 3,
        activation: Activation::QuickGelu,
        eps: 1e-5,
        qkv_bias: true,
        dropout: 0.0,
        attention_dropout: 0.0,
    };

    fn stack(config: &BlockConfig) -> PreNormStack {
        built(|params| PreNormStack::new(params, config)).0
    }

    #[test]
    fn the_last_block_for_the_pooled_token_alone_is_exact_in_value_and_gradient() {
        let stack = stack(&CONFIG);
        let index = Tensor::from_slice(&[1i64, 4]);
        for (visible, pooled) in [
            (Visible::All, Pooled::First),
            (Visible::All, Pooled::Last),
            (Visible::Causal, Pooled::At(&index)),
        ] {
            let run = |tokens| {
                let x = wave(0.3, &[2, 5, 8]).set_requires_grad(true);
                let pass = Pass { tokens, ..Pass::TRAIN };
                let y = stack.forward(x.shallow_clone(), visible, pooled, pass);
                let y = if tokens { pooled.pick(&y) } else { y };
                y.square().sum(Kind::Float).backward();
                (values(&y), values(&x.grad()))
            };
            let ((one, one_gradient), (all, all_gradient)) = (run(false), run(true));
            // As near as the rounding of sums of this size allows.
            let near = |a: &[f32], b: &[f32]| {
                let size = b.iter().fold(0f32, |size, b| size.max(b.abs()));
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * size)
            };
            assert!(near(&one, &all), "{one:?} {all:?}");
            assert!(near(&one_gradient, &all_gradient), "{one_gradient:?} {all_gradient:?}");
        }
    }

    #[test]
    fn dropout_is_for_training() {
        let x = wave(0.3, &[2, 5, 8]);
        let run = |stack: &PreNormStack, pass| stack.forward(x.shallow_clone(), Visible::All, Pooled::First, pass);
        let plain = run(&stack(&CONFIG), Pass::TRAIN);
        for (dropout, attention_dropout) in [(0.5, 0.0), (0.0, 0.5)] {
            let stack = stack(&BlockConfig {
                dropout,
                attention_dropout,
                ..CONFIG
            });
            assert_eq!(run(&stack, Pass::INFER), plain);
            tch::manual_seed(5);
            let dropped = run(&stack, Pass::TRAIN);
            assert!((dropped - &plain).abs().max().double_value(&[]) > 1e-3);
        }
    }

    #[test]
    fn depth_is_noted() {
        let (_, parameters) = built(|params| PreNormStack::new(params, &CONFIG));
        let last = parameters.iter().last().unwrap();
        assert_eq!((last.name.as_str(), last.layer), ("blocks.2.mlp.fc2.bias", Some(3)));
    }
}
