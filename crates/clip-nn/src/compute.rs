//! What linear layers multiply in.

use tch::{Device, Kind};

use crate::layers::MatrixType;

/// The arithmetic of linear layers. Norms, softmax and the sums between layers are in f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Compute {
    /// f32.
    #[default]
    F32,
    /// bf16, over weights that stay f32.
    Bf16,
    /// Bytes in the layers that [`ParamOptions::int8`](crate::ParamOptions::int8) names, and bf16 in the others where the
    /// processor multiplies it, else f32. For inference on a CPU; elsewhere it is the same as f32.
    Int8,
}

impl Compute {
    /// Its name, as `--dtype` takes it and outputs tell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Whether a device has instructions for it, so that it is no slower than f32: on a CPU what libtorch's oneDNN and the
    /// processor say, on a GPU f32 and bf16 by assumption.
    pub fn is_native(self, device: Device) -> bool {
        let matrix = match self {
            Self::F32 => return true,
            Self::Bf16 => MatrixType::Bf16,
            Self::Int8 => MatrixType::I8,
        };
        match device {
            Device::Cpu => {
                matrix.is_available(device) && (self != Self::Int8 || clip_torch::QuantisedMatrix::is_fast())
            }
            _ => self == Self::Bf16,
        }
    }

    /// The type of values between two linear layers.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 | Self::Int8 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}
