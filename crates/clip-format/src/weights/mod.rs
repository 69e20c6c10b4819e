//! Files of weights, whatever their format, as named tensors.

mod safetensors;
mod sharded;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::{Error, Result};

use crate::map::MappedFile;
use crate::pickle::{PickleFile, refuse_forbidden};
use crate::tensor::Weights;
pub(crate) use safetensors::{SafetensorsFile, cut_short};
pub(crate) use sharded::ShardedFile;
#[cfg(feature = "hub")]
pub(crate) use sharded::shards;
pub(crate) use writer::stream;
pub use writer::{write_safetensors, write_weights};

/// The formats that weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// One safetensors file.
    Safetensors,
    /// PyTorch's zip container.
    PickleZip,
    /// PyTorch's container before 1.6: pickles and storages in a row.
    PickleLegacy,
    /// PyTorch's zip container of a traced or scripted model: its tensors, without its code.
    TorchScript,
    /// An index file that names shards.
    Sharded,
}

/// An opened file of weights: its tensors under the file's own names, its format, and the files it is made of.
pub struct WeightsFile {
    /// The tensors, under the file's own names.
    pub tensors: Arc<dyn Weights>,
    /// The format, found by content.
    pub format: Format,
    /// The files: one, or an index and its shards.
    pub files: Vec<PathBuf>,
}

impl WeightsFile {
    /// Opens a file of weights; the format is found by content, whatever the name. No data is read yet.
    pub fn open(path: &Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "json") {
            let sharded = ShardedFile::open(path)?;
            let files = [vec![path.to_owned()], sharded.files()].concat();
            return Ok(Self {
                tensors: Arc::new(sharded),
                format: Format::Sharded,
                files,
            });
        }
        let (tensors, format) = open_single(path)?;
        Ok(Self {
            tensors,
            format,
            files: vec![path.to_owned()],
        })
    }

    /// Opens the weights that a model's path names: the file, or the first of the fixed names in a directory.
    pub fn of_model(path: &Path) -> Result<Self> {
        Self::open(&crate::locate::weights(path)?)
    }

    /// The same of a file's bytes that are in memory. An index of shards is none: it names other files.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        if bytes.is_empty() {
            return Err(Error::invalid("the file is empty"));
        }
        let (tensors, format) = read(MappedFile::held(bytes), Path::new("(memory)"))?;
        Ok(Self {
            tensors,
            format,
            files: Vec::new(),
        })
    }
}

impl std::fmt::Debug for WeightsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.tensors.tensors().len();
        write!(f, "WeightsFile({:?}, {:?}, {count} tensors)", self.files, self.format)
    }
}

/// Opens a file that holds its tensors itself.
pub(crate) fn open_single(path: &Path) -> Result<(Arc<dyn Weights>, Format)> {
    read(MappedFile::open(path)?, path)
}

fn read(map: MappedFile, path: &Path) -> Result<(Arc<dyn Weights>, Format)> {
    let named_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
    if named_safetensors || map.get(8) == Some(&b'{') {
        return Ok((Arc::new(SafetensorsFile::new(map, path)?), Format::Safetensors));
    }
    if map.starts_with(b"PK") {
        let file = PickleFile::zip(map, path)?;
        let format = if file.is_script() {
            Format::TorchScript
        } else {
            Format::PickleZip
        };
        return Ok((Arc::new(file), format));
    }
    if map.starts_with(&[0x80]) {
        return Ok((Arc::new(PickleFile::legacy(map, path)?), Format::PickleLegacy));
    }
    if map.starts_with(b"version https://git-lfs") {
        let error = Error::invalid("is a Git LFS pointer, not the weights themselves");
        return Err(error.file(path).remedy("fetch the file with `git lfs pull`"));
    }
    // Pickles of protocol 0 and 1 have no mark of their own; if they ask for something, say so.
    if map.starts_with(b"c") || map.starts_with(b"(") {
        refuse_forbidden(&map, 1).map_err(|error| error.file(path))?;
    }
    let error = Error::invalid("is neither a safetensors file nor one of PyTorch's containers");
    Err(error
        .file(path)
        .remedy("name a .safetensors, .bin, .pt or .pth file of weights"))
}
