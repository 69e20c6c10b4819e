//! The AppZoo: what users do with a model, without a tensor.
//!
//! - [`evaluate`]: how well texts find their images and images their texts, by a [`Relevance`].
//! - [`ConceptQueries`]: how well the names of concepts find the pictures that carry them.
//! - [`Retrieval`]: the nearest rows of a gallery, as an [`App`](clip_core::App) that a command or a server drives.
//! - [`Predictor`]: any number of rows through an [`Embedder`](clip_core::Embedder) into a
//!   [`FeatureSink`](clip_core::FeatureSink).
//! - [`equal_groups`], [`near_groups`]: pictures that are there twice.
//! - [`retrieval_page`]: an evaluation to look at, with pictures.
//!
//! Any engine drives them: whatever implements [`Embedder`](clip_core::Embedder).

mod concepts;
mod duplicates;
mod evaluate;
mod page;
mod predict;
mod relevance;
mod retrieval;

pub use concepts::ConceptQueries;
pub use duplicates::{Duplicates, equal_groups, near_groups};
pub use evaluate::{Evaluation, chance, evaluate};
pub use page::{Gallery, PageOptions, retrieval_page};
pub use predict::{Predictor, PreparedRow};
pub use relevance::{Relevance, Sides};
pub use retrieval::{Retrieval, RetrievalHit, RetrievalRequest, RetrievalResponse};
