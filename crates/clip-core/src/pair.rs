//! Image-text pairs and where they come from.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EncodedImage, Id, Result};

/// One product's picture and title, as a table, a folder or a shard gives it.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Stable across epochs and machines.
    pub key: Id,
    /// The product, where known: rows of one product are never each other's negatives.
    pub item: Option<Id>,
    /// At least one text.
    pub texts: Vec<Arc<str>>,
    /// At least one picture.
    pub images: Vec<EncodedImage>,
    /// The concepts it carries.
    pub concepts: Vec<Concept>,
    /// Its weight in the loss; 1 unless a column says otherwise.
    pub weight: f32,
    /// Where it came from, for messages.
    pub origin: Origin,
}

/// File and row (from 1, header included) of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Arc<PathBuf>,
    /// The row, from 1, header included.
    pub row: u64,
}

/// An idea that several products share: a category, a material, a style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concept {
    /// Stable id of the name.
    pub id: Id,
    /// The name, as the text tower would read it.
    pub name: Arc<str>,
}

/// Says which concepts a pair carries: a column, a phrase list, none.
pub trait ConceptSource: Send + Sync {
    /// The concepts of a pair, each once.
    fn concepts(&self, pair: &Pair) -> Result<Vec<Concept>>;
}

/// Which pairs one process takes in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Decides the order together with the epoch.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// This process, below `world`.
    pub rank: u32,
    /// How many processes share the pairs.
    pub world: u32,
    /// Pairs a batch, over all processes.
    pub batch: usize,
}

/// How far a stream has been read: enough to go on from there, in another process. Refused rows count as taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Pairs taken since the epoch's start, refused ones included.
    pub taken: u64,
    /// Whatever else the source needs; `null` for tables.
    #[serde(default)]
    pub state: Value,
}

/// Gives the pairs of an epoch in the order of a [`Plan`]. Shared by all streams it starts.
pub trait PairSource: Send + Sync {
    /// How many pairs an epoch has, where known: schedules need it.
    fn pairs(&self) -> Option<u64>;

    /// Starts an epoch, or goes on with it from a position.
    fn start(&self, plan: Plan, from: &Position) -> Result<Box<dyn PairStream>>;
}

/// The pairs of one epoch. An `Err` item is a refused row; the stream goes on behind it.
///
/// Drive it by `while let`, since `for` would keep [`reached`](Self::reached) out of reach.
pub trait PairStream: Iterator<Item = Result<Pair>> + Send {
    /// The position behind the last item given out.
    fn reached(&self) -> Position;
}

/// Pairs that can be read in any order.
pub trait PairTable: Send + Sync {
    /// How many rows, bad ones included.
    fn rows(&self) -> usize;

    /// Row `index` (from 0). An error names file and row.
    fn get(&self, index: usize) -> Result<Pair>;

    /// The value of a column in a row, hashed, without opening the pair: what [`UniqueBy`](crate::UniqueBy) and
    /// [`BatchBy`](crate::BatchBy) group by. `None` where the cell is empty. An unknown column is an error.
    fn label(&self, index: usize, column: &str) -> Result<Option<Id>>;
}
