//! Where a model lies: a path, or a name on a hub that is fetched first.

use std::path::{Path, PathBuf};

use clip_core::Result;

/// What names on a hub begin with.
pub(crate) const SCHEME: &str = "hf:";

/// Whoever watches a download. Every method may do nothing.
pub trait Watch {
    /// A file begins: its length in bytes where it is known, and how many of them an earlier try left.
    fn begin(&mut self, _file: &str, _length: Option<u64>, _there: u64) {}

    /// So many bytes more are there.
    fn received(&mut self, _bytes: u64) {}

    /// The file is whole.
    fn end(&mut self) {}

    /// Something a person should know.
    fn note(&mut self, _text: &str) {}
}

/// Nobody watches.
impl Watch for () {}

/// Whether this names a model on a hub (`hf:owner/name[@revision]`) rather than a path.
pub fn is_hub_name(path: impl AsRef<Path>) -> bool {
    path.as_ref().to_str().is_some_and(|path| path.starts_with(SCHEME))
}

/// Whether a path would name a model on a hub if the scheme stood before it. A build that knows no such names has none.
#[cfg(feature = "hub")]
pub(crate) fn is_name_without_scheme(path: &Path) -> bool {
    path.to_str().is_some_and(crate::hub::is_name)
}

#[cfg(not(feature = "hub"))]
pub(crate) fn is_name_without_scheme(_path: &Path) -> bool {
    false
}

/// The path of a model: a path as it is; a name on a hub, `hf:owner/name[@revision]`, as the folder in the cache that its
/// files were fetched to. [`Checkpoint::open`](crate::Checkpoint::open) does the same with nobody watching.
///
/// Only what opening needs is fetched, and nothing that the cache has already: the weights that a directory would be opened
/// with, configs, vocabulary, preprocessing. The environment's usual variables count: `HF_ENDPOINT`, `HF_TOKEN` (or a token
/// file), `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
///
/// # Errors
/// No such model or revision, one that is gated or private, no network and nothing in the cache, a download that breaks
/// off or arrives damaged; each says what to do. A build without the feature `hub` refuses every name.
pub fn resolve(path: impl AsRef<Path>, watch: &mut dyn Watch) -> Result<PathBuf> {
    let path = path.as_ref();
    match path.to_str().and_then(|path| path.strip_prefix(SCHEME)) {
        None => Ok(path.to_owned()),
        Some(name) => fetch(name, watch).map_err(|error| error.file(path)),
    }
}

#[cfg(feature = "hub")]
fn fetch(name: &str, watch: &mut dyn Watch) -> Result<PathBuf> {
    crate::hub::fetch(name, watch)
}

#[cfg(not(feature = "hub"))]
fn fetch(_name: &str, _watch: &mut dyn Watch) -> Result<PathBuf> {
    Err(
        clip_core::Error::invalid("this program was built without names on a hub")
            .remedy("download the model and name its directory, or build with clip-format's feature `hub`"),
    )
}
