//! Numbers out of libtorch, and their mean.

use clip_nn::tch::kind::Element;
use clip_nn::tch::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of a tensor of type `T`, row by row. Runs inside a door.
pub(crate) fn on_cpu<T: Element + Default + Clone>(tensor: &Tensor) -> Vec<T> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut values = vec![T::default(); tensor.numel()];
    let count = values.len();
    tensor.copy_data(&mut values, count);
    values
}

/// A mean that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    /// Takes a value in.
    pub(crate) fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean; `None` of no values.
    pub fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}
