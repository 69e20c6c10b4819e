//! Training against the reference's: six AdamW steps of a tiny OpenCLIP model, from its own weights and batches.
#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clip_format::Families;
use clip_nn::clip_core::{Id, Position, Result};
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{ImageInput, ParamOptions, TextInput, Tokens, Zoo};
use clip_train::{Batch, BatchSource, BatchStream, Existing, Parts, RunConfig, RunDir, Schedule, Stop, Trainer};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/train").join(name)
}

fn tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |view: safetensors::tensor::TensorView<'_>| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => panic!("{other:?}"),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(view.data(), &shape, kind)
    };
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, tensor(view)))
        .collect()
}

/// The reference's batches, one a step.
struct Batches(BTreeMap<String, Tensor>);

struct Rest<'a>(&'a Batches, u64);

impl BatchSource for Batches {
    fn pairs(&self) -> Option<u64> {
        Some(6 * 8)
    }

    fn start(&mut self, _: u64, from: &Position) -> Result<Box<dyn BatchStream + '_>> {
        Ok(Box::new(Rest(self, from.taken / 8)))
    }
}

impl BatchStream for Rest<'_> {
    fn next(&mut self) -> Result<Option<Batch>> {
        let (Batches(all), step) = (self.0, self.1 as i64);
        if step == 6 {
            return Ok(None);
        }
        self.1 += 1;
        let ids = all["input_ids"].get(step);
        // OpenCLIP knows no mask: every position counts.
        let mask = ids.ones_like().to_kind(Kind::Bool);
        Ok(Some(Batch {
            images: vec![ImageInput::Pixels(all["pixel_values"].get(step))],
            texts: vec![TextInput::Tokens(Tokens { ids, mask })],
            keys: (0..8).map(|row| Id(8 * self.1 + row)).collect(),
            items: vec![None; 8],
            concepts: vec![Vec::new(); 8],
            captions: vec![None; 8],
            weights: vec![1.0; 8],
            position: Position {
                taken: 8 * self.1,
                state: Value::Null,
            },
            ..Batch::default()
        }))
    }
}

struct Outcome {
    steps: Vec<Value>,
    weights: BTreeMap<String, Tensor>,
}

fn train(schedule: Schedule, micro_batch: usize) -> Outcome {
    tch::set_num_threads(1);
    let root = tempfile::tempdir().unwrap();
    let init = root.path().join("init");
    fs::create_dir(&init).unwrap();
    fs::copy(fixture("open_clip_config.json"), init.join("open_clip_config.json")).unwrap();
    fs::copy(fixture("init.safetensors"), init.join("open_clip_model.safetensors")).unwrap();
    let mut zoo = Zoo::new();
    clip_models::register(&mut zoo).unwrap();
    clip_train::register(&mut zoo).unwrap();
    let options = ParamOptions {
        trainable: true,
        ..ParamOptions::default()
    };
    let loaded = clip_models::load(&init, &zoo, &Families::bundled(), options, None).unwrap();
    let output = root.path().join("run");
    let config = RunConfig {
        epochs: 1,
        batch_size: 8,
        micro_batch,
        lr: 1e-3,
        warmup_steps: 2,
        schedule,
        weight_decay: 0.2,
        betas: [0.9, 0.98],
        eps: 1e-6,
        grad_clip: 1.0,
        ..RunConfig::default()
    };
    let parts = Parts {
        names: None,
        model: loaded.model,
        writer: Box::new(loaded.writer),
        source: Box::new(Batches(tensors(&fixture("batches.safetensors")))),
        evaluation: None,
        config,
        observers: Vec::new(),
        run: RunDir::open(&output, Existing::Refuse).unwrap(),
        stop: Stop::default(),
    };
    assert_eq!(Trainer::run(parts, &zoo).unwrap().step, 6);
    let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    Outcome {
        steps: metrics
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        weights: tensors(&output.join("last/open_clip_model.safetensors")),
    }
}

fn compare(outcome: &Outcome, name: &str) {
    let text = fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let trace = reference["trace"].as_array().unwrap();
    assert_eq!((trace.len(), outcome.steps.len()), (6, 6));
    for (wanted, got) in trace.iter().zip(&outcome.steps) {
        for (figure, tolerance) in [
            ("loss", 1e-4),
            ("lr", 1e-12),
            ("grad_norm", 2e-3),
            ("logit_scale", 1e-5),
        ] {
            let (wanted, got) = (wanted[figure].as_f64().unwrap(), got[figure].as_f64().unwrap());
            assert!(
                (wanted - got).abs() < tolerance,
                "{name}: {figure} {got} against {wanted}"
            );
        }
    }
    for (weight, sum) in reference["weight_sums"].as_object().unwrap() {
        let (got, sum) = (
            outcome.weights[weight].sum(Kind::Double).double_value(&[]),
            sum.as_f64().unwrap(),
        );
        let many = outcome.weights[weight].numel() as f64;
        assert!(
            (got - sum).abs() < 1e-5 * many.max(10.0),
            "{name}: {weight} sums to {got} against {sum}"
        );
    }
    for (weight, wanted) in tensors(&fixture(&format!("final_{name}.safetensors"))) {
        let off = (&outcome.weights[&weight] - wanted).abs().max().double_value(&[]);
        assert!(off < 5e-5, "{name}: {weight} is off by {off}");
    }
}

#[test]
fn a_whole_batch_follows_the_reference() {
    compare(&train(Schedule::Cosine, 0), "cosine_accum1");
    compare(&train(Schedule::Linear, 8), "linear_accum1");
}

/// Where OpenCLIP's accumulation counts the temperature's gradient once a micro-batch (`cosine_accum2`: a first norm of
/// 10.970), two micro-batches here are the whole batch.
#[test]
fn two_micro_batches_are_the_whole_batch() {
    compare(&train(Schedule::Cosine, 4), "cosine_accum1");
}
