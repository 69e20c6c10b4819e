//! `softmax(q kᵀ / √d) v` over heads of width `d`, queries, keys and values from one matrix.

use tch::{Kind, Tensor};

use super::{Dropout, Linear, Ragged};
use crate::{Init, Params, Pass};

/// Which tokens a token may look at.
#[derive(Debug, Clone, Copy)]
pub enum Visible<'a> {
    /// All.
    All,
    /// Itself and those before it.
    Causal,
    /// Those where this mask `[batch, tokens]` (bool) is true.
    Keys(&'a Tensor),
    /// Those of its own text that the text's kind lets it see; tokens are then rows `[rows, width]` without a batch.
    Own(&'a Ragged),
}

/// Which token of a row is pooled.
#[derive(Debug, Clone, Copy)]
pub enum Pooled<'a> {
    /// The first.
    First,
    /// The last.
    Last,
    /// That of an index `[batch]` (i64).
    At(&'a Tensor),
    /// Each text's, of rows without a batch.
    Own(&'a Ragged),
}

impl Pooled<'_> {
    /// The pooled tokens of `[batch, tokens, width]`, or of a ragged batch's `[rows, width]`: `[batch, 1, width]`.
    pub fn pick(self, x: &Tensor) -> Tensor {
        match self {
            Self::First => x.narrow(1, 0, 1),
            Self::Last => x.narrow(1, x.size()[1] - 1, 1),
            Self::At(index) => {
                let size = x.size();
                x.gather(1, &index.view([-1, 1, 1]).expand([size[0], 1, size[2]], false), false)
            }
            Self::Own(ragged) => x.index_select(0, ragged.pooled()).unsqueeze(1),
        }
    }
}

/// How fresh attention matrices start.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInit {
    /// Queries, keys and values.
    pub qkv: Init,
    /// The matrix behind them.
    pub out: Init,
}

/// Multi-head attention (Vaswani et al., 2017), `[batch, tokens, width] -> [batch, tokens, width]`. Softmax is in f32.
#[derive(Debug)]
pub struct Attention {
    qkv: Linear,
    out: Option<Linear>,
    heads: i64,
    width: i64,
    dropout: Dropout,
}

impl Attention {
    /// Takes `qkv` `[3 width, width]` (rows: queries, keys, values) and `out` `[width, width]`, with biases, from
    /// `params`. `heads` divides `width`.
    pub fn new(params: &Params, width: i64, heads: i64, init: AttentionInit) -> Self {
        let qkv = Linear::new(&params.at("qkv"), [width, 3 * width], init.qkv);
        Self::over(qkv, width, heads).with_out(params, init)
    }

    /// As [`new`](Self::new), without a bias of queries, keys and values.
    pub fn without_qkv_bias(params: &Params, width: i64, heads: i64, init: AttentionInit) -> Self {
        let qkv = Linear::without_bias(&params.at("qkv"), [width, 3 * width], init.qkv);
        Self::over(qkv, width, heads).with_out(params, init)
    }

    /// As [`new`](Self::new), without the matrix behind the heads: their joined values are what it gives.
    pub fn without_out(params: &Params, width: i64, heads: i64, qkv: Init) -> Self {
        let qkv = Linear::new(&params.at("qkv"), [width, 3 * width], qkv);
        Self::over(qkv, width, heads)
    }

    fn with_out(self, params: &Params, init: AttentionInit) -> Self {
        Self {
            out: Some(Linear::new(&params.at("out"), [self.width; 2], init.out)),
            ..self
        }
    }

    fn over(qkv: Linear, width: i64, heads: i64) -> Self {
        Self {
            qkv,
            out: None,
            heads,
            width,
            dropout: Dropout::new(0.0),
        }
    }

    /// Drops this share of the attention weights in training.
    #[must_use]
    pub fn with_dropout(self, share: f64) -> Self {
        Self {
            dropout: Dropout::new(share),
            ..self
        }
    }

    /// Every token looks.
    pub fn forward(&self, x: &Tensor, visible: Visible<'_>, pass: Pass) -> Tensor {
        self.put_out(self.look(x, visible, pass), pass)
    }

    /// What every token saw, added to `other`.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor, visible: Visible<'_>, pass: Pass) -> Tensor {
        self.put_out_added(self.look(x, visible, pass), other, pass)
    }

    /// The pooled token alone looks: `[batch, 1, width]`, equal to that token of [`forward`](Self::forward). Keys and
    /// values are still of all tokens.
    pub fn forward_pooled(&self, x: &Tensor, visible: Visible<'_>, pooled: Pooled<'_>, pass: Pass) -> Tensor {
        self.put_out(self.look_pooled(x, visible, pooled, pass), pass)
    }

    /// What the pooled token saw, added to `other` `[batch, 1, width]`.
    pub fn forward_pooled_added(
        &self,
        x: &Tensor,
        other: &Tensor,
        visible: Visible<'_>,
        pooled: Pooled<'_>,
        pass: Pass,
    ) -> Tensor {
        self.put_out_added(self.look_pooled(x, visible, pooled, pass), other, pass)
    }

    /// Queries that are no tokens look at all tokens: `[batch, queries, width] -> [batch, queries, width]`.
    pub fn forward_from(&self, queries: &Tensor, x: &Tensor, pass: Pass) -> Tensor {
        let query = self.split(&self.qkv.forward_rows(queries, 0..self.width, pass), 1);
        let others = self.split(&self.qkv.forward_rows(x, self.width..3 * self.width, pass), 2);
        let seen = self.attend(&query[0], &others[0], &others[1], None, false, pass);
        self.put_out(seen, pass)
    }

    /// Through the matrix behind the heads, where there is one.
    fn put_out(&self, seen: Tensor, pass: Pass) -> Tensor {
        match &self.out {
            Some(out) => out.forward(&seen, pass),
            None => seen,
        }
    }

    fn put_out_added(&self, seen: Tensor, other: &Tensor, pass: Pass) -> Tensor {
        match &self.out {
            Some(out) => out.forward_added(&seen, other, pass),
            None => other + seen,
        }
    }

    /// `[batch, tokens, width]`, before the matrix `out`.
    fn look(&self, x: &Tensor, visible: Visible<'_>, pass: Pass) -> Tensor {
        let qkv = self.qkv.forward(x, pass);
        let (mask, causal) = match visible {
            Visible::All => (None, false),
            Visible::Causal => (None, true),
            Visible::Keys(mask) => (Some(mask.unsqueeze(1).unsqueeze(1)), false),
            Visible::Own(ragged) => return self.look_in_groups(&qkv, ragged, pass),
        };
        let qkv = self.split(&qkv, 3);
        self.attend(&qkv[0], &qkv[1], &qkv[2], mask.as_ref(), causal, pass)
    }

    fn look_pooled(&self, x: &Tensor, visible: Visible<'_>, pooled: Pooled<'_>, pass: Pass) -> Tensor {
        let query = self.split(&self.qkv.forward_rows(&pooled.pick(x), 0..self.width, pass), 1);
        let others = self.qkv.forward_rows(x, self.width..3 * self.width, pass);
        let mask = match (visible, pooled) {
            (Visible::Own(ragged), _) => return self.look_pooled_in_groups(&query[0], &others, ragged, pass),
            (Visible::All, _) => None,
            (Visible::Keys(mask), _) => Some(mask.unsqueeze(1).unsqueeze(1)),
            (Visible::Causal, pooled) => {
                let positions = Tensor::arange(x.size()[1], (Kind::Int64, x.device()));
                let seen = match pooled {
                    Pooled::At(index) => positions.unsqueeze(0).le_tensor(&index.unsqueeze(1)),
                    Pooled::First | Pooled::Own(_) => positions.eq(0).unsqueeze(0),
                    Pooled::Last => positions.ge(0).unsqueeze(0),
                };
                Some(seen.unsqueeze(1).unsqueeze(1))
            }
        };
        let others = self.split(&others, 2);
        self.attend(&query[0], &others[0], &others[1], mask.as_ref(), false, pass)
    }

    /// `[rows, width]` from `[rows, 3 width]`, texts of one length at a time.
    fn look_in_groups(&self, qkv: &Tensor, ragged: &Ragged, pass: Pass) -> Tensor {
        let seen: Vec<Tensor> = ragged
            .cut(qkv)
            .iter()
            .zip(ragged.groups())
            .map(|(rows, group)| {
                let qkv = self.split(&rows.view([group.texts, group.tokens, -1]), 3);
                let seen = self.attend(&qkv[0], &qkv[1], &qkv[2], None, ragged.is_causal(), pass);
                seen.flatten(0, 1)
            })
            .collect();
        Tensor::cat(&seen, 0)
    }

    /// `[batch, 1, width]` from queries `[batch, heads, 1, width of a head]` and `[rows, 2 width]`. The pooled token sees
    /// its whole text: it is the last where texts are causal.
    fn look_pooled_in_groups(&self, query: &Tensor, others: &Tensor, ragged: &Ragged, pass: Pass) -> Tensor {
        let seen: Vec<Tensor> = ragged
            .cut(others)
            .iter()
            .zip(ragged.cut_texts(query))
            .zip(ragged.groups())
            .map(|((rows, query), group)| {
                let others = self.split(&rows.view([group.texts, group.tokens, -1]), 2);
                self.attend(&query, &others[0], &others[1], None, false, pass)
            })
            .collect();
        Tensor::cat(&seen, 0)
    }

    /// `[batch, tokens, parts width]` as parts of `[batch, heads, tokens, width of a head]`.
    fn split(&self, x: &Tensor, parts: i64) -> Vec<Tensor> {
        let size = x.size();
        x.view([size[0], size[1], parts, self.heads, self.width / self.heads])
            .permute([2, 0, 3, 1, 4])
            .unbind(0)
    }

    /// `[batch, tokens, width]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, causal: bool, pass: Pass) -> Tensor {
        let share = self.dropout.share(pass);
        let heads = Tensor::scaled_dot_product_attention(q, k, v, mask, share, causal, None, false);
        heads.transpose(1, 2).flatten(2, 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};
    use tch::Device;

    // With `wave` as in testing.rs, width 4, 2 heads, x = wave(0.3, 2, 3, 4):
    // def attend(mask):
    //     q, k, v = F.linear(x, wave(0.1, 12, 4), wave(0.17, 12)).view(2, 3, 3, 2, 2).permute(2, 0, 3, 1, 4)
    //     y = ((q @ k.transpose(-1, -2) / 2 ** 0.5).masked_fill(~mask, -torch.inf).softmax(-1) @ v)
    //     return F.linear(y.transpose(1, 2).flatten(2), wave(0.24, 4, 4), wave(0.31, 4))
    // ones = torch.ones(3, 3, dtype=bool); keys = torch.tensor([[1, 1, 0], [1, 0, 1]], dtype=bool)
    // print(attend(ones)[0]); print(attend(ones.tril())[0]); print(attend(keys[:, None, None])[:, 1])
    const ALL: [f32; 12] = [
        -3.4561145, -4.724972, -1.5234094, 3.5848894, -3.593249, -4.914289, -1.6034288, 3.6824212, -1.707105,
        -1.9808569, -0.1248091, 2.4450252,
    ];
    const CAUSAL: [f32; 12] = [
        -2.2943466, -2.997927, -0.7041877, 2.7975247, -3.6391113, -4.9753423, -1.6275971, 3.7157524, -1.707105,
        -1.9808569, -0.1248091, 2.4450252,
    ];
    const KEYS: [f32; 8] = [
        -3.6391113, -4.9753423, -1.6275971, 3.7157524, 8.298462, 13.5657425, 7.702196, -4.123687,
    ];

    fn attention() -> Attention {
        let init = AttentionInit {
            qkv: Init::Constant(0.0),
            out: Init::Constant(0.0),
        };
        built(|params| Attention::new(params, 4, 2, init)).0
    }

    fn keys() -> Tensor {
        Tensor::from_slice(&[true, true, false, true, false, true]).view([2, 3])
    }

    #[test]
    fn agrees_with_pytorch() {
        let (attention, x) = (attention(), wave(0.3, &[2, 3, 4]));
        let run = |visible| attention.forward(&x, visible, Pass::INFER);
        assert_close(&run(Visible::All).get(0), &ALL, 1e-6);
        assert_close(&run(Visible::Causal).get(0), &CAUSAL, 1e-6);
        assert_close(&run(Visible::Keys(&keys())).select(1, 1), &KEYS, 1e-6);
    }

    #[test]
    fn the_pooled_token_alone_is_exact() {
        let (attention, x, keys) = (attention(), wave(0.3, &[2, 3, 4]), keys());
        let index = Tensor::from_slice(&[1i64, 2]);
        for visible in [Visible::All, Visible::Causal, Visible::Keys(&keys)] {
            let all = attention.forward(&x, visible, Pass::INFER);
            for pooled in [Pooled::First, Pooled::Last, Pooled::At(&index)] {
                let one = attention.forward_pooled(&x, visible, pooled, Pass::INFER);
                let difference = (one - pooled.pick(&all)).abs().max().double_value(&[]);
                // Products of one row and of many are different kernels, which CPUs round differently by an f32's last digits.
                assert!(difference < 5e-6, "{visible:?} {pooled:?} {difference}");
            }
        }
    }

    #[test]
    fn dropout_is_for_training() {
        let attention = attention().with_dropout(0.5);
        let x = wave(0.3, &[2, 3, 4]);
        tch::manual_seed(3);
        let train = attention.forward(&x, Visible::All, Pass::TRAIN);
        assert_close(&attention.forward(&x, Visible::All, Pass::INFER).get(0), &ALL, 1e-6);
        assert!(
            (train.get(0) - Tensor::from_slice(&ALL).view([3, 4]))
                .abs()
                .max()
                .double_value(&[])
                > 1e-3
        );
        assert_eq!(train.device(), Device::Cpu);
    }
}
