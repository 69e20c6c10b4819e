//! clipzoo: train, evaluate and run CLIP models for e-commerce, in English and Chinese.
//!
//! [`open`] gives a model ready for use; [`create`] writes a new one from its config; [`cli`] is the whole command over
//! your own [`zoo`](zoo()).
//!
//! ```no_run
//! use clipzoo::clip_core::Embedder;
//! let model = clipzoo::open("./my-model")?;
//! let features = model.embed_texts(&["red running shoes"])?;
//! println!("{} dimensions", features.dim());
//! # Ok::<(), clipzoo::clip_core::Error>(())
//! ```

mod cli;
mod open;

pub use cli::{Cli, cli};
pub use clip_models::create;
pub use open::{open, zoo};

pub use clip_core;
pub use clip_format;
pub use clip_nn;
