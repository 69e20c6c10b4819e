//! Batches for the tests of objectives.

use std::ops::Range;

use clip_core::Id;
use clip_nn::Context;
use clip_nn::tch::{Device, Kind, Tensor};

/// What is known of a batch beside its features.
pub(super) struct Batch {
    pub(super) items: Vec<Option<Id>>,
    pub(super) keys: Vec<Id>,
    pub(super) concepts: Vec<Vec<Id>>,
    pub(super) captions: Vec<Option<Id>>,
    pub(super) weights: Tensor,
}

impl Batch {
    /// Pairs of given products, 0 for none known.
    pub(super) fn new(items: &[u64]) -> Self {
        Self {
            items: items.iter().map(|&item| Some(Id(item)).filter(|id| id.0 > 0)).collect(),
            keys: (0..items.len() as u64).map(Id).collect(),
            concepts: vec![Vec::new(); items.len()],
            captions: vec![None; items.len()],
            weights: Tensor::ones([items.len() as i64], (Kind::Float, Device::Cpu)),
        }
    }

    pub(super) fn context<'a>(&'a self, scale: &'a Tensor, rows: Range<i64>) -> Context<'a> {
        Context {
            rows,
            keys: &self.keys,
            items: &self.items,
            concepts: &self.concepts,
            captions: &self.captions,
            weights: &self.weights,
            scale,
            bias: None,
            queue: None,
            bank: None,
            step: 0,
            seed: 0,
        }
    }
}
