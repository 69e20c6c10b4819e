//! The one gradient path.

use clip_nn::clip_core::Id;
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Compute, DualEncoder};
use clip_train::{Batch, Beside, ObjectiveTables, Objectives, StepOptions, back_propagate};
use serde_json::json;

use crate::tiny::{Pairs, model, zoo};

fn objectives(model: &DualEncoder) -> Objectives {
    tiled(model, 0)
}

fn tiled(model: &DualEncoder, tile: usize) -> Objectives {
    let table = json!({ "label_smoothing": 0.1, "weight": 1.5, "tile": tile });
    let tables = ObjectiveTables::from([("info_nce".to_owned(), table.as_object().unwrap().clone())]);
    Objectives::build(&tables, &zoo(), &model.shape(), 0, clip_nn::tch::Device::Cpu).unwrap()
}

pub(crate) fn batch() -> Batch {
    let mut pairs = Pairs::new(11, 11, 0);
    pairs.items[2] = Some(Id(4));
    pairs.items[7] = Some(Id(4));
    let mut batch = pairs.rows(&(0..11).collect::<Vec<_>>());
    batch.weights = (0..11).map(|row| 0.5 + row as f32 / 10.0).collect();
    batch
}

pub(crate) fn options(micro_batch: usize) -> StepOptions {
    StepOptions {
        micro_batch,
        seed: 3,
        step: 17,
        compute: Compute::F32,
        patch_dropout: 0.0,
    }
}

fn loss(model: &DualEncoder, micro_batch: usize) -> f64 {
    loss_with(model, options(micro_batch))
}

pub(crate) fn loss_with(model: &DualEncoder, options: StepOptions) -> f64 {
    for parameter in model.parameters().trainable() {
        parameter.tensor.shallow_clone().zero_grad();
    }
    back_propagate(model, &objectives(model), &batch(), &Beside::default(), options)
        .unwrap()
        .loss
        .total
}

pub(crate) fn gradients(model: &DualEncoder) -> Vec<(String, Tensor)> {
    let trained = model.parameters().trainable();
    trained
        .map(|parameter| (parameter.name.clone(), parameter.tensor.grad().copy()))
        .collect()
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole_batch() {
    let model = model(0.0);
    let whole = loss(&model, 0);
    let wanted = gradients(&model);
    assert_eq!(wanted.len(), 7);
    assert!(wanted.iter().any(|(name, _)| name == "logit_scale"));
    for micro_batch in [1, 4, 10, 11, 50] {
        // Of f32 sums in another order, on CPUs that round differently.
        assert!((loss(&model, micro_batch) - whole).abs() <= 1e-5 * whole.abs());
        for ((name, wanted), (_, got)) in wanted.iter().zip(gradients(&model)) {
            let (off, most) = ((&got - wanted).abs().max(), wanted.abs().max());
            let (off, most) = (off.double_value(&[]), most.double_value(&[]));
            assert!(most > 1e-4, "{name} has no gradient");
            assert!(
                off <= 1e-5 * most,
                "{name}, micro-batches of {micro_batch}: off by {off} of {most}"
            );
        }
    }
}

#[test]
fn tiles_and_micro_batches_together_give_the_gradient_of_the_whole_batch() {
    let model = model(0.3);
    let whole = loss(&model, 4);
    let wanted = gradients(&model);
    for tile in [1, 3, 8] {
        for parameter in model.parameters().trainable() {
            parameter.tensor.shallow_clone().zero_grad();
        }
        let got = back_propagate(&model, &tiled(&model, tile), &batch(), &Beside::default(), options(4)).unwrap();
        assert!((got.loss.total - whole).abs() < 1e-6 * whole);
        for ((name, wanted), (_, got)) in wanted.iter().zip(gradients(&model)) {
            let off = (&got - wanted).abs().max().double_value(&[]);
            let most = wanted.abs().max().double_value(&[]);
            assert!(off <= 1e-5 * most, "{name}, tiles of {tile}: off by {off} of {most}");
        }
    }
}

/// With dropout the loss is another function of the weights, but the same one in both passes: its slope along a
/// direction is the gradient's.
#[test]
fn dropout_is_replayed_in_the_second_pass() {
    slope_is_the_gradients(&model(0.3), &|micro_batch| options(micro_batch));
}

/// The loss of a step, as a function of the weights, has the step's gradient as its slope.
pub(crate) fn slope_is_the_gradients(model: &DualEncoder, options: &dyn Fn(usize) -> StepOptions) {
    for micro_batch in [0, 4] {
        let loss = |model, micro_batch| loss_with(model, options(micro_batch));
        let start = loss(model, micro_batch);
        assert_eq!(start, loss(model, micro_batch), "the same step draws the same");
        let slopes = gradients(model);
        let size = slopes
            .iter()
            .map(|(_, g)| g.square().sum(Kind::Double).double_value(&[]))
            .sum::<f64>();
        let moved = |by: f64| {
            let _guard = clip_nn::tch::no_grad_guard();
            for (parameter, (_, slope)) in model.parameters().trainable().zip(&slopes) {
                let _ = parameter.tensor.shallow_clone().g_add_(&(slope * by));
            }
        };
        let by = 2e-3 / size.sqrt();
        moved(by);
        let above = loss(model, micro_batch);
        moved(-2.0 * by);
        let below = loss(model, micro_batch);
        moved(by);
        let (slope, wanted) = ((above - below) / (2.0 * by), size);
        assert!(
            (slope / wanted - 1.0).abs() < 2e-2,
            "{micro_batch}: {slope} against {wanted}"
        );
    }
}

#[test]
fn a_locked_tower_gets_no_gradient_and_no_dropout() {
    let (free, locked) = (model(0.4), model(0.4));
    locked
        .parameters()
        .lock(|parameter| parameter.name.starts_with("image."));
    let (one, two) = (loss(&locked, 0), loss(&locked, 3));
    assert_ne!(one, loss(&free, 0));
    // The text tower's dropout still draws by micro-batch; the pictures' does not.
    assert_ne!(one, two);
    let names: Vec<String> = gradients(&locked).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 5);
    assert!(!names.iter().any(|name| name.starts_with("image.")), "{names:?}");
    for parameter in locked.parameters().iter().filter(|p| p.name.starts_with("image.")) {
        assert!(!parameter.tensor.grad().defined());
    }
    locked.parameters().lock(|_| true);
    let error = back_propagate(&locked, &objectives(&locked), &batch(), &Beside::default(), options(0)).unwrap_err();
    assert!(error.to_string().contains("lock less"), "{error}");
}

#[test]
fn a_batch_of_uneven_parts_is_refused() {
    let model = model(0.0);
    let mut wrong = batch();
    wrong.weights.pop();
    assert!(back_propagate(&model, &objectives(&model), &wrong, &Beside::default(), options(0)).is_err());
}
