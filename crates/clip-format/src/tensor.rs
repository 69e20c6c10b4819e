//! A tensor as a named view of bytes, and where such views come from.

use std::borrow::Cow;
use std::fmt;

use clip_core::{Error, Result};
use half::slice::HalfFloatSliceExt;

/// The type of a tensor's elements, little-endian. Names are those of the safetensors format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name in a safetensors header.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's name, element type and shape, without its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in its file.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Bytes of the data. Readers check that they are no more than the file has.
    pub fn bytes(&self) -> usize {
        self.elements().saturating_mul(self.dtype.size())
    }

    /// How many elements it has: none where one side is 0, whatever the others claim to be.
    pub(crate) fn elements(&self) -> usize {
        let times = |count: usize, side: &usize| count.saturating_mul(*side);
        self.shape.iter().fold(1, times)
    }
}

/// A tensor's data: contiguous, row-major, little-endian bytes; borrowed where they lie in a mapped file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.product() * dtype.size()` bytes.
    pub data: Cow<'a, [u8]>,
}

impl TensorView<'_> {
    /// Whether the data begins at a multiple of the element's size, as engines that use it in place need.
    pub fn is_aligned(&self) -> bool {
        self.data.as_ptr().addr().is_multiple_of(self.dtype.size())
    }

    /// The values as f32, exact for f16 and bf16, rounded for f64; an error for integers.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let bytes = &*self.data;
        match self.dtype {
            Dtype::F32 => Ok(elements(bytes).map(f32::from_le_bytes).collect()),
            Dtype::F64 => Ok(elements(bytes).map(|value| f64::from_le_bytes(value) as f32).collect()),
            Dtype::F16 => {
                let narrow: Vec<_> = elements(bytes).map(half::f16::from_le_bytes).collect();
                Ok(widen(&narrow))
            }
            Dtype::BF16 => {
                let narrow: Vec<_> = elements(bytes).map(half::bf16::from_le_bytes).collect();
                Ok(widen(&narrow))
            }
            other => Err(Error::invalid(format!(
                "a tensor of {other} holds no floating-point numbers"
            ))),
        }
    }
}

fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

fn widen<T>(narrow: &[T]) -> Vec<f32>
where
    [T]: HalfFloatSliceExt,
{
    let mut wide = vec![0.0; narrow.len()];
    narrow.convert_to_f32_slice(&mut wide);
    wide
}

/// Named tensors, in order: a file's own, or a model's under canonical names.
///
/// Implementers write two methods, three where the data lie in a mapped file: files of weights do, and a trainer does over its parameters when it saves.
pub trait Weights: Send + Sync {
    /// Every tensor without its data, in order.
    fn tensors(&self) -> &[TensorInfo];

    /// The data of one tensor; `None` if there is no such name.
    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>>;

    /// Lets go of memory that reading took, where the data can be read again: views stay right. For who has copied what it
    /// wanted and keeps the file at hand.
    fn release(&self) {}

    /// The names, in order.
    fn names(&self) -> Vec<&str> {
        self.tensors().iter().map(|tensor| tensor.name.as_str()).collect()
    }
}

impl fmt::Debug for dyn Weights + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({} tensors)", self.tensors().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_widens_exactly() {
        let data = [
            half::f16::from_f32(1.5).to_le_bytes(),
            half::f16::from_f32(-0.25).to_le_bytes(),
        ]
        .concat();
        let view = TensorView {
            dtype: Dtype::F16,
            shape: vec![2],
            data: data.into(),
        };
        assert_eq!(view.to_f32().unwrap(), [1.5, -0.25]);
        let data = half::bf16::from_f32(3.0).to_le_bytes().to_vec();
        let view = TensorView {
            dtype: Dtype::BF16,
            shape: vec![],
            data: data.into(),
        };
        assert_eq!(view.to_f32().unwrap(), [3.0]);
    }

    #[test]
    fn integers_are_no_floats() {
        let view = TensorView {
            dtype: Dtype::I64,
            shape: vec![1],
            data: vec![0; 8].into(),
        };
        assert!(view.to_f32().unwrap_err().to_string().contains("I64"));
    }
}
