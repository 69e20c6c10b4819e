//! A loss in tiles makes no matrix of the batch, whatever it is asked. Alone in its process, whose peak it reads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use clip_core::Id;
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Context, FeatureQueue, Features, Objective, QueueRows, View, unit_rows};
use clip_train::{InfoNce, InfoNceConfig, QueueConfig, RingQueue, Sigmoid, SigmoidConfig};

const DIM: i64 = 16;

/// The most memory that the process ever held, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

fn features(rows: usize) -> Tensor {
    Tensor::randn([rows as i64, DIM], (Kind::Float, Device::Cpu))
}

/// Both losses with their gradients: products of four rows, a name as every tenth text, targets softened by prototypes.
fn use_them(pairs: usize) {
    let concepts: Vec<Vec<Id>> = (0..pairs as u64).map(|row| vec![Id(row % 50)]).collect();
    let keys: Vec<Id> = (0..pairs as u64).map(Id).collect();
    let items: Vec<Option<Id>> = (0..pairs as u64).map(|row| Some(Id(row / 4))).collect();
    let captions: Vec<Option<Id>> = (0..pairs as u64)
        .map(|row| (row % 10 == 0).then_some(Id(row % 50)))
        .collect();
    let mut queue = RingQueue::new(QueueConfig::default(), DIM, Device::Cpu).unwrap();
    let (images, texts) = (unit_rows(&features(pairs)), unit_rows(&features(pairs)));
    let rows = QueueRows {
        images: &images,
        texts: &texts,
        keys: &keys,
        items: &items,
        concepts: &concepts,
    };
    queue.push(&rows).unwrap();
    let leaf = |tensor: Tensor| tensor.set_requires_grad(true);
    let (scale, bias) = (leaf(Tensor::from(20f32)), leaf(Tensor::from(-10f32)));
    let view = || vec![View::new(leaf(features(pairs)))];
    let features = Features::new(view(), view());
    let context = Context {
        rows: 0..pairs as i64,
        keys: &keys,
        items: &items,
        concepts: &concepts,
        captions: &captions,
        weights: &Tensor::ones([pairs as i64], (Kind::Float, Device::Cpu)),
        scale: &scale,
        bias: Some(&bias),
        queue: Some(&queue),
        bank: None,
        step: 0,
        seed: 0,
    };
    let config = InfoNceConfig {
        label_smoothing: 0.3,
        soft_targets: 0.5,
        ..InfoNceConfig::default()
    };
    let losses: [Box<dyn Objective>; 2] = [
        Box::new(InfoNce::new(config).unwrap()),
        Box::new(Sigmoid::new(SigmoidConfig::default())),
    ];
    for loss in losses {
        let term = loss.loss(&features, &context).unwrap().0.remove(0).1;
        term.backward();
        assert!(term.double_value(&[]).is_finite());
    }
}

#[test]
fn memory_is_that_of_a_tile() {
    tch::set_num_threads(1);
    // Less than a tile's pairs more bring in libtorch's own memory.
    use_them(1_100);
    let before = peak();
    let pairs = 8_192;
    use_them(pairs);
    let grown = peak() - before;
    let matrix = 4 * (pairs * pairs) as u64;
    assert!(
        grown < matrix / 4,
        "{} MiB more, and a matrix has {} MiB",
        grown >> 20,
        matrix >> 20
    );
}
