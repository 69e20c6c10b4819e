//! The model once for each thread, on one copy of the weights.
//!
//! A tower that only gives features works best with a batch a thread: nothing waits for anything. Several threads within
//! one operator wait for each other at its end, which costs more than they bring where operators are small, and takes
//! whole seconds where the machine has other work to do.

use std::sync::{Mutex, PoisonError};

use clip_core::{Error, Result};
use clip_nn::tch::{self, Device, Tensor};
use clip_nn::{DualEncoder, ParamOptions, Params, WeightSource, Zoo, door};

/// Models that share their weights' memory.
pub(crate) struct Replicas {
    models: Mutex<Vec<DualEncoder>>,
    count: usize,
}

/// A model's tensors as the source of another.
struct Shared(Vec<(String, Tensor)>);

impl WeightSource for Shared {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        // Detached, so that what is set on the replica's tensor (that it needs no gradient) is not set on the original.
        let found = self.0.iter().find(|(own, _)| own == name);
        Ok(found.map(|(_, tensor)| tensor.detach()))
    }
}

impl Replicas {
    /// As many replicas as libtorch has threads on a CPU, one elsewhere.
    pub(crate) fn new(model: &DualEncoder, zoo: &Zoo) -> Result<Self> {
        let device = model.logit_scale().device();
        let count = match device {
            Device::Cpu => usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1),
            _ => 1,
        };
        let mut models = Vec::new();
        for _ in 0..count {
            let list = model.parameters().exported();
            let shared = door(|| list.map(|(name, tensor)| (name.to_owned(), tensor)).collect())?;
            let options = ParamOptions {
                device,
                ..ParamOptions::default()
            };
            let params = Params::new(Some(Box::new(Shared(shared))), options);
            models.push(DualEncoder::build(model.config(), zoo, params)?);
        }
        Ok(Self {
            models: Mutex::new(models),
            count,
        })
    }

    /// How many there are: the threads that may use one at once.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Runs something with a replica on the calling thread, on which libtorch then works alone.
    pub(crate) fn with<T>(&self, run: impl FnOnce(&DualEncoder) -> Result<T>) -> Result<T> {
        let taken = self.models.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let model = taken.ok_or_else(|| Error::internal("more threads than replicas of the model"))?;
        tch::set_num_threads(1);
        let result = run(&model);
        self.models.lock().unwrap_or_else(PoisonError::into_inner).push(model);
        result
    }
}
