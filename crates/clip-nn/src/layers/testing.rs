//! What the layers' tests share. Inputs and weights are sines, which PyTorch computes alike, so that a golden is its
//! output alone.

use tch::{Device, Kind, Tensor};

use crate::{Fresh, ParamOptions, Parameters, Params};

/// `sin(k), sin(2k), …` in a shape. In PyTorch:
///
/// ```text
/// wave = lambda k, *s: torch.sin(k * torch.arange(1, 1 + torch.Size(s).numel(), dtype=torch.float32)).view(s)
/// ```
pub(crate) fn wave(k: f64, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let steps = Tensor::arange_start(1, 1 + count, (Kind::Float, Device::Cpu));
    (steps * k).sin().view(shape)
}

/// A trainable layer, parameter `i` of which is `wave(0.1 + 0.07 i)`. Computes on one thread.
pub(crate) fn built<T>(build: impl FnOnce(&Params) -> T) -> (T, Parameters) {
    tch::set_num_threads(1);
    let options = ParamOptions {
        fresh: Fresh::Everything,
        trainable: true,
        ..Default::default()
    };
    let params = Params::new(None, options);
    let layer = build(&params);
    let parameters = params.finish().unwrap();
    fill(&parameters);
    (layer, parameters)
}

fn fill(parameters: &Parameters) {
    let _guard = tch::no_grad_guard();
    for (at, parameter) in parameters.iter().enumerate() {
        let mut tensor = parameter.tensor.shallow_clone();
        tensor.copy_(&wave(0.1 + 0.07 * at as f64, &parameter.tensor.size()));
    }
}

/// All values of a tensor.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().to_kind(Kind::Float).contiguous().flatten(0, -1)).unwrap()
}

#[track_caller]
pub(crate) fn assert_close(tensor: &Tensor, expected: &[f32], tolerance: f32) {
    let values = values(tensor);
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        assert!((value - expected).abs() <= tolerance, "{values:?}");
    }
}
