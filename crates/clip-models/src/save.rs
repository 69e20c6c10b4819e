//! Writes a model in the layout it was opened from, or in our own where that cannot express it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clip_format::{
    Dtype, Extras, Families, Family, TensorInfo, TensorView, Weights, save as save_checkpoint, write_model,
};
use clip_nn::clip_core::{Error, Result};
use clip_nn::tch::{Device, Tensor};
use clip_nn::{DualEncoder, ModelWriter, Parameters, door};
use serde_json::Value;

use crate::CheckpointPreparation;

/// Writes what a model was opened from, with the model's weights: layout, config, transform and vocabulary. Weights are
/// f32.
#[derive(Debug)]
pub struct CheckpointWriter {
    family: Arc<dyn Family>,
    /// The layout that it came in, where that cannot express it.
    instead_of: Option<String>,
    config: Value,
    preparation: CheckpointPreparation,
    vocabulary: Vec<PathBuf>,
}

impl CheckpointWriter {
    /// A writer in the layout `family`, if that can express the config, else in the project's own.
    pub(crate) fn new(
        families: &Families,
        family: &str,
        config: Value,
        preparation: CheckpointPreparation,
    ) -> Result<Self> {
        let transform = preparation.image.transform_config()?;
        let writes = families.for_saving(family, &config, Some(&transform))?;
        Ok(Self {
            instead_of: (writes.name() != family).then(|| family.to_owned()),
            family: writes,
            vocabulary: preparation.text.vocabulary_files(),
            config,
            preparation,
        })
    }

    /// The layout it writes.
    pub fn family(&self) -> &str {
        self.family.name()
    }

    /// The layout that the model came in, if that cannot express it and another is written: what a user should be told.
    pub fn instead_of(&self) -> Option<&str> {
        self.instead_of.as_deref()
    }

    /// Saves a model at `directory`, which appears whole or not at all.
    ///
    /// # Errors
    /// Something else is there already, or a file cannot be written.
    pub fn save(&self, model: &DualEncoder, directory: &Path) -> Result<()> {
        self.with(model, |weights, extras| {
            save_checkpoint(directory, &*self.family, &self.config, weights, extras)
        })
    }

    fn with(&self, model: &DualEncoder, write: impl FnOnce(&dyn Weights, Extras<'_>) -> Result<()>) -> Result<()> {
        let transform = self.preparation.image.transform_config()?;
        let extras = Extras {
            transform: Some(&transform),
            vocabulary: &self.vocabulary,
        };
        let weights = door(|| ModelWeights::new(model.parameters()))?;
        write(&weights, extras)
    }
}

impl ModelWriter for CheckpointWriter {
    fn write(&self, model: &DualEncoder, directory: &Path) -> Result<()> {
        self.with(model, |weights, extras| {
            write_model(directory, &*self.family, &self.config, weights, extras)
        })
    }
}

/// A model's tensors as bytes, made one at a time.
pub(crate) struct ModelWeights {
    infos: Vec<TensorInfo>,
    /// In the order of `infos`. A tensor is no `Sync`, which the contract asks for; nobody waits here.
    tensors: Mutex<Vec<Tensor>>,
}

impl ModelWeights {
    pub(crate) fn new(parameters: &Parameters) -> Self {
        let (infos, tensors) = parameters
            .exported()
            .map(|(name, tensor)| {
                let info = TensorInfo {
                    name: name.to_owned(),
                    dtype: Dtype::F32,
                    shape: tensor.size().iter().map(|&n| n as usize).collect(),
                };
                (info, tensor)
            })
            .unzip();
        Self {
            infos,
            tensors: Mutex::new(tensors),
        }
    }
}

impl Weights for ModelWeights {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let Some(at) = self.infos.iter().position(|info| info.name == name) else {
            return Ok(None);
        };
        let tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        let info = &self.infos[at];
        let values = door(|| {
            let tensor = tensors[at].to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0u8; info.bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel()).map(|()| bytes)
        })?;
        let bytes = values.map_err(|error| Error::internal(format!("tensor `{name}`: {error}")).source(error))?;
        Ok(Some(TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: Cow::Owned(bytes),
        }))
    }
}
