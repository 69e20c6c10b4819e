//! `y = x Wᵀ + b`, and an adapter's share: the one place where matrices are cast and laid out.

use std::ops::Range;

use clip_torch::{PackedMatrix, Post};
use tch::{Kind, Tensor};

use super::Activation;
use super::adapter::Adapter;
use super::layout::{self, Form, Layouts};
use super::weight::{Weight, matrix};
use crate::{Init, Params, Pass, Role};

/// A linear layer `[.., input] -> [.., output]`.
///
/// It multiplies as the pass's [`compute`](Pass::compute) says over f32 master weights and returns f32, so that norms,
/// softmax and sums around it stay in f32: the arithmetic of PyTorch's autocast. Outside training, on a CPU, a matrix that
/// collects no gradient is laid out once for oneDNN, and what stands behind the product is applied with it.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
    adapter: Option<Adapter>,
    layouts: Layouts,
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
            layouts: Layouts::default(),
        }
    }

    /// `[.., input] -> [.., output]`, f32.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.forward_in_kind(x, pass).to_kind(Kind::Float)
    }

    /// The outputs of `rows` alone: `[.., input] -> [.., rows]`.
    pub fn forward_rows(&self, x: &Tensor, rows: Range<i64>, pass: Pass) -> Tensor {
        let form = Form {
            rows: Some(rows.clone()),
            ..Form::plain(pass.compute.kind())
        };
        let y = self.laid_out(x, form, pass, |matrix, x| matrix.multiply(x, Post::None));
        y.unwrap_or_else(|| self.multiply(x, Some(&rows), pass))
            .to_kind(Kind::Float)
    }

    /// `x Wᵀ + bias + other`, f32: what a block adds to its stream `other` `[.., output]`.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor, pass: Pass) -> Tensor {
        self.forward_scaled(x, 1.0, Some(other), pass)
    }

    /// `activation(x Wᵀ + bias)` for another linear layer behind it, in the type of values between layers: `factor` times
    /// it, where `next`, which is then given the factor to divide by, makes the product cheaper so.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation, next: &Self, pass: Pass) -> (Tensor, f64) {
        if let Some((factor, post)) = layout::post(activation)
            && next.lays_out(pass)
        {
            let form = Form {
                factors: [factor; 2],
                ..Form::plain(pass.compute.kind())
            };
            if let Some(y) = self.laid_out(x, form, pass, |matrix, x| matrix.multiply(x, post)) {
                return (y, factor);
            }
        }
        (activation.forward(&self.forward_in_kind(x, pass)), 1.0)
    }

    /// `(x / factor) Wᵀ + bias`, and `other` added, f32.
    pub(crate) fn forward_scaled(&self, x: &Tensor, factor: f64, other: Option<&Tensor>, pass: Pass) -> Tensor {
        let kind = pass.compute.kind();
        let form = Form {
            factors: [1.0 / factor, 1.0],
            ..Form::plain(kind)
        };
        // The operator adds what is of the product's type; another is added behind it, without a cast of its own.
        let fused = other.filter(|other| kind == Kind::Float && !other.requires_grad());
        let y = self.laid_out(x, form, pass, |matrix, x| match fused {
            Some(other) => matrix.multiply_add(x, other),
            None => matrix.multiply(x, Post::None),
        });
        match (y, other) {
            (Some(y), Some(_)) if fused.is_some() => y,
            (Some(y), Some(other)) => other + y,
            (Some(y), None) => y.to_kind(Kind::Float),
            (None, other) => {
                let y = if factor == 1.0 {
                    self.multiply(x, None, pass)
                } else {
                    self.multiply(&(x / factor), None, pass)
                };
                match other {
                    Some(other) => other + y,
                    None => y.to_kind(Kind::Float),
                }
            }
        }
    }

    /// In the type of values between layers, or f32 where an adapter adds its share.
    fn forward_in_kind(&self, x: &Tensor, pass: Pass) -> Tensor {
        let form = Form::plain(pass.compute.kind());
        let y = self.laid_out(x, form, pass, |matrix, x| matrix.multiply(x, Post::None));
        y.unwrap_or_else(|| self.multiply(x, None, pass))
    }

    /// Whether its matrix may be laid out in such a pass: nothing trains it, and nothing trains through it.
    fn lays_out(&self, pass: Pass) -> bool {
        let bias = self.bias.as_ref().is_some_and(Weight::is_trained);
        !pass.train
            && self.adapter.is_none()
            && !self.weight.is_trained()
            && !bias
            && Layouts::available(pass.compute.kind(), self.weight.device())
    }

    /// A product with the laid-out matrix; `None` where the plain operators are to do it.
    fn laid_out(
        &self,
        x: &Tensor,
        form: Form,
        pass: Pass,
        multiply: impl FnOnce(&PackedMatrix, &Tensor) -> clip_torch::Result<Tensor>,
    ) -> Option<Tensor> {
        if x.requires_grad() || !self.lays_out(pass) {
            return None;
        }
        let x = x.to_kind(form.kind);
        let product = |matrix: &PackedMatrix| multiply(matrix, &x);
        self.layouts.product(form, &self.weight, self.bias.as_ref(), product)
    }

    /// By libtorch's plain operator, in the type of values between layers, or f32 where an adapter adds its share.
    fn multiply(&self, x: &Tensor, rows: Option<&Range<i64>>, pass: Pass) -> Tensor {
        let kind = pass.compute.kind();
        let cut = |tensor: Tensor| match rows {
            Some(rows) => tensor.narrow(0, rows.start, rows.end - rows.start),
            None => tensor,
        };
        let weight = matrix(self.weight.to_kind(kind));
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
    use crate::Compute;
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
            compute: Compute::Bf16,
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
