//! A grid of places pooled by attention: their mean asks, it and all of them answer. OpenAI's ResNets end so.

use tch::{Kind, Tensor};

use super::{Attention, Pooled, Visible};
use crate::{Init, Params, Pass, Role};

/// Attention pooling (Radford et al., 2021, section 2.4; `AttentionPool2d` of OpenAI's release without its last matrix,
/// which is the projection behind the tower):
///
/// ```text
/// x = [mean; places] + positions        pooled = attention(x)[mean]
/// ```
#[derive(Debug)]
pub struct AttentionPool {
    positions: Tensor,
    attention: Attention,
}

impl AttentionPool {
    /// Takes `position_embedding` `[places + 1, width]` and `attention.qkv` from `params`. `heads` divides `width`.
    pub fn new(params: &Params, places: i64, width: i64, heads: i64) -> Self {
        let spread = Init::Normal((width as f64).powf(-0.5));
        Self {
            positions: params.tensor("position_embedding", &[places + 1, width], Role::Embedding, spread),
            attention: Attention::without_out(&params.at("attention"), width, heads, spread),
        }
    }

    /// `[batch, places, width]`, f32, to `[batch, width]`.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let mean = x.mean_dim([1i64].as_slice(), true, Kind::Float);
        let x = Tensor::cat(&[&mean, x], 1) + &self.positions;
        self.attention
            .forward_pooled(&x, Visible::All, Pooled::First, pass)
            .squeeze_dim(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

    // With `wave` as in testing.rs, width 4, 2 heads, three places:
    // x = wave(0.3, 2, 3, 4).transpose(0, 1); x = torch.cat([x.mean(0, keepdim=True), x]) + wave(0.1, 4, 4)[:, None]
    // w, b = wave(0.17, 12, 4), wave(0.24, 12)
    // y, _ = F.multi_head_attention_forward(x[:1], x, x, 4, 2, w, b, None, None, False, 0.0, torch.eye(4), None, need_weights=False)
    // print(y[0])
    const EXPECTED: [f32; 8] = [
        -0.5779835, 1.4776632, 2.8959377, 3.2233062, 0.6321893, 1.0232432, 0.3736219, 0.040916,
    ];

    #[test]
    fn agrees_with_pytorch() {
        let (pool, parameters) = built(|params| AttentionPool::new(params, 3, 4, 2));
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        assert_eq!(
            names,
            ["position_embedding", "attention.qkv.weight", "attention.qkv.bias"]
        );
        let x = wave(0.3, &[2, 3, 4]);
        assert_close(&pool.forward(&x, Pass::INFER), &EXPECTED, 1e-6);
        let bf16 = Pass {
            compute: crate::Compute::Bf16,
            ..Pass::INFER
        };
        assert_close(&pool.forward(&x, bf16), &EXPECTED, 3e-2);
        assert_eq!(pool.forward(&x, bf16).kind(), Kind::Float);
    }
}
