//! `y = x Wᵀ + b`, and an adapter's share: the one place where matrices are cast and laid out.

use std::ops::Range;

use clip_torch::{Bytes, PackedMatrix, Post, QuantisedMatrix};
use tch::{Kind, Tensor};

use super::Activation;
use super::adapter::Adapter;
use super::bytes::LayerBytes;
use super::layout::{self, Form, Layouts, Matrix, MatrixType};
use super::weight::{Weight, matrix};
use crate::{Compute, Init, Params, Pass, Role};

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
        self.forward_rows_in_kind(x, None, pass).to_kind(Kind::Float)
    }

    /// The outputs of `rows` alone: `[.., input] -> [.., rows]`.
    pub fn forward_rows(&self, x: &Tensor, rows: Range<i64>, pass: Pass) -> Tensor {
        self.forward_rows_in_kind(x, Some(rows), pass).to_kind(Kind::Float)
    }

    /// `x Wᵀ + bias + other`, f32: what a block adds to its stream `other` `[.., output]`.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor, pass: Pass) -> Tensor {
        let hidden = Hidden {
            values: Values::Numbers(x.shallow_clone()),
            factor: 1.0,
        };
        self.forward_hidden(&hidden, Some(other), pass)
    }

    /// `activation(x Wᵀ + bias)` for the layer `next`, in the form that is cheapest for both.
    pub(crate) fn forward_activated(&self, x: &Tensor, activation: Activation, next: &Self, pass: Pass) -> Hidden {
        self.bytes.see(x, || self.weight.matrix());
        if let Some((factor, post)) = layout::post(activation)
            && next.lays_out(pass)
            && let Some(values) = self.activated(x, (factor, post), next, pass)
        {
            return Hidden { values, factor };
        }
        let numbers = activation.forward(&self.forward_rows_in_kind(x, None, pass));
        Hidden {
            values: Values::Numbers(numbers),
            factor: 1.0,
        }
    }

    /// `factor` times the activations, made with the product.
    fn activated(&self, x: &Tensor, (factor, post): (f64, Post), next: &Self, pass: Pass) -> Option<Values> {
        let factors = [factor; 2];
        if !self.multiplies_bytes(pass) {
            let y = self.laid_out(x, None, factors, pass, |matrix, x| matrix.multiply(x, post))?;
            return Some(Values::Numbers(y));
        }
        let bytes = self.bytes.of(x, 1.0).ok()?;
        let known = next.bytes.known(factor).filter(|_| next.multiplies_bytes(pass));
        self.quantised(None, factors, |matrix| {
            Ok(match known {
                Some(affine) => Values::Bytes(matrix.multiply_to_bytes(&bytes, post, affine)?),
                None => Values::Numbers(matrix.multiply(&bytes, post, Kind::Float)?),
            })
        })
    }

    /// `x Wᵀ + bias` of what the layer before left, and `other` added, f32.
    pub(crate) fn forward_hidden(&self, hidden: &Hidden, other: Option<&Tensor>, pass: Pass) -> Tensor {
        let plus = |y: Tensor| match other {
            // Whatever the product's type, the sum is f32, without a cast of its own.
            Some(other) => other + y,
            None => y.to_kind(Kind::Float),
        };
        let factors = [1.0 / hidden.factor, 1.0];
        let x = match &hidden.values {
            Values::Numbers(x) => x,
            Values::Bytes(bytes) => {
                let product = |matrix: &QuantisedMatrix| matrix.multiply(bytes, Post::None, Kind::Float);
                let y = self.quantised(None, factors, product);
                return plus(y.unwrap_or_else(|| self.multiply(&(bytes.numbers() / hidden.factor), None, pass)));
            }
        };
        self.bytes.see(x, || self.weight.matrix());
        if self.multiplies_bytes(pass)
            && let Ok(bytes) = self.bytes.of(x, hidden.factor)
            && let Some(y) = self.quantised(None, factors, |matrix| matrix.multiply(&bytes, Post::None, Kind::Float))
        {
            return plus(y);
        }
        // The operator adds what is of the product's own type.
        let fused = other.filter(|other| self.kind(pass) == Kind::Float && !other.requires_grad());
        let product = |matrix: &PackedMatrix, x: &Tensor| match fused {
            Some(other) => matrix.multiply_add(x, other),
            None => matrix.multiply(x, Post::None),
        };
        match self.laid_out(x, None, factors, pass, product) {
            Some(y) if fused.is_some() => y,
            Some(y) => plus(y),
            None if hidden.factor == 1.0 => plus(self.multiply(x, None, pass)),
            None => plus(self.multiply(&(x / hidden.factor), None, pass)),
        }
    }

    /// In the type of values between layers, or f32 where an adapter adds its share.
    fn forward_rows_in_kind(&self, x: &Tensor, rows: Option<Range<i64>>, pass: Pass) -> Tensor {
        self.bytes.see(x, || self.weight.matrix());
        if self.multiplies_bytes(pass)
            && let Ok(bytes) = self.bytes.of(x, 1.0)
            && let Some(y) = self.quantised(rows.clone(), [1.0; 2], |matrix| {
                matrix.multiply(&bytes, Post::None, Kind::Float)
            })
        {
            return y;
        }
        let product = |matrix: &PackedMatrix, x: &Tensor| matrix.multiply(x, Post::None);
        let y = self.laid_out(x, rows.clone(), [1.0; 2], pass, product);
        y.unwrap_or_else(|| self.multiply(x, rows.as_ref(), pass))
    }

    /// The type it multiplies numbers in.
    fn kind(&self, pass: Pass) -> Kind {
        let rest = pass.compute == Compute::Int8 && !pass.train && MatrixType::Bf16.is_available(self.weight.device());
        if rest { Kind::BFloat16 } else { pass.compute.kind() }
    }

    /// Whether its matrix may be laid out in such a pass: nothing trains it.
    fn lays_out(&self, pass: Pass) -> bool {
        let bias = self.bias.as_ref().is_some_and(Weight::is_trained);
        !pass.train && self.adapter.is_none() && !self.weight.is_trained() && !bias
    }

    /// Whether it multiplies bytes in such a pass.
    fn multiplies_bytes(&self, pass: Pass) -> bool {
        pass.compute == Compute::Int8
            && self.bytes.is_planned()
            && self.lays_out(pass)
            && MatrixType::I8.is_available(self.weight.device())
            && self.bytes.fits(self.weight.columns())
    }

    /// A product with the laid-out matrix; `None` where the plain operators are to do it.
    fn laid_out(
        &self,
        x: &Tensor,
        rows: Option<Range<i64>>,
        factors: [f64; 2],
        pass: Pass,
        multiply: impl FnOnce(&PackedMatrix, &Tensor) -> clip_torch::Result<Tensor>,
    ) -> Option<Tensor> {
        let kind = self.kind(pass);
        let type_ = MatrixType::of(kind).filter(|type_| type_.is_available(self.weight.device()))?;
        // Nothing may train through it either.
        if x.requires_grad() || !self.lays_out(pass) {
            return None;
        }
        let x = x.to_kind(kind);
        let form = Form { type_, rows, factors };
        let bias = self.bias.as_ref();
        self.layouts
            .product(form, &self.weight, bias, None, |matrix| match matrix {
                Matrix::Packed(matrix) => multiply(matrix, &x).map(Some),
                Matrix::Quantised(_) => Ok(None),
            })?
    }

    /// A product of bytes.
    fn quantised<T>(
        &self,
        rows: Option<Range<i64>>,
        factors: [f64; 2],
        multiply: impl FnOnce(&QuantisedMatrix) -> clip_torch::Result<T>,
    ) -> Option<T> {
        let form = Form {
            type_: MatrixType::I8,
            rows,
            factors,
        };
        let (bias, columns) = (self.bias.as_ref(), self.bytes.columns());
        self.layouts
            .product(form, &self.weight, bias, columns, |matrix| match matrix {
                Matrix::Quantised(matrix) => multiply(matrix).map(Some),
                Matrix::Packed(_) => Ok(None),
            })?
    }

    /// By libtorch's plain operator, in the type of values between layers, or f32 where an adapter adds its share.
    fn multiply(&self, x: &Tensor, rows: Option<&Range<i64>>, pass: Pass) -> Tensor {
        let kind = self.kind(pass);
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
    use std::sync::Arc;

    use super::*;
    use crate::layers::testing::{assert_close, built, wave};
    use crate::{Calibration, Fresh, Int8, LayerInput, ParamOptions};

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

    /// A layer of a tower, 32 to 24, and an input of 6 rows.
    fn in_tower(int8: Int8) -> (Linear, Tensor) {
        tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            int8,
            ..ParamOptions::default()
        };
        let params = Params::new(None, options).tower("image").at("fc1");
        let linear = Linear::new(&params, [32, 24], Init::Normal(0.3));
        (linear, wave(0.3, &[6, 32]))
    }

    const INT8: Pass = Pass {
        compute: Compute::Int8,
        ..Pass::INFER
    };

    fn cosine(a: &Tensor, b: &Tensor) -> f64 {
        let (a, b) = (a.flatten(0, -1), b.flatten(0, -1));
        (a.dot(&b) / (a.norm() * b.norm())).double_value(&[])
    }

    #[test]
    fn bytes_are_near_and_smoothing_lets_a_wide_column_be() {
        let known = |smoothing: Vec<f32>, least, greatest| {
            let input = LayerInput {
                least,
                greatest,
                smoothing,
            };
            let layers = [("image.fc1".to_owned(), input)].into();
            Int8::Calibrated(Arc::new(Calibration { layers }))
        };
        let plain = in_tower(Int8::Uncalibrated);
        let want = plain.0.forward(&plain.1, Pass::INFER);
        for int8 in [Int8::Uncalibrated, known(Vec::new(), -1.0, 1.0)] {
            let (linear, x) = in_tower(int8);
            assert!(cosine(&linear.forward(&x, INT8), &want) > 0.9995);
            let added = linear.forward_added(&x, &want, INT8);
            assert!(cosine(&added, &(&want * 2.0)) > 0.9995);
            let rows = linear.forward_rows(&x, 3..9, INT8);
            assert!(cosine(&rows, &want.narrow(1, 3, 6)) > 0.999);
        }
        // One column 30 times as wide as the others takes their steps, unless it is divided first.
        let wide = Tensor::ones([32], (Kind::Float, tch::Device::Cpu));
        let _ = wide.get(5).fill_(30.0);
        let x = &plain.1 * &wide;
        let mut smoothing = vec![1f32; 32];
        smoothing[5] = 30f32.sqrt();
        let error = |int8| {
            let linear = in_tower(int8).0;
            (linear.forward(&x, INT8) - linear.forward(&x, Pass::INFER))
                .norm()
                .double_value(&[])
        };
        let (plain, smooth) = (
            error(known(Vec::new(), -30.0, 30.0)),
            error(known(smoothing, -5.5, 5.5)),
        );
        assert!(smooth < 0.6 * plain, "{plain} {smooth}");
    }

    #[test]
    fn a_calibration_of_another_width_and_training_are_left_to_numbers() {
        let input = LayerInput {
            least: -1.0,
            greatest: 1.0,
            smoothing: vec![1.0; 7],
        };
        let layers = [("image.fc1".to_owned(), input)].into();
        let (linear, x) = in_tower(Int8::Calibrated(Arc::new(Calibration { layers })));
        assert!(cosine(&linear.forward(&x, INT8), &linear.forward(&x, Pass::INFER)) > 0.9999);
        let (linear, x) = in_tower(Int8::Uncalibrated);
        let train = Pass { train: true, ..INT8 };
        assert_eq!(linear.forward(&x, train), linear.forward(&x, Pass::TRAIN));
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
