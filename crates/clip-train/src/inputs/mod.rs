//! How rows of tables become what towers take: pixels and token ids, or features of locked towers computed before.

mod choice;
mod collate;
mod concepts;
mod fill;
mod pass;
mod replicas;
mod row;
mod source;
mod statistics;
mod store;
mod teacher;
mod valid;

pub(crate) use collate::Shapes;
pub(crate) use concepts::{Captions, TemplateNames, WithConcepts};
pub(crate) use fill::{Extent, Fill, fill};
pub(crate) use row::{Masking, Stores};
pub(crate) use source::TableSource;
pub(crate) use statistics::standardise;
pub(crate) use store::{Store, tower_id};
pub(crate) use teacher::Teacher;
pub(crate) use valid::ValidTable;

use std::sync::Arc;

use clip_core::{ImageDecoder, ImageTransform, Tokenizer};

/// What reads pictures and texts for a model, on any thread.
#[derive(Clone)]
pub struct Reading {
    /// Opens pictures.
    pub decoder: Arc<dyn ImageDecoder>,
    /// Makes them the model's pixels.
    pub transform: Arc<dyn ImageTransform>,
    /// Turns texts into the model's ids.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// Threads that do it.
    pub workers: usize,
}
