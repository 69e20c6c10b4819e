//! Everything that shows a tensor: encoder contracts, layers, parameters, the zoo, and the pipeline.
//!
//! To add a backbone or an objective depend on this crate alone: it re-exports `clip_core`, `tch` and `serde`, so that
//! versions cannot clash (`#[serde(crate = "clip_nn::serde")]` on your config).

mod compute;
mod door;
mod dual;
mod encoder;
mod fit;
mod gradient;
mod int8;
pub mod layers;
mod objective;
mod parameters;
mod params;
mod pipeline;
mod queue;
mod writer;
mod zoo;

pub use compute::Compute;
pub use door::{door, quiet};
pub use dual::{DualEncoder, Encoded, ImageInput, TextInput, unit_rows};
pub use encoder::{ImageBackbone, ImageEncoder, Pass, TextBackbone, TextEncoder, Tokens, TowerOutput};
pub use fit::{Absent, Fit, Misshapen};
pub use gradient::with_gradient;
pub use int8::{Calibration, InputWatch, Int8, LayerInput, Seen};
pub use layers::Lora;
pub use objective::{
    BankNeeds, ConceptBank, ConceptTexts, Context, Features, MaskedText, ModelShape, Needs, Objective, ObjectiveKind,
    TeacherFeatures, Terms, View,
};
pub use parameters::{Parameter, Parameters};
pub use params::{Fresh, Init, ParamOptions, Params, Release, Role, WeightSource};
pub use pipeline::{Pipeline, Preparation, pad, pixels};
pub use queue::{Asking, FeatureQueue, Modality, Neighbours, QueueRows, State};
pub use writer::ModelWriter;
pub use zoo::{ObjectiveEntry, OpenTokenizer, Zoo};

pub use clip_core;
pub use clip_torch::over as tensor_over;
pub use serde;
pub use tch;
