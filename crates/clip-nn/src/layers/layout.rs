//! A linear layer's matrix, laid out once for the products of inference.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::OnceLock;

use clip_torch::{PackedMatrix, Post};
use tch::{Device, Kind, Tensor};

use super::weight::Weight;
use super::Activation;

/// Which form of a layer a product wants: its rows, and factors that are folded into weight and bias.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Form {
    pub(crate) kind: Kind,
    pub(crate) rows: Option<Range<i64>>,
    /// `factors[0] W`, `factors[1] bias`.
    pub(crate) factors: [f64; 2],
}

impl Form {
    /// The layer as it is.
    pub(crate) fn plain(kind: Kind) -> Self {
        Self {
            kind,
            rows: None,
            factors: [1.0; 2],
        }
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

/// The forms that were asked for so far; a layer has one, the last block's queries, keys and values two.
#[derive(Debug, Default)]
pub(crate) struct Layouts(RefCell<Vec<Layout>>);

#[derive(Debug)]
struct Layout {
    form: Form,
    /// Of the tensors that it was made from: an in-place change makes it stale.
    versions: [i64; 2],
    /// `None` where libtorch would not lay it out.
    matrix: Option<PackedMatrix>,
}

impl Layouts {
    /// Whether products of this kind are to be had on this machine at all.
    pub(crate) fn available(kind: Kind, device: Device) -> bool {
        static FLOAT: OnceLock<bool> = OnceLock::new();
        static BF16: OnceLock<bool> = OnceLock::new();
        let known = match kind {
            Kind::Float => &FLOAT,
            Kind::BFloat16 => &BF16,
            _ => return false,
        };
        device == Device::Cpu && *known.get_or_init(|| PackedMatrix::available(kind))
    }

    /// A product with a form of the layer, which is made where it is not there yet. `None` where libtorch does not give
    /// it: the plain operators do.
    pub(crate) fn product(
        &self,
        form: Form,
        weight: &Weight,
        bias: Option<&Weight>,
        multiply: impl FnOnce(&PackedMatrix) -> clip_torch::Result<Tensor>,
    ) -> Option<Tensor> {
        let versions = [weight.version(), bias.map_or(0, Weight::version)];
        let mut layouts = self.0.borrow_mut();
        layouts.retain(|layout| layout.versions == versions);
        let at = layouts.iter().position(|layout| layout.form == form);
        let at = at.unwrap_or_else(|| {
            layouts.push(Layout {
                matrix: lay_out(&form, weight, bias),
                form,
                versions,
            });
            layouts.len() - 1
        });
        multiply(layouts[at].matrix.as_ref()?).ok()
    }
}

fn lay_out(form: &Form, weight: &Weight, bias: Option<&Weight>) -> Option<PackedMatrix> {
    let _guard = tch::no_grad_guard();
    let part = |tensor: Tensor, factor: f64| {
        let cut = match &form.rows {
            Some(rows) => tensor.narrow(0, rows.start, rows.end - rows.start),
            None => tensor,
        };
        let scaled = if factor == 1.0 { cut } else { cut * factor };
        scaled.to_kind(form.kind)
    };
    let matrix = part(weight.matrix(), form.factors[0]);
    let bias = bias.map(|bias| part(bias.to_kind(Kind::Float), form.factors[1]));
    PackedMatrix::new(&matrix, bias.as_ref()).ok()
}
