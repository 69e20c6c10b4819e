//! What settings ask of the model itself: locks, adapters, patches to leave out.

use clip_core::{Error, Result};
use clip_nn::{DualEncoder, Role};

use crate::config::RunConfig;
use crate::depth::lock_layers;
use crate::groups::{lock, locked};

/// Locks what the settings lock, and refuses settings that the model cannot follow.
pub(crate) fn fit(model: &DualEncoder, config: &RunConfig) -> Result<()> {
    check_adapters(model, config)?;
    lock(model.parameters(), &config.lock)?;
    lock_layers(model.parameters(), config.lock_layers)?;
    check_patches(model, config)
}

/// Adapters are made when a model is built, so settings and model must agree.
fn check_adapters(model: &DualEncoder, config: &RunConfig) -> Result<()> {
    let there = model
        .parameters()
        .iter()
        .any(|parameter| parameter.role == Role::Adapter);
    if there == config.lora.is_some() {
        return Ok(());
    }
    Err(Error::invalid(if there {
        "the model was built with adapters, and the settings have no `lora`"
    } else {
        "the settings ask for adapters, and the model was built without"
    })
    .remedy("hand LoraConfig::lora to ParamOptions when the model is built"))
}

fn check_patches(model: &DualEncoder, config: &RunConfig) -> Result<()> {
    let why = if config.patch_dropout == 0.0 {
        return Ok(());
    } else if !model.image().drops_patches() {
        "the image tower has no patches that it could leave out"
    } else if locked(model.parameters(), "image") {
        "the image tower is locked"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("patch_dropout is {}, and {why}", config.patch_dropout)).remedy("leave it out"))
}
