//! Numbers as files hold them, little-endian, widened to the one type the rest of the code uses.

use clip_core::{Error, Result};
use half::{bf16, f16};

/// A floating-point type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    /// Bytes of one number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the numbers in `bytes`, which are whole ones.
    pub(crate) fn append(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Self::F16 => out.extend(bytes.as_chunks().0.iter().map(|&two| f16::from_le_bytes(two).to_f32())),
            Self::Bf16 => out.extend(bytes.as_chunks().0.iter().map(|&two| bf16::from_le_bytes(two).to_f32())),
            Self::F32 => out.extend(bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four))),
            Self::F64 => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&eight| f64::from_le_bytes(eight) as f32),
            ),
        }
    }
}

/// What features are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Number {
    /// Four bytes a number.
    #[default]
    F32,
    /// Two bytes a number, of about three digits, up to 65504.
    F16,
}

impl Number {
    /// Bytes of one number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// What a safetensors file calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
        }
    }

    /// Refuses values that only f32 holds; `first` and `width` as for [`refuse_non_finite`].
    pub(crate) fn refuse_too_large(self, values: &[f32], width: usize, first: u64) -> Result<()> {
        let too_large = |&value: &f32| self == Self::F16 && !f16::from_f32(value).is_finite();
        match values.iter().position(too_large) {
            None => Ok(()),
            Some(at) => Err(Error::invalid(format!("it holds {}, too much for f16", values[at]))
                .row(first + (at / width.max(1)) as u64 + 1)
                .remedy("write f32")),
        }
    }
}

/// A whole-number type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Truth values, bytes of 0 and 1, too.
    U8,
    I32,
    I64,
}

impl Whole {
    /// Bytes of one number.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I32 => 4,
            Self::I64 => 8,
        }
    }

    /// Appends the numbers in `bytes`, which are whole ones.
    pub(crate) fn append(self, bytes: &[u8], out: &mut Vec<i64>) {
        match self {
            Self::U8 => out.extend(bytes.iter().map(|&one| i64::from(one))),
            Self::I32 => out.extend(
                bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&four| i64::from(i32::from_le_bytes(four))),
            ),
            Self::I64 => out.extend(bytes.as_chunks().0.iter().map(|&eight| i64::from_le_bytes(eight))),
        }
    }
}

/// Refuses infinities and NaN, naming the row (from 1). `values` are rows of `width` numbers from row `first` (from 0)
/// on.
pub(crate) fn refuse_non_finite(values: &[f32], width: usize, first: u64) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(
            Error::invalid(format!("it holds {}, which is no finite number", values[at]))
                .row(first + (at / width.max(1)) as u64 + 1),
        ),
    }
}
