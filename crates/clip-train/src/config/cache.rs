//! Where features of locked towers are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Features of locked towers that are computed once and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Whether locked towers' features are kept at all.
    pub enabled: bool,
    /// Where they lie; `cache` in the output directory if not given. Runs may share it.
    pub directory: Option<PathBuf>,
    /// Files up to so many bytes are read into memory, larger ones are read a batch at a time.
    pub memory: u64,
    /// Rows computed at once by each thread.
    pub batch_size: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: None,
            memory: 1 << 30,
            batch_size: 32,
        }
    }
}
