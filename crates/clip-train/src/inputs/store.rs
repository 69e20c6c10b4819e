//! Features of a locked tower on disk, found by what they were made of.
//!
//! A store is a folder named by a hash of the tower's weights and of all that prepares its input; an entry is found by a
//! hash of its content: the picture's bytes and the view, or the token ids. So tables, runs and seeds share what they have
//! in common, and a changed picture is simply another one. Entries lie in shards, safetensors files that appear whole:
//! whoever is killed loses one at most.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use clip_core::{EncodedImage, Error, Result};
use clip_data::{PendingFile, TensorFile};
use clip_nn::DualEncoder;
use clip_nn::door;
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{Xxh3, xxh3_128, xxh3_128_with_seed};

use crate::numbers::on_cpu;

/// What an entry was made of.
pub(crate) type ContentId = u128;

/// Raised when features are computed otherwise.
const VERSION: &str = "1";

/// A hash of a file's bytes, a piece at a time.
fn file_content(path: &Path) -> io::Result<ContentId> {
    let mut file = File::open(path)?;
    let mut hash = Xxh3::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.digest128()),
            read => hash.update(&piece[..read]),
        }
    }
}

/// The id of a text's tokens.
pub(crate) fn text_content(ids: &[u32]) -> ContentId {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    xxh3_128_with_seed(&bytes, 0)
}

/// A hash of a tower's weights and config, and of what `prepared` says of its input.
pub(crate) fn tower_id(model: &DualEncoder, tower: &str, prepared: &str) -> Result<String> {
    let config = match tower {
        "image" => "vision_config",
        _ => "text_config",
    };
    let mut hash = Sha256::new();
    hash.update(VERSION);
    hash.update(model.config().get(config).map(ToString::to_string).unwrap_or_default());
    hash.update(prepared);
    let tower = format!("{tower}.");
    let weights = door(|| model.parameters().exported().collect::<Vec<_>>())?;
    for (name, tensor) in weights.iter().filter(|(name, _)| name.starts_with(&tower)) {
        let values = door(|| on_cpu::<f32>(tensor))?;
        hash.update(name);
        hash.update(format!("{:?}", tensor.size()));
        for piece in values.chunks(1 << 14) {
            hash.update(piece.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

enum Rows {
    Memory(Vec<f32>),
    File(TensorFile),
}

/// Features by content.
pub(crate) struct Store {
    folder: PathBuf,
    width: usize,
    /// Bytes that may still be held in memory.
    memory: RwLock<u64>,
    held: RwLock<Held>,
    /// What the files of pictures held when they were first met, by hash of their paths.
    files: RwLock<HashMap<u128, ContentId>>,
}

#[derive(Default)]
struct Held {
    /// Shard and row of each entry.
    index: HashMap<ContentId, (u32, u32)>,
    shards: Vec<Arc<Rows>>,
}

const FEATURES: &str = "features";
const KEYS: &str = "keys";

impl Store {
    /// Opens a store of features of `width` values, of which so many bytes may be held in memory. Every file is checked;
    /// a broken one is left out, and a note says so.
    pub(crate) fn open(folder: PathBuf, width: usize, memory: u64, notes: &mut Vec<String>) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(|error| Error::io("write", &folder, error))?;
        let store = Self {
            folder,
            width,
            memory: RwLock::new(memory),
            held: RwLock::default(),
            files: RwLock::default(),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&store.folder).map_err(|error| Error::io("read", &store.folder, error))? {
            let path = entry.map_err(|error| Error::io("read", &store.folder, error))?.path();
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|extension| extension == "safetensors") {
                names.push(path);
            }
        }
        names.sort();
        for path in names {
            if let Err(error) = store.take(&path) {
                notes.push(format!(
                    "a file of kept features is broken, and its features are computed again: {error}"
                ));
                fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        Ok(store)
    }

    /// Checks a shard and takes it in.
    fn take(&self, path: &Path) -> Result<()> {
        let file = TensorFile::open(path)?;
        let wrong = |what: &str| Error::invalid(what).file(path);
        let [rows, width] = *file.shape(FEATURES)? else {
            return Err(wrong("the features are no rows"));
        };
        if width != self.width || file.shape(KEYS)? != [rows, 2] {
            return Err(wrong("the features are of another shape"));
        }
        let keys: Vec<ContentId> = file
            .integers(KEYS, 0..rows)?
            .as_chunks()
            .0
            .iter()
            .map(|&[high, low]| ContentId::from(high as u64) << 64 | ContentId::from(low as u64))
            .collect();
        let bytes = 4 * rows as u64 * width as u64;
        let keeps = bytes <= *self.memory.read().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Xxh3::new();
        let mut values = Vec::new();
        for start in (0..rows).step_by(1024) {
            let piece = file.floats(FEATURES, start..rows.min(start + 1024))?;
            piece.iter().for_each(|value| sum.update(&value.to_le_bytes()));
            if keeps {
                values.extend(piece);
            }
        }
        keys.iter().for_each(|key| sum.update(&key.to_le_bytes()));
        if file.metadata("sum") != Some(format!("{:032x}", sum.digest128()).as_str()) {
            return Err(wrong("the file was changed after it was written"));
        }
        let held = if keeps { Rows::Memory(values) } else { Rows::File(file) };
        if keeps {
            *self.memory.write().unwrap_or_else(PoisonError::into_inner) -= bytes;
        }
        let mut inside = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let shard = inside.shards.len() as u32;
        inside.shards.push(Arc::new(held));
        for (row, key) in (0..).zip(keys) {
            inside.index.entry(key).or_insert((shard, row));
        }
        Ok(())
    }

    /// Adds features, which appear as one file.
    pub(crate) fn append(&self, keys: &[ContentId], features: &[f32]) -> Result<()> {
        let Some(first) = keys.first() else { return Ok(()) };
        let mut sum = Xxh3::new();
        features.iter().for_each(|value| sum.update(&value.to_le_bytes()));
        keys.iter().for_each(|key| sum.update(&key.to_le_bytes()));
        let sum = format!("{:032x}", sum.digest128());
        let values: Vec<u8> = features.iter().flat_map(|value| value.to_le_bytes()).collect();
        let pairs: Vec<u8> = keys
            .iter()
            .flat_map(|key| [(key >> 64) as u64, *key as u64])
            .flat_map(u64::to_le_bytes)
            .collect();
        let fault =
            |error: safetensors::SafeTensorError| Error::internal(format!("kept features: {error}")).source(error);
        let views = [
            (
                FEATURES,
                TensorView::new(Dtype::F32, vec![keys.len(), self.width], &values).map_err(fault)?,
            ),
            (
                KEYS,
                TensorView::new(Dtype::I64, vec![keys.len(), 2], &pairs).map_err(fault)?,
            ),
        ];
        let metadata = HashMap::from([("sum".to_owned(), sum)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(fault)?;
        // Two processes that compute the same write the same file.
        let path = self.folder.join(format!("{first:032x}-{}.safetensors", keys.len()));
        let mut file = PendingFile::create(&path)?;
        file.write_all(&bytes).map_err(|error: io::Error| file.error(error))?;
        file.commit()?;
        self.take(&path)
    }

    /// The id of a picture's view, by the picture's bytes. A file is read once: who writes another picture into it while a
    /// run trains changes nothing of that run.
    pub(crate) fn image(&self, image: &EncodedImage, view: u64) -> Result<ContentId> {
        let plain = match image {
            EncodedImage::Bytes(bytes) => xxh3_128(bytes),
            EncodedImage::File(path) => {
                let name = xxh3_128(path.as_os_str().as_encoded_bytes());
                let known = self
                    .files
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get(&name)
                    .copied();
                match known {
                    Some(known) => known,
                    None => {
                        let content = file_content(path).map_err(|error| Error::io("read", path, error))?;
                        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
                        *files.entry(name).or_insert(content)
                    }
                }
            }
        };
        Ok(if view == 0 {
            plain
        } else {
            xxh3_128_with_seed(&plain.to_le_bytes(), view)
        })
    }

    /// Whether there is an entry.
    pub(crate) fn contains(&self, key: ContentId) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.index.contains_key(&key)
    }

    /// The features of an entry.
    pub(crate) fn get(&self, key: ContentId) -> Result<Option<Vec<f32>>> {
        let (rows, row) = {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            let Some(&(shard, row)) = held.index.get(&key) else {
                return Ok(None);
            };
            (Arc::clone(&held.shards[shard as usize]), row as usize)
        };
        match &*rows {
            Rows::Memory(values) => Ok(Some(values[row * self.width..(row + 1) * self.width].to_vec())),
            Rows::File(file) => file.floats(FEATURES, row..row + 1).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, memory: u64) -> (Store, Vec<String>) {
        let mut notes = Vec::new();
        let store = Store::open(folder.to_owned(), 3, memory, &mut notes).unwrap();
        (store, notes)
    }

    fn fill(folder: &Path) {
        let (store, _) = open(folder, 0);
        store.append(&[1, u128::MAX], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        store.append(&[7 << 64], &[7.0, 8.0, 9.0]).unwrap();
    }

    #[test]
    fn entries_are_found_by_content_in_memory_and_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        // Nothing fits; the smaller file fits; both fit.
        for memory in [0, 12, 1000] {
            let (store, notes) = open(folder.path(), memory);
            assert!(notes.is_empty());
            assert_eq!(store.get(1).unwrap().unwrap(), [1.0, 2.0, 3.0]);
            assert_eq!(store.get(u128::MAX).unwrap().unwrap(), [4.0, 5.0, 6.0]);
            assert_eq!(store.get(7 << 64).unwrap().unwrap(), [7.0, 8.0, 9.0]);
            assert!(store.get(2).unwrap().is_none() && !store.contains(7));
        }
    }

    #[test]
    fn a_broken_file_is_left_out_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let path = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .min()
            .unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 1;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        // What a killed process leaves is no file of the store.
        fs::write(folder.path().join(".x.safetensors.1-0-0.partial"), "half").unwrap();
        let (store, notes) = open(folder.path(), 1000);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(!path.exists());
        // One of the two files is left, whole.
        assert_ne!(store.contains(1), store.contains(7 << 64));
        assert_eq!(store.contains(1), store.contains(u128::MAX));
    }

    #[test]
    fn a_view_is_another_content() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = open(folder.path(), 0);
        let bytes = EncodedImage::Bytes(Arc::from([1u8, 2, 3]));
        let plain = store.image(&bytes, 0).unwrap();
        assert_ne!(plain, store.image(&bytes, 1).unwrap());
        assert_ne!(text_content(&[1, 2]), text_content(&[2, 1]));
        // A file is its bytes, wherever it lies; it is read once.
        let path = folder.path().join("a.png");
        fs::write(&path, [1, 2, 3]).unwrap();
        let file = EncodedImage::File(path.clone());
        assert_eq!(plain, store.image(&file, 0).unwrap());
        fs::write(&path, [4]).unwrap();
        assert_eq!(plain, store.image(&file, 0).unwrap());
        assert_ne!(plain, open(folder.path(), 0).0.image(&file, 0).unwrap());
        assert!(store.image(&EncodedImage::File("no.png".into()), 0).is_err());
    }
}
