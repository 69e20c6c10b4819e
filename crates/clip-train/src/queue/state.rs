//! A queue's state, as a checkpoint keeps it: the filled slots, the followed concepts and their sums.

use std::ops::Range;

use clip_core::{Error, Id, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Modality, State, door};
use serde::{Deserialize, Serialize};

use super::RingQueue;
use super::concepts::Concepts;
use super::slots::{MOST_CONCEPTS, Slot, Slots};
use crate::numbers::on_cpu;

/// What is no tensor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    capacity: usize,
    dim: i64,
    max_concepts: usize,
    next: usize,
    rows: u64,
    pushes: u64,
    dropped: Option<u64>,
}

/// Slots of a tensor of features. Who writes a state copies a tensor at a time: 8 MiB at 512 dimensions.
/// Small in tests, so that there are several.
const PIECE: usize = if cfg!(test) { 32 } else { 4_096 };

fn pieces(filled: usize) -> impl Iterator<Item = Range<i64>> {
    let end = move |start: usize| filled.min(start + PIECE);
    (0..filled)
        .step_by(PIECE)
        .map(move |start| start as i64..end(start) as i64)
}

fn piece_name(of: Modality, range: &Range<i64>) -> String {
    let of = match of {
        Modality::Image => "images",
        Modality::Text => "texts",
    };
    format!("{of}/{}", range.start)
}

/// Ids are kept by their bits.
fn bits(id: Id) -> i64 {
    id.0 as i64
}

fn id(bits: i64) -> Id {
    Id(bits as u64)
}

fn numbers(values: impl IntoIterator<Item = i64>) -> Tensor {
    Tensor::from_slice(&values.into_iter().collect::<Vec<_>>())
}

/// The tensors of a state by name, each of the shape it must have.
struct Saved<'a> {
    state: &'a State,
}

impl<'a> Saved<'a> {
    fn tensor(&self, name: &str, shape: &[i64], kind: Kind) -> Result<&'a Tensor> {
        let found = self.state.tensors.iter().find(|(other, _)| other == name);
        let (_, tensor) = found.ok_or_else(|| Error::invalid(format!("the saved queue has no tensor `{name}`")))?;
        let fits = tensor.size().len() == shape.len() && tensor.size().iter().zip(shape).all(|(a, b)| *b < 0 || a == b);
        if !fits || tensor.kind() != kind {
            return Err(Error::invalid(format!(
                "`{name}` of the saved queue is {:?} of shape {:?}, not {kind:?} of shape {shape:?}",
                tensor.kind(),
                tensor.size()
            )));
        }
        Ok(tensor)
    }

    /// A column of numbers, of a known length or of any (-1).
    fn column(&self, name: &str, length: i64) -> Result<Vec<i64>> {
        let tensor = self.tensor(name, &[length], Kind::Int64)?;
        door(|| on_cpu(tensor))
    }
}

impl RingQueue {
    /// The tensors are views of the queue: it is written, or taken over by another, before the next push.
    pub(super) fn save(&self) -> Result<State> {
        let filled = &self.slots.filled;
        let of_slots = |value: fn(&Slot) -> i64| numbers(filled.iter().map(value));
        let followed: Vec<Id> = self.concepts.followed().keys().copied().collect();
        let (image_sums, text_sums) = (
            self.concepts.sums(Modality::Image, &followed)?,
            self.concepts.sums(Modality::Text, &followed)?,
        );
        let tensors = door(|| {
            vec![
                ("keys", of_slots(|slot| bits(slot.key))),
                ("items", of_slots(|slot| slot.item.map_or(0, bits))),
                ("items_known", of_slots(|slot| i64::from(slot.item.is_some()))),
                ("pushes", of_slots(|slot| slot.push as i64)),
                ("concept_counts", of_slots(|slot| slot.concepts.len() as i64)),
                (
                    "concepts",
                    numbers(filled.iter().flat_map(|slot| &slot.concepts).map(|id| bits(*id))),
                ),
                ("followed", numbers(followed.iter().map(|id| bits(*id)))),
                ("image_sums", image_sums),
                ("text_sums", text_sums),
            ]
        })?;
        let mut tensors: Vec<(String, Tensor)> = tensors
            .into_iter()
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect();
        for of in [Modality::Image, Modality::Text] {
            for range in pieces(filled.len()) {
                let piece = door(|| self.features.of(of).narrow(0, range.start, range.end - range.start))?;
                tensors.push((piece_name(of, &range), piece));
            }
        }
        let plain = Plain {
            capacity: self.config.capacity,
            dim: self.dim,
            max_concepts: self.config.max_concepts,
            next: self.slots.next,
            rows: self.slots.rows,
            pushes: self.slots.pushes,
            dropped: self.concepts.dropped(),
        };
        Ok(State {
            tensors,
            plain: serde_json::to_value(plain)
                .map_err(|error| Error::internal(format!("state of the queue: {error}")).source(error))?,
        })
    }

    pub(super) fn load(&mut self, state: &State) -> Result<()> {
        let plain = Plain::deserialize(&state.plain)
            .map_err(|error| Error::invalid(format!("no state of a queue: {error}")).source(error))?;
        self.check(&plain)?;
        let saved = Saved { state };
        let slots = self.saved_slots(&saved, &plain)?;
        let mut features = Vec::new();
        for of in [Modality::Image, Modality::Text] {
            for range in pieces(slots.len()) {
                let shape = [range.end - range.start, self.dim];
                features.push((of, saved.tensor(&piece_name(of, &range), &shape, Kind::Float)?, range));
            }
        }
        let followed: Vec<Id> = saved.column("followed", -1)?.into_iter().map(id).collect();
        let shape = [followed.len() as i64, self.dim];
        let sums = [
            saved.tensor("image_sums", &shape, Kind::Float)?,
            saved.tensor("text_sums", &shape, Kind::Float)?,
        ];
        let concepts = Concepts::new(self.config, self.dim, self.device)?;
        let concepts = concepts.saved(&slots, &followed, sums, plain.dropped)?;
        door(|| {
            for (of, saved, range) in features {
                let own = self.features.of(of);
                own.narrow(0, range.start, range.end - range.start).copy_(saved);
            }
        })?;
        self.slots = slots;
        self.concepts = concepts;
        Ok(())
    }

    fn check(&self, plain: &Plain) -> Result<()> {
        for (name, saved, own) in [
            ("capacity", plain.capacity, self.config.capacity),
            ("max_concepts", plain.max_concepts, self.config.max_concepts),
        ] {
            if saved != own {
                return Err(
                    Error::invalid(format!("the saved queue's {name} is {saved}, the run's is {own}"))
                        .remedy(format!("set {name} = {saved} in [queue], or start a new run")),
                );
            }
        }
        if plain.dim != self.dim {
            return Err(Error::invalid(format!(
                "the saved queue holds features of {} numbers, the model gives {}",
                plain.dim, self.dim
            ))
            .remedy("go on with the model of the checkpoint, or start a new run"));
        }
        Ok(())
    }

    fn saved_slots(&self, saved: &Saved<'_>, plain: &Plain) -> Result<Slots> {
        let keys = saved.column("keys", -1)?;
        let filled = keys.len();
        let full = filled == plain.capacity;
        if filled > plain.capacity
            || plain.next >= plain.capacity
            || (!full && plain.next != filled)
            || plain.rows < filled as u64
        {
            return Err(Error::invalid(format!(
                "the saved queue has {filled} pairs, the next in slot {} of {}",
                plain.next, plain.capacity
            )));
        }
        let column = |name: &str| saved.column(name, filled as i64);
        let (items, known, pushes, counts) = (
            column("items")?,
            column("items_known")?,
            column("pushes")?,
            column("concept_counts")?,
        );
        let concepts = saved.column("concepts", -1)?;
        let mut slots = Slots {
            next: plain.next,
            rows: plain.rows,
            pushes: plain.pushes,
            ..Slots::new(plain.capacity)
        };
        let mut rest = concepts.as_slice();
        for row in 0..filled {
            let count = usize::try_from(counts[row])
                .ok()
                .filter(|count| *count <= MOST_CONCEPTS);
            let Some((own, after)) = count.and_then(|count| rest.split_at_checked(count)) else {
                return Err(Error::invalid("the saved queue's concepts do not fit its pairs"));
            };
            rest = after;
            slots.filled.push(Slot {
                key: id(keys[row]),
                item: (known[row] != 0).then(|| id(items[row])),
                concepts: own.iter().map(|bits| id(*bits)).collect(),
                push: (pushes[row] as u64).min(plain.pushes),
            });
        }
        if !rest.is_empty() {
            return Err(Error::invalid("the saved queue's concepts do not fit its pairs"));
        }
        Ok(slots)
    }
}
