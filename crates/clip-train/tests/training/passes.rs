//! How the towers are run in a step: patches left out, types.

use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Compute, DualEncoder};
use clip_train::{Every, Existing, RunConfig, RunDir, StepOptions, Trainer};

use crate::deep::deep;
use crate::gradients::{gradients, loss_with, options, slope_is_the_gradients};
use crate::tiny::{Pairs, model, parts, zoo};

fn dropping(micro_batch: usize) -> StepOptions {
    StepOptions {
        patch_dropout: 0.5,
        ..options(micro_batch)
    }
}

#[test]
fn micro_batches_of_transformers_give_the_whole_gradient() {
    let model = deep(None);
    let whole = loss_with(&model, options(0));
    let wanted = gradients(&model);
    assert!((loss_with(&model, options(4)) - whole).abs() < 1e-6);
    for ((name, wanted), (_, got)) in wanted.iter().zip(gradients(&model)) {
        let off = (&got - wanted).abs().max().double_value(&[]);
        // A key's bias moves every score of a query alike: its gradient is rounding.
        let most = wanted.abs().max().double_value(&[]).max(1e-2);
        assert!(off <= 1e-5 * most, "{name}: off by {off} of {most}");
    }
}

#[test]
fn left_out_patches_are_the_same_ones_in_the_second_pass() {
    let model = deep(None);
    assert_ne!(loss_with(&model, dropping(0)), loss_with(&model, options(0)));
    let other = StepOptions {
        step: 18,
        ..dropping(0)
    };
    assert_ne!(loss_with(&model, dropping(0)), loss_with(&model, other));
    slope_is_the_gradients(&model, &dropping);
}

#[test]
fn bf16_points_where_f32_does() {
    let model = deep(None);
    let all = |compute, micro_batch| {
        let loss = loss_with(
            &model,
            StepOptions {
                compute,
                ..options(micro_batch)
            },
        );
        let list = gradients(&model);
        assert!(list.iter().all(|(_, gradient)| gradient.kind() == Kind::Float));
        (loss, list)
    };
    let (full, wanted) = all(Compute::F32, 0);
    for micro_batch in [0, 4] {
        let (half, got) = all(Compute::Bf16, micro_batch);
        assert!(
            (half - full).abs() < 0.02 * full.abs() && half != full,
            "{half} and {full}"
        );
        let flat =
            |list: &[(String, Tensor)]| Tensor::cat(&list.iter().map(|(_, g)| g.flatten(0, -1)).collect::<Vec<_>>(), 0);
        let (got, wanted) = (flat(&got), flat(&wanted));
        let cosine = (got.dot(&wanted) / (got.norm() * wanted.norm())).double_value(&[]);
        assert!(cosine > 0.99, "{cosine}");
    }
}

fn train(model: DualEncoder, config: RunConfig) -> clip_nn::clip_core::Result<f64> {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::open(root.path().join("run"), Existing::Refuse).unwrap();
    Trainer::run(parts(model, Pairs::new(23, 8, 7), config, run), &zoo()).map(|summary| summary.best.unwrap().value)
}

fn config() -> RunConfig {
    let mut config = RunConfig {
        epochs: 60,
        batch_size: 8,
        lr: 0.02,
        patch_dropout: 0.5,
        ..RunConfig::default()
    };
    config.evaluation.every = Every::Steps(60);
    config
}

#[test]
fn a_run_that_leaves_patches_out_learns() {
    // Half of them would hide half of what there is to see; a text names all of it.
    let few = RunConfig {
        patch_dropout: 0.25,
        ..config()
    };
    let best = train(deep(None), few).unwrap();
    assert!(best > 50.0, "{best}");
}

#[test]
fn a_run_in_bf16_learns() {
    let bf16 = RunConfig {
        dtype: clip_train::Precision::Bf16,
        patch_dropout: 0.0,
        ..config()
    };
    let best = train(deep(None), bf16).unwrap();
    assert!(best > 60.0, "{best}");
}

#[test]
fn a_tower_that_has_no_patches_or_is_locked_is_refused() {
    let error = train(model(0.0), config()).unwrap_err().to_string();
    assert!(
        error.contains("patch_dropout is 0.5") && error.contains("no patches"),
        "{error}"
    );
    let locked = RunConfig {
        lock: vec!["image".into()],
        ..config()
    };
    let error = train(deep(None), locked).unwrap_err().to_string();
    assert!(error.contains("image tower is locked"), "{error}");
}
