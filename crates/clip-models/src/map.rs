//! Tensors over a checkpoint's mapped file, without a copy.
#![allow(unsafe_code, reason = "lays tensors over mapped memory")]

use std::borrow::Cow;
use std::sync::Arc;

use clip_format::{Dtype, Weights};
use clip_nn::clip_core::{Error, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::tensor_over;

/// What a mapped tensor keeps alive.
struct Mapped(Arc<dyn Weights>);

/// The tensor of a name, of the file's type; `None` where there is none.
///
/// Where its bytes lie in the mapped file and are aligned, it is laid over them and keeps the file mapped: opening then
/// costs nothing, and pages are read when they are first used. Nobody may write into it: [`Params`](clip_nn::Params)
/// copies what is to be trained. A file that somebody cuts short meanwhile ends the process with SIGBUS.
pub(crate) fn tensor(weights: &Arc<dyn Weights>, name: &str) -> Result<Option<Tensor>> {
    let Some(view) = weights.view(name)? else {
        return Ok(None);
    };
    let kind = kind(name, view.dtype)?;
    let shape: Vec<i64> = view.shape.iter().map(|&n| n as i64).collect();
    let tensor = match view.data {
        // SAFETY: nobody writes: the mapping is read-only and private to `Weights`, and the tensor goes to `Params`
        // alone, which copies it unless the model is for inference. Every bit pattern is a value of these types (bools
        // are taken as bytes); files and machine are little-endian.
        Cow::Borrowed(_) => unsafe {
            let mapped = Arc::new(Mapped(weights.clone()));
            tensor_over(mapped, |mapped| borrowed(mapped, name), &shape, kind)
        },
        Cow::Owned(bytes) => {
            // Pages that it was made of are read once and would count beside it: a quarter of a model whose file keeps
            // queries, keys and values apart.
            weights.release();
            // SAFETY: as above; the bytes were made for this tensor and have no other owner.
            unsafe { tensor_over(Arc::new(bytes), |bytes| bytes, &shape, kind) }
        }
    };
    tensor
        .map(Some)
        .map_err(|error| Error::internal(format!("tensor `{name}`: {error}")).source(error))
}

/// The bytes of a tensor that lie in the file. Asked for a second time, since the borrow must be from what the tensor
/// keeps; empty, which no shape fits, should they have moved.
fn borrowed<'a>(mapped: &'a Mapped, name: &str) -> &'a [u8] {
    match mapped.0.view(name) {
        Ok(Some(view)) => match view.data {
            Cow::Borrowed(bytes) => bytes,
            Cow::Owned(_) => &[],
        },
        _ => &[],
    }
}

fn kind(name: &str, dtype: Dtype) -> Result<Kind> {
    Ok(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        // Not Kind::Bool: a file may hold other bytes than 0 and 1, which no bool may be.
        Dtype::U8 | Dtype::Bool => Kind::Uint8,
        other => {
            return Err(
                Error::invalid(format!("tensor `{name}` is of type {other}, which no layer takes"))
                    .remedy("save the weights as f32, bf16 or f16"),
            );
        }
    })
}
