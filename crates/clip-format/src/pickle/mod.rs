//! A strict reader of PyTorch's pickled weights, and a writer of its zip container.
//!
//! The reader accepts dictionaries of tensors, one dictionary `state_dict` inside another allowed, and the objects of a traced model,
//! whose attributes are tensors; nothing that runs:
//! a pickle is a program, and this reader gives a meaning to the handful of names that weights need. Any other name
//! is refused by name. The data stays mapped and is checked against the file before it is used.

mod archive;
mod global;
mod legacy;
mod machine;
mod modules;
mod op;
mod state;
mod strided;
mod write;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use crate::map::MappedFile;
use crate::tensor::{TensorInfo, TensorView, Weights};
use state::Entry;

pub(crate) use global::refuse_forbidden;
pub(crate) use write::{Nesting, write as write_pickle};

/// A pickle describes tensors; the longest seen, with optimiser state, is about 1 MB.
const LONGEST_PICKLE: usize = 16 << 20;

/// A mapped file in one of PyTorch's containers.
#[derive(Debug)]
pub(crate) struct PickleFile {
    map: MappedFile,
    path: PathBuf,
    tensors: Vec<TensorInfo>,
    entries: HashMap<String, Entry>,
    script: bool,
}

impl PickleFile {
    /// Opens the zip container: `data.pkl` and one entry a storage.
    pub(crate) fn zip(map: MappedFile, path: &Path) -> Result<Self> {
        let (entries, script) = archive::entries(&map).map_err(|error| error.file(path))?;
        Ok(Self {
            script,
            ..Self::new(map, path, entries)
        })
    }

    /// Opens the container before PyTorch 1.6: pickles, then storages, in a row.
    pub(crate) fn legacy(map: MappedFile, path: &Path) -> Result<Self> {
        let entries = legacy::entries(&map).map_err(|error| error.file(path))?;
        Ok(Self::new(map, path, entries))
    }

    /// Whether it is a traced or scripted model (TorchScript).
    pub(crate) fn is_script(&self) -> bool {
        self.script
    }

    fn new(map: MappedFile, path: &Path, entries: Vec<Entry>) -> Self {
        let tensors = entries.iter().map(|entry| entry.info.clone()).collect();
        let entries = entries
            .into_iter()
            .map(|entry| (entry.info.name.clone(), entry))
            .collect();
        Self {
            map,
            path: path.to_owned(),
            tensors,
            entries,
            script: false,
        }
    }
}

impl Weights for PickleFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let Some(Entry { info, view, bytes }) = self.entries.get(name) else {
            return Ok(None);
        };
        let storage = self.map.get(bytes.clone()).ok_or_else(|| {
            Error::internal(format!("the storage of `{name}` lies outside the file")).file(&self.path)
        })?;
        let data = match view.contiguous_range(info.dtype.size()) {
            Some(range) => Cow::Borrowed(&storage[range]),
            None => Cow::Owned(view.gather(storage, info.dtype.size())),
        };
        Ok(Some(TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data,
        }))
    }

    fn release(&self) {
        self.map.release();
    }
}

#[cfg(test)]
mod tests;
