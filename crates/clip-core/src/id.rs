//! Stable 64-bit names, since strings cannot be gathered over machines.

use serde::{Deserialize, Serialize};

/// A stable hash of a key, an item or a concept name: equal on every machine and in every release (XXH3, seed 0).
///
/// ```
/// assert_eq!(clip_core::Id::of("sku-1"), clip_core::Id::of("sku-1"));
/// assert_ne!(clip_core::Id::of("sku-1"), clip_core::Id::of("sku-2"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(pub u64);

impl Id {
    /// The id of a name.
    pub fn of(name: &str) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }

    /// The id of a row of a named table: the key of a pair that has none of its own.
    pub fn of_row(table: &str, row: u64) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64_with_seed(table.as_bytes(), row))
    }
}
