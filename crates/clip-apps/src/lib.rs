//! The AppZoo: what users do with a model, without a tensor.
//!
//! - [`evaluate`]: how well texts find their images and images their texts, by a [`Relevance`] and by [`Rules`].
//! - [`ConceptQueries`]: how well the names of concepts find the pictures that carry them.
//! - [`Retrieval`]: the nearest rows of a gallery, as an [`App`](clip_core::App) that a command or a server drives.
//! - [`Classify`]: the likeliest of some labels for a picture, as an app; [`ZeroShot`] is its heart, [`Tally`] its figures,
//!   [`classify_page`] both to look at.
//! - [`Compare`]: two models on the same queries, as an app; [`compare()`] is its heart, [`compare_page`] its page.
//! - [`Predictor`]: any number of rows through an [`Embedder`](clip_core::Embedder) into a
//!   [`FeatureSink`](clip_core::FeatureSink).
//! - [`equal_groups`], [`near_groups`]: pictures that are there twice.
//! - [`retrieval_page`]: an evaluation to look at, with pictures.
//!
//! Any engine drives them: whatever implements [`Embedder`](clip_core::Embedder).

mod classify;
mod compare;
mod concepts;
mod duplicates;
mod evaluate;
mod language;
mod page;
mod predict;
mod protocol;
mod relevance;
mod retrieval;
mod uploads;

pub use classify::{
    Class, ClassFigures, Classes, Classify, ClassifyFigures, ClassifyPage, ClassifyRequest, ClassifyResponse, Guess,
    LabelHit, Sample, TEMPLATE_SETS, Tally, Templates, ZeroShot, classify_page,
};
pub use compare::{
    Compare, ComparePage, CompareRequest, CompareResponse, CompareSummary, Compared, ComparedQuery, Comparison,
    Contender, FoundBy, Judged, SideFigures, Winner, compare, compare_page,
};
pub use concepts::ConceptQueries;
pub use duplicates::{Duplicates, equal_groups, near_groups};
pub use evaluate::{Direction, Evaluation, chance, evaluate};
pub use language::Language;
pub use page::{Gallery, PageOptions, retrieval_page};
pub use predict::{Predictor, PreparedRow};
pub use protocol::{Grouping, Labels, Protocol, Rules};
pub use relevance::{Relevance, Side, Unmet};
pub use retrieval::{Retrieval, RetrievalHit, RetrievalRequest, RetrievalResponse};
