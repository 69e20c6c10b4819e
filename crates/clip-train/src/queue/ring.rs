//! The queue itself: a ring of features, with what is known of each slot.

use clip_core::{Error, Id, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Asking, FeatureQueue, Modality, Neighbours, QueueRows, State, door};

use super::QueueConfig;
use super::concepts::{Both, Concepts};
use super::nearest::{Nearest, nearest};
use super::slots::{Slot, Slots, kept};
use crate::numbers::on_cpu;

/// A feature queue in one ring buffer of each modality, `[capacity, dim]` f32.
///
/// The buffers are allocated once and never copied; memory grows as they fill. Of each concept it keeps the sum of its
/// features, to which is added what enters and from which is taken what leaves; each time the ring comes round the sums
/// are made anew. At most 64 concepts of a pair count, the first ones. At most `max_concepts` concepts are followed, those
/// whose newest pair came last (of equals, the larger id); a concept that was dropped and comes back is counted from the
/// whole queue, so that its sum is that of all its features, old ones too. On one machine, equal pushes give equal bits,
/// with one [`State`] in between or without.
#[derive(Debug)]
pub struct RingQueue {
    pub(super) config: QueueConfig,
    pub(super) dim: i64,
    pub(super) device: Device,
    pub(super) features: Both,
    pub(super) slots: Slots,
    pub(super) concepts: Concepts,
}

impl RingQueue {
    /// An empty queue of features of `dim` numbers.
    ///
    /// # Errors
    /// Settings out of range, or more memory than there is.
    pub fn new(config: QueueConfig, dim: i64, device: Device) -> Result<Self> {
        config.check()?;
        if dim < 1 {
            return Err(Error::internal(format!("a queue of features of {dim} numbers")));
        }
        let wanted = |error: Error| error.remedy("choose a smaller capacity in [queue] of run.toml");
        Ok(Self {
            config,
            dim,
            device,
            features: Both::room(config.capacity, dim, device).map_err(wanted)?,
            slots: Slots::new(config.capacity),
            concepts: Concepts::new(config, dim, device).map_err(wanted)?,
        })
    }

    /// How many pushes ago the oldest pair entered, 0 for the last push; `None` while the queue is empty.
    pub fn age(&self) -> Option<u64> {
        let oldest = self.slots.filled.get(self.slots.oldest())?;
        Some(self.slots.pushes - oldest.push)
    }

    /// The followed concepts, ascending, and how many features of each are in the queue.
    pub fn counts(&self) -> impl Iterator<Item = (Id, usize)> {
        self.concepts
            .followed()
            .iter()
            .map(|(id, followed)| (*id, followed.count))
    }

    /// The keys of the pairs whose features are nearest to each of `queries` `[queries, dim]`, with their cosines, nearest
    /// first.
    pub fn nearest_keys(&self, of: Modality, queries: &Tensor, k: usize) -> Result<Vec<Vec<(Id, f32)>>> {
        let count = queries.size().first().copied().unwrap_or(0).max(0) as usize;
        let mut nearest = Vec::with_capacity(count);
        let k = k.min(self.slots.len());
        if k == 0 {
            return Ok(vec![Vec::new(); count]);
        }
        let found = self.look_up(of, queries, None, k)?;
        let (slots, cosines) = door(|| (on_cpu::<i64>(&found.slots), on_cpu::<f32>(&found.similarity)))?;
        for (slots, cosines) in slots.chunks(k).zip(cosines.chunks(k)) {
            let key = |slot: &i64| self.slots.filled[*slot as usize].key;
            nearest.push(slots.iter().map(key).zip(cosines.iter().copied()).collect());
        }
        Ok(nearest)
    }

    fn look_up(&self, of: Modality, queries: &Tensor, asking: Option<Asking<'_>>, k: usize) -> Result<Nearest> {
        let queries = self.taken(queries, "queries")?;
        let count = queries.size()[0] as usize;
        if let Some(asking) = asking
            && (asking.keys.len() != count || asking.items.len() != count)
        {
            return Err(Error::internal(format!(
                "{count} queries to the queue with {} keys and {} products",
                asking.keys.len(),
                asking.items.len()
            )));
        }
        nearest(self.features.of(of), &self.slots, &queries, asking, k as i64)
    }

    /// Constants in the form in which they are kept.
    fn taken(&self, rows: &Tensor, what: &str) -> Result<Tensor> {
        let shape = rows.size();
        if shape.len() != 2 || shape[1] != self.dim {
            return Err(Error::internal(format!(
                "{what} of shape {shape:?} for a queue of features of {} numbers",
                self.dim
            )));
        }
        door(|| rows.detach().to_kind(Kind::Float).to_device(self.device))
    }

    /// Rows `from` of a batch go to as many slots from the next on, not beyond the end of the ring.
    fn write(&mut self, rows: &QueueRows<'_>, features: &Both, from: std::ops::Range<usize>) -> Result<()> {
        let many = from.end - from.start;
        let place = self.slots.next..self.slots.next + many;
        self.concepts.leave(&self.slots, place.clone(), &self.features)?;
        door(|| {
            for (own, new) in [
                (&self.features.images, &features.images),
                (&self.features.texts, &features.texts),
            ] {
                own.narrow(0, place.start as i64, many as i64)
                    .copy_(&new.narrow(0, from.start as i64, many as i64));
            }
        })?;
        for row in from {
            self.slots.put(Slot {
                key: rows.keys[row],
                item: rows.items[row],
                concepts: kept(&rows.concepts[row]),
                push: self.slots.pushes,
            });
        }
        self.concepts.enter(&self.slots, place, &self.features)?;
        if self.slots.next == 0 {
            self.concepts.recount(&self.slots, &self.features)?;
        }
        Ok(())
    }
}

impl FeatureQueue for RingQueue {
    fn push(&mut self, rows: &QueueRows<'_>) -> Result<()> {
        let features = Both {
            images: self.taken(rows.images, "images")?,
            texts: self.taken(rows.texts, "texts")?,
        };
        let many = rows.keys.len();
        let rows_of = |tensor: &Tensor| tensor.size()[0] as usize;
        if [
            rows.items.len(),
            rows.concepts.len(),
            rows_of(&features.images),
            rows_of(&features.texts),
        ]
        .iter()
        .any(|other| *other != many)
        {
            return Err(Error::internal(format!(
                "{many} keys for a push of {} pictures",
                rows_of(&features.images)
            )));
        }
        // One such number would be in its concepts' sums until the ring comes round.
        let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) != 0;
        if !door(|| finite(&features.images) && finite(&features.texts))? {
            return Err(Error::invalid(
                "features that are not finite numbers cannot enter the queue",
            ));
        }
        self.slots.pushes += 1;
        let mut from = many.saturating_sub(self.config.capacity);
        while from < many {
            let end = many.min(from + self.config.capacity - self.slots.next);
            self.write(rows, &features, from..end)?;
            from = end;
        }
        self.concepts.refresh();
        Ok(())
    }

    fn neighbours(&self, of: Modality, queries: &Tensor, asking: Asking<'_>, k: usize) -> Result<Neighbours> {
        let found = self.look_up(of, queries, Some(asking), k)?;
        let (count, features) = (queries.size()[0], self.features.of(of));
        door(|| {
            let missing = found.similarity.isneginf().unsqueeze(-1);
            let rows = if self.slots.len() == 0 {
                Tensor::zeros([count, k as i64, self.dim], (Kind::Float, self.device))
            } else {
                features
                    .index_select(0, &found.slots.view([-1]))
                    .view([count, k as i64, self.dim])
                    .masked_fill(&missing, 0.0)
            };
            Neighbours {
                rows,
                similarity: found.similarity,
            }
        })
    }

    fn live(&self) -> &[Id] {
        self.concepts.live()
    }

    fn prototypes(&self, of: Modality, concepts: &[Id]) -> Result<Tensor> {
        self.concepts.prototypes(of, concepts)
    }

    fn filled(&self) -> usize {
        self.slots.len()
    }

    fn capacity(&self) -> usize {
        self.config.capacity
    }

    fn state(&self) -> Result<State> {
        self.save()
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.load(state)
    }
}
