//! A weight in f32 and its copy in the type that a pass computes in.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

/// A matrix, a kernel or a bias. The f32 tensor is the master: training changes it, and gradients flow to it through the
/// cast. A weight that collects no gradient is cast once.
#[derive(Debug)]
pub(crate) struct Weight {
    master: Tensor,
    /// The last cast, and the version of the master it was made from: an in-place change makes it stale.
    lowered: RefCell<Option<(i64, Tensor)>>,
}

impl Weight {
    pub(crate) fn new(master: Tensor) -> Self {
        Self {
            master,
            lowered: RefCell::new(None),
        }
    }

    /// Whether training changes it.
    pub(crate) fn is_trained(&self) -> bool {
        self.master.requires_grad()
    }

    /// Counts in-place changes.
    pub(crate) fn version(&self) -> i64 {
        self.master.internal_version()
    }

    /// The device it is on.
    pub(crate) fn device(&self) -> Device {
        self.master.device()
    }

    /// How many values an input has.
    pub(crate) fn columns(&self) -> i64 {
        self.master.size().iter().skip(1).product()
    }

    /// f32, as `[output, the rest]`.
    pub(crate) fn matrix(&self) -> Tensor {
        matrix(self.master.shallow_clone())
    }

    /// The weight in a type; f32 is the master itself.
    pub(crate) fn to_kind(&self, kind: Kind) -> Tensor {
        if self.master.kind() == kind {
            return self.master.shallow_clone();
        }
        if self.master.requires_grad() {
            return self.master.to_kind(kind);
        }
        let version = self.master.internal_version();
        let mut lowered = self.lowered.borrow_mut();
        match &*lowered {
            Some((of, tensor)) if *of == version && tensor.kind() == kind => tensor.shallow_clone(),
            _ => {
                let tensor = self.master.to_kind(kind);
                *lowered = Some((version, tensor.shallow_clone()));
                tensor
            }
        }
    }
}

/// A weight of any dimensions as `[output, the rest]`.
pub(crate) fn matrix(weight: Tensor) -> Tensor {
    if weight.dim() > 2 {
        weight.flatten(1, -1)
    } else {
        weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_in_place_change_reaches_the_copy() {
        let mut master = Tensor::ones([2], (Kind::Float, Device::Cpu));
        let weight = Weight::new(master.shallow_clone());
        let first = weight.to_kind(Kind::BFloat16);
        assert_eq!(first.data_ptr(), weight.to_kind(Kind::BFloat16).data_ptr());
        let _ = master.fill_(3.0);
        assert_eq!(weight.to_kind(Kind::BFloat16).double_value(&[0]), 3.0);
        assert_eq!(weight.to_kind(Kind::Half).kind(), Kind::Half);
    }
}
