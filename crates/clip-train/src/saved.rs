//! The feature queue of a run, out of its newest good checkpoint, to be looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clip_core::{Error, Id, Result};
use clip_nn::tch::Device;
use clip_nn::{FeatureQueue, Modality, door};
use serde_json::Value;

use crate::checkpoint::{Checkpoint, Checkpoints, QUEUE};
use crate::concepts::saved_names;
use crate::config::RunConfig;
use crate::numbers::on_cpu;
use crate::queue::RingQueue;

/// A run's queue as its newest good checkpoint holds it.
pub struct SavedQueue {
    /// Steps done.
    pub step: u64,
    /// The run's settings.
    pub config: RunConfig,
    /// The queue.
    pub queue: RingQueue,
    /// Names of concepts that the run encodes.
    pub names: BTreeMap<Id, Arc<str>>,
    /// What is wrong with newer checkpoints.
    pub faults: Vec<Error>,
}

/// What lies nearest to a prototype, with its cosine, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Near {
    /// Keys of the pairs whose texts are in the queue.
    pub texts: Vec<(Id, f32)>,
    /// Live concepts, by their texts' prototypes; the concept itself may be among them.
    pub concepts: Vec<(Id, f32)>,
}

impl SavedQueue {
    /// Opens the queue of a run's directory. Nothing there is changed: the run may be under way.
    ///
    /// # Errors
    /// There is no run, no good checkpoint, or no queue in it.
    pub fn open(run: &Path) -> Result<Self> {
        let (checkpoint, faults) = Checkpoints::of(run).newest_good()?;
        let Some(checkpoint) = checkpoint else {
            return Err(match faults.into_iter().next() {
                Some(fault) => fault,
                None => Error::not_found("there is no checkpoint of a run here")
                    .file(run)
                    .remedy("name the --output of a `clipzoo train` that has written one"),
            });
        };
        let state = checkpoint.state();
        let config = RunConfig::from_toml(&state.config, run.join("run.toml"))?;
        if state.queue.is_null() {
            return Err(Error::not_found("the run has no feature queue")
                .file(run)
                .remedy("only objectives that look things up keep one, such as nearest_neighbour"));
        }
        Ok(Self {
            step: state.step,
            queue: queue(&checkpoint, &config)?,
            names: saved_names(state.concepts.get("names"))?,
            config,
            faults,
        })
    }

    /// What lies nearest to the prototypes of some live concepts, at most `k` of each kind.
    ///
    /// # Errors
    /// A concept that is not live.
    pub fn near(&self, of: Modality, concepts: &[Id], k: usize) -> Result<Vec<Near>> {
        let prototypes = self.queue.prototypes(of, concepts)?;
        let texts = self.queue.nearest_keys(Modality::Text, &prototypes, k)?;
        let live = self.queue.live();
        let others = self.queue.prototypes(Modality::Text, live)?;
        let cosines: Vec<f32> = door(|| on_cpu(&prototypes.matmul(&others.tr())))?;
        let nearest = cosines.chunks(live.len().max(1)).map(|row| {
            let mut row: Vec<(Id, f32)> = live.iter().copied().zip(row.iter().copied()).collect();
            row.sort_by(|one, other| other.1.total_cmp(&one.1));
            row.truncate(k);
            row
        });
        Ok(texts
            .into_iter()
            .zip(nearest)
            .map(|(texts, concepts)| Near { texts, concepts })
            .collect())
    }
}

fn queue(checkpoint: &Checkpoint, config: &RunConfig) -> Result<RingQueue> {
    let plain = &checkpoint.state().queue;
    let dim = plain.get("dim").and_then(Value::as_i64);
    let dim = dim.ok_or_else(|| Error::invalid("no state of a queue").file(checkpoint.path()))?;
    let mut queue = RingQueue::new(config.queue, dim, Device::Cpu)?;
    queue.restore(&checkpoint.part(QUEUE, plain, Device::Cpu)?)?;
    Ok(queue)
}
