//! The weights' moving average: what is evaluated and written, and that a stopped run goes on to the bit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clip_nn::tch::{Kind, Tensor};
use clip_train::{Evaluation, Every, Existing, RunConfig, Summary, figures};

use crate::resume::{self, checkpoint, copy, outcome};
use crate::tiny::{Pairs, model, open, weights};

fn config(ema: f64) -> RunConfig {
    RunConfig {
        epochs: 2,
        batch_size: 5,
        lr: 0.05,
        checkpoint_every: Every::Steps(1),
        keep: clip_train::Keep::All,
        lock: vec!["text".into()],
        ema,
        ..RunConfig::default()
    }
}

fn train(path: &Path, config: RunConfig, existing: Existing) -> Summary {
    resume::train(path, config, existing).0.unwrap()
}

fn doubles(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

#[test]
fn the_average_is_written_and_evaluated_and_the_steps_know_nothing_of_it() {
    let root = tempfile::tempdir().unwrap();
    let (with, without) = (root.path().join("with"), root.path().join("without"));
    let summary = train(&with, config(0.8), Existing::Refuse);
    train(&without, config(0.0), Existing::Refuse);
    let raw = |path: &Path, step| weights(&checkpoint(path, step).join("model/model.safetensors"));
    let start = model(0.25);
    let mut wanted: BTreeMap<String, Vec<f64>> = start
        .parameters()
        .iter()
        .map(|parameter| (parameter.name.clone(), doubles(&parameter.tensor)))
        .collect();
    for step in 1..=10 {
        for (name, tensor) in raw(&with, step) {
            assert!(tensor.equal(&raw(&without, step)[&name]), "{name} in step {step}");
            for (average, weight) in wanted.get_mut(&name).unwrap().iter_mut().zip(doubles(&tensor)) {
                *average = 0.8 * *average + 0.2 * weight;
            }
        }
    }
    let last = weights(&with.join("last/model.safetensors"));
    for (name, wanted) in &wanted {
        for (got, wanted) in doubles(&last[name]).iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-6, "{name}: {got} against {wanted}");
        }
    }
    assert!(!last["image.weight"].equal(&raw(&with, 10)["image.weight"]));
    let embedded = Pairs::new(23, 5, 7)
        .embed(&open(&with.join("last")), clip_nn::Compute::F32)
        .unwrap();
    let mut measured = summary.evaluated.unwrap();
    measured.remove("step");
    assert_eq!(measured, figures(&embedded).unwrap());
}

#[test]
fn a_stopped_run_goes_on_to_the_bit() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    train(&whole, config(0.9), Existing::Refuse);
    let wanted = outcome(&whole);
    for step in [1, 6, 9] {
        let path = root.path().join(format!("from_{step}"));
        copy(&whole, &path);
        (step + 1..=10).for_each(|later| fs::remove_dir_all(checkpoint(&path, later)).unwrap());
        assert_eq!(train(&path, config(0.9), Existing::Resume).done, 10 - step);
        assert!(outcome(&path) == wanted, "step {step}");
    }
}
