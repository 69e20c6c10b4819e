//! Tiles against the full matrix, and both against the loss word by word in f64.

use clip_core::Id;
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Context, FeatureQueue, Features, Modality, Objective, QueueRows, View, unit_rows};
use proptest::prelude::*;

use super::super::testing::Batch;
use super::{InfoNce, InfoNceConfig, SameItem};
use crate::queue::{QueueConfig, RingQueue};

const DIM: i64 = 6;

fn rows(seed: i64, rows: usize) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn([rows as i64, DIM], (Kind::Float, Device::Cpu))
}

/// A queue in which the concepts 1 to 5 are live.
fn queue() -> RingQueue {
    let config = QueueConfig {
        capacity: 40,
        min_features: 3,
        max_concepts: 9,
    };
    let mut queue = RingQueue::new(config, DIM, Device::Cpu).unwrap();
    let (images, texts) = (unit_rows(&rows(1, 30)), unit_rows(&rows(2, 30)));
    let rows = QueueRows {
        images: &images,
        texts: &texts,
        keys: &(100..130).map(Id).collect::<Vec<_>>(),
        items: &[None; 30],
        concepts: &(0..30).map(|row| vec![Id(1 + row % 5)]).collect::<Vec<_>>(),
    };
    queue.push(&rows).unwrap();
    assert_eq!(queue.live(), [1, 2, 3, 4, 5].map(Id));
    queue
}

/// A batch with all that the loss looks at.
#[derive(Debug)]
struct Case {
    config: InfoNceConfig,
    /// Product, concepts, whether the first of them is the text, weight.
    pairs: Vec<(u64, Vec<u64>, bool, f32)>,
    slice: std::ops::Range<i64>,
    images: Vec<Tensor>,
    texts: Vec<Tensor>,
    scale: f32,
    queue: bool,
}

/// A loss and its gradients with respect to the un-normalised features of all views and the scale.
struct Worked {
    loss: f64,
    gradients: Vec<Tensor>,
}

impl Case {
    fn batch(&self) -> Batch {
        let mut batch = Batch::new(&self.pairs.iter().map(|pair| pair.0).collect::<Vec<_>>());
        batch.concepts = self
            .pairs
            .iter()
            .map(|pair| pair.1.iter().copied().map(Id).collect())
            .collect();
        batch.captions = self
            .pairs
            .iter()
            .map(|pair| pair.1.first().filter(|_| pair.2).copied().map(Id))
            .collect();
        batch.weights = Tensor::from_slice(&self.pairs.iter().map(|pair| pair.3).collect::<Vec<_>>());
        batch
    }

    fn worked(&self, tile: Option<usize>) -> Worked {
        let (batch, queue) = (self.batch(), queue());
        let leaf = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
        let images: Vec<Tensor> = self.images.iter().map(leaf).collect();
        let texts: Vec<Tensor> = self.texts.iter().map(leaf).collect();
        let scale = leaf(&Tensor::from(self.scale));
        let views = |leaves: &[Tensor]| leaves.iter().map(|raw| View::new(raw.shallow_clone())).collect();
        let features = Features::new(views(&images), views(&texts));
        let context = Context {
            queue: self.queue.then_some(&queue as _),
            ..batch.context(&scale, self.slice.clone())
        };
        let config = InfoNceConfig {
            tile: tile.unwrap_or(0),
            ..self.config
        };
        let loss = InfoNce::new(config)
            .unwrap()
            .loss(&features, &context)
            .unwrap()
            .0
            .remove(0)
            .1;
        loss.backward();
        let leaves = images.iter().chain(&texts).chain([&scale]);
        Worked {
            loss: loss.double_value(&[]),
            gradients: leaves.map(Tensor::grad).collect(),
        }
    }

    /// What picture `i` and text `j` are to each other: right, wrong, or neither.
    fn relation(&self, i: usize, j: usize) -> Option<bool> {
        let same_item = self.pairs[i].0 > 0 && self.pairs[i].0 == self.pairs[j].0;
        let named = self.pairs[j].2 && self.pairs[i].1.contains(&self.pairs[j].1[0]);
        match (i == j, same_item, self.config.same_item) {
            (true, _, _) | (_, true, SameItem::Positive) => Some(true),
            (_, true, SameItem::Mask) => None,
            _ if named => None,
            _ => Some(false),
        }
    }

    /// The match distributions' inner products.
    fn alike(&self) -> Vec<Vec<f64>> {
        let queue = queue();
        let n = self.pairs.len();
        let mut matched = vec![[0.0; 5]; n];
        let views = self.images.iter().map(|raw| (raw, Modality::Image));
        for (raw, modality) in views.chain(self.texts.iter().map(|raw| (raw, Modality::Text))) {
            let prototypes = unit(&queue.prototypes(modality, queue.live()).unwrap());
            for (row, matched) in unit(raw).iter().zip(&mut matched) {
                let exp = prototypes
                    .iter()
                    .map(|one| (dot(row, one) / self.config.soft_tau).exp());
                let exp: Vec<f64> = exp.collect();
                let sum: f64 = exp.iter().sum();
                let views = (self.images.len() + self.texts.len()) as f64;
                matched
                    .iter_mut()
                    .zip(&exp)
                    .for_each(|(to, exp)| *to += exp / sum / views);
            }
        }
        matched
            .iter()
            .map(|a| matched.iter().map(|b| dot(a, b)).collect())
            .collect()
    }

    /// The cross-entropy of picture `row` over texts, or of text `row` over pictures.
    fn cross_entropy(&self, logits: &[f64], relations: &[Option<bool>], alike: &[f64]) -> f64 {
        let of = |what| {
            (0..logits.len())
                .filter(|&j| relations[j] == Some(what))
                .collect::<Vec<_>>()
        };
        let (right, wrong) = (of(true), of(false));
        let smoothing = if wrong.is_empty() {
            0.0
        } else {
            self.config.label_smoothing
        };
        let soft = if self.queue { self.config.soft_targets } else { 0.0 };
        let likeness: f64 = wrong.iter().map(|&j| alike[j]).sum();
        let log_sum = right.iter().chain(&wrong).map(|&j| logits[j].exp()).sum::<f64>().ln();
        let mut loss = 0.0;
        for &j in &right {
            loss += (1.0 - smoothing) / right.len() as f64 * (log_sum - logits[j]);
        }
        for &j in &wrong {
            let target = (1.0 - soft) / wrong.len() as f64 + soft * alike[j] / likeness;
            loss += smoothing * target * (log_sum - logits[j]);
        }
        loss
    }

    fn by_hand(&self) -> f64 {
        let (n, alike, scale) = (self.pairs.len(), self.alike(), f64::from(self.scale));
        let mut sum = 0.0;
        for image in self.images.iter().map(unit) {
            for text in self.texts.iter().map(unit) {
                for (row, alike) in alike.iter().enumerate() {
                    if !self.slice.contains(&(row as i64)) {
                        continue;
                    }
                    let to_texts: Vec<f64> = text.iter().map(|text| scale * dot(&image[row], text)).collect();
                    let to_images: Vec<f64> = image.iter().map(|image| scale * dot(image, &text[row])).collect();
                    let of_texts: Vec<_> = (0..n).map(|j| self.relation(row, j)).collect();
                    let of_images: Vec<_> = (0..n).map(|i| self.relation(i, row)).collect();
                    let both = self.cross_entropy(&to_texts, &of_texts, alike)
                        + self.cross_entropy(&to_images, &of_images, alike);
                    sum += f64::from(self.pairs[row].3) * both;
                }
            }
        }
        let weight: f64 = self.pairs.iter().map(|pair| f64::from(pair.3)).sum();
        sum / (2.0 * weight * (self.images.len() * self.texts.len()) as f64)
    }
}

fn unit(raw: &Tensor) -> Vec<Vec<f64>> {
    let rows: Vec<Vec<f64>> = Vec::try_from(&raw.to_kind(Kind::Double)).unwrap();
    let length = |row: &[f64]| dot(row, row).sqrt();
    rows.iter()
        .map(|row| row.iter().map(|x| x / length(row)).collect())
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cases() -> impl Strategy<Value = (Case, usize)> {
    let pair = (
        0u64..4,
        prop::collection::vec(1u64..6, 0..3),
        any::<bool>(),
        prop_oneof![Just(1f32), 0.1f32..3.0, Just(0f32)],
    );
    let same_item = prop_oneof![Just(SameItem::Positive), Just(SameItem::Mask), Just(SameItem::Negative)];
    let smoothing = prop_oneof![Just((0.0, 0.0)), Just((0.3, 0.0)), (0.1f64..0.9, 0.1f64..1.0)];
    let pairs = prop::collection::vec(pair, 1..14);
    let slice = (0usize..14, 1usize..15);
    (
        pairs,
        same_item,
        smoothing,
        slice,
        (1f32..60.0, any::<bool>()),
        (1usize..3, 1usize..3),
        any::<i32>(),
        1usize..16,
    )
        .prop_map(
            |(mut pairs, same_item, (label_smoothing, soft_targets), slice, (scale, whole), views, seed, tile)| {
                let n = pairs.len();
                // Something has to count.
                pairs[0].3 = 1.0;
                pairs.iter_mut().for_each(|pair| pair.2 &= !pair.1.is_empty());
                let start = if whole { 0 } else { slice.0 % n };
                let end = if whole { n } else { (start + slice.1).min(n) };
                let view = |which: usize| rows(i64::from(seed) + which as i64, n);
                let case = Case {
                    config: InfoNceConfig {
                        label_smoothing,
                        same_item,
                        soft_targets,
                        soft_tau: 0.2,
                        tile: 0,
                    },
                    pairs,
                    slice: start as i64..end as i64,
                    images: (0..views.0).map(view).collect(),
                    texts: (0..views.1).map(|which| view(7 + which)).collect(),
                    scale,
                    queue: seed % 3 != 0,
                };
                (case, tile)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn tiles_are_the_full_matrix_and_both_are_the_loss_by_hand((case, tile) in cases()) {
        let (full, tiled, wanted) = (case.worked(None), case.worked(Some(tile)), case.by_hand());
        for loss in [full.loss, tiled.loss] {
            prop_assert!((loss - wanted).abs() <= 2e-6 * wanted.abs().max(1.0), "{loss} against {wanted}");
        }
        prop_assert!((tiled.loss - full.loss).abs() <= 1e-6 * wanted.abs().max(1.0));
        for (got, wanted) in tiled.gradients.iter().zip(&full.gradients) {
            let off = (got - wanted).abs().max().double_value(&[]);
            let most = wanted.abs().max().double_value(&[]);
            prop_assert!(off <= 1e-5 * most.max(0.1), "a gradient is off by {off} of {most}");
        }
    }
}

/// Logits far apart: a sum of exponentials kept over anything but the largest one would be 0 or infinite.
#[test]
fn the_sums_of_exponentials_stay_in_range() {
    let n = 9;
    let case = |scale: f32| Case {
        config: InfoNceConfig {
            label_smoothing: 0.2,
            ..InfoNceConfig::default()
        },
        pairs: (0..n).map(|row| (row, Vec::new(), false, 1.0)).collect(),
        slice: 0..n as i64,
        images: vec![rows(3, n as usize)],
        texts: vec![-rows(3, n as usize)],
        scale,
        queue: false,
    };
    for scale in [100.0, 400.0] {
        let case = case(scale);
        let wanted = case.by_hand();
        let (full, tiled) = (case.worked(None).loss, case.worked(Some(2)).loss);
        assert!(
            (full - wanted).abs() < 2e-6 * wanted && (tiled - wanted).abs() < 2e-6 * wanted,
            "{full} {tiled} {wanted}"
        );
    }
}

#[test]
fn tiles_are_chosen_by_the_batch() {
    let tile = |tile, batch| {
        InfoNce::new(InfoNceConfig {
            tile,
            ..InfoNceConfig::default()
        })
        .unwrap()
        .tile(batch, Device::Cpu)
    };
    assert_eq!((tile(0, 1024), tile(0, 1025)), (None, Some(512)));
    assert_eq!((tile(7, 5), tile(7, 100)), (None, Some(7)));
}

#[test]
fn soft_targets_ask_for_the_queue_and_for_something_to_share() {
    let config = InfoNceConfig {
        label_smoothing: 0.1,
        soft_targets: 0.3,
        ..InfoNceConfig::default()
    };
    let needs = InfoNce::new(config).unwrap().needs();
    assert!(needs.queue && needs.concepts);
    let needs = InfoNce::new(InfoNceConfig {
        soft_targets: 0.0,
        ..config
    })
    .unwrap()
    .needs();
    assert!(!needs.queue && !needs.concepts);
    for wrong in [
        InfoNceConfig {
            label_smoothing: 0.0,
            ..config
        },
        InfoNceConfig {
            soft_targets: 1.5,
            ..config
        },
        InfoNceConfig {
            soft_tau: 0.0,
            ..config
        },
        InfoNceConfig {
            soft_tau: f64::NAN,
            ..config
        },
    ] {
        assert!(InfoNce::new(wrong).is_err());
    }
}
