//! Nearest neighbours among embeddings, whatever engine holds them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Embeddings, Result};

/// What an index holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// Dimensions of a vector.
    pub dim: usize,
    /// Records held.
    pub records: u64,
    /// [`Embedder::id`](crate::Embedder::id) of the model that made the vectors.
    pub model: String,
}

/// A vector with its id and fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Unique within the index.
    pub id: String,
    /// A unit vector.
    pub vector: Vec<f32>,
    /// Fields to filter by and to show.
    pub fields: Map<String, Value>,
}

/// One result of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The record's id.
    pub id: String,
    /// Cosine with the query, −1 to 1.
    pub score: f32,
    /// The record's fields.
    pub fields: Map<String, Value>,
}

/// Which records a search may return: data, translated by each engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The field equals the value.
    Eq(String, Value),
    /// The field is one of the values.
    In(String, Vec<Value>),
    /// The field lies between the bounds, both included; `None` is open.
    Range(String, Option<f64>, Option<f64>),
    /// All hold.
    And(Vec<Filter>),
    /// One holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
}

/// The reading half of an index.
pub trait VectorIndex: Send + Sync {
    /// What the index holds.
    fn info(&self) -> Result<IndexInfo>;

    /// The best `k` records of each query, best first.
    fn search(&self, queries: &Embeddings, k: usize, filter: Option<&Filter>) -> Result<Vec<Vec<Hit>>>;

    /// Records by id; `None` where there is none.
    fn fetch(&self, ids: &[&str]) -> Result<Vec<Option<Record>>>;

    /// Sees what writers have committed since.
    fn refresh(&self) -> Result<()>;
}

/// The writing half of an index. Nothing is visible before [`commit`](Self::commit).
pub trait IndexWriter: Send {
    /// Adds records, replacing those of equal id.
    fn upsert(&mut self, records: Vec<Record>) -> Result<()>;

    /// Deletes records; unknown ids are ignored.
    fn delete(&mut self, ids: &[&str]) -> Result<()>;

    /// Makes the changes visible, all at once.
    fn commit(&mut self) -> Result<IndexInfo>;
}

/// How an index engine is opened, by name, from settings.
#[derive(Clone, Copy)]
pub struct IndexEngine {
    /// Opens an index for reading.
    pub open: fn(&Value) -> Result<Arc<dyn VectorIndex>>,
    /// Opens or creates an index for writing.
    pub write: fn(&Value, &IndexInfo) -> Result<Box<dyn IndexWriter>>,
}
