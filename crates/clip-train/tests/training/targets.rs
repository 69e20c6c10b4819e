//! Objectives whose targets are not in the table: of the queue, of a teacher.

use std::fs;
use std::path::Path;

use clip_train::{Existing, RunConfig};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

use crate::setting::{Setting, locked};
use crate::tiny::model;

#[test]
fn soft_targets_follow_the_queue_once_it_has_prototypes() {
    let setting = Setting::new();
    let mut config = locked();
    config.data.concept_column = Some("tags".into());
    config.queue.min_features = 2;
    for (name, share) in [("even", 0.0), ("soft", 1.0)] {
        let text = format!("[objectives.info_nce]\nlabel_smoothing = 0.5\nsoft_tau = 0.05\nsoft_targets = {share:?}");
        config.objectives = RunConfig::from_toml(&text, "run.toml").unwrap().objectives;
        setting.run(name, &config, Existing::Refuse, model(0.0)).0.unwrap();
    }
    let losses = |name| -> Vec<f64> {
        let lines = setting.metrics(name);
        lines.iter().filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (even, soft) = (losses("even"), losses("soft"));
    // The queue stands empty before the first batch.
    assert_eq!(even[0], soft[0]);
    assert!(
        even[1..].iter().zip(&soft[1..]).all(|(a, b)| (a - b).abs() > 1e-5),
        "{even:?} {soft:?}"
    );
}

/// Features of 23 rows, pictures' and texts' alike, that say which third of the table a row is in.
fn teacher(path: &Path) {
    let row = |row: usize| [0, 1, 2].map(|third| f32::from(third == row / 8));
    let bytes: Vec<u8> = (0..23).flat_map(row).flat_map(f32::to_le_bytes).collect();
    let view = || TensorView::new(Dtype::F32, vec![23, 3], &bytes).unwrap();
    let arrays = [("image_features", view()), ("text_features", view())];
    fs::write(path, safetensors::serialize(arrays, None).unwrap()).unwrap();
}

#[test]
fn a_teacher_is_learnt_from() {
    let setting = Setting::new();
    teacher(&setting.path("teacher.safetensors"));
    let text = "[objectives.distill]\ndim = 3\n[objectives.info_nce]\nweight = 0.0\n[teacher]\nscale = 20.0";
    let mut config = RunConfig {
        objectives: RunConfig::from_toml(text, "run.toml").unwrap().objectives,
        teacher: RunConfig::from_toml(text, "run.toml").unwrap().teacher,
        epochs: 12,
        ..locked()
    };
    let error = setting
        .run("none", &config, Existing::Refuse, model(0.0))
        .0
        .unwrap_err()
        .to_string();
    assert!(error.contains("[teacher]"), "{error}");
    config.teacher.features = Some(setting.path("teacher.safetensors"));
    setting.run("taught", &config, Existing::Refuse, model(0.0)).0.unwrap();
    let steps: Vec<Value> = setting
        .metrics("taught")
        .into_iter()
        .filter(|line| line.get("loss").is_some())
        .collect();
    let of = |line: &Value, name: &str| line[name].as_f64().unwrap();
    let (first, last) = (&steps[0], steps.last().unwrap());
    for name in ["distill_features", "distill_logits"] {
        assert!(of(last, name) < 0.9 * of(first, name), "{name}: {first} {last}");
    }
    assert!((of(first, "loss") - of(first, "distill_features") - of(first, "distill_logits")).abs() < 1e-6);
    assert!(first.get("info_nce").is_none());
}
