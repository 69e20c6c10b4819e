//! Per concept the sum of its features in the queue, of both modalities.
//!
//! Which concepts are followed is a rule on the queue's content alone: those whose newest pair came last. One that was
//! dropped for newer ones and comes back is counted anew from the queue, since features of it may still be there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use clip_core::{Error, Id, Result};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Modality, door, unit_rows};

use super::QueueConfig;
use super::slots::{ById, Slots};

/// Features that are copied at a time to be added up: 2 MiB at 512 dimensions.
const PIECE: usize = 1_024;

/// A concept that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Followed {
    /// Its row in the sums.
    row: i64,
    /// Its features in the queue.
    pub(super) count: usize,
    /// The number of the newest pair that carries it.
    pub(super) seen: u64,
}

/// Which sum a slot's features belong to.
#[derive(Debug, Clone, Copy)]
struct Share {
    slot: i64,
    row: i64,
}

/// One tensor for each modality.
#[derive(Debug)]
pub(super) struct Both {
    pub(super) images: Tensor,
    pub(super) texts: Tensor,
}

impl Both {
    /// Room for `[rows, dim]`, not written yet: what no one writes takes no memory.
    pub(super) fn room(rows: usize, dim: i64, device: Device) -> Result<Self> {
        door(|| {
            let room = || Tensor::empty([rows as i64, dim], (Kind::Float, device));
            Self {
                images: room(),
                texts: room(),
            }
        })
    }

    pub(super) fn of(&self, modality: Modality) -> &Tensor {
        match modality {
            Modality::Image => &self.images,
            Modality::Text => &self.texts,
        }
    }
}

/// The followed concepts and their sums `[max_concepts, dim]`, of which only rows in use were ever written.
#[derive(Debug)]
pub(super) struct Concepts {
    config: QueueConfig,
    followed: BTreeMap<Id, Followed>,
    /// The same, the one seen longest ago first.
    by_age: BTreeSet<(u64, Id)>,
    /// Rows that were given back, and the first that was never given out.
    free: Vec<i64>,
    unused: i64,
    sums: Both,
    live: Vec<Id>,
    /// The newest pair of a concept that was dropped while its features stayed.
    dropped: Option<u64>,
}

/// How many rows an accumulating put may add for the order to be theirs: on CPU libtorch shares 32,768 numbers and more out
/// to its threads, which then add to one sum as they come.
fn in_order(rows: &Tensor) -> i64 {
    let dim = rows.size().get(1).copied().unwrap_or(1).max(1);
    match rows.device() {
        Device::Cpu if tch::get_num_threads() > 1 => (32_767 / dim).max(1),
        _ => i64::MAX,
    }
}

impl Concepts {
    pub(super) fn new(config: QueueConfig, dim: i64, device: Device) -> Result<Self> {
        Ok(Self {
            config,
            followed: BTreeMap::new(),
            by_age: BTreeSet::new(),
            free: Vec::new(),
            unused: 0,
            sums: Both::room(config.max_concepts, dim, device)?,
            live: Vec::new(),
            dropped: None,
        })
    }

    pub(super) fn live(&self) -> &[Id] {
        &self.live
    }

    pub(super) fn followed(&self) -> &BTreeMap<Id, Followed> {
        &self.followed
    }

    pub(super) fn dropped(&self) -> Option<u64> {
        self.dropped
    }

    /// The sums of followed concepts `[concepts, dim]`.
    ///
    /// # Errors
    /// One that is not followed.
    pub(super) fn sums(&self, of: Modality, concepts: &[Id]) -> Result<Tensor> {
        let row = |id: &Id| self.followed.get(id).map(|followed| followed.row);
        let rows: Option<Vec<i64>> = concepts.iter().map(row).collect();
        let rows = rows.ok_or_else(|| Error::internal("the queue was asked for a concept that it does not follow"))?;
        let sums = self.sums.of(of);
        door(|| sums.index_select(0, &Tensor::from_slice(&rows).to_device(sums.device())))
    }

    /// Prototypes of live concepts `[concepts, dim]`.
    pub(super) fn prototypes(&self, of: Modality, concepts: &[Id]) -> Result<Tensor> {
        if let Some(id) = concepts.iter().find(|id| self.live.binary_search(id).is_err()) {
            return Err(Error::internal(format!(
                "concept {:016x} is not live in the queue",
                id.0
            )));
        }
        let sums = self.sums(of, concepts)?;
        door(|| unit_rows(&sums))
    }

    /// Takes out what stands in `range` and is about to be overwritten.
    pub(super) fn leave(&mut self, slots: &Slots, range: Range<usize>, features: &Both) -> Result<()> {
        let mut shares = Vec::new();
        for slot in range {
            for concept in slots.filled.get(slot).iter().flat_map(|pair| &pair.concepts) {
                if let Some(followed) = self.followed.get_mut(concept) {
                    followed.count -= 1;
                    shares.push(Share {
                        slot: slot as i64,
                        row: followed.row,
                    });
                }
            }
        }
        self.add(&shares, features, -1.0)?;
        // One without features goes, so that no rounding of its past is with it when it comes back.
        for (id, followed) in self.followed.extract_if(.., |_, followed| followed.count == 0) {
            self.by_age.remove(&(followed.seen, id));
            self.free.push(followed.row);
        }
        Ok(())
    }

    /// Takes in what was written to `range`.
    pub(super) fn enter(&mut self, slots: &Slots, range: Range<usize>, features: &Both) -> Result<()> {
        let mut newest = BTreeMap::new();
        for slot in range.clone() {
            for concept in &slots.filled[slot].concepts {
                newest.insert(*concept, slots.number(slot));
            }
        }
        // Once all that was dropped has left the queue, who is not followed has no features there.
        let may_return = self.dropped.is_some_and(|dropped| dropped >= slots.first_number());
        let fresh = self.choose(&newest)?;
        let (mut here, mut everywhere) = (ById::default(), ById::default());
        for id in newest.keys().filter(|id| self.followed.contains_key(id)) {
            let returns = may_return && fresh.binary_search(id).is_ok();
            if returns { &mut everywhere } else { &mut here }.insert(*id, ());
        }
        let mut shares = self.count(slots, range, &here);
        if !everywhere.is_empty() {
            for part in slots.in_order() {
                shares.extend(self.count(slots, part, &everywhere));
            }
        }
        self.add(&shares, features, 1.0)
    }

    /// Notes who was seen and when, drops those seen longest ago, and gives the new ones an empty sum. Returns the new
    /// ones, ascending.
    fn choose(&mut self, newest: &BTreeMap<Id, u64>) -> Result<Vec<Id>> {
        for (&id, &seen) in newest {
            if let Some(followed) = self.followed.get_mut(&id) {
                self.by_age.remove(&(followed.seen, id));
                followed.seen = seen;
            }
            self.by_age.insert((seen, id));
        }
        while self.by_age.len() > self.config.max_concepts {
            let Some((seen, id)) = self.by_age.pop_first() else {
                break;
            };
            self.dropped = self.dropped.max(Some(seen));
            self.free.extend(self.followed.remove(&id).map(|followed| followed.row));
        }
        let (mut fresh, mut rows) = (Vec::new(), Vec::new());
        for (&id, &seen) in newest {
            if self.followed.contains_key(&id) || !self.by_age.contains(&(seen, id)) {
                continue;
            }
            let row = self.free.pop().unwrap_or_else(|| {
                self.unused += 1;
                self.unused - 1
            });
            self.followed.insert(id, Followed { row, count: 0, seen });
            fresh.push(id);
            rows.push(row);
        }
        if !rows.is_empty() {
            door(|| {
                for sums in [&mut self.sums.images, &mut self.sums.texts] {
                    let rows = Tensor::from_slice(&rows).to_device(sums.device());
                    let _ = sums.index_fill_(0, &rows, 0.0);
                }
            })?;
        }
        Ok(fresh)
    }

    /// Counts the features of some followed concepts in a range of slots.
    fn count(&mut self, slots: &Slots, range: Range<usize>, wanted: &ById<()>) -> Vec<Share> {
        let mut shares = Vec::new();
        for slot in range {
            for concept in slots.filled[slot].concepts.iter().filter(|id| wanted.contains_key(id)) {
                if let Some(followed) = self.followed.get_mut(concept) {
                    followed.count += 1;
                    shares.push(Share {
                        slot: slot as i64,
                        row: followed.row,
                    });
                }
            }
        }
        shares
    }

    /// Adds features of slots to sums, a piece at a time.
    fn add(&mut self, shares: &[Share], features: &Both, sign: f64) -> Result<()> {
        door(|| {
            for piece in shares.chunks(PIECE) {
                let device = features.images.device();
                let index = |of: fn(&Share) -> i64| {
                    let index: Vec<i64> = piece.iter().map(of).collect();
                    Tensor::from_slice(&index).to_device(device)
                };
                let (slots, rows) = (index(|share| share.slot), index(|share| share.row));
                for (sums, features) in [
                    (&mut self.sums.images, &features.images),
                    (&mut self.sums.texts, &features.texts),
                ] {
                    let mut source = features.index_select(0, &slots);
                    if sign < 0.0 {
                        let _ = source.neg_();
                    }
                    // Accumulating puts sum in the order given (index_add does not on CUDA), on CPU where they are so small
                    // that one thread does them.
                    let (all, most) = (piece.len() as i64, in_order(&source));
                    for start in (0..all).step_by(most as usize) {
                        let part = |tensor: &Tensor| tensor.narrow(0, start, most.min(all - start));
                        let _ = sums.index_put_(&[Some(part(&rows))], &part(&source), true);
                    }
                }
            }
        })
    }

    /// Sums up anew from the queue, once a turn-over, so that the rounding of what came and went does not pile up.
    pub(super) fn recount(&mut self, slots: &Slots, features: &Both) -> Result<()> {
        door(|| {
            for sums in [&self.sums.images, &self.sums.texts] {
                let _ = sums.narrow(0, 0, self.unused).zero_();
            }
        })?;
        let mut wanted = ById::default();
        for (id, followed) in &mut self.followed {
            followed.count = 0;
            wanted.insert(*id, ());
        }
        for part in slots.in_order() {
            // The list of shares stays short beside the features.
            for start in part.clone().step_by(PIECE) {
                let shares = self.count(slots, start..part.end.min(start + PIECE), &wanted);
                self.add(&shares, features, 1.0)?;
            }
        }
        Ok(())
    }

    /// Finds the live ones among the followed.
    pub(super) fn refresh(&mut self) {
        self.live.clear();
        let enough = |followed: &Followed| followed.count >= self.config.min_features;
        let live = self.followed.iter().filter(|(_, followed)| enough(followed));
        self.live.extend(live.map(|(id, _)| *id));
    }

    /// The concepts of a saved state: whom it followed, ascending, and their sums `[concepts, dim]`.
    ///
    /// # Errors
    /// One of them has no features in the queue, or they are more than are followed.
    pub(super) fn saved(
        mut self,
        slots: &Slots,
        followed: &[Id],
        sums: [&Tensor; 2],
        dropped: Option<u64>,
    ) -> Result<Self> {
        let wrong = |what: &str| Err(Error::invalid(format!("the saved queue's concepts do not fit: {what}")));
        if followed.len() > self.config.max_concepts {
            return wrong("there are more than are followed");
        }
        if followed.windows(2).any(|pair| pair[0] >= pair[1]) {
            return wrong("they are out of order");
        }
        let mut wanted = ById::default();
        for (row, &id) in (0..).zip(followed) {
            self.followed.insert(id, Followed { row, count: 0, seen: 0 });
            wanted.insert(id, ());
        }
        self.unused = followed.len() as i64;
        for part in slots.in_order() {
            for slot in part {
                for concept in &slots.filled[slot].concepts {
                    if let Some(followed) = self.followed.get_mut(concept) {
                        followed.count += 1;
                        followed.seen = slots.number(slot);
                    }
                }
            }
        }
        if self.followed.values().any(|followed| followed.count == 0) {
            return wrong("one has no features in the queue");
        }
        self.by_age = self
            .followed
            .iter()
            .map(|(id, followed)| (followed.seen, *id))
            .collect();
        self.dropped = dropped;
        door(|| {
            for (own, saved) in [&self.sums.images, &self.sums.texts].into_iter().zip(sums) {
                own.narrow(0, 0, self.unused).copy_(saved);
            }
        })?;
        self.refresh();
        Ok(self)
    }
}
