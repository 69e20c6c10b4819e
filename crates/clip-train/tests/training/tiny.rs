//! Small real towers, pairs in memory, and a model directory that opens again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clip_nn::clip_core::{Error, Event, Id, Observer, Position, Result};
use clip_nn::serde::{Deserialize, Serialize};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{
    Compute, DualEncoder, Fresh, ImageBackbone, ImageEncoder, ImageInput, Init, Lora, ModelWriter, ParamOptions,
    Params, Pass, Role, TextBackbone, TextEncoder, TextInput, Tokens, TowerOutput, WeightSource, Zoo,
};
use clip_train::{Batch, BatchSource, BatchStream, Embedded, Evaluation, Parts, RunConfig, RunDir, Stop};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

use crate::deep::{DeepImage, DeepText};

const WIDTH: i64 = 6;
const SIDE: i64 = 4;
const WORDS: i64 = 20;

#[derive(Serialize, Deserialize)]
#[serde(crate = "clip_nn::serde")]
pub(crate) struct TowerConfig {
    #[serde(default)]
    dropout: f64,
}

/// One linear layer over the pixels, with a tanh.
pub(crate) struct TinyImage {
    weight: Tensor,
    bias: Tensor,
    dropout: f64,
}

impl ImageEncoder for TinyImage {
    fn width(&self) -> i64 {
        WIDTH
    }

    fn image_size(&self) -> [i64; 2] {
        [SIDE, SIDE]
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let hidden = pixels.flatten(1, -1).linear(&self.weight, Some(&self.bias)).tanh();
        TowerOutput {
            pooled: hidden.dropout(self.dropout, pass.train),
            tokens: None,
        }
    }
}

impl ImageBackbone for TinyImage {
    const MODEL_TYPES: &'static [&'static str] = &["tiny_image"];

    type Config = TowerConfig;

    fn build(config: TowerConfig, params: &Params) -> Result<Self> {
        Ok(Self {
            weight: params.tensor("weight", &[WIDTH, 3 * SIDE * SIDE], Role::Weight, Init::Normal(0.3)),
            bias: params.tensor("bias", &[WIDTH], Role::Bias, Init::Constant(0.0)),
            dropout: config.dropout,
        })
    }
}

/// The mean of the words' vectors, with a scale of a norm's role.
pub(crate) struct TinyText {
    words: Tensor,
    scale: Tensor,
    dropout: f64,
}

impl TextEncoder for TinyText {
    fn width(&self) -> i64 {
        WIDTH
    }

    fn context_length(&self) -> i64 {
        5
    }

    fn vocabulary(&self) -> i64 {
        WORDS
    }

    fn pad_id(&self) -> i64 {
        0
    }

    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput {
        let words = Tensor::embedding(&self.words, &tokens.ids, -1, false, false);
        let mask = tokens.mask.to_kind(Kind::Float).unsqueeze(-1);
        let mean = (words * &mask).sum_dim_intlist(1, false, Kind::Float) / mask.sum_dim_intlist(1, false, Kind::Float);
        TowerOutput {
            pooled: (mean * &self.scale).dropout(self.dropout, pass.train),
            tokens: None,
        }
    }
}

impl TextBackbone for TinyText {
    const MODEL_TYPES: &'static [&'static str] = &["tiny_text"];

    type Config = TowerConfig;

    fn build(config: TowerConfig, params: &Params) -> Result<Self> {
        Ok(Self {
            words: params.tensor("words", &[WORDS, WIDTH], Role::Embedding, Init::Normal(1.0)),
            scale: params.tensor("norm", &[WIDTH], Role::Norm, Init::Constant(1.0)),
            dropout: config.dropout,
        })
    }
}

pub(crate) fn zoo() -> Zoo {
    let mut zoo = Zoo::new();
    zoo.image::<TinyImage>().unwrap().text::<TinyText>().unwrap();
    zoo.image::<DeepImage>().unwrap().text::<DeepText>().unwrap();
    clip_train::register(&mut zoo).unwrap();
    zoo
}

pub(crate) fn model(dropout: f64) -> DualEncoder {
    fresh(json!({
        "embed_dim": 5,
        "vision_config": { "model_type": "tiny_image", "dropout": dropout },
        "text_config": { "model_type": "tiny_text", "dropout": dropout },
    }))
}

pub(crate) fn fresh(config: Value) -> DualEncoder {
    fresh_with(config, None)
}

pub(crate) fn fresh_with(config: Value, lora: Option<Lora>) -> DualEncoder {
    tch::set_num_threads(1);
    let options = ParamOptions {
        seed: 11,
        fresh: Fresh::Everything,
        trainable: true,
        lora,
        ..ParamOptions::default()
    };
    DualEncoder::build(&config, &zoo(), Params::new(None, options)).unwrap()
}

struct Weights(BTreeMap<String, Tensor>);

impl WeightSource for Weights {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.0.get(name).map(Tensor::shallow_clone))
    }
}

pub(crate) fn weights(file: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let read = |(name, view): (String, TensorView<'_>)| {
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        (
            name,
            Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap(),
        )
    };
    tensors.tensors().into_iter().map(read).collect()
}

pub(crate) fn open(folder: &Path) -> DualEncoder {
    open_with(folder, None)
}

pub(crate) fn open_with(folder: &Path, lora: Option<Lora>) -> DualEncoder {
    let config: Value = serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let options = ParamOptions {
        trainable: true,
        lora,
        ..ParamOptions::default()
    };
    let source = Weights(weights(&folder.join("model.safetensors")));
    DualEncoder::build(&config, &zoo(), Params::new(Some(Box::new(source)), options)).unwrap()
}

pub(crate) struct Writer;

impl ModelWriter for Writer {
    fn write(&self, model: &DualEncoder, folder: &Path) -> Result<()> {
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = model
            .parameters()
            .exported()
            .map(|(name, tensor)| {
                let values: Vec<f32> = Vec::try_from(tensor.flatten(0, -1)).unwrap();
                let shape = tensor.size().iter().map(|&n| n as usize).collect();
                (
                    name.to_owned(),
                    shape,
                    values.iter().flat_map(|x| x.to_le_bytes()).collect(),
                )
            })
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let bytes = safetensors::serialize(views, None).unwrap();
        let file = folder.join("model.safetensors");
        fs::write(&file, bytes).map_err(|error| Error::io("write", &file, error))?;
        fs::write(folder.join("config.json"), model.config().to_string()).unwrap();
        Ok(())
    }
}

/// A writer on a full disk: the kernel's own.
pub(crate) struct Full;

impl ModelWriter for Full {
    fn write(&self, _: &DualEncoder, folder: &Path) -> Result<()> {
        let file = folder.join("model.safetensors");
        std::os::unix::fs::symlink("/dev/full", &file).unwrap();
        fs::write(&file, "weights").map_err(|error| Error::io("write", &file, error))
    }
}

/// Pairs that can be learnt: a picture is the noisy sum of its words' patterns.
#[derive(Clone)]
pub(crate) struct Pairs {
    rows: i64,
    batch: i64,
    seed: u64,
    /// Batches (from 0, over all epochs) whose pictures are not numbers.
    pub(crate) broken: Vec<u64>,
    pub(crate) items: Vec<Option<Id>>,
}

impl Pairs {
    pub(crate) fn new(rows: i64, batch: i64, seed: u64) -> Self {
        Self {
            rows,
            batch,
            seed,
            broken: Vec::new(),
            items: vec![None; rows as usize],
        }
    }

    pub(crate) fn pixels(&self) -> Tensor {
        tch::manual_seed(5);
        let patterns = Tensor::randn([WORDS, 3 * SIDE * SIDE], (Kind::Float, Device::Cpu));
        let noise = Tensor::randn([self.rows, 3 * SIDE * SIDE], (Kind::Float, Device::Cpu)) * 0.1;
        let (ids, mask) = self.words();
        let sum = Tensor::embedding(&patterns, &ids, -1, false, false) * mask.to_kind(Kind::Float).unsqueeze(-1);
        (sum.sum_dim_intlist(1, false, Kind::Float) + noise).view([self.rows, 3, SIDE, SIDE])
    }

    pub(crate) fn words(&self) -> (Tensor, Tensor) {
        tch::manual_seed(6);
        let ids = Tensor::randint_low(1, WORDS, [self.rows, 5], (Kind::Int64, Device::Cpu));
        let lengths = Tensor::randint_low(2, 6, [self.rows, 1], (Kind::Int64, Device::Cpu));
        let mask = Tensor::arange(5, (Kind::Int64, Device::Cpu))
            .unsqueeze(0)
            .lt_tensor(&lengths);
        (&ids * mask.to_kind(Kind::Int64), mask)
    }

    /// The given rows as a batch.
    pub(crate) fn rows(&self, rows: &[i64]) -> Batch {
        let index = Tensor::from_slice(rows);
        let (ids, mask) = self.words();
        let (ids, mask) = (ids.index_select(0, &index), mask.index_select(0, &index));
        Batch {
            images: vec![ImageInput::Pixels(self.pixels().index_select(0, &index))],
            texts: vec![TextInput::Tokens(Tokens { ids, mask })],
            keys: rows.iter().map(|&row| Id(row as u64)).collect(),
            items: rows.iter().map(|&row| self.items[row as usize]).collect(),
            concepts: vec![Vec::new(); rows.len()],
            captions: vec![None; rows.len()],
            weights: vec![1.0; rows.len()],
            ..Batch::default()
        }
    }

    fn order(&self, epoch: u64) -> Vec<i64> {
        tch::manual_seed((self.seed * 1000 + epoch) as i64);
        Vec::try_from(Tensor::randperm(self.rows, (Kind::Int64, Device::Cpu))).unwrap()
    }
}

struct Stream {
    pairs: Pairs,
    order: Vec<i64>,
    taken: usize,
    epoch: u64,
}

impl BatchSource for Pairs {
    fn pairs(&self) -> Option<u64> {
        Some(self.rows as u64)
    }

    fn start(&mut self, epoch: u64, from: &Position) -> Result<Box<dyn BatchStream + '_>> {
        Ok(Box::new(Stream {
            pairs: self.clone(),
            order: self.order(epoch),
            taken: from.taken as usize,
            epoch,
        }))
    }
}

impl BatchStream for Stream {
    fn next(&mut self) -> Result<Option<Batch>> {
        if self.taken >= self.order.len() {
            return Ok(None);
        }
        let size = self.pairs.batch as usize;
        let number = self.epoch * self.order.len().div_ceil(size) as u64 + (self.taken / size) as u64;
        let end = (self.taken + size).min(self.order.len());
        let mut batch = self.pairs.rows(&self.order[self.taken..end]);
        self.taken = end;
        batch.position.taken = end as u64;
        if self.pairs.broken.contains(&number) {
            let shape = [batch.len() as i64, 3, SIDE, SIDE];
            let broken = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            let _ = broken.narrow(0, 0, 1).fill_(f64::NAN);
            batch.images = vec![ImageInput::Pixels(broken)];
        }
        Ok(Some(batch))
    }
}

impl Evaluation for Pairs {
    fn embed(&mut self, model: &DualEncoder, compute: Compute) -> Result<Embedded> {
        let pass = Pass { compute, ..Pass::INFER };
        let all: Vec<i64> = (0..self.rows).collect();
        let batch = self.rows(&all);
        let rows = |raw: &Tensor| {
            let values: Vec<f32> = Vec::try_from(clip_nn::unit_rows(raw).flatten(0, -1)).unwrap();
            clip_nn::clip_core::Embeddings::new(values, 5)
        };
        Ok(Embedded {
            texts: rows(&model.encode_texts(&batch.texts[0], pass)?.raw)?,
            images: rows(&model.encode_images(&batch.images[0], pass)?.raw)?,
            items: batch.items,
        })
    }
}

/// Keeps what it is told.
#[derive(Clone, Default)]
pub(crate) struct Told(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

impl Observer for Told {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        let text = match event {
            Event::Note(text) => format!("note: {text}"),
            Event::Saved { step, .. } => format!("saved {step}"),
            Event::Started { step, steps } => format!("started {step} of {steps}"),
            Event::Finished { step } => format!("finished {step}"),
            Event::Evaluated(figures) => format!("evaluated {}", figures["step"]),
            _ => return Ok(()),
        };
        self.0.lock().unwrap().push(text);
        Ok(())
    }
}

impl Told {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A run of `pairs`, which are evaluated on as well, that nobody watches.
pub(crate) fn parts(model: DualEncoder, pairs: Pairs, config: RunConfig, run: RunDir) -> Parts {
    Parts {
        model,
        writer: Box::new(Writer),
        evaluation: Some(Box::new(pairs.clone())),
        source: Box::new(pairs),
        names: None,
        config,
        observers: Vec::new(),
        run,
        stop: Stop::default(),
    }
}
