//! What a checkpoint is: files of weights as named byte views, and the mapping between a family's names and ours.

mod json;
mod map;
mod mapping;
mod pickle;
mod tensor;
#[cfg(test)]
mod testing;
mod weights;

pub use mapping::{AsWeights, Mapping, Remapped, Row};
pub use tensor::{Dtype, TensorInfo, TensorView, Weights};
pub use weights::{Format, WeightsFile, write_safetensors};
