//! A tensor's numbers, out of libtorch.

use clip_nn::tch::kind::Element;
use clip_nn::tch::{Device, Tensor};

/// The numbers of a tensor of type `T`, row by row. Runs inside a door.
pub(crate) fn on_cpu<T: Element + Default + Clone>(tensor: &Tensor) -> Vec<T> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut values = vec![T::default(); tensor.numel()];
    let count = values.len();
    tensor.copy_data(&mut values, count);
    values
}
