//! What linear layers multiply in.

use tch::Kind;

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
    /// The type of values between two linear layers.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 | Self::Int8 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}
