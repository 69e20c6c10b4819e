//! What a run keeps of the pairs it has seen: the feature queue, and names of concepts.

use clip_core::{Error, Id, Result};
use clip_nn::tch::{self, Kind};
use clip_nn::{DualEncoder, FeatureQueue, Needs, QueueRows, State, TextInput, door, unit_rows};
use serde_json::{Map, Value};

use crate::batch::Batch;
use crate::checkpoint::{CONCEPTS, Checkpoint, QUEUE};
use crate::concepts::{Concepts, NameReader};
use crate::config::RunConfig;
use crate::queue::RingQueue;
use crate::step::{Beside, StepOptions, Stepped};

/// Queue and concepts of a run.
pub(super) struct Memory {
    queue: Box<dyn FeatureQueue>,
    concepts: Option<Concepts>,
}

/// Concepts drawn for a step, and their names as the text tower takes them.
pub(super) type Drawn = Option<(Vec<Id>, TextInput)>;

impl Memory {
    /// What the objectives of a run need, `None` where they need nothing of it.
    pub(super) fn new(
        needs: &Needs,
        config: &RunConfig,
        model: &DualEncoder,
        names: Option<Box<dyn NameReader>>,
    ) -> Result<Option<Self>> {
        let named = needs.concept_texts > 0 || needs.concept_bank.is_some();
        if !named && !needs.queue {
            return Ok(None);
        }
        let device = model.logit_scale().device();
        let queue = RingQueue::new(config.queue, model.shape().dim, device)?;
        let concepts = match (named, names) {
            (false, _) => None,
            (true, Some(reader)) => Some(Concepts::new(reader, config.queue.max_concepts)),
            (true, None) => {
                return Err(Error::internal(
                    "an objective wants names of concepts encoded, and nothing reads them",
                ));
            }
        };
        Ok(Some(Self {
            queue: Box::new(queue),
            concepts,
        }))
    }

    /// Refreshes the bank where it is due, and draws concepts for a step.
    pub(super) fn draw(&mut self, needs: &Needs, model: &DualEncoder, options: StepOptions) -> Result<Drawn> {
        let Some(concepts) = &mut self.concepts else {
            return Ok(None);
        };
        // A run that turns names on where it goes on knows those of the concepts that it meets from then.
        let live: Vec<Id> = self
            .queue
            .live()
            .iter()
            .copied()
            .filter(|id| concepts.knows(*id))
            .collect();
        if let Some(bank) = needs.concept_bank {
            concepts.refresh(bank, &live, model, options.compute, options.step)?;
        }
        let ids = Concepts::sample(&live, needs.concept_texts, options.seed, options.step);
        if ids.is_empty() {
            return Ok(None);
        }
        let input = concepts.input(&ids, model, options.compute)?;
        Ok(Some((ids, input)))
    }

    /// As an objective sees it.
    pub(super) fn beside<'a>(&'a self, drawn: &'a Drawn) -> Beside<'a> {
        Beside {
            queue: Some(&*self.queue),
            bank: self.concepts.as_ref().and_then(Concepts::bank),
            concepts: drawn.as_ref().map(|(ids, input)| (ids.as_slice(), input)),
        }
    }

    /// Takes a batch in, behind its step.
    pub(super) fn push(&mut self, stepped: &Stepped, batch: &Batch, step: u64) -> Result<()> {
        let [images, texts] = door(|| {
            let _guard = tch::no_grad_guard();
            [&stepped.images, &stepped.texts].map(|raw| unit_rows(&raw.to_kind(Kind::Float)))
        })?;
        self.queue.push(&QueueRows {
            images: &images,
            texts: &texts,
            keys: &batch.keys,
            items: &batch.items,
            concepts: &batch.concepts,
        })?;
        if let Some(concepts) = &mut self.concepts {
            concepts.meet(&batch.names, self.queue.live(), step);
        }
        Ok(())
    }

    /// How full it is (0 to 1), and how many concepts have a prototype.
    pub(super) fn figures(&self, figures: &mut Map<String, Value>) {
        let fill = self.queue.filled() as f64 / self.queue.capacity().max(1) as f64;
        figures.insert("queue".into(), fill.into());
        figures.insert("concepts".into(), self.queue.live().len().into());
    }

    /// The queue's state, and that of the concepts.
    pub(super) fn state(&self) -> Result<(State, Option<State>)> {
        let concepts = self.concepts.as_ref().map(Concepts::state).transpose()?;
        Ok((self.queue.state()?, concepts))
    }

    /// Takes the state in a checkpoint over. A run that had no queue, or encoded no names, left none: it starts empty.
    pub(super) fn take_over(&mut self, checkpoint: &Checkpoint, device: tch::Device) -> Result<()> {
        let saved = checkpoint.state();
        let mut restore = || -> Result<()> {
            if !saved.queue.is_null() {
                self.queue.restore(&checkpoint.part(QUEUE, &saved.queue, device)?)?;
            }
            if let (Some(concepts), false) = (&mut self.concepts, saved.concepts.is_null()) {
                concepts.restore(&checkpoint.part(CONCEPTS, &saved.concepts, device)?, device)?;
            }
            Ok(())
        };
        restore().map_err(|error| error.file(checkpoint.path()))
    }
}
