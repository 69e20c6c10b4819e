//! What of a model a checkpoint keeps beside its weights, and what is written for use.

use std::collections::HashMap;
use std::path::Path;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Tensor};
use clip_nn::{Parameter, Role, door};

use super::Trainer;

/// Adapters stand under this in a checkpoint.
const ADAPTERS: &str = "adapters/";

impl Trainer {
    /// Whether the model in a checkpoint is the one that is written for use.
    pub(super) fn written_as_kept(&self) -> bool {
        self.config.lora.is_none()
    }

    /// The settings and the model must agree on adapters, which are made when a model is built.
    pub(super) fn check_adapters(&self) -> Result<()> {
        let there = self.adapters().next().is_some();
        if there == self.config.lora.is_some() {
            return Ok(());
        }
        Err(Error::invalid(if there {
            "the model was built with adapters, and the settings have no `lora`"
        } else {
            "the settings ask for adapters, and the model was built without"
        })
        .remedy("hand LoraConfig::lora to ParamOptions when the model is built"))
    }

    fn adapters(&self) -> impl Iterator<Item = &Parameter> {
        let all = self.model.parameters().iter();
        all.filter(|parameter| parameter.role == Role::Adapter)
    }

    /// The model's tensors that its directory does not hold, by the name they have in a checkpoint.
    pub(super) fn beside(&self) -> Vec<(String, Tensor)> {
        let adapters = self.adapters();
        let named = adapters.map(|parameter| (format!("{ADAPTERS}{}", parameter.name), parameter.tensor.detach()));
        named.collect()
    }

    /// Takes over what [`beside`](Self::beside) gave, out of a checkpoint's tensors.
    pub(super) fn restore_beside(&self, tensors: &mut HashMap<String, Tensor>, checkpoint: &Path) -> Result<()> {
        for (name, tensor) in self.beside() {
            take_over(&name, &tensor, tensors, checkpoint, "resume with the same `lora`")?;
        }
        Ok(())
    }

    /// Writes the model for use.
    pub(super) fn write_for_use(&self, folder: &Path) -> Result<()> {
        self.writer.write(&self.model, folder)
    }
}

/// Moves a checkpoint's tensor into one of this run, which must be of its shape.
fn take_over(
    name: &str,
    own: &Tensor,
    tensors: &mut HashMap<String, Tensor>,
    checkpoint: &Path,
    remedy: &str,
) -> Result<()> {
    let saved = tensors.remove(name).filter(|saved| saved.size() == own.size());
    let saved = saved.ok_or_else(|| {
        Error::invalid(format!("the checkpoint holds no `{name}` of shape {:?}", own.size()))
            .file(checkpoint)
            .remedy(remedy)
    })?;
    door(|| {
        let _guard = tch::no_grad_guard();
        own.shallow_clone().copy_(&saved);
    })
}
