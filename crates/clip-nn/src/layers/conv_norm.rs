//! A convolution and the batch normalisation behind it, as one convolution.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use super::{BatchNorm, Conv, ConvShape};
use crate::{Params, Pass};

/// `norm(conv(x))`. With frozen statistics the norm is `y · scale + shift` a channel, so that it is exact to put the scale
/// into the kernel and to add the shift as a bias: one pass over memory less. Gradients reach kernel, weight and bias all
/// the same. Where none is collected, the kernel is made once.
#[derive(Debug)]
pub struct ConvNorm {
    conv: Conv,
    norm: BatchNorm,
    folded: RefCell<Option<Folded>>,
}

#[derive(Debug)]
struct Folded {
    /// Of the tensors that it was made from: an in-place change makes it stale.
    versions: Vec<i64>,
    weight: Tensor,
    bias: Tensor,
}

impl ConvNorm {
    /// Takes the kernel from `conv` and the norm's tensors from `norm`.
    pub fn new(conv: &Params, norm: &Params, shape: ConvShape, eps: f64) -> Self {
        Self::starting(conv, norm, shape, eps, 1.0)
    }

    /// As [`new`](Self::new), and fresh it gives zeros: the end of a residual branch, so that a deep network starts as a
    /// shallow one (Goyal et al., 2017).
    pub fn silent(conv: &Params, norm: &Params, shape: ConvShape, eps: f64) -> Self {
        Self::starting(conv, norm, shape, eps, 0.0)
    }

    fn starting(conv: &Params, norm: &Params, shape: ConvShape, eps: f64, weight: f64) -> Self {
        Self {
            conv: Conv::new(conv, shape),
            norm: BatchNorm::starting(norm, shape.output, eps, weight),
            folded: RefCell::new(None),
        }
    }

    /// Feature maps to feature maps, as [`Conv`]'s, in the pass's compute type.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let kernel = self.conv.weight();
        let tensors = self.norm.tensors();
        let parts = || tensors.into_iter().chain([&kernel]);
        if parts().any(Tensor::requires_grad) {
            let (weight, bias) = self.fold(&kernel, pass.compute.kind());
            return self.conv.convolve(x, &weight, Some(&bias));
        }
        let versions: Vec<i64> = parts().map(Tensor::internal_version).collect();
        let mut folded = self.folded.borrow_mut();
        let fresh = |folded: &Folded| folded.versions == versions && folded.weight.kind() == pass.compute.kind();
        if !folded.as_ref().is_some_and(fresh) {
            let (weight, bias) = self.fold(&kernel, pass.compute.kind());
            *folded = Some(Folded { versions, weight, bias });
        }
        match &*folded {
            Some(Folded { weight, bias, .. }) => self.conv.convolve(x, weight, Some(bias)),
            None => x.shallow_clone(),
        }
    }

    fn fold(&self, kernel: &Tensor, kind: Kind) -> (Tensor, Tensor) {
        let (scale, shift) = self.norm.scale_and_shift();
        let weight = kernel * scale.view([-1, 1, 1, 1]);
        (weight.to_kind(kind), shift.to_kind(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compute;
    use crate::layers::Padding;
    use crate::layers::testing::{built, values, wave};

    const SHAPE: ConvShape = ConvShape {
        input: 2,
        output: 4,
        kernel: 3,
        stride: 2,
        groups: 2,
        padding: Padding::Same,
    };

    /// The layer, and the same convolution and norm apart, over the same parameters.
    fn layer() -> (ConvNorm, crate::Parameters) {
        built(|params| ConvNorm::new(&params.at("conv"), &params.at("norm"), SHAPE, 1e-3))
    }

    fn difference(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn equals_the_two_apart_in_value_and_gradient() {
        let (layer, parameters) = layer();
        let x = wave(0.3, &[2, 2, 6, 7]);
        let gradients = || -> Vec<Vec<f32>> {
            let trainable = parameters.trainable();
            trainable.map(|parameter| values(&parameter.tensor.grad())).collect()
        };
        let one = layer.forward(&x, Pass::TRAIN);
        one.square().sum(Kind::Float).backward();
        let first = gradients();
        parameters
            .trainable()
            .for_each(|parameter| parameter.tensor.shallow_clone().zero_grad());
        let two = layer.norm.forward(&layer.conv.forward(&x, Pass::TRAIN));
        two.square().sum(Kind::Float).backward();
        assert!(difference(&one, &two) < 1e-5);
        for (a, b) in first.iter().flatten().zip(gradients().iter().flatten()) {
            assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{a} {b}");
        }
    }

    #[test]
    fn an_in_place_change_reaches_the_folded_kernel() {
        let (layer, parameters) = layer();
        parameters.lock(|_| true);
        let x = wave(0.3, &[1, 2, 6, 6]);
        let before = layer.forward(&x, Pass::INFER);
        assert_eq!(before, layer.forward(&x, Pass::INFER));
        for parameter in parameters.iter() {
            let mut tensor = parameter.tensor.shallow_clone();
            tensor.copy_(&(&tensor * 0.5 + 0.1));
        }
        let after = layer.forward(&x, Pass::INFER);
        let apart = layer.norm.forward(&layer.conv.forward(&x, Pass::INFER));
        assert!(difference(&after, &apart) < 1e-5);
        assert!(difference(&after, &before) > 1e-3);
        let bf16 = Pass {
            compute: Compute::Bf16,
            ..Pass::INFER
        };
        assert_eq!(layer.forward(&x, bf16).kind(), Kind::BFloat16);
        assert!(difference(&layer.forward(&x, bf16), &after) < 3e-2 * after.abs().max().double_value(&[]));
    }
}
