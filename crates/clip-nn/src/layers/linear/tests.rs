//! Tests of linear layers: against PyTorch, in bf16 and in bytes.

use std::sync::Arc;

use super::*;
use crate::layers::testing::{assert_close, built, wave};
use crate::{Calibration, Compute, Fresh, Int8, LayerInput, ParamOptions};

// With `wave` as in testing.rs:
// print(torch.nn.functional.linear(wave(0.3, 2, 3), wave(0.1, 4, 3), wave(0.17, 4)))
const EXPECTED: [f32; 8] = [
    0.5423512, 1.1615717, 1.6972075, 2.1107697, 0.7481943, 1.7245405, 2.5670135, 3.2097158,
];

#[test]
fn agrees_with_pytorch() {
    let (linear, _) = built(|params| Linear::new(params, [3, 4], Init::Constant(0.0)));
    let x = wave(0.3, &[2, 3]);
    assert_close(&linear.forward(&x, Pass::INFER), &EXPECTED, 1e-6);
    let rows = linear.forward_rows(&x, 1..3, Pass::INFER);
    assert_eq!(rows, linear.forward(&x, Pass::INFER).narrow(1, 1, 2));
}

/// A layer of a tower, 32 to 24, and an input of 6 rows.
fn in_tower(int8: Int8) -> (Linear, Tensor) {
    tch::set_num_threads(1);
    let options = ParamOptions {
        fresh: Fresh::Everything,
        int8,
        ..ParamOptions::default()
    };
    let params = Params::new(None, options).tower("image").at("fc1");
    let linear = Linear::new(&params, [32, 24], Init::Normal(0.3));
    (linear, wave(0.3, &[6, 32]))
}

const INT8: Pass = Pass {
    compute: Compute::Int8,
    ..Pass::INFER
};

fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.flatten(0, -1), b.flatten(0, -1));
    (a.dot(&b) / (a.norm() * b.norm())).double_value(&[])
}

#[test]
fn bytes_are_near_and_smoothing_lets_a_wide_column_be() {
    let known = |smoothing: Vec<f32>, least, greatest| {
        let input = LayerInput {
            least,
            greatest,
            smoothing,
        };
        let layers = [("image.fc1".to_owned(), input)].into();
        Int8::Calibrated(Arc::new(Calibration { layers }))
    };
    let plain = in_tower(Int8::Uncalibrated);
    let want = plain.0.forward(&plain.1, Pass::INFER);
    for int8 in [Int8::Uncalibrated, known(Vec::new(), -1.0, 1.0)] {
        let (linear, x) = in_tower(int8);
        assert!(cosine(&linear.forward(&x, INT8), &want) > 0.9995);
        let added = linear.forward_added(&x, &want, INT8);
        assert!(cosine(&added, &(&want * 2.0)) > 0.9995);
        let rows = linear.forward_rows(&x, 3..9, INT8);
        assert!(cosine(&rows, &want.narrow(1, 3, 6)) > 0.999);
    }
    // One column 30 times as wide as the others takes their steps, unless it is divided first.
    let wide = Tensor::ones([32], (Kind::Float, tch::Device::Cpu));
    let _ = wide.get(5).fill_(30.0);
    let x = &plain.1 * &wide;
    let mut smoothing = vec![1f32; 32];
    smoothing[5] = 30f32.sqrt();
    let error = |int8| {
        let linear = in_tower(int8).0;
        (linear.forward(&x, INT8) - linear.forward(&x, Pass::INFER))
            .norm()
            .double_value(&[])
    };
    let (plain, smooth) = (
        error(known(Vec::new(), -30.0, 30.0)),
        error(known(smoothing, -5.5, 5.5)),
    );
    assert!(smooth < 0.6 * plain, "{plain} {smooth}");
}

#[test]
fn a_calibration_of_another_width_and_training_are_left_to_numbers() {
    let input = LayerInput {
        least: -1.0,
        greatest: 1.0,
        smoothing: vec![1.0; 7],
    };
    let layers = [("image.fc1".to_owned(), input)].into();
    let (linear, x) = in_tower(Int8::Calibrated(Arc::new(Calibration { layers })));
    assert!(cosine(&linear.forward(&x, INT8), &linear.forward(&x, Pass::INFER)) > 0.9999);
    let (linear, x) = in_tower(Int8::Uncalibrated);
    let train = Pass { train: true, ..INT8 };
    assert_eq!(linear.forward(&x, train), linear.forward(&x, Pass::TRAIN));
}

#[test]
fn bf16_returns_f32_and_gradients_reach_the_master() {
    let (linear, parameters) = built(|params| Linear::new(params, [3, 4], Init::Constant(0.0)));
    let pass = Pass {
        compute: Compute::Bf16,
        ..Pass::TRAIN
    };
    let y = linear.forward(&wave(0.3, &[2, 3]), pass);
    assert_eq!(y.kind(), Kind::Float);
    assert_close(&y, &EXPECTED, 2e-2);
    y.sum(Kind::Float).backward();
    let weight = &parameters.iter().next().unwrap().tensor;
    assert_eq!((weight.grad().size(), weight.grad().kind()), (vec![4, 3], Kind::Float));
}
