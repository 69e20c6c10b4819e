//! Distillation word by word in f64.

use clip_core::Id;
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Features, Objective, ParamOptions, Params, TeacherFeatures, View, unit_rows};

use super::super::parity::close;
use super::super::testing::Batch;
use super::{Distill, DistillConfig};

fn rows(seed: i64, rows: i64, dim: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn([rows, dim], (Kind::Float, Device::Cpu))
}

fn distill(config: DistillConfig, own: i64) -> Distill {
    let options = ParamOptions {
        fresh: clip_nn::Fresh::Everything,
        trainable: true,
        ..ParamOptions::default()
    };
    let params = Params::new(None, options);
    let distill = Distill::new(config, own, &params).unwrap();
    params.finish().unwrap();
    distill
}

struct Case {
    batch: Batch,
    images: Vec<Tensor>,
    texts: Vec<Tensor>,
    teacher: [Tensor; 2],
}

const SCALE: f64 = 7.0;
const TEACHER_SCALE: f64 = 11.0;

impl Case {
    /// Five pairs, two image views; a name stands in for text 1.
    fn new(own: i64, teacher: i64) -> Self {
        let mut batch = Batch::new(&[0; 5]);
        batch.weights = Tensor::from_slice(&[1f32, 2.0, 0.5, 1.0, 0.0]);
        batch.captions[1] = Some(Id(3));
        Self {
            batch,
            images: vec![rows(1, 5, own), rows(2, 5, own)],
            texts: vec![rows(3, 5, own)],
            teacher: [unit_rows(&rows(4, 5, teacher)), unit_rows(&rows(5, 5, teacher))],
        }
    }

    fn features(&self) -> Features {
        let views = |raw: &[Tensor]| raw.iter().map(|raw| View::new(raw.shallow_clone())).collect();
        let mut features = Features::new(views(&self.images), views(&self.texts));
        features.teacher = Some(TeacherFeatures {
            images: self.teacher[0].shallow_clone(),
            texts: self.teacher[1].shallow_clone(),
            scale: TEACHER_SCALE,
        });
        features
    }

    fn terms(&self, distill: &Distill, rows: std::ops::Range<i64>) -> Vec<(&'static str, f64)> {
        let scale = Tensor::from(SCALE as f32);
        let terms = distill
            .loss(&self.features(), &self.batch.context(&scale, rows))
            .unwrap();
        terms
            .0
            .into_iter()
            .map(|(name, term)| (name, term.double_value(&[])))
            .collect()
    }

    fn weight(&self, row: usize) -> f64 {
        self.batch.weights.double_value(&[row as i64])
    }
}

fn plain(tensor: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(&tensor.to_kind(Kind::Double)).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn softmax(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let exp: Vec<f64> = logits.map(f64::exp).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|exp| exp / sum).collect()
}

#[test]
fn matches_are_compared_by_divergence_both_ways() {
    let case = Case::new(6, 4);
    let temperature = 2.0;
    let config = DistillConfig {
        features: 0.0,
        logits: 0.3,
        temperature,
        dim: 0,
    };
    let (teacher_images, teacher_texts) = (plain(&case.teacher[0]), plain(&case.teacher[1]));
    let mut wanted = 0.0;
    for image in &case.images {
        let (image, text) = (plain(image), plain(&case.texts[0]));
        for row in 0..5 {
            // Text 1 is in no softmax and has none of its own.
            let texts = || (0..5).filter(|&j| j != 1);
            let to_texts = [
                softmax(texts().map(|j| TEACHER_SCALE / temperature * cosine(&teacher_images[row], &teacher_texts[j]))),
                softmax(texts().map(|j| SCALE / temperature * cosine(&image[row], &text[j]))),
            ];
            let to_images = [
                softmax((0..5).map(|j| TEACHER_SCALE / temperature * cosine(&teacher_texts[row], &teacher_images[j]))),
                softmax((0..5).map(|j| SCALE / temperature * cosine(&text[row], &image[j]))),
            ];
            for [teacher, student] in [Some(to_texts), Some(to_images).filter(|_| row != 1)]
                .into_iter()
                .flatten()
            {
                let divergence = teacher.iter().zip(&student).map(|(t, s)| t * (t / s).ln()).sum::<f64>();
                wanted += case.weight(row) * divergence;
            }
        }
    }
    wanted *= 0.3 * temperature * temperature / (4.0 * 4.5);
    let terms = case.terms(&distill(config, 6), 0..5);
    assert_eq!((terms.len(), terms[0].0), (1, "distill_logits"));
    assert!(close(terms[0].1, wanted) && wanted > 1e-3, "{terms:?} against {wanted}");
}

#[test]
fn features_are_compared_by_cosine_through_a_head_where_dimensions_differ() {
    for (own, dim) in [(6, 0), (6, 6), (6, 4)] {
        let case = Case::new(own, if dim == 0 { own } else { dim });
        let config = DistillConfig {
            features: 0.5,
            logits: 0.0,
            dim,
            ..DistillConfig::default()
        };
        let distill = distill(config, own);
        assert_eq!(distill.heads.is_some(), dim == 4);
        let mut wanted = 0.0;
        for (modality, views) in [&case.images, &case.texts].into_iter().enumerate() {
            for view in views {
                let own = match &distill.heads {
                    Some(heads) => plain(&unit_rows(view).matmul(&heads[modality].tr())),
                    None => plain(view),
                };
                let teacher = plain(&case.teacher[modality]);
                for row in (0..5).filter(|&row| modality == 0 || row != 1) {
                    wanted += case.weight(row) * (1.0 - cosine(&own[row], &teacher[row])) / (2 * views.len()) as f64;
                }
            }
        }
        wanted *= 0.5 / 4.5;
        let terms = case.terms(&distill, 0..5);
        assert_eq!((terms.len(), terms[0].0), (1, "distill_features"));
        assert!(close(terms[0].1, wanted), "{terms:?} against {wanted}");
    }
}

#[test]
fn slices_sum_to_the_whole() {
    let (case, distill) = (Case::new(6, 6), distill(DistillConfig::default(), 6));
    let whole = case.terms(&distill, 0..5);
    let parts = [case.terms(&distill, 0..2), case.terms(&distill, 2..5)];
    for (at, (name, value)) in whole.iter().enumerate() {
        assert!(close(parts[0][at].1 + parts[1][at].1, *value), "{name}");
    }
}

#[test]
fn the_teacher_itself_has_nothing_to_learn() {
    let mut case = Case::new(6, 6);
    case.images = vec![case.teacher[0].copy().set_requires_grad(true)];
    case.texts = vec![case.teacher[1].copy().set_requires_grad(true)];
    let scale = Tensor::from(TEACHER_SCALE as f32).set_requires_grad(true);
    let distill = distill(DistillConfig::default(), 6);
    let terms = distill
        .loss(&case.features(), &case.batch.context(&scale, 0..5))
        .unwrap();
    let sum = terms
        .0
        .iter()
        .map(|(_, term)| term.shallow_clone())
        .reduce(|a, b| a + b)
        .unwrap();
    sum.backward();
    assert!(sum.double_value(&[]).abs() < 1e-6);
    for leaf in [&case.images[0], &case.texts[0], &scale] {
        assert!(leaf.grad().abs().max().double_value(&[]) < 1e-6);
    }
}

#[test]
fn what_does_not_fit_says_how_to_set_it() {
    let case = Case::new(6, 4);
    let scale = Tensor::from(SCALE as f32);
    let message = |features: &Features| {
        let context = case.batch.context(&scale, 0..5);
        distill(DistillConfig::default(), 6)
            .loss(features, &context)
            .unwrap_err()
            .to_string()
    };
    assert!(message(&case.features()).contains("set dim = 4"));
    let mut features = case.features();
    features.teacher = None;
    assert!(message(&features).contains("[teacher]"));
    for wrong in [
        DistillConfig {
            features: -1.0,
            ..DistillConfig::default()
        },
        DistillConfig {
            features: 0.0,
            logits: 0.0,
            ..DistillConfig::default()
        },
        DistillConfig {
            temperature: 0.0,
            ..DistillConfig::default()
        },
        DistillConfig {
            dim: -1,
            ..DistillConfig::default()
        },
    ] {
        assert!(Distill::new(wrong, 6, &Params::new(None, ParamOptions::default())).is_err());
    }
}
