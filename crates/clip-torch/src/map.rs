//! Tensors that lie in memory they do not own: a mapped file's.
#![allow(unsafe_code, reason = "hands foreign memory to libtorch")]

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use tch::{Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::ffi::{clip_torch_over, made};

/// A CPU tensor of `shape` over `bytes(owner)`, without a copy. The tensor keeps the owner alive, as do its views and
/// shallow clones, wherever they go.
///
/// Where the bytes are not aligned for `kind`, the tensor is a copy; the owner is then let go of. Bytes of a length that
/// does not fit the shape are an error.
///
/// A file that is cut short while it is mapped ends the process with SIGBUS on the next read, as with every reader of
/// mapped files: write new files beside old ones and rename.
///
/// # Safety
///
/// Nobody may write into the tensor, into a view, or into the memory, as long as one of them lives: no in-place operator,
/// no training. `bytes` must give initialised memory in the machine's byte order that holds valid values of `kind`.
///
/// ```
/// use std::sync::Arc;
/// use tch::Kind;
/// let file = Arc::new([1f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
/// // SAFETY: nobody writes into the tensor or the bytes.
/// let tensor = unsafe { clip_torch::over(file, |file| file, &[2], Kind::Float) }?;
/// assert_eq!(Vec::<f32>::try_from(&tensor).unwrap(), [1.0, 2.0]);
/// # Ok::<(), clip_torch::TorchError>(())
/// ```
pub unsafe fn over<O>(owner: Arc<O>, bytes: impl FnOnce(&O) -> &[u8], shape: &[i64], kind: Kind) -> Result<Tensor>
where
    O: Send + Sync + 'static,
{
    let slice = bytes(&owner);
    let needed = shape.iter().try_fold(kind.elt_size_in_bytes(), |product, &n| {
        product.checked_mul(usize::try_from(n).ok()?)
    });
    if needed != Some(slice.len()) {
        return Err(TorchError::Refused(format!(
            "{} bytes for a {kind:?} tensor of shape {shape:?}",
            slice.len()
        )));
    }
    if slice.is_empty() || slice.as_ptr().align_offset(kind.elt_size_in_bytes()) != 0 {
        return Tensor::f_from_data_size(slice, shape, kind).map_err(|error| TorchError::Thrown(error.to_string()));
    }
    let code = code(kind)?;
    let data = slice.as_ptr().cast_mut().cast::<c_void>();
    let owner = Arc::into_raw(owner).cast_mut().cast::<c_void>();
    // SAFETY: `data` is aligned and holds as many bytes as shape and kind say; it lives as long as the owner, which moves
    // into the tensor's storage and is dropped there once, by `let_go` of its own type. The owner is Send and Sync, so
    // any thread may drop it.
    unsafe { made(|result| clip_torch_over(data, shape.as_ptr(), shape.len(), code, owner, let_go::<O>, result)) }
}

/// libtorch's number (`c10::ScalarType`) of the kinds that files hold; tch keeps its own to itself.
fn code(kind: Kind) -> Result<c_int> {
    Ok(match kind {
        Kind::Uint8 => 0,
        Kind::Int8 => 1,
        Kind::Int16 => 2,
        Kind::Int => 3,
        Kind::Int64 => 4,
        Kind::Half => 5,
        Kind::Float => 6,
        Kind::Double => 7,
        Kind::Bool => 11,
        Kind::BFloat16 => 15,
        _ => {
            return Err(TorchError::Refused(format!(
                "no tensor of {kind:?} over foreign memory"
            )));
        }
    })
}

/// Drops the `Arc` that [`over`] turned into a raw pointer.
unsafe extern "C" fn let_go<O>(owner: *mut c_void) {
    // SAFETY: `over` made this pointer from an `Arc<O>`, and the shim calls once.
    drop(unsafe { Arc::from_raw(owner.cast_const().cast::<O>()) });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight bytes at an address that is a multiple of 8, and one byte more.
    #[repr(align(8))]
    struct Aligned([u8; 9]);

    fn owner() -> Arc<Aligned> {
        let mut bytes = [0; 9];
        bytes[..4].copy_from_slice(&1.5f32.to_le_bytes());
        bytes[4..8].copy_from_slice(&(-2f32).to_le_bytes());
        Arc::new(Aligned(bytes))
    }

    fn tensor(owner: Arc<Aligned>, from: usize, shape: &[i64], kind: Kind) -> Result<Tensor> {
        // SAFETY: these tests only read.
        unsafe { over(owner, |o| &o.0[from..from + 8], shape, kind) }
    }

    #[test]
    fn no_copy_and_the_owner_lives_as_long_as_the_last_view() {
        let owner = owner();
        let address = owner.0.as_ptr();
        let mapped = tensor(owner.clone(), 0, &[2, 1], Kind::Float).unwrap();
        assert_eq!(mapped.data_ptr().cast_const().cast::<u8>(), address);
        let view = mapped.narrow(0, 1, 1);
        drop(mapped);
        assert_eq!(Arc::strong_count(&owner), 2);
        let clone = view.shallow_clone();
        drop(view);
        assert_eq!(
            std::thread::spawn(move || clone.double_value(&[0, 0])).join().unwrap(),
            -2.0
        );
        assert_eq!(Arc::strong_count(&owner), 1);
    }

    #[test]
    fn unaligned_bytes_are_copied() {
        let owner = owner();
        let mapped = tensor(owner.clone(), 1, &[2], Kind::Float).unwrap();
        assert_eq!(Arc::strong_count(&owner), 1);
        assert_eq!(mapped.size(), [2]);
        assert!(tensor(owner, 1, &[8], Kind::Uint8).is_ok());
    }

    #[test]
    fn the_numbers_of_the_kinds_are_libtorchs() {
        for kind in [
            Kind::Uint8,
            Kind::Int8,
            Kind::Int16,
            Kind::Int,
            Kind::Int64,
            Kind::Half,
            Kind::Float,
            Kind::Double,
            Kind::Bool,
            Kind::BFloat16,
        ] {
            let elements = 8 / kind.elt_size_in_bytes() as i64;
            assert_eq!(tensor(owner(), 0, &[elements], kind).unwrap().kind(), kind);
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        for (shape, kind) in [(&[3][..], Kind::Float), (&[-2, -1], Kind::Float), (&[2], Kind::Half)] {
            let error = tensor(owner(), 0, shape, kind).unwrap_err();
            assert!(matches!(error, TorchError::Refused(_)), "{error}");
        }
        let big = [i64::MAX, i64::MAX];
        assert!(tensor(owner(), 0, &big, Kind::Float).is_err());
    }
}
