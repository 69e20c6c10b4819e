//! The rules beyond DeCLIP's, against the same written word by word in f64.

use clip_core::Id;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Context, FeatureQueue, Features, Modality, Objective, QueueRows, View, unit_rows};

use super::{Directions, NearestNeighbour, NearestNeighbourConfig};
use crate::objectives::SameItem;
use crate::objectives::testing::{Batch, drawn};
use crate::{QueueConfig, RingQueue};

const ITEMS: [u64; 6] = [7, 8, 7, 0, 9, 7];
/// The products of what is in the queue; the keys go on from the batch's last one, so that one of them is in both.
const HELD: [u64; 7] = [7, 0, 9, 7, 7, 9, 7];
const WEIGHTS: [f32; 6] = [1.0, 2.0, 0.5, 1.0, 0.0, 3.0];

fn rows(seed: i64, rows: usize) -> Tensor {
    drawn(seed, rows as i64, 6)
}

/// A batch's context with a queue.
pub(super) fn with_queue<'a>(batch: &'a Batch, scale: &'a Tensor, queue: &'a RingQueue) -> Context<'a> {
    Context {
        queue: Some(queue),
        ..batch.context(scale, 0..batch.items.len() as i64)
    }
}

/// A queue of `HELD`, not full.
fn queue() -> RingQueue {
    let config = QueueConfig {
        capacity: 20,
        ..QueueConfig::default()
    };
    let mut queue = RingQueue::new(config, 6, Device::Cpu).unwrap();
    let (images, texts) = held();
    let push = QueueRows {
        images: &images,
        texts: &texts,
        keys: &(5..12).map(Id).collect::<Vec<_>>(),
        items: &Batch::new(&HELD).items,
        concepts: &vec![Vec::new(); HELD.len()],
    };
    queue.push(&push).unwrap();
    queue
}

fn held() -> (Tensor, Tensor) {
    (unit_rows(&rows(21, HELD.len())), unit_rows(&rows(22, HELD.len())))
}

/// What stands in for each row, in f64; `None` where nothing does.
fn stand_ins(queries: &Tensor, held: &Tensor, k: usize, tau: f64) -> Vec<Option<Tensor>> {
    let cosines = unit_rows(queries)
        .to_kind(Kind::Double)
        .matmul(&held.to_kind(Kind::Double).tr());
    (0..ITEMS.len())
        .map(|row| {
            let own = |slot: usize| 5 + slot == row || (ITEMS[row] > 0 && ITEMS[row] == HELD[slot]);
            let mut found: Vec<(f64, i64)> = (0..HELD.len())
                .filter(|&slot| !own(slot))
                .map(|slot| (cosines.double_value(&[row as i64, slot as i64]), slot as i64))
                .collect();
            found.sort_by(|one, other| other.0.total_cmp(&one.0));
            found.truncate(k);
            let sum = found
                .iter()
                .map(|(cosine, slot)| held.get(*slot).to_kind(Kind::Double) * (cosine / tau).exp());
            let sum = sum.reduce(|one, other| one + other)?;
            Some(&sum / sum.norm())
        })
        .collect()
}

/// One direction in f64, with graph: unlike the loss itself, by libtorch's own derivative.
fn by_hand(from: &Tensor, stand_ins: &[Option<Tensor>], scale: &Tensor, same_item: SameItem) -> Tensor {
    let from = from.to_kind(Kind::Double);
    let from = &from / from.square().sum_dim_intlist(-1, true, Kind::Double).sqrt();
    let (mut sum, mut whole) = (Tensor::zeros([], (Kind::Double, Device::Cpu)), 0.0);
    for row in (0..ITEMS.len()).filter(|&row| stand_ins[row].is_some()) {
        whole += f64::from(WEIGHTS[row]);
        let same = |other: usize| row == other || (ITEMS[row] > 0 && ITEMS[row] == ITEMS[other]);
        let (mut logits, mut right) = (Vec::new(), Vec::new());
        for (other, stand_in) in stand_ins.iter().enumerate() {
            let Some(stand_in) = stand_in else { continue };
            let mine = match same_item {
                SameItem::Positive => same(other),
                SameItem::Mask if other != row && same(other) => continue,
                SameItem::Mask | SameItem::Negative => other == row,
            };
            logits.push(from.get(row as i64).dot(stand_in) * scale);
            right.push(f64::from(mine));
        }
        let right = Tensor::from_slice(&right);
        let logs = Tensor::stack(&logits, 0).log_softmax(0, Kind::Double);
        sum -= logs.dot(&(&right / right.sum(Kind::Double))) * f64::from(WEIGHTS[row]);
    }
    sum / whole
}

fn leaf(seed: i64) -> Tensor {
    rows(seed, ITEMS.len()).set_requires_grad(true)
}

/// The loss and the gradients of pictures, texts and scale, of the rows of some processes together.
fn ours(config: NearestNeighbourConfig, slices: &[(i64, i64)]) -> (f64, Vec<Tensor>) {
    let (image, text) = (leaf(1), leaf(2));
    let scale = Tensor::from(6f32).set_requires_grad(true);
    let mut batch = Batch::new(&ITEMS);
    batch.weights = Tensor::from_slice(&WEIGHTS);
    let queue = queue();
    let mut value = 0.0;
    for &(start, end) in slices {
        let context = Context {
            rows: start..end,
            ..with_queue(&batch, &scale, &queue)
        };
        let view = |raw: &Tensor| vec![View::new(raw.shallow_clone())];
        let features = Features::new(view(&image), view(&text));
        let loss = NearestNeighbour::new(config)
            .unwrap()
            .loss(&features, &context)
            .unwrap()
            .0
            .remove(0)
            .1;
        loss.backward();
        value += loss.double_value(&[]);
    }
    let slopes = [image, text, scale].map(|leaf| leaf.grad());
    (value, slopes.into_iter().collect())
}

pub(super) fn close(got: f64, wanted: f64) -> bool {
    (got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0)
}

#[test]
fn every_setting_is_the_rule_written_down() {
    for (top_k, directions, same_item) in [
        (1, Directions::ImageToText, SameItem::Negative),
        (1, Directions::Both, SameItem::Positive),
        (3, Directions::Both, SameItem::Mask),
        (3, Directions::ImageToText, SameItem::Positive),
        (50, Directions::Both, SameItem::Negative),
    ] {
        let config = NearestNeighbourConfig {
            top_k,
            tau: 0.2,
            directions,
            same_item,
        };
        let (value, slopes) = ours(config, &[(0, 6)]);
        let (image, text) = (leaf(1), leaf(2));
        let scale = Tensor::from(6f64).set_requires_grad(true);
        let (images, texts) = held();
        let targets = stand_ins(&text.detach(), &texts, top_k, 0.2);
        assert!(targets.iter().all(Option::is_some));
        let mut wanted = by_hand(&image, &targets, &scale, same_item);
        if directions == Directions::Both {
            let targets = stand_ins(&image.detach(), &images, top_k, 0.2);
            wanted = (wanted + by_hand(&text, &targets, &scale, same_item)) / 2.0;
        }
        wanted.backward();
        let wanted_value = wanted.double_value(&[]);
        assert!(close(value, wanted_value), "{config:?}: {value} against {wanted_value}");
        for (which, (got, leaf)) in slopes.iter().zip([image, text, scale]).enumerate() {
            let wanted = leaf.grad();
            if !wanted.defined() {
                assert!(
                    !got.defined(),
                    "{config:?}: texts get no gradient from pictures to texts"
                );
                continue;
            }
            let off = (got - &wanted).abs().max().double_value(&[]);
            let most = wanted.abs().max().double_value(&[]);
            assert!(off <= 1e-5 * most, "{config:?}, leaf {which}: off by {off} of {most}");
        }
        // Slices of several processes sum to the whole.
        let (parts, part_slopes) = ours(config, &[(0, 2), (2, 3), (3, 6)]);
        assert!(close(parts, value));
        for (whole, part) in slopes.iter().zip(&part_slopes).filter(|(whole, _)| whole.defined()) {
            assert!((whole - part).abs().max().double_value(&[]) < 1e-6);
        }
    }
}

#[test]
fn a_row_without_neighbours_is_no_answer_and_adds_nothing() {
    let config = QueueConfig {
        capacity: 4,
        ..QueueConfig::default()
    };
    let mut queue = RingQueue::new(config, 6, Device::Cpu).unwrap();
    let (image, text, scale) = (leaf(1), leaf(2), Tensor::from(6f32));
    let mut batch = Batch::new(&ITEMS);
    batch.weights = Tensor::from_slice(&WEIGHTS);
    let loss = |queue: &RingQueue| {
        let view = |raw: &Tensor| vec![View::new(raw.shallow_clone())];
        NearestNeighbour::new(NearestNeighbourConfig::default())
            .unwrap()
            .loss(
                &Features::new(view(&image), view(&text)),
                &with_queue(&batch, &scale, queue),
            )
            .unwrap()
            .0
    };
    assert!(loss(&queue).is_empty(), "an empty queue gives no term");
    let held = unit_rows(&rows(5, 2));
    let push = QueueRows {
        images: &held,
        texts: &held,
        keys: &[Id(100), Id(101)],
        items: &[Some(Id(7)), Some(Id(7))],
        concepts: &[Vec::new(), Vec::new()],
    };
    queue.push(&push).unwrap();
    // Rows 0, 2 and 5 are of product 7, and so is all that the queue holds.
    let cosines = unit_rows(&text).matmul(&held.tr());
    let targets: Vec<Option<Tensor>> = (0..6)
        .map(|row| {
            let nearest = cosines.get(row).argmax(0, false).int64_value(&[]);
            Some(held.get(nearest).to_kind(Kind::Double)).filter(|_| ITEMS[row as usize] != 7)
        })
        .collect();
    let wanted = by_hand(&image, &targets, &Tensor::from(6f64), SameItem::Positive);
    let terms = loss(&queue);
    assert!(close(terms[0].1.double_value(&[]), wanted.double_value(&[])));
    terms[0].1.backward();
    let slope = image.grad();
    assert!(slope.isfinite().all().int64_value(&[]) == 1);
    assert_eq!(slope.get(0).abs().sum(Kind::Float).double_value(&[]), 0.0);
    assert!(slope.get(1).abs().sum(Kind::Float).double_value(&[]) > 1e-3);
    // None of a batch of that product has a neighbour.
    let same = Batch::new(&[7; 6]);
    let view = |raw: &Tensor| vec![View::new(raw.shallow_clone())];
    let objective = NearestNeighbour::new(NearestNeighbourConfig {
        top_k: 3,
        ..Default::default()
    })
    .unwrap();
    let features = Features::new(view(&image), view(&text));
    let terms = objective.loss(&features, &with_queue(&same, &scale, &queue)).unwrap();
    assert_eq!(terms.0[0].1.double_value(&[]), 0.0);
    assert_eq!(queue.nearest_keys(Modality::Text, &held, 1).unwrap()[1][0].0, Id(101));
}

#[test]
fn settings_out_of_range_are_refused() {
    for (top_k, tau) in [(0, 0.1), (257, 0.1), (1, 0.0), (1, f64::NAN), (1, f64::INFINITY)] {
        let config = NearestNeighbourConfig {
            top_k,
            tau,
            ..Default::default()
        };
        assert!(NearestNeighbour::new(config).is_err(), "{config:?}");
    }
}
