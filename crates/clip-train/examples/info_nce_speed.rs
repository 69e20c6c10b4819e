//! What InfoNCE costs in tiles and over the full matrix, in one run: `cargo run --release -p clip-train --example
//! info_nce_speed -- PAIRS DIM ROUNDS TILE...` prints, for each tile (one of PAIRS or more is the full matrix, 0 what is
//! chosen), the least time of a loss with its gradients, how many times that of the first tile it is, and the most memory
//! beyond the features (two modalities, un-normalised and unit rows) and their gradients. `LABELS=1` smooths labels and
//! puts four rows in each product.
#![allow(clippy::print_stdout)] // Reason: what it measures is its output.

use std::time::{Duration, Instant};

use clip_core::{Error, Id, Result};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Context, Features, Objective as _, View, door};
use clip_train::{InfoNce, InfoNceConfig};

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).flat_map(|word| word.parse()).collect();
    let [pairs, dim, rounds, tiles @ ..] = numbers.as_slice() else {
        println!("usage: info_nce_speed PAIRS DIM ROUNDS TILE...");
        return Ok(());
    };
    let labels = std::env::var_os("LABELS").is_some();
    let batch = Batch::new(*pairs, *dim, labels)?;
    let mut best = vec![(Duration::MAX, 0.0, 0.0); tiles.len()];
    for _ in 0..*rounds {
        for (tile, best) in tiles.iter().zip(&mut best) {
            let config = InfoNceConfig {
                label_smoothing: if labels { 0.1 } else { 0.0 },
                tile: *tile,
                ..InfoNceConfig::default()
            };
            let (time, memory, loss) = batch.once(config)?;
            best.0 = best.0.min(time);
            best.1 = memory.max(best.1);
            best.2 = loss;
        }
    }
    println!("{pairs} pairs, {dim} dimensions, {} threads", tch::get_num_threads());
    let first = best.first().map_or(0.0, |(time, ..)| time.as_secs_f64());
    for (tile, (time, memory, loss)) in tiles.iter().zip(&best) {
        let seconds = time.as_secs_f64();
        println!(
            "tile {tile}: {:.1} ms, {:.2} times the first, {memory:.0} MiB more, loss {loss:.7}",
            1e3 * seconds,
            seconds / first
        );
    }
    Ok(())
}

struct Batch {
    images: Tensor,
    texts: Tensor,
    weights: Tensor,
    keys: Vec<Id>,
    items: Vec<Option<Id>>,
    concepts: Vec<Vec<Id>>,
    captions: Vec<Option<Id>>,
}

impl Batch {
    fn new(pairs: usize, dim: usize, labels: bool) -> Result<Self> {
        let shape = [pairs as i64, dim as i64];
        let (images, texts, weights) = door(|| {
            tch::manual_seed(1);
            let images = Tensor::randn(shape, (Kind::Float, Device::Cpu));
            // Partners look alike, as they do in training.
            let texts = &images + Tensor::randn(shape, (Kind::Float, Device::Cpu));
            (images, texts, Tensor::ones([shape[0]], (Kind::Float, Device::Cpu)))
        })?;
        let product = |row: u64| labels.then_some(Id(row * 7919 % (pairs as u64 / 4).max(1)));
        Ok(Self {
            images,
            texts,
            weights,
            keys: (0..pairs as u64).map(Id).collect(),
            items: (0..pairs as u64).map(product).collect(),
            concepts: vec![Vec::new(); pairs],
            captions: vec![None; pairs],
        })
    }

    /// The time of a loss with its gradients, the most memory beyond features and gradients in MiB, and the loss.
    fn once(&self, config: InfoNceConfig) -> Result<(Duration, f64, f64)> {
        let objective = InfoNce::new(config)?;
        door(|| {
            let leaf = |rows: &Tensor| rows.detach().set_requires_grad(true);
            let (images, texts) = (leaf(&self.images), leaf(&self.texts));
            let scale = leaf(&Tensor::from(20f32));
            let features = Features::new(
                vec![View::new(images.shallow_clone())],
                vec![View::new(texts.shallow_clone())],
            );
            let context = Context {
                rows: 0..self.keys.len() as i64,
                keys: &self.keys,
                items: &self.items,
                concepts: &self.concepts,
                captions: &self.captions,
                weights: &self.weights,
                scale: &scale,
                bias: None,
                queue: None,
                bank: None,
                step: 0,
                seed: 0,
            };
            let before = memory("VmRSS")?;
            // The highest mark of memory starts anew.
            let _ = std::fs::write("/proc/self/clear_refs", "5");
            let start = Instant::now();
            let mut terms = objective.loss(&features, &context)?.0;
            let (_, term) = terms.pop().ok_or_else(|| Error::internal("no term"))?;
            term.backward();
            let time = start.elapsed();
            let gradients = (images.numel() + texts.numel()) as f64 * 4.0 / f64::from(1 << 20);
            Ok((time, memory("VmHWM")? - before - gradients, term.double_value(&[])))
        })?
    }
}

/// A figure of this process's memory, MiB.
fn memory(name: &str) -> Result<f64> {
    let file = "/proc/self/status";
    let status = std::fs::read_to_string(file).map_err(|error| Error::io("read", file, error))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    Ok(value.unwrap_or(f64::NAN) / 1024.0)
}
