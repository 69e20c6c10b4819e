//! What training reports, and to whom.

use std::path::Path;

use serde_json::{Map, Value};

use crate::Result;

/// A figure that evaluation reports.
pub trait Metric: Send + Sync {
    /// Its name in metrics.jsonl, `valid_` included.
    fn name(&self) -> &str;

    /// Which way is better.
    fn higher_is_better(&self) -> bool;

    /// Its value among the figures of an evaluation, if they hold it.
    fn value(&self, figures: &Map<String, Value>) -> Option<f64> {
        figures.get(self.name()).and_then(Value::as_f64)
    }
}

/// What happens in a run. Figures are flat JSON objects, so that an observer needs to know no trainer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or goes on after `step` steps of `steps`.
    Started {
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
    },
    /// A step was taken. Figures hold `step`, `epoch`, `loss`, its terms, `lr`, `logit_scale`, `grad_norm`, `pairs`,
    /// `epoch_loss` (the mean of the epoch under way).
    Step(&'a Map<String, Value>),
    /// An evaluation was made. Figures hold `step` and `valid_…`.
    Evaluated(&'a Map<String, Value>),
    /// A checkpoint appeared.
    Saved {
        /// Its directory.
        path: &'a Path,
        /// Steps done.
        step: u64,
    },
    /// Something the user should read, once.
    Note(&'a str),
    /// The run ended.
    Finished {
        /// Steps done.
        step: u64,
    },
}

/// Is told what happens in a run: terminal, metrics.jsonl, TensorBoard, yours. The trainer itself never prints.
pub trait Observer: Send {
    /// Something happened. An error stops the run.
    fn observe(&mut self, event: &Event<'_>) -> Result<()>;
}
