//! What a checkpoint is, without a model: files of weights as named byte views, families and their configs, the
//! mapping between a family's names and ours, the tokenizer and the transform a checkpoint asks for.
//!
//! [`Checkpoint::open`] goes one fixed way: weights file by name, config beside it, the one [`Family`] that recognises
//! both, its config made canonical, its names mapped. [`save`] goes the same way back. A family is one file; [`Families`]
//! is an open table.
//!
//! ```no_run
//! use clip_format::{Checkpoint, Families};
//! let checkpoint = Checkpoint::open("models/my-clip", &Families::bundled())?;
//! println!("{}: {} tensors", checkpoint.family(), checkpoint.weights().tensors().len());
//! let tokenizer = checkpoint.tokenizer(None)?;
//! # Ok::<(), clip_core::Error>(())
//! ```
//!
//! Whoever adds a family needs this crate alone: it hands out [`clip_core`] (with its serde_json) and [`clip_data`], whose
//! types its contract shows.
//!
//! # Canonical names
//!
//! `logit_scale`, `logit_bias`, `image_projection.*`, `text_projection.*`, and each tower's tensors under `image.` or
//! `text.`, a single tower's too. What a tower's tensors are called is its backbone's business; the towers known here
//! have the names of `families/towers.rs`, on the model's side of its rows.

mod cast;
mod checkpoint;
mod convert;
mod families;
mod fields;
#[cfg(feature = "hub")]
mod hub;
mod identity;
mod json;
mod locate;
mod map;
mod mapping;
mod pairing;
mod pickle;
mod preprocess;
mod save;
mod source;
mod tensor;
#[cfg(test)]
mod testing;
mod vocabulary;
mod weights;

pub use clip_core;
pub use clip_data;

pub use checkpoint::{Checkpoint, CheckpointFile, Role, TextOptions};
pub use convert::{Converted, convert};
pub use families::{Evidence, Families, Family, Layout, VocabularyForm};
pub use mapping::{AsWeights, Mapping, Remapped, Row};
pub use pairing::pair_towers;
pub use save::{Extras, StagedDirectory, save, write_model};
pub use source::{Watch, is_hub_name, resolve};
pub use tensor::{Dtype, TensorInfo, TensorView, Weights};
pub use vocabulary::check_vocabulary;
pub use weights::{Format, WeightsFile, write_safetensors, write_weights};
