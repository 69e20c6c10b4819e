//! Reads weights that are spread over several files, named by an index.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use clip_core::{Error, Result};
use serde::Deserialize;

use super::open_single;
use crate::json::read_json;
use crate::tensor::{TensorInfo, TensorView, Weights};

/// `*.index.json` of Hugging Face: which tensor is in which file.
#[derive(Deserialize)]
struct Index {
    weight_map: serde_json::Map<String, serde_json::Value>,
}

/// Shards, opened. Tensors stand in the order of the shards, by name of file.
pub(crate) struct ShardedFile {
    shards: Vec<(PathBuf, Arc<dyn Weights>)>,
    tensors: Vec<TensorInfo>,
    shard_of: HashMap<String, usize>,
}

fn index(path: &Path) -> Result<Index> {
    serde_json::from_value(read_json(path)?).map_err(|error| {
        Error::invalid(format!("is no index of weights: {error}"))
            .file(path)
            .remedy("name a weights file")
    })
}

/// The files that an index names, sorted, each once.
#[cfg(feature = "hub")]
pub(crate) fn shards(path: &Path) -> Result<Vec<String>> {
    let index = index(path)?;
    let mut files = Vec::new();
    for (tensor, file) in &index.weight_map {
        files.push(plain(tensor, file, path)?.to_owned());
    }
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// A shard's name, which must stay in its folder.
fn plain<'f>(tensor: &str, file: &'f serde_json::Value, path: &Path) -> Result<&'f str> {
    let name = file.as_str().filter(|file| is_plain(file));
    name.ok_or_else(|| Error::invalid(format!("the shard of `{tensor}` is no file name: {file}")).file(path))
}

impl ShardedFile {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let index = index(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut names: Vec<(&str, &str)> = Vec::new();
        for (tensor, file) in &index.weight_map {
            let file = plain(tensor, file, path)?;
            names.push((file, tensor));
        }
        let mut files: Vec<&str> = names.iter().map(|(file, _)| *file).collect();
        files.sort_unstable();
        files.dedup();
        let mut shards = Vec::new();
        for file in &files {
            shards.push((folder.join(file), open_single(&folder.join(file))?.0));
        }
        let wanted: HashMap<&str, &str> = names.iter().map(|(file, tensor)| (*tensor, *file)).collect();
        let mut tensors = Vec::new();
        let mut shard_of = HashMap::new();
        for (number, (_, shard)) in shards.iter().enumerate() {
            for tensor in shard.tensors() {
                // The index decides between two shards that hold the same name; a name it lacks stays visible.
                let here = wanted
                    .get(tensor.name.as_str())
                    .is_none_or(|file| *file == files[number]);
                if here && shard_of.insert(tensor.name.clone(), number).is_none() {
                    tensors.push(tensor.clone());
                }
            }
        }
        let held: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        if let Some((file, tensor)) = names.iter().find(|(_, tensor)| !held.contains(tensor)) {
            let error = Error::invalid(format!("the index places tensor `{tensor}` in {file}, which lacks it"));
            return Err(error.file(path).remedy("copy or download the shards again"));
        }
        Ok(Self {
            shards,
            tensors,
            shard_of,
        })
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.shards.iter().map(|(path, _)| path.clone()).collect()
    }
}

impl Weights for ShardedFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        self.shard_of
            .get(name)
            .map_or(Ok(None), |&shard| self.shards[shard].1.view(name))
    }

    fn release(&self) {
        self.shards.iter().for_each(|(_, shard)| shard.release());
    }
}

/// Whether a name stays in its folder.
fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Table;
    use crate::weights::write_safetensors;

    fn folder(index: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.index.json"), index).unwrap();
        let first = Table::new([("a", vec![2], vec![1.0, 2.0]), ("shared", vec![1], vec![1.0])]);
        let second = Table::new([("b", vec![1], vec![3.0]), ("shared", vec![1], vec![2.0])]);
        write_safetensors(&folder.path().join("1.safetensors"), &first).unwrap();
        write_safetensors(&folder.path().join("2.safetensors"), &second).unwrap();
        folder
    }

    #[test]
    fn the_index_decides() {
        let folder =
            folder(r#"{"weight_map": {"b": "2.safetensors", "a": "1.safetensors", "shared": "2.safetensors"}}"#);
        let file = ShardedFile::open(&folder.path().join("m.index.json")).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "shared"]);
        assert_eq!(file.view("shared").unwrap().unwrap().to_f32().unwrap(), [2.0]);
        assert_eq!(file.files().len(), 2);
    }

    #[test]
    fn a_shard_or_tensor_that_is_missing_is_named() {
        let error = |index: &str| {
            let folder = folder(index);
            ShardedFile::open(&folder.path().join("m.index.json"))
                .err()
                .unwrap()
                .to_string()
        };
        assert!(error(r#"{"weight_map": {"a": "3.safetensors"}}"#).contains("3.safetensors"));
        assert!(error(r#"{"weight_map": {"c": "1.safetensors"}}"#).contains("places tensor `c` in 1.safetensors"));
        assert!(error(r#"{"weight_map": {"a": "../1.safetensors"}}"#).contains("no file name"));
        assert!(error(r#"{"weight_map": {"a": 3}}"#).contains("no file name"));
        assert!(error("{}").contains("no index of weights"));
    }
}
