//! Training steps of a model on one batch, again and again: `train_speed MODEL BATCH [--dtype bf16] [--steps N] [--pairs N]
//! [--micro-batch N]`.
//!
//! A step is what the trainer does in one: gradients let go, the towers and InfoNCE there and back, the norm clipped, AdamW,
//! the temperature held. Reading tables and decoding pictures is left out: BATCH is a safetensors file with `pixels` `[pairs,
//! 3, height, width]` and `ids` `[pairs, context]`, padded with 0. `--pairs` takes its rows again and again up to that number.
//! One step goes before those that count, of the first 32 pairs where there are more. The last line is the speed of the
//! best step: pairs by seconds of processor time (on the clock where the system does not tell them).
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

use std::path::PathBuf;

use clip_core::serde_json::Map;
use clip_core::{Error, Id, Result, TokenBatch};
use clip_format::Families;
use clip_nn::tch::{self, Device, Tensor};
use clip_nn::{Compute, DualEncoder, ImageInput, ParamOptions, TextInput, Zoo, door, pad};
use clip_train::{
    Algorithm, Batch, Beside, LayerDecay, NoDecay, ObjectiveTables, Objectives, Optimizer, OptimizerConfig,
    StepOptions, back_propagate, clip_gradients,
};
use clipzoo_benches::{Clock, peak_memory};

/// The rate of every step; small enough for a model of random weights.
const RATE: f64 = 1e-4;
const CLIP: f64 = 1.0;
/// Pairs of the step before those that count.
const WARM: usize = 32;

struct Options {
    model: PathBuf,
    batch: PathBuf,
    compute: Compute,
    steps: u64,
    /// 0: as many as the file holds.
    pairs: usize,
    micro_batch: usize,
}

impl Options {
    fn read() -> Result<Self> {
        let usage = || {
            Error::invalid(
                "usage: train_speed MODEL BATCH [--dtype f32|bf16] [--steps N] [--pairs N] [--micro-batch N]",
            )
        };
        let mut words = std::env::args().skip(1);
        let mut path = || words.next().map(PathBuf::from).ok_or_else(usage);
        let mut options = Self {
            model: path()?,
            batch: path()?,
            compute: Compute::F32,
            steps: 2,
            pairs: 0,
            micro_batch: 0,
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(usage)?;
            let number = value.parse::<usize>();
            match (name.as_str(), value.as_str(), number) {
                ("--dtype", "f32", _) => options.compute = Compute::F32,
                ("--dtype", "bf16", _) => options.compute = Compute::Bf16,
                ("--steps", _, Ok(steps)) => options.steps = steps as u64,
                ("--pairs", _, Ok(pairs)) => options.pairs = pairs,
                ("--micro-batch", _, Ok(pairs)) => options.micro_batch = pairs,
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    tch::set_num_threads(1);
    let mut zoo = Zoo::new();
    clip_models::register(&mut zoo)?;
    clip_train::register(&mut zoo)?;
    let params = ParamOptions {
        trainable: true,
        ..ParamOptions::default()
    };
    // Kept whole, as a run keeps it: the writer and the tokenizer hold on to the file.
    let loaded = clip_models::load(&options.model, &zoo, &Families::bundled(), params, None)?;
    let model = &loaded.model;
    let batch = read(&options, model)?;
    let pairs = batch.len();
    let mut training = Training::new(model, &zoo, &options)?;
    let loss = if pairs > WARM {
        training.step(&first(&batch, WARM)?)?
    } else {
        training.step(&batch)?
    };
    println!("step 0: loss {loss:.7}");
    let mut best = f64::INFINITY;
    for step in 1..=options.steps {
        let start = Clock::of_processor();
        let loss = training.step(&batch)?;
        let seconds = start.seconds();
        best = best.min(seconds);
        println!("step {step}: loss {loss:.7}, {seconds:.2} CPU s");
    }
    println!("peak {:.0} MiB", peak_memory());
    println!("{:.3} pairs per CPU second", pairs as f64 / best);
    Ok(())
}

/// What a run holds on to between steps.
struct Training<'a> {
    model: &'a DualEncoder,
    objectives: Objectives,
    optimizer: Optimizer,
    options: StepOptions,
}

impl<'a> Training<'a> {
    fn new(model: &'a DualEncoder, zoo: &Zoo, options: &Options) -> Result<Self> {
        let tables = ObjectiveTables::from([("info_nce".to_owned(), Map::new())]);
        let objectives = Objectives::build(&tables, zoo, &model.shape(), 0, Device::Cpu)?;
        let config = OptimizerConfig {
            algorithm: Algorithm::AdamW,
            betas: [0.9, 0.98],
            eps: 1e-6,
            weight_decay: 0.2,
            no_decay: NoDecay::OpenClip,
            rates: [].into(),
            layer_decay: LayerDecay::NONE,
        };
        Ok(Self {
            model,
            objectives,
            optimizer: Optimizer::new(model.parameters().trainable(), &config)?,
            options: StepOptions {
                micro_batch: options.micro_batch,
                seed: 0,
                step: 0,
                compute: options.compute,
                patch_dropout: 0.0,
            },
        })
    }

    /// One step; its loss.
    fn step(&mut self, batch: &Batch) -> Result<f64> {
        self.optimizer.clear_gradients()?;
        let stepped = back_propagate(self.model, &self.objectives, batch, &Beside::default(), self.options)?;
        clip_gradients(&self.optimizer.gradients()?, CLIP)?;
        self.optimizer.step(RATE)?;
        self.options.step += 1;
        door(|| {
            let _guard = tch::no_grad_guard();
            let _ = self.model.logit_scale().shallow_clone().clamp_(0.0, 100f64.ln());
        })?;
        Ok(stepped.loss.total)
    }
}

/// The file's pairs, as the trainer makes a batch of rows: texts padded to the longest.
fn read(options: &Options, model: &DualEncoder) -> Result<Batch> {
    let tensors = Tensor::read_safetensors(&options.batch)
        .map_err(|error| Error::invalid(error.to_string()).file(&options.batch))?;
    let take = |name: &str| {
        let found = tensors.iter().find(|(known, _)| known == name);
        found
            .map(|(_, tensor)| tensor)
            .ok_or_else(|| Error::invalid(format!("there is no `{name}`")).file(&options.batch))
    };
    let (pixels, ids) = (take("pixels")?, take("ids")?);
    let held = ids.size()[0] as usize;
    let pairs = if options.pairs == 0 { held } else { options.pairs };
    let rows: Vec<i64> = (0..pairs).map(|row| (row % held) as i64).collect();
    let texts = rows.iter().map(|&row| -> Result<Vec<u32>> {
        let text = Vec::<i64>::try_from(ids.get(row)).map_err(|error| Error::internal(error.to_string()))?;
        Ok(text.into_iter().take_while(|&id| id > 0).map(|id| id as u32).collect())
    });
    let texts: TokenBatch = texts.collect::<Result<Vec<_>>>()?.iter().map(Vec::as_slice).collect();
    Ok(Batch {
        images: vec![ImageInput::Pixels(pixels.index_select(0, &Tensor::from_slice(&rows)))],
        texts: vec![TextInput::Tokens(pad(&texts, model.text().pad_id(), Device::Cpu)?)],
        ..of(pairs)
    })
}

/// The first pairs of a batch.
fn first(batch: &Batch, pairs: usize) -> Result<Batch> {
    let many = pairs as i64;
    match (&batch.images[..], &batch.texts[..]) {
        ([ImageInput::Pixels(pixels)], [TextInput::Tokens(tokens)]) => Ok(Batch {
            images: vec![ImageInput::Pixels(pixels.narrow(0, 0, many))],
            texts: vec![TextInput::Tokens(clip_nn::Tokens {
                ids: tokens.ids.narrow(0, 0, many),
                mask: tokens.mask.narrow(0, 0, many),
            })],
            ..of(pairs)
        }),
        _ => Err(Error::internal("a batch of other inputs")),
    }
}

/// Pairs without inputs.
fn of(pairs: usize) -> Batch {
    Batch {
        keys: (0..pairs as u64).map(Id).collect(),
        items: vec![None; pairs],
        concepts: vec![Vec::new(); pairs],
        captions: vec![None; pairs],
        weights: vec![1.0; pairs],
        ..Batch::default()
    }
}
