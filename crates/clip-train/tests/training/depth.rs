//! Locks and rates by depth, in whole runs.

use std::collections::BTreeMap;

use clip_nn::clip_core::Result;
use clip_nn::{DualEncoder, Parameter};
use clip_train::{Existing, LockLayers, Parts, RunConfig, RunDir, Schedule, Trainer};

use crate::deep::deep;
use crate::tiny::{Pairs, model, parts, weights, zoo};

/// How far a run of `config` moved each parameter at most, by name.
fn moved(model: DualEncoder, config: RunConfig) -> Result<BTreeMap<String, f64>> {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run");
    let copy = |parameter: &Parameter| (parameter.name.clone(), parameter.tensor.detach().copy());
    let before: BTreeMap<_, _> = model.parameters().iter().map(copy).collect();
    let run = RunDir::open(&path, Existing::Refuse).unwrap();
    let parts = Parts {
        evaluation: None,
        ..parts(model, Pairs::new(16, 16, 7), config, run)
    };
    Trainer::run(parts, &zoo())?;
    let after = weights(&path.join("last/model.safetensors"));
    let distance = |name: &String| (&after[name] - &before[name]).abs().max().double_value(&[]);
    Ok(before.keys().map(|name| (name.clone(), distance(name))).collect())
}

fn config() -> RunConfig {
    RunConfig {
        epochs: 1,
        batch_size: 16,
        lr: 1e-3,
        schedule: Schedule::Constant,
        weight_decay: 0.0,
        grad_clip: 0.0,
        eps: 1e-12,
        ..RunConfig::default()
    }
}

/// The first step of Adam moves a weight by the rate, whatever its gradient.
#[test]
fn the_first_step_moves_each_layer_by_its_share() {
    let decayed = RunConfig {
        layer_decay: 0.5,
        rates: BTreeMap::from([("text".to_owned(), 0.1)]),
        ..config()
    };
    let moved = moved(deep(None), decayed).unwrap();
    // Three blocks in the image tower, two in the text tower.
    let wanted = [
        ("image.class", 0.0625),
        ("image.patches.weight", 0.0625),
        ("image.blocks.0.attention.qkv.weight", 0.125),
        ("image.blocks.2.mlp.fc1.bias", 0.5),
        ("image.norm.weight", 1.0),
        ("text.words.weight", 0.0125),
        ("text.blocks.1.norm2.weight", 0.05),
        ("image_projection.weight", 1.0),
        ("logit_scale", 1.0),
    ];
    for (name, share) in wanted {
        let off = moved[name] / (share * 1e-3) - 1.0;
        assert!(off.abs() < 1e-2, "{name} moved by {}, not {share}", moved[name]);
    }
}

#[test]
fn locked_layers_stay_and_the_others_move() {
    let locked = RunConfig {
        lock_layers: LockLayers { image: 2, text: 1 },
        ..config()
    };
    let moved = moved(deep(None), locked).unwrap();
    let stay = |name: &str| {
        let first = ["image.class", "image.positions", "image.patches.", "text.words."];
        let blocks = ["image.blocks.0.", "image.blocks.1.", "text.blocks.0."];
        first.iter().chain(&blocks).any(|prefix| name.starts_with(prefix))
    };
    assert_eq!(moved.keys().filter(|name| stay(name)).count(), 4 + 3 * 12);
    for (name, distance) in &moved {
        assert_eq!(*distance == 0.0, stay(name), "{name}");
    }
}

#[test]
fn towers_without_depths_and_too_many_layers_are_refused() {
    let locked = |image| RunConfig {
        lock_layers: LockLayers { image, text: 0 },
        ..config()
    };
    let error = moved(deep(None), locked(4)).unwrap_err().to_string();
    assert!(error.contains("3 blocks"), "{error}");
    let error = moved(model(0.0), locked(1)).unwrap_err().to_string();
    assert!(error.contains("how deep"), "{error}");
    let decayed = RunConfig {
        layer_decay: 0.75,
        ..config()
    };
    let error = moved(model(0.0), decayed).unwrap_err().to_string();
    assert!(error.contains("layer_decay") && error.contains("`rates`"), "{error}");
}
