//! Features on their way to a file.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Embeddings, Result};

/// Which tower made a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// The text tower.
    Text,
    /// The image tower.
    Image,
}

/// Consecutive rows of features. Where both modalities are present they have equal length and row `i` of each belongs
/// together; a sink that is given one modality at a time joins them by `first`.
#[derive(Debug, Clone, Default)]
pub struct FeatureRows {
    /// Number of the first row, from 0.
    pub first: u64,
    /// Text features, if there are any.
    pub texts: Option<Embeddings>,
    /// Image features, if there are any.
    pub images: Option<Embeddings>,
    /// Columns carried along, one object a row; empty for none.
    pub columns: Vec<Value>,
}

/// Writes features. Nothing is visible before [`commit`](Self::commit); a dropped sink leaves nothing behind.
pub trait FeatureSink: Send {
    /// Appends rows, in order.
    fn append(&mut self, rows: FeatureRows) -> Result<()>;

    /// Makes the output appear, whole.
    fn commit(self: Box<Self>) -> Result<()>;
}
