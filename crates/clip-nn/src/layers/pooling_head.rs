//! One learnt query that looks at all tokens: how a tower without a class token pools.

use tch::Tensor;

use super::{Attention, AttentionInit, BlockConfig, LayerNorm, Mlp, MlpInit};
use crate::{Init, Params, Pass, Role};

/// SigLIP's pooling head (Zhai et al., 2022, Scaling Vision Transformers, calls it MAP):
/// `y = attention(probe, x, x); y + mlp(norm(y))`, `[batch, tokens, width] -> [batch, width]`.
#[derive(Debug)]
pub struct PoolingHead {
    probe: Tensor,
    attention: Attention,
    norm: LayerNorm,
    mlp: Mlp,
}

impl PoolingHead {
    /// Takes `probe` `[width]`, `attention`, `norm` and `mlp` from `params`, of the sizes of a block; it drops nothing.
    pub fn new(params: &Params, config: &BlockConfig) -> Self {
        let (width, hidden) = (config.width, config.hidden);
        // Glorot and Bengio's bound, as the reference draws them.
        let spread = |input: i64, output: i64| Init::Uniform((6.0 / (input + output) as f64).sqrt());
        let attention = AttentionInit {
            qkv: spread(width, 3 * width),
            out: spread(width, width),
        };
        let mlp = MlpInit {
            fc1: spread(width, hidden),
            fc2: spread(hidden, width),
        };
        Self {
            probe: params.tensor("probe", &[width], Role::Embedding, spread(width, width)),
            attention: Attention::new(&params.at("attention"), width, config.heads, attention),
            norm: config.norm(&params.at("norm")),
            mlp: config.mlp(&params.at("mlp"), mlp),
        }
    }

    /// Every token counts: `[batch, tokens, width]`, normed before.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let size = x.size();
        let probe = self.probe.expand([size[0], 1, size[2]], false);
        let y = self.attention.forward_from(&probe, x, pass).squeeze_dim(1);
        &y + self.mlp.forward(&self.norm.forward(&y), pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Activation;
    use crate::layers::testing::{assert_close, built, wave};
    use tch::Kind;

    // With `wave` as in testing.rs, width 4, 2 heads, hidden 6, x = wave(0.3, 2, 3, 4):
    // m = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    // m.in_proj_weight, m.in_proj_bias = P(wave(0.17, 12, 4)), P(wave(0.24, 12))   # P = torch.nn.Parameter
    // m.out_proj.weight, m.out_proj.bias = P(wave(0.31, 4, 4)), P(wave(0.38, 4))
    // y = m(wave(0.1, 4).expand(2, 1, 4), x, x)[0][:, 0]
    // h = F.gelu(F.linear(F.layer_norm(y, (4,), wave(0.45, 4), wave(0.52, 4), 1e-6), wave(0.59, 6, 4), wave(0.66, 6)), approximate="tanh")
    // print(y + F.linear(h, wave(0.73, 4, 6), wave(0.80, 4)))
    const EXPECTED: [f32; 8] = [
        4.9233294, 3.0037336, -1.1759299, 1.3612845, -0.636039, 0.0668563, 2.0333753, 6.161043,
    ];

    #[test]
    fn agrees_with_pytorch_and_gradients_reach_all_of_it() {
        let config = BlockConfig {
            width: 4,
            hidden: 6,
            heads: 2,
            layers: 1,
            activation: Activation::GeluTanh,
            eps: 1e-6,
            qkv_bias: true,
            dropout: 0.0,
            attention_dropout: 0.0,
        };
        let (head, parameters) = built(|params| PoolingHead::new(params, &config));
        let y = head.forward(&wave(0.3, &[2, 3, 4]), Pass::TRAIN);
        assert_eq!(y.size(), [2, 4]);
        assert_close(&y, &EXPECTED, 1e-5);
        y.square().sum(Kind::Float).backward();
        for parameter in parameters.iter() {
            assert!(
                parameter.tensor.grad().abs().max().double_value(&[]) > 0.0,
                "{}",
                parameter.name
            );
        }
    }
}
