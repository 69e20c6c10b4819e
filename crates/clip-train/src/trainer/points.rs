//! What is due between steps: evaluations, checkpoints, `best` and `last`.

use std::path::{Path, PathBuf};

use clip_core::{Event, FeatureRows, Metric, Result};
use clip_data::{SinkOptions, open_sink};
use clip_nn::tch;
use serde_json::{Map, Value};

use super::Trainer;
use crate::checkpoint::{Best, CONCEPTS, OPTIMIZER, QUEUE};
use crate::config::Every;
use crate::ema::averaged;
use crate::evaluate::{Embedded, Figure, figures};
use crate::folder::{PendingFolder, link_files};

/// Why the loop looks up from its steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Behind a step.
    Step,
    /// Behind the last step of an epoch.
    Epoch,
    /// Behind a step that was asked to be the last of this process.
    Stop,
    /// Behind the last step of the run.
    End,
}

impl Trainer {
    /// What is due at a point: an evaluation, then `best`, a checkpoint and `last`.
    pub(super) fn look_up(&mut self, point: Point) -> Result<()> {
        let step = self.state.step;
        if self.state.bad_steps > 0 && self.suspects.weights {
            // Weights whose loss is not finite are neither the last nor the best of anything. Where a row was to blame, they
            // are as good as before it.
            return match point {
                Point::End => Err(self.diverged()),
                Point::Step | Point::Epoch | Point::Stop => Ok(()),
            };
        }
        let due = |every: Every| match every {
            Every::Steps(every) => point == Point::End || (point == Point::Step && step.is_multiple_of(every)),
            Every::Epoch => matches!(point, Point::Epoch | Point::End),
        };
        let save = point == Point::Stop || due(self.config.checkpoint_every);
        let improved = due(self.config.evaluation.every) && !self.state.evaluated && self.evaluate()?;
        // The end of an epoch moves the state on without a step, so a checkpoint of the same step may be made again.
        let told = self.saved.is_some_and(|(saved, ..)| saved == step);
        let folder = if save && self.saved != Some(self.standing()) {
            Some(self.save()?)
        } else {
            None
        };
        if let Some(folder) = &folder {
            self.publish("last", Some(folder))?;
        }
        if improved || (self.evaluation.is_none() && folder.is_some()) {
            self.publish("best", folder.as_deref())?;
        }
        if let Some(folder) = folder {
            self.checkpoints.prune(self.config.keep, self.resumed)?;
            if !told {
                self.tell(&Event::Saved { path: &folder, step })?;
            }
        }
        Ok(())
    }

    pub(super) fn standing(&self) -> (u64, u64, bool) {
        (self.state.step, self.state.epoch, self.state.evaluated)
    }

    /// Evaluates, and says whether it was the best so far.
    fn evaluate(&mut self) -> Result<bool> {
        let compute = self.config.dtype.of_pass();
        let Some(evaluation) = &mut self.evaluation else {
            return Ok(false);
        };
        let embedded = {
            let _guard = tch::no_grad_guard();
            averaged(self.ema.as_ref(), || evaluation.embed(&self.model, compute))?
        };
        if self.config.evaluation.keep_features {
            keep(&self.path.join("valid.safetensors"), &embedded)?;
        }
        let mut map = Map::from_iter([("step".to_owned(), self.state.step.into())]);
        map.extend(figures(&embedded)?);
        let figure = Figure::new(&self.config.evaluation.metric);
        let value = figure.of(&map)?;
        let improved = self.state.best.as_ref().is_none_or(|best| {
            best.metric != figure.name()
                || if figure.higher_is_better() {
                    value > best.value
                } else {
                    value < best.value
                }
        });
        self.state.stale = if improved { 0 } else { self.state.stale + 1 };
        if improved {
            self.state.best = Some(Best {
                metric: figure.name().to_owned(),
                value,
                step: self.state.step,
            });
            if let (Some(report), Some(evaluation)) = (&mut self.report, &mut self.evaluation) {
                report.keep(self.state.step, &embedded, &map, &mut **evaluation)?;
            }
        }
        self.tell(&Event::Evaluated(&map))?;
        self.state.evaluated = true;
        self.summary.evaluated = Some(map);
        Ok(improved)
    }

    /// Evaluates the initial model, where the report shows what it finds.
    pub(super) fn look_before(&mut self) -> Result<()> {
        let compute = self.config.dtype.of_pass();
        let (Some(report), Some(evaluation)) = (&mut self.report, &mut self.evaluation) else {
            return Ok(());
        };
        if self.state.step > 0 || !report.wants_before() {
            return Ok(());
        }
        let embedded = {
            let _guard = tch::no_grad_guard();
            evaluation.embed(&self.model, compute)?
        };
        report.keep(0, &embedded, &figures(&embedded)?, &mut **evaluation)
    }

    fn save(&mut self) -> Result<PathBuf> {
        let mut tensors = self.optimizer.state();
        tensors.extend(self.beside());
        let mut files = vec![(OPTIMIZER, tensors)];
        (self.state.queue, self.state.concepts) = (Value::Null, Value::Null);
        if let Some(memory) = &self.memory {
            let (queue, concepts) = memory.state()?;
            self.state.queue = queue.plain;
            files.push((QUEUE, queue.tensors));
            if let Some(concepts) = concepts {
                self.state.concepts = concepts.plain;
                files.push((CONCEPTS, concepts.tensors));
            }
        }
        let folder = self.checkpoints.write(&self.state, files, &self.model, &*self.writer)?;
        self.saved = Some(self.standing());
        Ok(folder)
    }

    /// Puts the model as it is now under a name: the files of a checkpoint just made, if they are what is used, or
    /// written anew.
    pub(super) fn publish(&self, name: &str, checkpoint: Option<&Path>) -> Result<()> {
        let pending = PendingFolder::create(&self.path.join(name))?;
        match checkpoint.filter(|_| self.written_as_kept()) {
            Some(checkpoint) => link_files(&checkpoint.join("model"), pending.path())?,
            None => self.write_for_use(pending.path())?,
        }
        pending.publish()
    }
}

/// Writes an evaluation's features, a row a pair.
fn keep(path: &Path, embedded: &Embedded) -> Result<()> {
    let mut sink = open_sink(path, SinkOptions::default())?;
    sink.append(FeatureRows {
        texts: Some(embedded.texts.clone()),
        images: Some(embedded.images.clone()),
        ..FeatureRows::default()
    })?;
    sink.commit()
}
