//! What a parameter is, how it starts where nothing is loaded, and how a model's are made.

use tch::Device;

use crate::int8::{InputWatch, Int8};
use crate::layers::Lora;

/// What a parameter is: decides weight decay, rates and locks, which read this and not names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// A matrix or a convolution kernel.
    Weight,
    /// Added to a layer's output.
    Bias,
    /// Scale or shift of a norm.
    Norm,
    /// A table of vectors: tokens, positions, the class token.
    Embedding,
    /// The temperature or the bias of the similarities.
    Scale,
    /// Never trained: statistics.
    Buffer,
    /// A thin matrix beside a locked weight ([`Lora`]); no part of the written model.
    Adapter,
}

/// How a tensor starts where nothing is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All one value.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between −bound and bound.
    Uniform(f64),
}

/// Which tensors may start fresh; any other that is missing is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fresh {
    /// None: the strict rule for checkpoints.
    #[default]
    Nothing,
    /// All: a model from scratch.
    Everything,
    /// Those whose names begin so, at a dot: `["image_projection", "logit_scale"]`.
    Under(Vec<String>),
}

impl Fresh {
    pub(super) fn allows(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Under(prefixes) => prefixes.iter().any(|prefix| {
                name.strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }),
        }
    }
}

/// How parameters are made.
#[derive(Debug, Clone)]
pub struct ParamOptions {
    /// Where they live.
    pub device: Device,
    /// Decides the values of fresh ones, each by its name: order does not matter.
    pub seed: u64,
    /// Which may start fresh.
    pub fresh: Fresh,
    /// Whether they are for training: copied out of mapped files, with gradients. Otherwise loaded tensors may lie in
    /// the mapped file.
    pub trainable: bool,
    /// Adapters beside the towers' linear layers, whose weights are then locked.
    pub lora: Option<Lora>,
    /// What the towers' linear layers do in passes of [`Compute::Int8`](crate::Compute::Int8).
    pub int8: Int8,
    /// Sees what the towers' linear layers are given, for a calibration.
    pub watch: Option<InputWatch>,
}

impl Default for ParamOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            seed: 0,
            fresh: Fresh::Nothing,
            trainable: false,
            lora: None,
            int8: Int8::Uncalibrated,
            watch: None,
        }
    }
}
