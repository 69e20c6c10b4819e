//! A full queue of 65,536 pairs in memory: one queue and little beside. Alone in its process, whose peak it reads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use clip_core::Id;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Asking, FeatureQueue, Modality, QueueRows, unit_rows};
use clip_train::{QueueConfig, RingQueue};

const DIM: i64 = 512;
const BATCH: usize = 256;

/// The most memory that the process ever held, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Fills a queue, lets it come round, and asks it everything.
fn use_it(config: QueueConfig) {
    let mut queue = RingQueue::new(config, DIM, Device::Cpu).unwrap();
    let rows = unit_rows(&Tensor::randn([BATCH as i64, DIM], (Kind::Float, Device::Cpu)));
    let turn = config.capacity / BATCH;
    for step in 0..turn + turn / 8 {
        let number = |row: usize| (BATCH * step + row) as u64;
        let keys: Vec<Id> = (0..BATCH).map(|row| Id(number(row))).collect();
        let concepts: Vec<Vec<Id>> = (0..BATCH)
            .map(|row| (0..3).map(|which| Id((number(row) * (which + 1)) % 1_000)).collect())
            .collect();
        let pairs = QueueRows {
            images: &rows,
            texts: &rows,
            keys: &keys,
            items: &vec![None; BATCH],
            concepts: &concepts,
        };
        queue.push(&pairs).unwrap();
    }
    assert_eq!(queue.filled(), config.capacity);
    for k in [1, 10] {
        let asking = Asking {
            keys: &vec![Id(u64::MAX); BATCH],
            items: &vec![None; BATCH],
        };
        queue.neighbours(Modality::Text, &rows, asking, k).unwrap();
    }
    let prototypes = queue.prototypes(Modality::Image, queue.live()).unwrap();
    assert_eq!(prototypes.size()[0], queue.live().len() as i64);
    // A checkpoint copies one tensor of the state at a time.
    let state = queue.state().unwrap();
    for (_, tensor) in &state.tensors {
        assert!(tensor.copy().numel() <= 4_096 * DIM as usize);
    }
}

#[test]
fn memory_is_one_queue() {
    let config = QueueConfig::default();
    // The same work in small brings in libtorch's own memory.
    use_it(QueueConfig {
        capacity: 4 * BATCH,
        ..config
    });
    let before = peak();
    use_it(config);
    let grown = peak() - before;
    let queue = 2 * 4 * DIM as u64 * config.capacity as u64;
    let times = grown as f64 / queue as f64;
    println!("the queue's arithmetic is {queue} bytes, the process grew by {grown}: {times:.3} times");
    assert!(times <= 1.1, "grew by {times:.3} times one queue");
}
