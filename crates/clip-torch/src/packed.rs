//! Matrices in the layout that oneDNN multiplies with, and what it applies to a product before it leaves registers.
#![allow(unsafe_code, reason = "calls the shim")]

use std::ffi::c_int;

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::ffi::{clip_torch_has_products, clip_torch_pack, clip_torch_packed_linear, made, pointer};
use crate::processor;

/// What is applied to a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Post {
    /// Nothing.
    None,
    /// `x Φ(x)`, Φ by the error function.
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// `x σ(x)`.
    Swish,
    /// `max(x, 0)`.
    Relu,
}

impl Post {
    /// Its number in `cpp/shim.cpp`.
    pub(crate) fn code(self) -> c_int {
        match self {
            Self::None => 0,
            Self::Gelu => 1,
            Self::GeluTanh => 2,
            Self::Swish => 3,
            Self::Relu => 4,
        }
    }
}

/// A matrix `[output, input]` and a bias `[output]`, laid out once for many products on a CPU: libtorch's
/// `mkldnn::_linear_pointwise`, which its own compiler calls. The products are outside the graph.
///
/// ```
/// use clip_torch::{PackedMatrix, Post};
/// use tch::{Device, Kind, Tensor};
/// if PackedMatrix::available(Kind::Float) {
///     let (weight, bias) = (Tensor::eye(2, (Kind::Float, Device::Cpu)) * 3.0, Tensor::from_slice(&[1f32, -10.0]));
///     let y = PackedMatrix::new(&weight, Some(&bias))?.multiply(&Tensor::ones([1, 2], (Kind::Float, Device::Cpu)), Post::Relu)?;
///     assert_eq!(Vec::<f32>::try_from(y.flatten(0, -1)).unwrap(), [4.0, 0.0]);
/// }
/// # Ok::<(), clip_torch::TorchError>(())
/// ```
#[derive(Debug)]
pub struct PackedMatrix {
    weight: Tensor,
    bias: Option<Tensor>,
    kind: Kind,
    sizes: [i64; 2],
}

impl PackedMatrix {
    /// Whether this machine and this libtorch multiply packed matrices of a kind: f32 always where libtorch has oneDNN, bf16
    /// where the processor multiplies it (without, it is several times slower than f32).
    pub fn available(kind: Kind) -> bool {
        // SAFETY: looks two names up.
        let known = unsafe { clip_torch_has_products(0) } != 0;
        known
            && match kind {
                Kind::Float => true,
                Kind::BFloat16 => processor::multiplies_bf16(),
                _ => false,
            }
    }

    /// Whether that is faster than a plain product. In f32 an x86 processor needs AVX-512 for it: with AVX2 alone plain
    /// products, MKL's, were no slower (docs/results/benches.md).
    pub fn is_fast(kind: Kind) -> bool {
        Self::available(kind) && (kind != Kind::Float || processor::has_wide_vectors())
    }

    /// Lays out a dense matrix `[output, input]` on the CPU, f32 or bf16, with a bias of its type. Both are copied.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let kind = weight.kind();
        let sizes = matrix(weight)?;
        if !matches!(kind, Kind::Float | Kind::BFloat16) {
            return Err(TorchError::Refused(format!("a packed matrix of {kind:?}")));
        }
        check_bias(bias, sizes[0], kind)?;
        let dense = weight.detach().contiguous();
        // SAFETY: a live handle, borrowed for the call; the shim copies what it keeps.
        let weight = unsafe { made(|result| clip_torch_pack(dense.as_ptr(), result))? };
        Ok(Self {
            weight,
            bias: bias.map(|bias| bias.detach().contiguous()),
            kind,
            sizes,
        })
    }

    /// `post(x Wᵀ + bias)`, `[.., input] -> [.., output]`, of the matrix's kind.
    pub fn multiply(&self, x: &Tensor, post: Post) -> Result<Tensor> {
        self.call(x, None, post)
    }

    /// `x Wᵀ + bias + other`, where `other` is of the product's shape and kind.
    pub fn multiply_add(&self, x: &Tensor, other: &Tensor) -> Result<Tensor> {
        check_other(other, &product_size(&x.size(), self.sizes[0]), self.kind)?;
        self.call(x, Some(&other.contiguous()), Post::None)
    }

    fn call(&self, x: &Tensor, other: Option<&Tensor>, post: Post) -> Result<Tensor> {
        if x.kind() != self.kind || x.device() != Device::Cpu {
            return Err(TorchError::Refused(format!(
                "{:?} on {:?} times a packed matrix of {:?}",
                x.kind(),
                x.device(),
                self.kind
            )));
        }
        check_input(x, self.sizes[1])?;
        let x = x.contiguous();
        // SAFETY: live handles, borrowed for the call, whose shapes and kinds were compared above.
        unsafe {
            made(|result| {
                clip_torch_packed_linear(
                    x.as_ptr(),
                    self.weight.as_ptr(),
                    pointer(self.bias.as_ref()),
                    pointer(other),
                    post.code(),
                    result,
                )
            })
        }
    }
}

/// The shape of a product: the input's, with `output` as its last size.
pub(crate) fn product_size(input: &[i64], output: i64) -> Vec<i64> {
    let mut size = input.to_vec();
    if let Some(last) = size.last_mut() {
        *last = output;
    }
    size
}

/// Fails unless `other` may be added to a product of this size and kind.
pub(crate) fn check_other(other: &Tensor, size: &[i64], kind: Kind) -> Result<()> {
    if other.size() == size && other.kind() == kind && other.device() == Device::Cpu {
        return Ok(());
    }
    Err(TorchError::Refused(format!(
        "{:?} {:?} added to a product {kind:?} {size:?}",
        other.kind(),
        other.size()
    )))
}

/// The sizes of a dense matrix on the CPU.
pub(crate) fn matrix(weight: &Tensor) -> Result<[i64; 2]> {
    match (weight.size().as_slice(), weight.device()) {
        (&[output, input], Device::Cpu) if output > 0 && input > 0 => Ok([output, input]),
        (size, device) => Err(TorchError::Refused(format!(
            "a packed matrix from {size:?} on {device:?}"
        ))),
    }
}

pub(crate) fn check_bias(bias: Option<&Tensor>, output: i64, kind: Kind) -> Result<()> {
    match bias {
        Some(bias) if bias.size() != [output] || bias.kind() != kind => Err(TorchError::Refused(format!(
            "a bias of {:?} {:?} for {output} outputs of {kind:?}",
            bias.kind(),
            bias.size()
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn check_input(x: &Tensor, input: i64) -> Result<()> {
    let size = x.size();
    if size.last() == Some(&input) && x.numel() > 0 {
        Ok(())
    } else {
        Err(TorchError::Refused(format!(
            "{size:?} times a matrix of {input} columns"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn near(a: &Tensor, b: &Tensor, tolerance: f64) {
        assert_eq!(a.size(), b.size());
        let difference = (a.to_kind(Kind::Float) - b.to_kind(Kind::Float)).abs().max();
        assert!(difference.double_value(&[]) < tolerance, "{difference}");
    }

    #[test]
    fn products_equal_the_plain_ones_whatever_is_applied() {
        tch::set_num_threads(1);
        tch::manual_seed(1);
        if !PackedMatrix::available(Kind::Float) {
            assert_ne!(std::env::consts::ARCH, "x86_64", "libtorch has oneDNN there");
            return;
        }
        let (weight, bias) = (drawn(&[24, 40]) * 0.2, drawn(&[24]));
        let packed = PackedMatrix::new(&weight, Some(&bias)).unwrap();
        // The same packed matrix multiplies any number of rows.
        for shape in [&[1, 40][..], &[7, 40], &[2, 5, 40]] {
            let x = drawn(shape);
            let plain = x.linear(&weight, Some(&bias));
            let posts = [
                (Post::None, plain.shallow_clone()),
                (Post::Gelu, plain.gelu("none")),
                (Post::GeluTanh, plain.gelu("tanh")),
                (Post::Swish, plain.silu()),
                (Post::Relu, plain.relu()),
            ];
            for (post, want) in posts {
                near(&packed.multiply(&x, post).unwrap(), &want, 1e-5);
            }
            let other = plain.flip([0]);
            near(&packed.multiply_add(&x, &other).unwrap(), &(&plain + &other), 1e-5);
        }
        let bare = PackedMatrix::new(&weight, None).unwrap();
        let x = drawn(&[40, 3]).transpose(0, 1);
        near(
            &bare.multiply(&x, Post::None).unwrap(),
            &x.linear(&weight, None::<&Tensor>),
            1e-5,
        );
    }

    #[test]
    fn bf16_is_near_where_the_processor_has_it() {
        tch::set_num_threads(1);
        tch::manual_seed(2);
        let (weight, bias, x) = (drawn(&[24, 40]) * 0.2, drawn(&[24]), drawn(&[5, 40]));
        let low = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
        if PackedMatrix::available(Kind::BFloat16) {
            let packed = PackedMatrix::new(&low(&weight), Some(&low(&bias))).unwrap();
            let y = packed.multiply(&low(&x), Post::None).unwrap();
            assert_eq!(y.kind(), Kind::BFloat16);
            near(&y, &x.linear(&weight, Some(&bias)), 5e-2);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before_libtorch_sees_it() {
        let weight = drawn(&[4, 3]);
        let packed = PackedMatrix::new(&weight, None).unwrap();
        let refused = |result: Result<Tensor>| assert!(matches!(result, Err(TorchError::Refused(_))));
        refused(packed.multiply(&drawn(&[2, 4]), Post::None));
        refused(packed.multiply(&drawn(&[0, 3]), Post::None));
        refused(packed.multiply(&drawn(&[2, 3]).to_kind(Kind::BFloat16), Post::None));
        refused(packed.multiply_add(&drawn(&[2, 3]), &drawn(&[2, 3])));
        assert!(PackedMatrix::new(&drawn(&[4]), None).is_err());
        assert!(PackedMatrix::new(&weight, Some(&drawn(&[3]))).is_err());
        assert!(PackedMatrix::new(&weight.to_kind(Kind::Double), None).is_err());
    }
}
