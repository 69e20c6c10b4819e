//! `[queue]` of run.toml.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most slots a queue may have: 64 GiB of features of 512 numbers.
const MOST_SLOTS: usize = 1 << 24;

/// Settings of `[queue]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// How many pairs it holds. A pair takes 8 bytes a dimension: at 65,536 pairs and 512 dimensions 256 MiB.
    pub capacity: usize,
    /// How many features a concept needs in the queue to have a prototype.
    pub min_features: usize,
    /// How many concepts are followed; the one seen longest ago goes first.
    pub max_concepts: usize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            capacity: 65_536,
            min_features: 3,
            max_concepts: 4_096,
        }
    }
}

impl QueueConfig {
    /// Refuses what no queue can be.
    pub fn check(&self) -> Result<()> {
        let range = |name: &str, value: usize, most: usize| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::invalid(format!("{name} of [queue] is {value}"))
                .remedy(format!("choose a number from 1 to {most}")))
        };
        range("capacity", self.capacity, MOST_SLOTS)?;
        range("min_features", self.min_features, self.capacity)?;
        range("max_concepts", self.max_concepts, MOST_SLOTS)
    }
}
