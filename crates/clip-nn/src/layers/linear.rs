//! `y = x Wᵀ + b`, and an adapter's share: the one place where matrices are cast, and where packed and quantised ones will stand.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::adapter::Adapter;
use super::weight::Weight;
use crate::{Init, Params, Pass, Role};

/// A linear layer `[.., input] -> [.., output]`.
///
/// It multiplies in the pass's [`compute`](Pass::compute) type over f32 master weights and returns f32, so that norms,
/// softmax and sums around it stay in f32: the arithmetic of PyTorch's autocast.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
    adapter: Option<Adapter>,
}

impl Linear {
    /// Takes `weight` `[output, input]` and `bias` `[output]` (fresh: zero) from `params`, and the adapter that
    /// [`ParamOptions::lora`](crate::ParamOptions::lora) asks for.
    pub fn new(params: &Params, sizes: [i64; 2], init: Init) -> Self {
        let linear = Self::without_bias(params, sizes, init);
        let bias = params.tensor("bias", &[sizes[1]], Role::Bias, Init::Constant(0.0));
        Self {
            bias: Some(Weight::new(bias)),
            ..linear
        }
    }

    /// As [`new`](Self::new), without a bias.
    pub fn without_bias(params: &Params, sizes @ [input, output]: [i64; 2], init: Init) -> Self {
        let weight = params.tensor("weight", &[output, input], Role::Weight, init);
        Self {
            adapter: params.adapter(sizes),
            ..Self::from_tensors(weight, None)
        }
    }

    /// Over tensors in hand. A weight of more than two dimensions counts as `[output, the rest]`: a convolution whose
    /// windows do not overlap.
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: Weight::new(weight),
            bias: bias.map(Weight::new),
            adapter: None,
        }
    }

    /// `[.., input] -> [.., output]`, f32.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.multiply(x, None, pass.compute).to_kind(Kind::Float)
    }

    /// `[.., input] -> [.., output]` in the pass's type: for an activation and another linear layer behind it.
    pub(crate) fn forward_lowered(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.multiply(x, None, pass.compute).to_kind(pass.compute)
    }

    /// The outputs of `rows` alone: `[.., input] -> [.., rows]`.
    pub fn forward_rows(&self, x: &Tensor, rows: Range<i64>, pass: Pass) -> Tensor {
        self.multiply(x, Some(&rows), pass.compute).to_kind(Kind::Float)
    }

    /// In the type of `kind`, or f32 where an adapter adds its share.
    fn multiply(&self, x: &Tensor, rows: Option<&Range<i64>>, kind: Kind) -> Tensor {
        let cut = |tensor: Tensor| match rows {
            Some(rows) => tensor.narrow(0, rows.start, rows.end - rows.start),
            None => tensor,
        };
        let weight = self.weight.to_kind(kind);
        let weight = if weight.dim() > 2 {
            weight.flatten(1, -1)
        } else {
            weight
        };
        let bias = self.bias.as_ref().map(|bias| cut(bias.to_kind(kind)));
        let x = x.to_kind(kind);
        let y = x.linear(&cut(weight), bias.as_ref());
        match &self.adapter {
            Some(adapter) => y.to_kind(Kind::Float) + adapter.forward(&x, rows),
            None => y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

    // import torch
    // wave = lambda k, *s: torch.sin(k * torch.arange(1, 1 + torch.Size(s).numel(), dtype=torch.float32)).view(s)
    // print(torch.nn.functional.linear(wave(0.3, 2, 3), wave(0.1, 4, 3), wave(0.17, 4)))
    const EXPECTED: [f32; 8] = [
        0.5423512, 1.1615717, 1.6972075, 2.1107697, 0.7481943, 1.7245405, 2.5670135, 3.2097158,
    ];

    #[test]
    fn agrees_with_pytorch() {
        let (linear, _) = built(|params| Linear::new(params, [3, 4], Init::Constant(0.0)));
        let x = wave(0.3, &[2, 3]);
        assert_close(&linear.forward(&x, Pass::INFER), &EXPECTED, 1e-6);
        let rows = linear.forward_rows(&x, 1..3, Pass::INFER);
        assert_eq!(rows, linear.forward(&x, Pass::INFER).narrow(1, 1, 2));
    }

    #[test]
    fn bf16_returns_f32_and_gradients_reach_the_master() {
        let (linear, parameters) = built(|params| Linear::new(params, [3, 4], Init::Constant(0.0)));
        let pass = Pass {
            compute: Kind::BFloat16,
            ..Pass::TRAIN
        };
        let y = linear.forward(&wave(0.3, &[2, 3]), pass);
        assert_eq!(y.kind(), Kind::Float);
        assert_close(&y, &EXPECTED, 2e-2);
        y.sum(Kind::Float).backward();
        let weight = &parameters.iter().next().unwrap().tensor;
        assert_eq!((weight.grad().size(), weight.grad().kind()), (vec![4, 3], Kind::Float));
    }
}
