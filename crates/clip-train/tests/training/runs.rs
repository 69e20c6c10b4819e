//! Whole runs: what they write, what they survive.

use std::fs;
use std::path::Path;

use clip_data::read_features;
use clip_nn::ModelWriter;
use clip_nn::clip_core::{Kind, Result};
use clip_train::{Embedded, Existing, Parts, RunConfig, RunDir, Summary, Trainer, figures};
use serde_json::Value;

use crate::tiny::{Full, Pairs, Told, Writer, model, parts, weights, zoo};

fn config() -> RunConfig {
    RunConfig {
        epochs: 3,
        batch_size: 8,
        lr: 0.05,
        ..RunConfig::default()
    }
}

fn train_with(path: &Path, config: RunConfig, writer: Box<dyn ModelWriter>, pairs: Pairs) -> (Result<Summary>, Told) {
    let told = Told::default();
    let run = RunDir::open(path, Existing::Refuse).unwrap();
    let parts = Parts {
        writer,
        observers: vec![Box::new(told.clone())],
        ..parts(model(0.0), pairs, config, run)
    };
    (Trainer::run(parts, &zoo()), told)
}

fn train(path: &Path, config: RunConfig) -> Summary {
    train_with(path, config, Box::new(Writer), Pairs::new(24, 8, 1))
        .0
        .unwrap()
}

fn metrics(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_learns_and_writes_what_it_should() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let config = RunConfig { epochs: 30, ..config() };
    let summary = train(&path, config.clone());
    assert_eq!((summary.step, summary.refused), (90, 0));
    let lines = metrics(&path);
    let (steps, evaluations): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.get("loss").is_some());
    assert_eq!((steps.len(), evaluations.len()), (90, 30));
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    assert!(
        loss(steps[89]) < 0.3 * loss(steps[0]),
        "{} {}",
        loss(steps[0]),
        loss(steps[89])
    );
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], number + 1);
        for name in ["epoch", "info_nce", "lr", "logit_scale", "grad_norm", "pairs"] {
            assert!(step[name].is_number(), "{name} in {step}");
        }
    }
    for evaluation in &evaluations {
        let keys = evaluation.as_object().unwrap().keys();
        assert!(keys.filter(|key| *key != "step").all(|key| key.starts_with("valid_")));
    }
    let best = summary.best.unwrap();
    let most = evaluations
        .iter()
        .map(|e| e["valid_mean_recall"].as_f64().unwrap())
        .fold(0.0, f64::max);
    assert_eq!(best.value, most);
    assert!(best.value > 60.0, "{}", best.value);
    let at = evaluations.iter().find(|e| e["valid_mean_recall"] == most).unwrap();
    assert_eq!(at["step"], best.step, "the first of equals is kept");
    assert_eq!(RunConfig::load(path.join("run.toml")).unwrap().epochs, 30);
    assert_eq!(fs::read_dir(path.join("checkpoints")).unwrap().count(), 2);
    assert!(path.join("best/model.safetensors").exists() && path.join("last/config.json").exists());
    assert_eq!(fs::read_dir(path.join("tensorboard")).unwrap().count(), 1);
}

#[test]
fn the_features_of_the_newest_evaluation_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let mut config = config();
    train(&root.path().join("without"), config.clone());
    assert!(!root.path().join("without/valid.safetensors").exists());
    config.evaluation.keep_features = true;
    let summary = train(&path, config);
    let read = |name| read_features(path.join("valid.safetensors"), name).unwrap();
    let embedded = Embedded {
        texts: read("text_features"),
        images: read("image_features"),
        items: Pairs::new(24, 8, 1).items,
    };
    let mut evaluated = summary.evaluated.unwrap();
    evaluated.remove("step");
    assert_eq!(figures(&embedded).unwrap(), evaluated);
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    train(&one, config());
    train(&two, config());
    for name in ["last/model.safetensors", "metrics.jsonl", "run.toml"] {
        assert_eq!(
            fs::read(one.join(name)).unwrap(),
            fs::read(two.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_run_may_end_within_an_epoch() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let config = RunConfig {
        max_steps: Some(4),
        log_every: 2,
        ..config()
    };
    let summary = train(&path, config.clone());
    assert_eq!(summary.step, 4);
    let steps: Vec<_> = metrics(&path)
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [2, 3, 4, 4]);
    assert!(RunDir::open(&path, Existing::Resume).unwrap().finished(&config));
}

#[test]
fn locked_parts_keep_their_weights_and_the_temperature_its_range() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let config = RunConfig {
        lock: vec!["image".into()],
        logit_scale_range: [0.0, 2.5],
        ..config()
    };
    train(&path, config);
    let before = model(0.0);
    let after = weights(&path.join("last/model.safetensors"));
    for parameter in before.parameters().iter() {
        let same = after[&parameter.name].equal(&parameter.tensor);
        assert_eq!(same, parameter.name.starts_with("image."), "{}", parameter.name);
    }
    assert!(after["logit_scale"].double_value(&[]) <= 2.5);
    let wrong = RunConfig {
        lock: vec!["imag".into()],
        ..self::config()
    };
    let run = train_with(
        &root.path().join("wrong"),
        wrong,
        Box::new(Writer),
        Pairs::new(24, 8, 1),
    );
    let error = run.0.unwrap_err().to_string();
    assert!(error.contains("`imag`") && error.contains("image, "), "{error}");
}

#[test]
fn a_step_that_is_not_finite_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let mut pairs = Pairs::new(24, 8, 1);
    pairs.broken = vec![1, 4];
    let (summary, _) = train_with(&path, config(), Box::new(Writer), pairs.clone());
    assert_eq!(summary.unwrap().step, 9);
    let lines = metrics(&path);
    let out: Vec<u64> = lines
        .iter()
        .filter(|line| line["left_out"] == true)
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(out, [2, 5]);
    assert!(
        lines
            .iter()
            .filter(|line| line["left_out"] == true)
            .all(|line| line["loss"].is_null())
    );
    let last = weights(&path.join("last/model.safetensors"));
    assert!(
        last.values()
            .all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
    );
    pairs.broken = (2..9).collect();
    let config = RunConfig {
        max_bad_steps: 3,
        ..config()
    };
    let (summary, _) = train_with(&root.path().join("stop"), config, Box::new(Writer), pairs);
    let error = summary.unwrap_err().to_string();
    assert!(error.contains("3 steps in a row, the last of them step 5"), "{error}");
}

#[test]
fn a_last_step_that_is_not_finite_for_a_row_of_it_costs_the_run_nothing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let mut pairs = Pairs::new(24, 8, 1);
    pairs.broken = vec![8];
    let (summary, _) = train_with(&path, config(), Box::new(Writer), pairs);
    assert_eq!(summary.unwrap().step, 9);
    let lines = metrics(&path);
    let out: Vec<&Value> = lines
        .iter()
        .filter(|line| line["left_out"] == true)
        .map(|line| &line["step"])
        .collect();
    assert_eq!(out, [&Value::from(9)]);
    let last = weights(&path.join("last/model.safetensors"));
    assert!(
        last.values()
            .all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
    );
}

#[test]
fn an_unknown_figure_lists_the_known_ones() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config();
    config.evaluation.metric = "valid_r@3".into();
    let (summary, _) = train_with(&root.path().join("run"), config, Box::new(Writer), Pairs::new(24, 8, 1));
    let error = summary.unwrap_err().to_string();
    assert!(
        error.contains("`valid_r@3`") && error.contains("valid_r@1_text_to_image"),
        "{error}"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let (summary, _) = train_with(&path, config(), Box::new(Full), Pairs::new(24, 8, 1));
    let error = summary.unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted, "{error}");
    assert!(
        error.to_string().contains("cannot write") && error.to_string().contains("free some space"),
        "{error}"
    );
    assert_eq!(fs::read_dir(path.join("checkpoints")).unwrap().count(), 0);
    assert!(!path.join("last").exists());
    // The steps before it are there to be read.
    assert_eq!(metrics(&path).len(), 4);
}
