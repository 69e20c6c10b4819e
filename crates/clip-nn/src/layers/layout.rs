//! A linear layer's matrix, laid out once for the products of inference.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use clip_torch::{PackedMatrix, Post, QuantisedMatrix};
use tch::{Device, Kind, Tensor};

use super::Activation;
use super::weight::Weight;
use crate::Release;

/// Which form of a layer a product wants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    pub(crate) type_: MatrixType,
    /// These alone.
    pub(crate) rows: Option<Range<i64>>,
    /// `factors[0] W`, `factors[1] bias`.
    pub(crate) factors: [f64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatrixType {
    F32,
    Bf16,
    I8,
}

impl MatrixType {
    /// That of a type of numbers.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Float => Some(Self::F32),
            Kind::BFloat16 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Whether this machine has products of such matrices and gains by them.
    pub(crate) fn is_available(self, device: Device) -> bool {
        static KNOWN: [OnceLock<bool>; 3] = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
        device == Device::Cpu
            && *KNOWN[self as usize].get_or_init(|| match self {
                Self::F32 => PackedMatrix::is_fast(Kind::Float),
                Self::Bf16 => PackedMatrix::is_fast(Kind::BFloat16),
                Self::I8 => QuantisedMatrix::available(),
            })
    }
}

/// What an activation is to a product: what is folded in before it, and what is applied behind. `None` where the
/// operator does not have it.
pub(crate) fn post(activation: Activation) -> Option<(f64, Post)> {
    Some(match activation {
        Activation::Gelu => (1.0, Post::Gelu),
        Activation::GeluTanh => (1.0, Post::GeluTanh),
        Activation::Silu => (1.0, Post::Swish),
        Activation::Relu => (1.0, Post::Relu),
        // 1.702 x σ(1.702 x) is swish of 1.702 x; the next layer divides by 1.702.
        Activation::QuickGelu => (1.702, Post::Swish),
        Activation::Relu6 => return None,
    })
}

/// A matrix laid out.
#[derive(Debug)]
pub(crate) enum Matrix {
    Packed(PackedMatrix),
    Quantised(QuantisedMatrix),
}

/// The forms that were asked for so far; a layer has one, the last block's queries, keys and values two.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    made: RefCell<Vec<Layout>>,
    release: Option<Release>,
}

#[derive(Debug)]
struct Layout {
    form: Form,
    /// Of the tensors that it was made from: an in-place change makes it stale.
    versions: [i64; 2],
    /// `None` where libtorch would not lay it out.
    matrix: Option<Matrix>,
}

impl Layouts {
    /// Of a weight whose own memory may be let go of once it is laid out.
    pub(crate) fn new(release: Option<Release>) -> Self {
        Self {
            made: RefCell::default(),
            release,
        }
    }

    /// A product with a form of the layer, which is made where it is not there yet; `columns` are factors of the weight's.
    /// `None` where libtorch does not give it: the plain operators do.
    pub(crate) fn product<T>(
        &self,
        form: Form,
        weight: &Weight,
        bias: Option<&Weight>,
        columns: Option<&Tensor>,
        multiply: impl FnOnce(&Matrix) -> clip_torch::Result<T>,
    ) -> Option<T> {
        let versions = [weight.version(), bias.map_or(0, Weight::version)];
        let mut layouts = self.made.borrow_mut();
        layouts.retain(|layout| layout.versions == versions);
        let at = layouts.iter().position(|layout| layout.form == form);
        let at = at.unwrap_or_else(|| {
            layouts.push(Layout {
                matrix: lay_out(&form, weight, bias, columns),
                form,
                versions,
            });
            // Else the file's pages and the copies would be in memory together.
            if let Some(release) = &self.release {
                release.call();
            }
            layouts.len() - 1
        });
        multiply(layouts[at].matrix.as_ref()?).ok()
    }
}

fn lay_out(form: &Form, weight: &Weight, bias: Option<&Weight>, columns: Option<&Tensor>) -> Option<Matrix> {
    let _guard = tch::no_grad_guard();
    let kind = match form.type_ {
        MatrixType::Bf16 => Kind::BFloat16,
        MatrixType::F32 | MatrixType::I8 => Kind::Float,
    };
    let part = |tensor: Tensor, factor: f64| {
        let cut = match &form.rows {
            Some(rows) => tensor.narrow(0, rows.start, rows.end - rows.start),
            None => tensor,
        };
        if factor == 1.0 { cut } else { cut * factor }
    };
    let matrix = part(weight.matrix(), form.factors[0]);
    let matrix = match columns {
        Some(columns) => matrix * columns,
        None => matrix,
    };
    let bias = bias.map(|bias| part(bias.to_kind(Kind::Float), form.factors[1]).to_kind(kind));
    let laid_out = match form.type_ {
        MatrixType::F32 | MatrixType::Bf16 => {
            PackedMatrix::new(&matrix.to_kind(kind), bias.as_ref()).map(Matrix::Packed)
        }
        MatrixType::I8 => QuantisedMatrix::new(&matrix, bias.as_ref()).map(Matrix::Quantised),
    };
    laid_out.ok()
}
