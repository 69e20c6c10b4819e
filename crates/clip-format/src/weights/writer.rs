//! Writes safetensors files tensor by tensor, so that no second copy of the weights is ever held.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use clip_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::tensor::{TensorInfo, Weights};

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
    for info in order {
        let view = weights.view(&info.name)?.ok_or_else(|| changed(info))?;
        if view.dtype != info.dtype || view.shape != info.shape || view.data.len() != info.bytes() {
            return Err(changed(info));
        }
        out.write_all(&view.data).map_err(io)?;
    }
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
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
    use super::*;
    use crate::testing::Table;
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
}
