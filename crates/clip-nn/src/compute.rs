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
}

impl Compute {
    /// The type of values between two linear layers.
    pub fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}
