//! Models by their names on a hub, fetched into the cache that Hugging Face's own tools share.
//!
//! The cache's layout is hf-hub's business (`models--owner--name/{blobs,refs,snapshots}`), requests are ours:
//! docs/decisions/0004-hf-hub.md says why.

mod client;
mod download;
mod name;
mod settings;
mod snapshot;
mod store;

use std::path::PathBuf;

use clip_core::{Error, Result};

use crate::source::Watch;
use name::HubName;
use settings::Settings;

/// Whether this is `owner/name[@revision]`.
pub(crate) fn is_name(text: &str) -> bool {
    HubName::parse(text).is_ok()
}

/// Fetches what opening `owner/name[@revision]` needs, as the process's environment says; gives the folder.
pub(crate) fn fetch(name: &str, watch: &mut dyn Watch) -> Result<PathBuf> {
    let name = HubName::parse(name)?;
    let settings = Settings::from(&|key| std::env::var(key).ok().filter(|value| !value.is_empty()))?;
    fetch_with(&name, &settings, watch)
}

fn fetch_with(name: &HubName, settings: &Settings, watch: &mut dyn Watch) -> Result<PathBuf> {
    let store = store::Store::new(&settings.cache, name);
    if settings.offline {
        return store.kept()?.ok_or_else(|| {
            Error::not_found(format!(
                "HF_HUB_OFFLINE is set, and the cache {} does not hold the model",
                settings.cache.display()
            ))
            .remedy("unset HF_HUB_OFFLINE, or fetch the model once where there is a network")
        });
    }
    match snapshot::fetch(name, settings, &store, watch) {
        Err(fault) if fault.unreachable => match store.kept()? {
            Some(kept) => {
                watch.note(&format!("{}; taking the copy in the cache", fault.error.what()));
                Ok(kept)
            }
            None => Err(fault.error),
        },
        other => other.map_err(|fault| fault.error),
    }
}

/// An error, and whether it is only that nothing answers.
#[derive(Debug)]
struct Fault {
    error: Error,
    unreachable: bool,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self {
            error,
            unreachable: false,
        }
    }
}

#[cfg(test)]
mod tests;
