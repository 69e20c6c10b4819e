//! What report.html shows.

use serde::{Deserialize, Serialize};

/// The page about a run, report.html in its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportConfig {
    /// Whether it is written.
    pub enabled: bool,
    /// Titles of the pairs evaluated whose finds are shown, before training and with the best model. For this the initial
    /// model is evaluated once, before the first step; 0 spares that.
    pub titles: usize,
    /// Pictures shown of each.
    pub pictures: usize,
}

impl Default for ReportConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            titles: 8,
            pictures: 5,
        }
    }
}
