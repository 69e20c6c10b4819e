//! What the feature queue costs beside a training step of a ViT-B/32, in one run on one thread:
//! `cargo bench -p clipzoo-benches --bench queue`.
//!
//! Full queue of 65,536 pairs of 512 numbers, three of 1,000 concepts a pair. A step is the real one: towers of random
//! weights, InfoNCE and its gradient in every weight; the optimizer is left out, which would make it a little longer. A push is
//! the mean over a whole turn of the ring, so the recount that each turn brings is in it.
//!
//! What encoding concepts' names costs is given apart: 64 with their gradient, as each step of `concept_text` does, and 256
//! without, as a refresh of the bank of `pair_image` does, every fourth step.
#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::hint::black_box;

use clip_core::{Id, Result, serde_json::json};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{
    Asking, Compute, DualEncoder, FeatureQueue, Fresh, ImageInput, Modality, ParamOptions, Params, Pass, QueueRows,
    TextInput, Tokens, Zoo, unit_rows,
};
use clip_train::{Batch, Beside, ObjectiveTables, Objectives, QueueConfig, RingQueue, StepOptions, back_propagate};
use clipzoo_benches::Clock;

const DIM: i64 = 512;
const CONCEPTS: u64 = 1_000;
/// Titles of 8 to 20 words with their two ends.
const TOKENS: i64 = 16;
const BATCHES: [usize; 2] = [16, 64];
/// Names of two or three words with their two ends.
const NAME_TOKENS: i64 = 5;

fn main() -> Result<()> {
    // A run of all benches for a glance does not wait a minute for this one.
    if std::env::args().any(|argument| argument == "--quick") {
        return Ok(());
    }
    tch::set_num_threads(1);
    let mut queue = RingQueue::new(QueueConfig::default(), DIM, Device::Cpu)?;
    let mut pushed = 0;
    while queue.filled() < queue.capacity() {
        push(&mut queue, &features(1_024), &mut pushed)?;
    }
    let model = model()?;
    println!(
        "| batch | step, s | push, ms | nearest of texts, ms | both ways, ms | ten nearest, ms | prototypes of 64, ms | of 1,000, ms | a step's share |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for batch in BATCHES {
        let before = step(&model, batch)?;
        let rows = features(batch);
        let turn = queue.capacity() / batch;
        let push = seconds(turn, || push(&mut queue, &rows, &mut pushed))?;
        let one = look_up(&queue, &rows, &[Modality::Text], 1)?;
        let both = look_up(&queue, &rows, &[Modality::Text, Modality::Image], 1)?;
        let ten = look_up(&queue, &rows, &[Modality::Text], 10)?;
        let few = prototypes(&queue, 64)?;
        let all = prototypes(&queue, CONCEPTS as usize)?;
        let whole = before.min(step(&model, batch)?);
        // All that a run with both policies does in a step, the neighbours of both modalities too.
        let share = 100.0 * (push + both + all) / whole;
        let [push, one, both, ten, few, all] = [push, one, both, ten, few, all].map(|seconds| 1e3 * seconds);
        println!(
            "| {batch} | {whole:.2} | {push:.2} | {one:.1} | {both:.1} | {ten:.1} | {few:.2} | {all:.2} | {share:.2} % |"
        );
    }
    let drawn = names(&model, 64, Pass::TRAIN)?;
    let bank = tch::no_grad(|| names(&model, 256, Pass::INFER))?;
    println!("names: 64 with their gradient {drawn:.2} s, 256 without {bank:.2} s");
    Ok(())
}

/// The seconds in which a text tower encodes names, and in a pass of training their gradient comes to its weights.
fn names(model: &DualEncoder, many: i64, pass: Pass) -> Result<f64> {
    let input = TextInput::Tokens(tokens(many, NAME_TOKENS));
    seconds(1, || {
        for parameter in model.parameters().trainable() {
            parameter.tensor.shallow_clone().zero_grad();
        }
        let encoded = model.encode_texts(&input, pass)?.raw;
        if encoded.requires_grad() {
            encoded.square().sum(Kind::Float).backward();
        }
        Ok(())
    })
}

fn tokens(rows: i64, length: i64) -> Tokens {
    let ids = Tensor::randint(40_000, [rows, length], (Kind::Int64, Device::Cpu)) + 1;
    Tokens { mask: ids.gt(0), ids }
}

/// The least of three runs, in seconds a time; each run does the work so many times.
fn seconds(times: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let clock = Clock::of_processor();
        for _ in 0..times {
            work()?;
        }
        least = least.min(clock.seconds() / times as f64);
    }
    Ok(least)
}

fn features(rows: usize) -> Tensor {
    unit_rows(&Tensor::randn([rows as i64, DIM], (Kind::Float, Device::Cpu)))
}

fn push(queue: &mut RingQueue, rows: &Tensor, pushed: &mut u64) -> Result<()> {
    let many = rows.size()[0] as u64;
    let numbers = *pushed..*pushed + many;
    *pushed += many;
    let keys: Vec<Id> = numbers.clone().map(|number| Id::of_row("pairs", number)).collect();
    let items: Vec<Option<Id>> = numbers
        .clone()
        .map(|number| Some(Id::of_row("items", number / 3)))
        .collect();
    let concept = |number: u64, which: u64| Id::of_row("concepts", (number * (2 * which + 1) + which) % CONCEPTS);
    let concepts: Vec<Vec<Id>> = numbers
        .map(|number| (0..3).map(|which| concept(number, which)).collect())
        .collect();
    queue.push(&QueueRows {
        images: rows,
        texts: rows,
        keys: &keys,
        items: &items,
        concepts: &concepts,
    })
}

fn look_up(queue: &RingQueue, rows: &Tensor, of: &[Modality], k: usize) -> Result<f64> {
    let many = rows.size()[0] as u64;
    let keys: Vec<Id> = (0..many).map(|row| Id::of_row("new", row)).collect();
    let items = vec![None; many as usize];
    seconds(10, || {
        for of in of {
            let asking = Asking {
                keys: &keys,
                items: &items,
            };
            black_box(queue.neighbours(*of, rows, asking, k)?);
        }
        Ok(())
    })
}

fn prototypes(queue: &RingQueue, many: usize) -> Result<f64> {
    let live = &queue.live()[..many];
    seconds(1_000, || {
        for of in [Modality::Image, Modality::Text] {
            let _ = black_box(queue.prototypes(of, live)?);
        }
        Ok(())
    })
}

/// A ViT-B/32 as OpenCLIP has it, of random weights.
fn model() -> Result<DualEncoder> {
    let config = json!({
        "embed_dim": DIM,
        "vision_config": {
            "model_type": "clip_vision_model", "image_size": 224, "patch_size": 32, "hidden_size": 768,
            "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        },
        "text_config": {
            "model_type": "clip_text_model", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
            "num_attention_heads": 8,
        },
    });
    let mut zoo = Zoo::new();
    clip_models::register(&mut zoo)?;
    let options = ParamOptions {
        fresh: Fresh::Everything,
        trainable: true,
        ..ParamOptions::default()
    };
    DualEncoder::build(&config, &zoo, Params::new(None, options))
}

/// The seconds of a training step without a queue: the least of three.
fn step(model: &DualEncoder, pairs: usize) -> Result<f64> {
    let mut zoo = Zoo::new();
    clip_train::register(&mut zoo)?;
    let tables = ObjectiveTables::from([("info_nce".to_owned(), clip_core::serde_json::Map::new())]);
    let objectives = Objectives::build(&tables, &zoo, &model.shape(), 0, Device::Cpu)?;
    let batch = pairs_of(pairs);
    let options = StepOptions {
        micro_batch: 0,
        seed: 0,
        step: 0,
        compute: Compute::F32,
        patch_dropout: 0.0,
    };
    seconds(1, || {
        for parameter in model.parameters().trainable() {
            parameter.tensor.shallow_clone().zero_grad();
        }
        back_propagate(model, &objectives, &batch, &Beside::default(), options)?;
        Ok(())
    })
}

fn pairs_of(pairs: usize) -> Batch {
    let many = pairs as i64;
    Batch {
        images: vec![ImageInput::Pixels(Tensor::randn(
            [many, 3, 224, 224],
            (Kind::Float, Device::Cpu),
        ))],
        texts: vec![TextInput::Tokens(tokens(many, TOKENS))],
        keys: (0..pairs as u64).map(Id).collect(),
        items: vec![None; pairs],
        concepts: vec![Vec::new(); pairs],
        captions: vec![None; pairs],
        weights: vec![1.0; pairs],
        ..Batch::default()
    }
}
