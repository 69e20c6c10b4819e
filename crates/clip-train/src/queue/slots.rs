//! What is known of each slot beside its features, and the order in which the slots were filled.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use clip_core::Id;

/// How many concepts of a pair are kept.
pub(super) const MOST_CONCEPTS: usize = 64;

/// A table by ids. They are hashes already, so they are not hashed again.
pub(super) type ById<T> = HashMap<Id, T, BuildHasherDefault<AsItIs>>;

/// Takes an id's own bits for its hash.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Ids are written as one u64; anything else is mixed in well enough.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A pair in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) key: Id,
    pub(super) item: Option<Id>,
    /// Each once, at most [`MOST_CONCEPTS`].
    pub(super) concepts: Box<[Id]>,
    /// The push that brought it, counted from 1.
    pub(super) push: u64,
}

/// A pair's concepts as they are kept: each once, the first [`MOST_CONCEPTS`] of them.
pub(super) fn kept(concepts: &[Id]) -> Box<[Id]> {
    let mut kept: Vec<Id> = Vec::with_capacity(concepts.len().min(MOST_CONCEPTS));
    for concept in concepts {
        if kept.len() == MOST_CONCEPTS {
            break;
        }
        if !kept.contains(concept) {
            kept.push(*concept);
        }
    }
    kept.into()
}

/// The filled slots. Slot `i` of this list is row `i` of the feature tensors.
#[derive(Debug)]
pub(super) struct Slots {
    pub(super) capacity: usize,
    pub(super) filled: Vec<Slot>,
    /// The slot that the next pair goes to.
    pub(super) next: usize,
    /// Pairs that ever entered.
    pub(super) rows: u64,
    /// Pushes so far.
    pub(super) pushes: u64,
}

impl Slots {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            filled: Vec::new(),
            next: 0,
            rows: 0,
            pushes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.filled.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == self.capacity
    }

    /// The slot filled longest ago.
    pub(super) fn oldest(&self) -> usize {
        if self.is_full() { self.next } else { 0 }
    }

    /// The slots in the order in which they were filled, as at most two ranges.
    pub(super) fn in_order(&self) -> [Range<usize>; 2] {
        let oldest = self.oldest();
        [oldest..self.len(), 0..oldest]
    }

    /// The number of the pair in a slot, counting all that ever entered, from 0.
    pub(super) fn number(&self, slot: usize) -> u64 {
        let oldest = self.oldest();
        let after = if slot >= oldest {
            slot - oldest
        } else {
            self.len() - oldest + slot
        };
        self.first_number() + after as u64
    }

    /// The number of the oldest pair there is.
    pub(super) fn first_number(&self) -> u64 {
        self.rows - self.len() as u64
    }

    /// Puts a pair into the next slot.
    pub(super) fn put(&mut self, slot: Slot) {
        match self.filled.get_mut(self.next) {
            Some(place) => *place = slot,
            None => self.filled.push(slot),
        }
        self.next = (self.next + 1) % self.capacity;
        self.rows += 1;
    }
}
