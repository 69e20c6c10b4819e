//! InfoNCE against open_clip's loss, and its own rules.

use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Features, Objective, View};
use safetensors::SafeTensors;

use super::testing::Batch;
use super::{InfoNce, InfoNceConfig, SameItem};

impl Batch {
    fn loss(&self, config: InfoNceConfig, image: &Tensor, text: &Tensor, scale: &Tensor) -> Tensor {
        let rows = 0..self.items.len() as i64;
        self.part(config, image, text, scale, rows)
    }

    fn part(
        &self,
        config: InfoNceConfig,
        image: &Tensor,
        text: &Tensor,
        scale: &Tensor,
        rows: std::ops::Range<i64>,
    ) -> Tensor {
        let view = |raw: &Tensor| vec![View::new(raw.shallow_clone())];
        let features = Features::new(view(image), view(text));
        let terms = InfoNce::new(config)
            .unwrap()
            .loss(&features, &self.context(scale, rows));
        let mut terms = terms.unwrap().0;
        assert_eq!(terms.len(), 1);
        terms.remove(0).1
    }
}

pub(super) fn fixture() -> (serde_json::Value, Vec<u8>) {
    let folder = format!("{}/../../tests/fixtures/loss", env!("CARGO_MANIFEST_DIR"));
    let cases = std::fs::read_to_string(format!("{folder}/cases.json")).unwrap();
    let tensors = std::fs::read(format!("{folder}/tensors.safetensors")).unwrap();
    (serde_json::from_str(&cases).unwrap(), tensors)
}

pub(super) fn tensor(file: &SafeTensors<'_>, name: &str) -> Tensor {
    let view = file.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap()
}

pub(super) fn close(got: f64, wanted: f64) -> bool {
    (got - wanted).abs() <= 1e-5 * wanted.abs().max(1.0)
}

#[test]
fn loss_and_gradients_are_open_clips() {
    let (cases, bytes) = fixture();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for case in cases.as_array().unwrap() {
        let name = case["case"].as_str().unwrap();
        if !name.starts_with("clip") {
            continue;
        }
        seen += 1;
        let leaf = |which: &str| tensor(&file, &format!("{name}/{which}")).set_requires_grad(true);
        // The reference's gradients are with respect to unit rows, which the unit rows of unit rows would project.
        let (image, text) = (leaf("image"), leaf("text"));
        let log_scale = Tensor::from(case["log_scale"].as_f64().unwrap() as f32).set_requires_grad(true);
        let view = |unit: &Tensor| {
            vec![View {
                raw: unit.shallow_clone(),
                unit: unit.shallow_clone(),
            }]
        };
        let batch = Batch::new(&vec![0; image.size()[0] as usize]);
        let scale = log_scale.exp();
        let features = Features::new(view(&image), view(&text));
        let context = batch.context(&scale, 0..image.size()[0]);
        let terms = InfoNce::new(InfoNceConfig::default())
            .unwrap()
            .loss(&features, &context);
        let loss = terms.unwrap().0.remove(0).1;
        loss.backward();
        let (value, wanted) = (loss.double_value(&[]), case["loss"].as_f64().unwrap());
        assert!(close(value, wanted), "{name}: {value} against {wanted}");
        let (got, wanted) = (
            log_scale.grad().double_value(&[]),
            case["grad_log_scale"].as_f64().unwrap(),
        );
        assert!(close(got, wanted), "{name}: {got} against {wanted}");
        for (leaf, which) in [(&image, "grad_image"), (&text, "grad_text")] {
            let wanted = tensor(&file, &format!("{name}/{which}"));
            let off = (leaf.grad() - &wanted).abs().max().double_value(&[]);
            let most = wanted.abs().max().double_value(&[]);
            assert!(off <= 1e-5 * most.max(1e-3), "{name} {which}: off by {off} of {most}");
        }
    }
    assert_eq!(seen, 4);
}

fn rows(seed: i64, rows: i64) -> Tensor {
    clip_nn::tch::manual_seed(seed);
    Tensor::randn([rows, 6], (Kind::Float, Device::Cpu))
}

/// The loss word by word, in f64: targets from a rule, cross-entropy of both directions.
fn by_hand(image: &Tensor, text: &Tensor, scale: f64, target: impl Fn(usize, usize) -> Option<f64>) -> f64 {
    let logits = clip_nn::unit_rows(image).matmul(&clip_nn::unit_rows(text).tr()) * scale;
    let n = image.size()[0] as usize;
    let at = |i: usize, j: usize| logits.double_value(&[i as i64, j as i64]);
    let mut sum = 0.0;
    for i in 0..n {
        for direction in [0, 1] {
            let logit = |j: usize| if direction == 0 { at(i, j) } else { at(j, i) };
            let in_play: Vec<usize> = (0..n).filter(|&j| target(i, j).is_some()).collect();
            let log_sum = in_play.iter().map(|&j| logit(j).exp()).sum::<f64>().ln();
            sum -= in_play
                .iter()
                .map(|&j| target(i, j).unwrap() * (logit(j) - log_sum))
                .sum::<f64>();
        }
    }
    sum / (2 * n) as f64
}

const ITEMS: [u64; 6] = [7, 8, 7, 0, 0, 7];

fn same(i: usize, j: usize) -> bool {
    i == j || (ITEMS[i] > 0 && ITEMS[i] == ITEMS[j])
}

#[test]
fn rows_of_one_product_are_never_wrong_answers_by_default() {
    let (image, text, scale) = (rows(1, 6), rows(2, 6), Tensor::from(9f32));
    let batch = Batch::new(&ITEMS);
    let loss = |same_item, label_smoothing| {
        let config = InfoNceConfig {
            label_smoothing,
            same_item,
            ..Default::default()
        };
        batch.loss(config, &image, &text, &scale).double_value(&[])
    };
    let count = |i: usize| (0..6).filter(|&j| same(i, j)).count() as f64;
    let positive = by_hand(&image, &text, 9.0, |i, j| {
        Some(if same(i, j) { 1.0 / count(i) } else { 0.0 })
    });
    assert!(close(loss(SameItem::Positive, 0.0), positive));
    let masked = by_hand(&image, &text, 9.0, |i, j| match (i == j, same(i, j)) {
        (true, _) => Some(1.0),
        (false, true) => None,
        (false, false) => Some(0.0),
    });
    assert!(close(loss(SameItem::Mask, 0.0), masked));
    let negative = by_hand(&image, &text, 9.0, |i, j| Some(f64::from(i == j)));
    assert!(close(loss(SameItem::Negative, 0.0), negative));
    let smooth = by_hand(&image, &text, 9.0, |i, j| {
        Some(if same(i, j) {
            0.7 / count(i)
        } else {
            0.3 / (6.0 - count(i))
        })
    });
    assert!(close(loss(SameItem::Positive, 0.3), smooth));
    let smooth_masked = by_hand(&image, &text, 9.0, |i, j| match (i == j, same(i, j)) {
        (true, _) => Some(0.7),
        (false, true) => None,
        (false, false) => Some(0.3 / (6.0 - count(i))),
    });
    assert!(close(loss(SameItem::Mask, 0.3), smooth_masked));
}

#[test]
fn a_batch_of_one_product_has_nothing_to_smooth() {
    let (image, text, scale) = (rows(1, 3), rows(2, 3), Tensor::from(9f32));
    let config = InfoNceConfig {
        label_smoothing: 0.3,
        same_item: SameItem::Mask,
        ..Default::default()
    };
    let loss = Batch::new(&[5, 5, 5]).loss(config, &image, &text, &scale);
    assert_eq!(loss.double_value(&[]), 0.0);
    let config = InfoNceConfig {
        same_item: SameItem::Positive,
        ..config
    };
    let loss = Batch::new(&[5, 5, 5])
        .loss(config, &image, &text, &scale)
        .double_value(&[]);
    assert!(close(loss, by_hand(&image, &text, 9.0, |_, _| Some(1.0 / 3.0))));
}

#[test]
fn slices_of_several_processes_sum_to_the_whole() {
    let (image, text, scale) = (rows(1, 6), rows(2, 6), Tensor::from(9f32));
    let mut batch = Batch::new(&ITEMS);
    batch.weights = Tensor::from_slice(&[1f32, 2.0, 0.5, 0.0, 1.0, 3.0]);
    let config = InfoNceConfig {
        label_smoothing: 0.2,
        same_item: SameItem::Positive,
        ..Default::default()
    };
    let whole = batch.loss(config, &image, &text, &scale).double_value(&[]);
    let parts = [0..2, 2..3, 3..6].map(|rows| batch.part(config, &image, &text, &scale, rows).double_value(&[]));
    assert!(close(parts.iter().sum(), whole));
}

#[test]
fn a_pair_of_weight_two_counts_twice() {
    let (image, text, scale) = (rows(3, 4), rows(4, 4), Tensor::from(5f32));
    let mut batch = Batch::new(&[0; 4]);
    let config = InfoNceConfig::default();
    let alone = |row: usize| {
        let mut batch = Batch::new(&[0; 4]);
        let mut weights = [0f32; 4];
        weights[row] = 1.0;
        batch.weights = Tensor::from_slice(&weights);
        batch.loss(config, &image, &text, &scale).double_value(&[])
    };
    batch.weights = Tensor::from_slice(&[2f32, 1.0, 1.0, 0.0]);
    let loss = batch.loss(config, &image, &text, &scale).double_value(&[]);
    assert!(close(loss, (2.0 * alone(0) + alone(1) + alone(2)) / 4.0));
}

#[test]
fn several_views_are_the_mean_over_their_pairs() {
    let (images, texts) = ([rows(1, 5), rows(2, 5)], [rows(3, 5), rows(4, 5)]);
    let (batch, scale) = (Batch::new(&[0; 5]), Tensor::from(5f32));
    let config = InfoNceConfig::default();
    let mut mean = 0.0;
    for image in &images {
        for text in &texts {
            mean += batch.loss(config, image, text, &scale).double_value(&[]) / 4.0;
        }
    }
    let views = |raw: &[Tensor]| raw.iter().map(|raw| View::new(raw.shallow_clone())).collect();
    let features = Features::new(views(&images), views(&texts));
    let terms = InfoNce::new(config)
        .unwrap()
        .loss(&features, &batch.context(&scale, 0..5))
        .unwrap();
    assert!(close(terms.0[0].1.double_value(&[]), mean));
}

#[test]
fn settings_out_of_range_are_refused() {
    for label_smoothing in [-0.1, 1.0, f64::NAN] {
        let config = InfoNceConfig {
            label_smoothing,
            ..Default::default()
        };
        assert!(InfoNce::new(config).is_err());
    }
}
