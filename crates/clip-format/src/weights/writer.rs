//! Writes files of weights tensor by tensor, so that no second copy of the weights is ever held.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use clip_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::pickle::{Nesting, write_pickle};
use crate::tensor::{TensorInfo, Weights};

/// After this many bytes the source may let go of what was read.
const RELEASE: usize = 64 << 20;

/// Writes all tensors into a file of the container that its name's ending says, one at a time, and syncs it to disk:
/// `.safetensors`; `.bin`, a dictionary of tensors in PyTorch's zip container; `.pt`, such a container with the
/// dictionary under `state_dict` and its names behind `module.`, as training writes checkpoints.
///
/// The file is written in place; call it on a name beside and rename.
///
/// # Errors
/// Another ending; a file that cannot be written; a tensor that cannot be read.
pub fn write_weights(path: &Path, weights: &dyn Weights) -> Result<()> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("safetensors") => write_safetensors(path, weights),
        Some("bin") => write_pickle(path, weights, Nesting::Flat),
        Some("pt") => write_pickle(path, weights, Nesting::Checkpoint),
        _ => Err(Error::invalid("the name of a file of weights has an unknown ending")
            .file(path)
            .remedy("name it .safetensors, .bin or .pt")),
    }
}

/// Writes all tensors into a safetensors file, one at a time, and syncs it to disk.
///
/// Tensors stand by falling size of element, then by name, as the format's own writers order them: every tensor is
/// then aligned in the file. The file is written in place; call it on a name beside and rename.
pub fn write_safetensors(path: &Path, weights: &dyn Weights) -> Result<()> {
    let io = |error| Error::io("write", path, error);
    let mut order: Vec<&TensorInfo> = weights.tensors().iter().collect();
    order.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?);
    out.write_all(&header(&order)).map_err(io)?;
    stream(weights, &order, path, |data| out.write_all(data))?;
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

/// Hands the data of tensors to a writer in turn, each checked against what was announced. The source lets go of the
/// pages it read now and then, so that a mapped file does not fill memory.
pub(crate) fn stream(
    weights: &dyn Weights,
    order: &[&TensorInfo],
    path: &Path,
    mut put: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<()> {
    let mut read = 0;
    for info in order {
        let view = weights.view(&info.name)?.ok_or_else(|| changed(info))?;
        if view.dtype != info.dtype || view.shape != info.shape || view.data.len() != info.bytes() {
            return Err(changed(info));
        }
        put(&view.data).map_err(|error| Error::io("write", path, error))?;
        read += view.data.len();
        if read >= RELEASE {
            drop(view);
            weights.release();
            read = 0;
        }
    }
    Ok(())
}

fn header(order: &[&TensorInfo]) -> Vec<u8> {
    let mut entries = Map::new();
    // Hugging Face's readers refuse a file that does not say which framework it is for.
    entries.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for info in order {
        let end = at + info.bytes();
        let entry = json!({"dtype": info.dtype.name(), "shape": info.shape, "data_offsets": [at, end]});
        entries.insert(info.name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.append(&mut text);
    header
}

fn changed(info: &TensorInfo) -> Error {
    Error::internal(format!(
        "tensor `{}` is not what was announced: {} {:?}",
        info.name, info.dtype, info.shape
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::tensor::{Dtype, TensorView};
    use crate::testing::Table;
    use crate::weights::WeightsFile;
    use safetensors::SafeTensors;

    #[test]
    fn the_formats_own_reader_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.safetensors");
        write_safetensors(
            &path,
            &Table::new([("z", vec![], vec![2.5]), ("a", vec![1, 2], vec![1.0, -1.0])]),
        )
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let z = file.tensor("z").unwrap();
        assert_eq!((z.shape(), z.data()), (&[][..], &2.5f32.to_le_bytes()[..]));
        assert_eq!(file.tensor("a").unwrap().shape(), [1, 2]);
        assert_eq!(file.tensor("a").unwrap().data().as_ptr().addr() % 4, 0);
    }

    #[test]
    fn the_ending_says_the_container() {
        let folder = tempfile::tempdir().unwrap();
        let table = Table::new([("a", vec![2], vec![1.0, -1.0])]);
        for (name, wanted) in [
            ("m.safetensors", "a"),
            ("pytorch_model.bin", "a"),
            ("clip_cn_m.pt", "module.a"),
        ] {
            let path = folder.path().join(name);
            write_weights(&path, &table).unwrap();
            assert_eq!(WeightsFile::open(&path).unwrap().tensors.names(), [wanted]);
        }
        let error = write_weights(Path::new("m.npz"), &table).unwrap_err().to_string();
        assert!(error.contains("name it .safetensors, .bin or .pt"), "{error}");
    }

    /// Tensors that are made when asked for, and a count of how many bytes were read since the last release.
    struct Counted {
        tensors: Vec<TensorInfo>,
        held: AtomicUsize,
        most: AtomicUsize,
    }

    impl Weights for Counted {
        fn tensors(&self) -> &[TensorInfo] {
            &self.tensors
        }

        fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
            let info = self.tensors.iter().find(|info| info.name == name).unwrap();
            let held = self.held.fetch_add(info.bytes(), Ordering::Relaxed) + info.bytes();
            self.most.fetch_max(held, Ordering::Relaxed);
            Ok(Some(TensorView {
                dtype: info.dtype,
                shape: info.shape.clone(),
                data: vec![1; info.bytes()].into(),
            }))
        }

        fn release(&self) {
            self.held.store(0, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_was_read_is_let_go_of() {
        let size = 8 << 20;
        let tensors = (0..24).map(|at| TensorInfo {
            name: format!("t{at}"),
            dtype: Dtype::U8,
            shape: vec![size],
        });
        let weights = Counted {
            tensors: tensors.collect(),
            held: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        };
        let order: Vec<&TensorInfo> = weights.tensors.iter().collect();
        let mut written = 0;
        stream(&weights, &order, Path::new("m"), |data| {
            written += data.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(written, 24 * size);
        assert!(weights.most.load(Ordering::Relaxed) < RELEASE + size);
    }
}
