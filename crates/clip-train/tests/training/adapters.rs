//! LoRA: what is trained, what is written, and that a stopped run goes on to the bit.

use std::fs;
use std::path::Path;

use clip_nn::clip_core::Result;
use clip_nn::tch::{self, Tensor};
use clip_nn::{DualEncoder, Pass};
use clip_train::{Every, Existing, LoraConfig, RunConfig, RunDir, Summary, Trainer};

use crate::deep::deep;
use crate::resume::{checkpoint, copy, outcome};
use crate::tiny::{Pairs, open, open_with, parts, weights, zoo};

fn config() -> RunConfig {
    RunConfig {
        epochs: 2,
        batch_size: 5,
        micro_batch: 3,
        lr: 0.05,
        checkpoint_every: Every::Steps(1),
        keep: clip_train::Keep::All,
        lora: Some(LoraConfig {
            rank: 2,
            alpha: 3.0,
            targets: vec!["qkv".into(), "fc2".into()],
        }),
        ..RunConfig::default()
    }
}

fn train(path: &Path, config: RunConfig, existing: Existing) -> Result<Summary> {
    let run = RunDir::open(path, existing).unwrap();
    let lora = || config.lora.as_ref().map(LoraConfig::lora);
    let model = run
        .checkpoint()
        .map_or_else(|| deep(lora()), |checkpoint| open_with(&checkpoint.model(), lora()));
    Trainer::run(parts(model, Pairs::new(23, 5, 7), config, run), &zoo())
}

fn features(model: &DualEncoder) -> Tensor {
    let batch = Pairs::new(23, 5, 7).rows(&[0, 3, 8, 21]);
    let images = model.encode_images(&batch.images[0], Pass::INFER).unwrap().raw;
    let texts = model.encode_texts(&batch.texts[0], Pass::INFER).unwrap().raw;
    Tensor::cat(&[images, texts], 0).detach()
}

#[test]
fn adapters_projections_and_temperature_are_trained() {
    let model = deep(config().lora.as_ref().map(LoraConfig::lora));
    let count = |of: &str| -> usize {
        let trained = model.parameters().trainable().filter(|p| p.name.contains(of));
        trained.map(|p| p.tensor.numel()).sum()
    };
    // 5 blocks of width 6 and 10 in their MLP: rank 2 beside qkv [18, 6] and fc2 [6, 10].
    let (qkv, fc2) = (2 * (18 + 6), 2 * (6 + 10));
    assert_eq!(count("lora_"), 5 * (qkv + fc2));
    assert_eq!(count(""), count("lora_") + 2 * 6 * 5 + 1);
}

#[test]
fn a_stopped_run_goes_on_to_the_bit_and_what_is_written_is_an_ordinary_model() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    assert_eq!(train(&whole, config(), Existing::Refuse).unwrap().step, 10);
    let wanted = outcome(&whole);
    for step in [1, 4, 9] {
        let path = root.path().join(format!("from_{step}"));
        copy(&whole, &path);
        (step + 1..=10).for_each(|later| fs::remove_dir_all(checkpoint(&path, later)).unwrap());
        let summary = train(&path, config(), Existing::Resume).unwrap();
        assert_eq!(summary.done, 10 - step);
        assert!(outcome(&path) == wanted, "step {step}");
    }

    // The checkpoint's model is the model of before, but for what is trained as ever.
    let lora = config().lora.as_ref().map(LoraConfig::lora);
    let (start, kept) = (
        deep(None),
        weights(&checkpoint(&whole, 10).join("model/model.safetensors")),
    );
    assert_eq!(start.parameters().iter().count(), kept.len());
    for parameter in start.parameters().iter() {
        let tower = ["image.", "text."]
            .iter()
            .any(|tower| parameter.name.starts_with(tower));
        assert_eq!(
            kept[&parameter.name].equal(&parameter.tensor),
            tower,
            "{}",
            parameter.name
        );
    }
    // That model with the kept adapters beside is the one in memory; `last` does without.
    let memory = open_with(&checkpoint(&whole, 10).join("model"), lora);
    let beside = weights(&checkpoint(&whole, 10).join("optimizer.safetensors"));
    let mut found = 0;
    {
        let _guard = tch::no_grad_guard();
        for parameter in memory.parameters().iter() {
            if let Some(adapter) = beside.get(&format!("adapters/{}", parameter.name)) {
                parameter.tensor.shallow_clone().copy_(adapter);
                found += 1;
            }
        }
    }
    assert_eq!(found, 5 * 2 * 2);
    let (merged, base) = (features(&open(&whole.join("last"))), features(&start));
    let off = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
    assert!(off(&merged, &features(&memory)) < 1e-6);
    assert!(off(&merged, &base) > 1e-2);
}

#[test]
fn it_learns() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let config = RunConfig {
        epochs: 25,
        checkpoint_every: Every::Epoch,
        keep: clip_train::Keep::Newest(1),
        ..config()
    };
    let best = train(&path, config, Existing::Refuse).unwrap().best.unwrap();
    assert!(best.value > 60.0, "{best:?}");
}

#[test]
fn a_model_without_adapters_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path().join("run"), Existing::Refuse).unwrap();
    let parts = parts(deep(None), Pairs::new(23, 5, 7), config(), run);
    let error = Trainer::run(parts, &zoo()).unwrap_err().to_string();
    assert!(error.contains("ask for adapters"), "{error}");
}
