//! The type that a run computes in.

use serde::{Deserialize, Serialize};

/// What a run's linear layers multiply in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16, over weights kept in f32.
    Bf16,
}

impl Precision {
    /// As a model's pass takes it.
    pub(crate) fn of_pass(self) -> clip_nn::Compute {
        match self {
            Self::F32 => clip_nn::Compute::F32,
            Self::Bf16 => clip_nn::Compute::Bf16,
        }
    }
}
