//! The queue against one that keeps its pairs in a list and counts everything anew.

use std::collections::BTreeMap;

use clip_core::Id;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Asking, FeatureQueue, Modality, QueueRows};
use proptest::prelude::*;

use super::{QueueConfig, RingQueue};

const DIM: i64 = 5;

/// A pair as the naive queue keeps it.
#[derive(Debug, Clone)]
struct Pair {
    image: Vec<f32>,
    text: Vec<f32>,
    key: Id,
    item: Option<Id>,
    concepts: Vec<Id>,
}

/// A unit row whose cosines with others are whole quarters, so that they are exact and often equal.
fn quarters(number: u8) -> Vec<f32> {
    let zero = usize::from(number / 16) % 5;
    let sign = |place: usize| if number >> place & 1 == 0 { 0.5 } else { -0.5 };
    let mut row: Vec<f32> = (0..4).map(sign).collect();
    row.insert(zero, 0.0);
    row
}

fn tensor(rows: &[Vec<f32>]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, DIM])
}

fn push(queue: &mut RingQueue, pairs: &[Pair]) {
    let rows = |of: fn(&Pair) -> &Vec<f32>| tensor(&pairs.iter().map(|pair| of(pair).clone()).collect::<Vec<_>>());
    let (images, texts) = (rows(|pair| &pair.image), rows(|pair| &pair.text));
    queue
        .push(&QueueRows {
            images: &images,
            texts: &texts,
            keys: &pairs.iter().map(|pair| pair.key).collect::<Vec<_>>(),
            items: &pairs.iter().map(|pair| pair.item).collect::<Vec<_>>(),
            concepts: &pairs.iter().map(|pair| pair.concepts.clone()).collect::<Vec<_>>(),
        })
        .unwrap();
}

/// The pairs that are in the queue, oldest first.
#[derive(Default)]
struct Naive {
    pairs: Vec<Pair>,
}

impl Naive {
    fn push(&mut self, pairs: &[Pair], capacity: usize) {
        self.pairs.extend_from_slice(pairs);
        self.pairs.drain(..self.pairs.len().saturating_sub(capacity));
    }

    /// Places of the neighbours and their cosines, best first.
    fn neighbours(&self, of: Modality, asking: &Pair, query: &[f32], k: usize) -> Vec<(Vec<f32>, f32)> {
        let mut found: Vec<(Vec<f32>, f32)> = Vec::new();
        for pair in &self.pairs {
            let own = pair.key == asking.key || (pair.item.is_some() && pair.item == asking.item);
            let row = if of == Modality::Image { &pair.image } else { &pair.text };
            if !own {
                found.push((row.clone(), row.iter().zip(query).map(|(a, b)| a * b).sum()));
            }
        }
        // A stable sort leaves equals in their order.
        found.sort_by(|one, other| other.1.total_cmp(&one.1));
        found.truncate(k);
        found
    }

    /// Of the followed concepts: the features of each, by modality.
    fn concepts(&self, most: usize) -> BTreeMap<Id, (usize, [Vec<f64>; 2])> {
        let mut last = BTreeMap::new();
        for (row, pair) in self.pairs.iter().enumerate() {
            last.extend(pair.concepts.iter().map(|id| (*id, row)));
        }
        let mut by_age: Vec<(usize, Id)> = last.into_iter().map(|(id, row)| (row, id)).collect();
        by_age.sort_unstable();
        let mut followed = BTreeMap::new();
        for (_, id) in by_age.into_iter().rev().take(most) {
            let mut sums = [vec![0.0; DIM as usize], vec![0.0; DIM as usize]];
            let carry: Vec<&Pair> = self.pairs.iter().filter(|pair| pair.concepts.contains(&id)).collect();
            for pair in &carry {
                for (sum, row) in sums.iter_mut().zip([&pair.image, &pair.text]) {
                    sum.iter_mut()
                        .zip(row)
                        .for_each(|(sum, value)| *sum += f64::from(*value));
                }
            }
            followed.insert(id, (carry.len(), sums));
        }
        followed
    }
}

fn agree(queue: &RingQueue, naive: &Naive, config: &QueueConfig, asking: &[Pair], k: usize) {
    assert_eq!(queue.filled(), naive.pairs.len());
    let (keys, items): (Vec<Id>, Vec<Option<Id>>) = asking.iter().map(|pair| (pair.key, pair.item)).unzip();
    for of in [Modality::Image, Modality::Text] {
        let queries: Vec<Vec<f32>> = asking.iter().map(|pair| pair.text.clone()).collect();
        let whose = Asking {
            keys: &keys,
            items: &items,
        };
        let found = queue.neighbours(of, &tensor(&queries), whose, k).unwrap();
        assert_eq!(found.rows.size(), [asking.len() as i64, k as i64, DIM]);
        for (row, pair) in asking.iter().enumerate() {
            let wanted = naive.neighbours(of, pair, &queries[row], k);
            for place in 0..k {
                let got = found.rows.get(row as i64).get(place as i64);
                let cosine = found.similarity.double_value(&[row as i64, place as i64]) as f32;
                match wanted.get(place) {
                    Some((features, similarity)) => {
                        assert_eq!(
                            (crate::numbers::on_cpu::<f32>(&got), cosine),
                            (features.clone(), *similarity)
                        );
                    }
                    None => {
                        assert_eq!(cosine, f32::NEG_INFINITY);
                        assert_eq!(got.abs().sum(Kind::Float).double_value(&[]), 0.0);
                    }
                }
            }
        }
    }
    let wanted = naive.concepts(config.max_concepts);
    let counts: Vec<(Id, usize)> = wanted.iter().map(|(id, (count, _))| (*id, *count)).collect();
    assert_eq!(queue.counts().collect::<Vec<_>>(), counts);
    let live: Vec<Id> = counts
        .iter()
        .filter(|(_, count)| *count >= config.min_features)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(queue.live(), live);
    let all: Vec<Id> = wanted.keys().copied().collect();
    for (side, of) in [Modality::Image, Modality::Text].into_iter().enumerate() {
        let sums = crate::numbers::on_cpu::<f32>(&queue.concepts.sums(of, &all).unwrap());
        for (got, (_, (_, sums))) in sums.chunks(DIM as usize).zip(&wanted) {
            let exact: Vec<f32> = sums[side].iter().map(|value| *value as f32).collect();
            assert_eq!(got, exact);
        }
        let prototypes = queue.prototypes(of, &live).unwrap();
        assert_eq!(prototypes.size(), [live.len() as i64, DIM]);
        for (row, id) in live.iter().enumerate() {
            let sum = &wanted[id].1[side];
            let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
            for (column, value) in sum.iter().enumerate() {
                let got = prototypes.double_value(&[row as i64, column as i64]);
                assert!(
                    (got - value / length).abs() < 1e-6,
                    "{got} for {value} of length {length}"
                );
            }
        }
    }
}

fn pair() -> impl Strategy<Value = Pair> {
    let id = |most: u64| (1..=most).prop_map(Id);
    (
        any::<u8>(),
        any::<u8>(),
        id(40),
        proptest::option::of(id(12)),
        proptest::collection::btree_set(id(7), 0..4),
    )
        .prop_map(|(image, text, key, item, concepts)| Pair {
            image: quarters(image),
            text: quarters(text),
            key,
            item,
            concepts: concepts.into_iter().collect(),
        })
}

proptest! {
    #[test]
    fn it_is_the_naive_queue(
        capacity in 1usize..14,
        min_features in 1usize..4,
        max_concepts in 1usize..8,
        k in 1usize..6,
        restored_at in 0usize..12,
        pushes in proptest::collection::vec(proptest::collection::vec(pair(), 0..9), 1..12),
        asking in proptest::collection::vec(pair(), 1..4),
    ) {
        let config = QueueConfig { capacity, min_features: min_features.min(capacity), max_concepts };
        let mut queue = RingQueue::new(config, DIM, Device::Cpu).unwrap();
        let mut naive = Naive::default();
        for (number, pairs) in pushes.iter().enumerate() {
            push(&mut queue, pairs);
            naive.push(pairs, capacity);
            if number == restored_at {
                let state = queue.state().unwrap();
                queue = RingQueue::new(config, DIM, Device::Cpu).unwrap();
                queue.restore(&state).unwrap();
            }
            agree(&queue, &naive, &config, &asking, k);
        }
    }
}

/// A queue of random features that was pushed to until it came round several times.
fn busy(config: QueueConfig, pushes: i64) -> RingQueue {
    let mut queue = RingQueue::new(config, 32, Device::Cpu).unwrap();
    for step in 0..pushes {
        push_random(&mut queue, step);
    }
    queue
}

fn push_random(queue: &mut RingQueue, step: i64) {
    clip_nn::tch::manual_seed(step);
    let rows = || clip_nn::unit_rows(&Tensor::randn([7, 32], (Kind::Float, Device::Cpu)));
    let (images, texts) = (rows(), rows());
    let number = |row: u64| 7 * step as u64 + row;
    queue
        .push(&QueueRows {
            images: &images,
            texts: &texts,
            keys: &(0..7).map(|row| Id(number(row))).collect::<Vec<_>>(),
            items: &(0..7)
                .map(|row| Some(Id(number(row) / 2)).filter(|_| row != 3))
                .collect::<Vec<_>>(),
            concepts: &(0..7)
                .map(|row| vec![Id(number(row) % 5), Id(10 + number(row) % 11), Id(30 + step as u64 / 4)])
                .collect::<Vec<_>>(),
        })
        .unwrap();
}

const BUSY: QueueConfig = QueueConfig {
    capacity: 100,
    min_features: 2,
    max_concepts: 18,
};

#[test]
fn sums_stay_those_of_the_queue() {
    let mut queue = busy(BUSY, 200);
    let all: Vec<Id> = queue.counts().map(|(id, _)| id).collect();
    assert_eq!(all.len(), 18);
    for of in [Modality::Image, Modality::Text] {
        let sums = queue.concepts.sums(of, &all).unwrap();
        let rows = queue.features.of(of).to_kind(Kind::Double);
        for (row, id) in all.iter().enumerate() {
            let slots: Vec<i64> = (0..)
                .zip(&queue.slots.filled)
                .filter(|(_, slot)| slot.concepts.contains(id))
                .map(|(slot, _)| slot)
                .collect();
            let wanted = rows
                .index_select(0, &Tensor::from_slice(&slots))
                .sum_dim_intlist(0, false, Kind::Double);
            let off = (sums.get(row as i64) - wanted).abs().max().double_value(&[]);
            assert!(off < 1e-5, "sum of {id:?} is off by {off}");
        }
    }
    let before: Vec<(Id, usize)> = queue.counts().collect();
    queue.concepts.recount(&queue.slots, &queue.features).unwrap();
    assert_eq!(queue.counts().collect::<Vec<_>>(), before);
}

/// The state as a file would give it back: tensors that share nothing with the queue.
fn written(queue: &RingQueue) -> clip_nn::State {
    let mut state = queue.state().unwrap();
    for (_, tensor) in &mut state.tensors {
        *tensor = tensor.copy();
    }
    state.plain = serde_json::from_str(&state.plain.to_string()).unwrap();
    state
}

#[test]
fn a_restored_queue_goes_on_to_the_bit() {
    // Before it is full, when it just came round, and in the midst.
    for pushes in [0, 9, 50, 61] {
        let mut queue = busy(BUSY, pushes);
        let state = written(&queue);
        let held: i64 = state
            .tensors
            .iter()
            .filter(|(name, _)| name.starts_with("images/"))
            .map(|(_, rows)| rows.size()[0])
            .sum();
        assert_eq!(held, (7 * pushes).min(100), "unfilled slots are not saved");
        let mut other = busy(BUSY, 23);
        other.restore(&state).unwrap();
        for step in pushes..pushes + 40 {
            push_random(&mut queue, step);
            push_random(&mut other, step);
            assert_eq!(queue.live(), other.live());
            assert_eq!(queue.age(), other.age());
            for of in [Modality::Image, Modality::Text] {
                let [mine, theirs] = [&queue, &other].map(|queue| queue.prototypes(of, queue.live()).unwrap());
                assert!(mine.equal(&theirs), "prototypes after {step}");
                let queries = queue.features.of(of).narrow(0, 3, 4);
                let asking = Asking {
                    keys: &[Id(1), Id(2), Id(3), Id(4)],
                    items: &[None; 4],
                };
                let [mine, theirs] = [&queue, &other].map(|queue| queue.neighbours(of, &queries, asking, 3).unwrap());
                assert!(mine.rows.equal(&theirs.rows) && mine.similarity.equal(&theirs.similarity));
            }
        }
        let [mine, theirs] = [written(&queue), written(&other)];
        assert_eq!(mine.plain, theirs.plain);
        for ((name, mine), (_, theirs)) in mine.tensors.iter().zip(&theirs.tensors) {
            assert!(mine.equal(theirs), "{name}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let queue = busy(BUSY, 30);
    let state = written(&queue);
    let refused = |config: QueueConfig, dim: i64, state: &clip_nn::State| {
        let mut other = RingQueue::new(config, dim, Device::Cpu).unwrap();
        let error = other.restore(state).unwrap_err();
        assert_eq!(other.filled(), 0);
        error.to_string()
    };
    let smaller = QueueConfig { capacity: 99, ..BUSY };
    let message = refused(smaller, 32, &state);
    assert!(
        message.contains("capacity is 100, the run's is 99; set capacity = 100"),
        "{message}"
    );
    assert!(refused(BUSY, 16, &state).contains("32 numbers, the model gives 16"));
    for (broken, _) in &state.tensors {
        let mut cut = written(&queue);
        for (name, tensor) in &mut cut.tensors {
            if name == broken {
                *tensor = tensor.narrow(0, 0, tensor.size()[0] - 1);
            }
        }
        refused(BUSY, 32, &cut);
    }
    let mut wrong = written(&queue);
    wrong.plain["next"] = 100.into();
    refused(BUSY, 32, &wrong);
}

#[test]
fn equals_are_told_apart_by_when_they_entered_in_every_tile() {
    // Wider than a tile, so that equal rows stand in several tiles, and with the oldest slot in the midst.
    let config = QueueConfig {
        capacity: 3_000,
        min_features: 1,
        max_concepts: 1,
    };
    let mut queue = RingQueue::new(config, DIM, Device::Cpu).unwrap();
    let mut naive = Naive::default();
    for step in 0..9 {
        let pairs: Vec<Pair> = (0..500u64)
            .map(|row| Pair {
                image: quarters((row * 7 % 251) as u8),
                text: quarters((row * 3 % 199) as u8),
                key: Id(1_000 * step + row),
                item: Some(Id(row % 90)),
                concepts: Vec::new(),
            })
            .collect();
        push(&mut queue, &pairs[step as usize..]);
        naive.push(&pairs[step as usize..], config.capacity);
    }
    // Keys tell which of equal rows came first; more queries than are answered together.
    let queries: Vec<Vec<f32>> = (0..5_000u64).map(|row| quarters((row % 80) as u8)).collect();
    for k in [1, 7] {
        let found = queue.nearest_keys(Modality::Text, &tensor(&queries), k).unwrap();
        for row in [0, 79, 1_023, 1_024, 4_999] {
            let mut places: Vec<(f32, Id)> = naive
                .pairs
                .iter()
                .map(|pair| (pair.text.iter().zip(&queries[row]).map(|(a, b)| a * b).sum(), pair.key))
                .collect();
            places.sort_by(|one, other| other.0.total_cmp(&one.0));
            let wanted: Vec<(Id, f32)> = places[..k].iter().map(|(cosine, key)| (*key, *cosine)).collect();
            assert_eq!(found[row], wanted, "query {row}, k = {k}");
        }
    }
}

#[test]
fn what_no_queue_can_take_is_refused() {
    for (capacity, min_features, max_concepts) in [(0, 1, 1), (4, 0, 1), (4, 5, 1), (4, 1, 0), (usize::MAX, 1, 1)] {
        let config = QueueConfig {
            capacity,
            min_features,
            max_concepts,
        };
        assert!(RingQueue::new(config, 4, Device::Cpu).is_err(), "{config:?}");
    }
    let mut queue = busy(BUSY, 3);
    let wrong = |columns: i64, value: f64| Tensor::full([1, columns], value, (Kind::Float, Device::Cpu));
    for rows in [wrong(31, 0.1), wrong(32, f64::NAN)] {
        let push = QueueRows {
            images: &rows,
            texts: &rows,
            keys: &[Id(1)],
            items: &[None],
            concepts: &[Vec::new()],
        };
        assert!(queue.push(&push).is_err());
    }
    assert_eq!(queue.filled(), 21);
    assert!(queue.prototypes(Modality::Image, &[Id(999)]).is_err());
}

#[test]
fn sums_are_the_same_to_the_bit_however_many_threads_add_them() {
    let config = QueueConfig {
        capacity: 200,
        min_features: 1,
        max_concepts: 8,
    };
    // Large enough for libtorch to share it out.
    let prototypes = |threads: i32| {
        clip_nn::tch::set_num_threads(threads);
        let mut queue = RingQueue::new(config, 512, Device::Cpu).unwrap();
        for step in 0..20 {
            clip_nn::tch::manual_seed(step);
            let rows = || clip_nn::unit_rows(&Tensor::randn([96, 512], (Kind::Float, Device::Cpu)));
            let number = |row: u64| 96 * step as u64 + row;
            queue
                .push(&QueueRows {
                    images: &rows(),
                    texts: &rows(),
                    keys: &(0..96).map(|row| Id(number(row))).collect::<Vec<_>>(),
                    items: &[None; 96],
                    concepts: &(0..96)
                        .map(|row| vec![Id(number(row) % 2), Id(2 + number(row) % 3), Id(7)])
                        .collect::<Vec<_>>(),
                })
                .unwrap();
        }
        [Modality::Image, Modality::Text].map(|of| {
            let ids: Vec<Id> = [0, 1, 2, 3, 4, 7].map(Id).to_vec();
            Vec::<f32>::try_from(queue.prototypes(of, &ids).unwrap().flatten(0, -1)).unwrap()
        })
    };
    let one = prototypes(1);
    for round in 0..3 {
        assert!(prototypes(2) == one, "round {round}");
    }
}
