//! What a feature queue does: hold features of pairs seen lately, and answer for neighbours and prototypes.

use clip_core::{Id, Result};
use serde_json::Value;
use tch::Tensor;

/// Which of a pair's two features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Modality {
    /// The picture's.
    Image,
    /// The text's.
    Text,
}

/// Pairs that enter a queue. Gathered over all machines before they are pushed, so that every machine's queue is the same.
#[derive(Debug)]
pub struct QueueRows<'a> {
    /// Unit rows `[batch, dim]` without graph.
    pub images: &'a Tensor,
    /// Unit rows `[batch, dim]` without graph.
    pub texts: &'a Tensor,
    /// The pairs' keys.
    pub keys: &'a [Id],
    /// The pairs' products, where known.
    pub items: &'a [Option<Id>],
    /// The pairs' concepts.
    pub concepts: &'a [Vec<Id>],
}

/// Whose neighbours are looked for: rows of the same key, or of the same product where it is known, are not among them.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The pairs' keys.
    pub keys: &'a [Id],
    /// The pairs' products, where known.
    pub items: &'a [Option<Id>],
}

/// What stands nearest in a queue.
#[derive(Debug)]
pub struct Neighbours {
    /// Unit rows `[queries, k, dim]`, nearest first; zeros where the queue has fewer to offer.
    pub rows: Tensor,
    /// Their cosines `[queries, k]`; minus infinity where the queue has fewer to offer.
    pub similarity: Tensor,
}

/// The state of a part of a run, as a checkpoint keeps it.
#[derive(Debug)]
pub struct State {
    /// Tensors by name, f32 or i64.
    pub tensors: Vec<(String, Tensor)>,
    /// Everything else.
    pub plain: Value,
}

/// Features of pairs seen lately, of both modalities, and per concept their mean.
///
/// All tensors it takes and gives are constants (no graph) on the model's device.
pub trait FeatureQueue: Send {
    /// Adds pairs; the oldest leave where it is full. More pairs than its capacity: the last ones stay.
    fn push(&mut self, rows: &QueueRows<'_>) -> Result<()>;

    /// The `k` nearest of `of` by cosine for unit rows `queries` `[queries, dim]`. Never a slot that was not filled, never
    /// one of the same key or product. Of equals, the one that entered first stands first.
    fn neighbours(&self, of: Modality, queries: &Tensor, asking: Asking<'_>, k: usize) -> Result<Neighbours>;

    /// The live concepts, ascending: those with enough features in the queue to have a prototype.
    fn live(&self) -> &[Id];

    /// Prototypes of live concepts, `[concepts, dim]`: the mean of their features in the queue, brought to unit length.
    ///
    /// # Errors
    /// A concept that is not live.
    fn prototypes(&self, of: Modality, concepts: &[Id]) -> Result<Tensor>;

    /// How many slots are filled.
    fn filled(&self) -> usize;

    /// How many slots there are.
    fn capacity(&self) -> usize;

    /// All that it needs to go on to the bit.
    fn state(&self) -> Result<State>;

    /// Takes a saved state over; nothing changes where it does not fit.
    fn restore(&mut self, state: &State) -> Result<()>;
}
