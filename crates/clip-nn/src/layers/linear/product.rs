//! The choice of a product: of bytes, with a matrix that is laid out, or libtorch's plain one.

use std::ops::Range;

use clip_torch::{Bytes, PackedMatrix, Post, QuantisedMatrix};
use tch::{Kind, Tensor};

use super::{Linear, Values};
use crate::layers::layout::{Form, Matrix, MatrixType};
use crate::layers::weight::{Weight, matrix};
use crate::{Compute, Pass};

/// What is asked of a product besides `x Wᵀ + bias`.
#[derive(Debug, Clone)]
pub(super) struct Asked<'a> {
    /// These outputs alone.
    pub(super) rows: Option<Range<i64>>,
    /// `x` is this many times the layer's input; the matrix makes up for it.
    pub(super) factor: f64,
    /// Added to the product, in f32.
    pub(super) added: Option<&'a Tensor>,
}

impl Asked<'_> {
    /// Nothing.
    pub(super) const PLAIN: Self = Self {
        rows: None,
        factor: 1.0,
        added: None,
    };

    /// What the matrix and the bias are multiplied by.
    fn factors(&self) -> [f64; 2] {
        [1.0 / self.factor, 1.0]
    }

    /// Whatever the product's type, the sum is f32, without a cast of its own.
    fn add(&self, y: Tensor) -> Tensor {
        match self.added {
            Some(added) => added + y,
            None => y,
        }
    }
}

impl Linear {
    /// The product that is fastest in such a pass: of bytes where the layer multiplies them, else with the matrix laid
    /// out, else libtorch's plain one. In f32 where something is added, else in the type that it was made in.
    pub(super) fn product(&self, x: &Tensor, asked: &Asked<'_>, pass: Pass) -> Tensor {
        if let Some(bytes) = self.to_bytes(x, asked.factor, pass)
            && let Some(y) = self.product_of_bytes(&bytes, asked)
        {
            return y;
        }
        // The operator adds what is of the product's own type.
        let fused = asked
            .added
            .filter(|added| self.kind(pass) == Kind::Float && !added.requires_grad());
        let multiply = |matrix: &PackedMatrix, x: &Tensor| match fused {
            Some(added) => matrix.multiply_add(x, added),
            None => matrix.multiply(x, Post::None),
        };
        match self.laid_out(x, asked.rows.clone(), asked.factors(), pass, multiply) {
            Some(sum) if fused.is_some() => sum,
            Some(y) => asked.add(y),
            None if asked.factor == 1.0 => asked.add(self.multiply(x, asked.rows.as_ref(), pass)),
            None => asked.add(self.multiply(&(x / asked.factor), asked.rows.as_ref(), pass)),
        }
    }

    /// The product of an input that is bytes already, f32; `None` where libtorch does not give it.
    pub(super) fn product_of_bytes(&self, bytes: &Bytes, asked: &Asked<'_>) -> Option<Tensor> {
        let (rows, factors) = (asked.rows.clone(), asked.factors());
        self.quantised(rows, factors, |matrix| match asked.added {
            Some(added) => matrix.multiply_add(bytes, added),
            None => matrix.multiply(bytes, Post::None),
        })
    }

    /// `factor` times the activations, made with the product, in the form that the layer `next` takes; `None` where no
    /// product makes them.
    pub(super) fn activated(&self, x: &Tensor, (factor, post): (f64, Post), next: &Self, pass: Pass) -> Option<Values> {
        let factors = [factor; 2];
        let Some(bytes) = self.to_bytes(x, 1.0, pass) else {
            let y = self.laid_out(x, None, factors, pass, |matrix, x| matrix.multiply(x, post))?;
            return Some(Values::Numbers(y));
        };
        let known = next.bytes.known(factor).filter(|_| next.multiplies_bytes(pass));
        self.quantised(None, factors, |matrix| {
            Ok(match known {
                Some(affine) => Values::Bytes(matrix.multiply_to_bytes(&bytes, post, affine)?),
                None => Values::Numbers(matrix.multiply(&bytes, post)?),
            })
        })
    }

    /// The type it multiplies numbers in.
    fn kind(&self, pass: Pass) -> Kind {
        let rest = pass.compute == Compute::Int8 && !pass.train && MatrixType::Bf16.is_available(self.weight.device());
        if rest { Kind::BFloat16 } else { pass.compute.kind() }
    }

    /// Whether its matrix may be laid out in such a pass: nothing trains it.
    pub(super) fn lays_out(&self, pass: Pass) -> bool {
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

    /// `factor` times an input as bytes, where the layer multiplies them in such a pass.
    fn to_bytes(&self, x: &Tensor, factor: f64, pass: Pass) -> Option<Bytes> {
        if self.multiplies_bytes(pass) {
            self.bytes.of(x, factor).ok()
        } else {
            None
        }
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
