//! `y = x Wᵀ + b`, and an adapter's share: the one place where matrices are cast and laid out.

mod product;

use std::ops::Range;

use clip_torch::Bytes;
use tch::{Kind, Tensor};

use super::Activation;
use super::adapter::Adapter;
use super::bytes::LayerBytes;
use super::layout::{self, Layouts};
use super::weight::Weight;
use crate::{Init, Params, Pass, Role};
use product::Asked;

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
    bytes: LayerBytes,
}

/// What an MLP's first layer hands to its second: `factor` times its activations.
pub(crate) struct Hidden {
    values: Values,
    factor: f64,
}

enum Values {
    Numbers(Tensor),
    Bytes(Bytes),
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
            ..Self::over(params, weight)
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
            bytes: LayerBytes::none(),
        }
    }

    /// Over a weight that was taken from `params`.
    pub(crate) fn over(params: &Params, weight: Tensor) -> Self {
        Self {
            layouts: Layouts::new(params.release()),
            bytes: params.bytes(),
            ..Self::from_tensors(weight, None)
        }
    }

    /// The same with a bias in hand.
    #[must_use]
    pub fn with_bias(self, bias: Tensor) -> Self {
        Self {
            bias: Some(Weight::new(bias)),
            ..self
        }
    }

    /// `[.., input] -> [.., output]`, f32.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        self.forward_asked(x, &Asked::PLAIN, pass)
    }

    /// The outputs of `rows` alone: `[.., input] -> [.., rows]`.
    pub fn forward_rows(&self, x: &Tensor, rows: Range<i64>, pass: Pass) -> Tensor {
        let asked = Asked {
            rows: Some(rows),
            ..Asked::PLAIN
        };
        self.forward_asked(x, &asked, pass)
    }

    /// `x Wᵀ + bias + other`, f32: what a block adds to its stream `other` `[.., output]`.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor, pass: Pass) -> Tensor {
        let asked = Asked {
            added: Some(other),
            ..Asked::PLAIN
        };
        self.forward_asked(x, &asked, pass)
    }

    /// `activation(x Wᵀ + bias)` for the layer `next`, in the form that is cheapest for both.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation, next: &Self, pass: Pass) -> Hidden {
        self.see(x, 1.0);
        if let Some((factor, post)) = layout::post(activation)
            && next.lays_out(pass)
            && let Some(values) = self.activated(x, (factor, post), next, pass)
        {
            return Hidden { values, factor };
        }
        let numbers = activation.forward(&self.product(x, &Asked::PLAIN, pass));
        Hidden {
            values: Values::Numbers(numbers),
            factor: 1.0,
        }
    }

    /// `x Wᵀ + bias` of what the layer before left, and `other` added, f32.
    pub(crate) fn forward_hidden(&self, hidden: &Hidden, other: Option<&Tensor>, pass: Pass) -> Tensor {
        let asked = Asked {
            factor: hidden.factor,
            added: other,
            ..Asked::PLAIN
        };
        match &hidden.values {
            Values::Numbers(x) => self.forward_asked(x, &asked, pass),
            // Bytes are not watched: who watches computes in f32.
            Values::Bytes(bytes) => self
                .product_of_bytes(bytes, &asked)
                .unwrap_or_else(|| self.product(&bytes.numbers(), &asked, pass).to_kind(Kind::Float)),
        }
    }

    /// The product, f32, of an input that is seen by who watches.
    fn forward_asked(&self, x: &Tensor, asked: &Asked<'_>, pass: Pass) -> Tensor {
        self.see(x, asked.factor);
        self.product(x, asked, pass).to_kind(Kind::Float)
    }

    fn see(&self, x: &Tensor, factor: f64) {
        self.bytes.see(x, factor, || self.weight.matrix());
    }
}

#[cfg(test)]
mod tests;
