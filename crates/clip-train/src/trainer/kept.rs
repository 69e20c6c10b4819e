//! What of a model a checkpoint keeps beside its weights, and what is written for use.

use std::collections::HashMap;
use std::path::Path;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Tensor};
use clip_nn::{Parameter, Role, door};

use super::Trainer;
use crate::ema::{Ema, averaged};

/// Parameters of the objectives stand under this in a checkpoint.
const OBJECTIVES: &str = "objectives/";
/// Adapters stand under this in a checkpoint.
const ADAPTERS: &str = "adapters/";
/// Averages of weights stand under this in a checkpoint.
const EMA: &str = "ema/";

impl Trainer {
    /// Whether the model in a checkpoint is the one that is written for use.
    pub(super) fn written_as_kept(&self) -> bool {
        self.config.lora.is_none() && self.ema.is_none()
    }

    /// The run's tensors that the model's directory does not hold, by the name they have in a checkpoint.
    pub(super) fn beside(&self) -> Vec<(String, Tensor)> {
        let named = |prefix: &'static str| {
            move |parameter: &Parameter| (format!("{prefix}{}", parameter.name), parameter.tensor.detach())
        };
        let objectives = self.objectives.parameters().iter().map(named(OBJECTIVES));
        let all = self.model.parameters().iter();
        let adapters = all.filter(|parameter| parameter.role == Role::Adapter);
        let adapters = adapters.map(named(ADAPTERS));
        let averages = self.ema.iter().flat_map(Ema::iter);
        let averages = averages.map(|(name, average)| (format!("{EMA}{name}"), average.shallow_clone()));
        objectives.chain(adapters).chain(averages).collect()
    }

    /// Takes over what [`beside`](Self::beside) gave, out of a checkpoint's tensors.
    pub(super) fn restore_beside(&self, tensors: &mut HashMap<String, Tensor>, checkpoint: &Path) -> Result<()> {
        for (name, own) in self.beside() {
            let saved = tensors.remove(&name).filter(|saved| saved.size() == own.size());
            let saved = saved.ok_or_else(|| {
                Error::invalid(format!("the checkpoint holds no `{name}` of shape {:?}", own.size()))
                    .file(checkpoint)
                    .remedy("resume with the same objectives, `lora`, `ema` and locks")
            })?;
            door(|| {
                let _guard = tch::no_grad_guard();
                own.shallow_clone().copy_(&saved);
            })?;
        }
        // Those of objectives that the run no longer has are left behind.
        tensors.retain(|name, _| !name.starts_with(OBJECTIVES));
        Ok(())
    }

    /// Writes the model for use.
    pub(super) fn write_for_use(&self, folder: &Path) -> Result<()> {
        averaged(self.ema.as_ref(), || self.writer.write(&self.model, folder))
    }
}
