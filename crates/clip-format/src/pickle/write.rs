//! Writes PyTorch's zip container: what `torch.load` of every version since 1.6 reads, with `weights_only` too.
//!
//! # The container
//!
//! A zip file, nothing in it compressed, every name in one folder:
//!
//! | file | holds |
//! |---|---|
//! | `data.pkl` | the dictionary as a pickle of protocol 2; PyTorch takes the folder's name from the first file |
//! | `byteorder` | `little`, which readers before 2.1 pass over |
//! | `data/0`, `data/1`, … | the elements of one tensor each, contiguous, little-endian, at a multiple of 64 bytes |
//! | `version` | `3`, the number of the layout since 1.6; readers refuse a container without it |
//!
//! In the pickle a tensor is `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())`, and its
//! storage the persistent id `("storage", torch.FloatStorage, "0", "cpu", elements)`. Only operations are used that
//! PyTorch's restricted reader allows.
//!
//! Source: `torch/serialization.py`, `torch/_weights_only_unpickler.py` and `caffe2/serialize/inline_container.cc` of
//! PyTorch 1.6 to 2.13, and files they wrote.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use clip_core::{Error, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::tensor::{Dtype, TensorInfo, Weights};
use crate::weights::stream;

/// How the tensors stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// One dictionary of names and tensors: `pytorch_model.bin`.
    Flat,
    /// As training writes a checkpoint: the dictionary under `state_dict`, each name behind `module.` as a data-parallel
    /// run has it, beside `epoch`, `step` and `name`. Chinese-CLIP's own files are of this form, and both its loader and
    /// its trainer read it; the trainer does not read names without `module.`.
    Checkpoint,
}

/// The folder inside the container.
const FOLDER: &str = "archive";

/// PyTorch aligns storages so; whoever maps the file can then use them where they lie.
const ALIGNMENT: u16 = 64;

/// A zip file needs longer fields for an entry from here on.
const LARGE: usize = 0xffff_0000;

/// Writes all tensors, one at a time, and syncs the file to disk. It is written in place; call it on a name beside and
/// rename.
pub(crate) fn write(path: &Path, weights: &dyn Weights, nesting: Nesting) -> Result<()> {
    let io = |error| Error::io("write", path, error);
    let tensors: Vec<&TensorInfo> = weights.tensors().iter().collect();
    let mut container = Container {
        zip: ZipWriter::new(BufWriter::with_capacity(1 << 20, File::create(path).map_err(io)?)),
    };
    container.put("data.pkl", &pickle(&tensors, nesting)?).map_err(io)?;
    container.put("byteorder", b"little").map_err(io)?;
    let mut key = 0;
    stream(weights, &tensors, path, |data| {
        container.put(&format!("data/{key}"), data)?;
        key += 1;
        Ok(())
    })?;
    container.put("version", b"3\n").map_err(io)?;
    let out = container.zip.finish().map_err(|error| io(error.into()))?;
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

struct Container {
    zip: ZipWriter<BufWriter<File>>,
}

impl Container {
    fn put(&mut self, name: &str, data: &[u8]) -> std::io::Result<()> {
        // The same weights make the same file, whenever they are written.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .large_file(data.len() >= LARGE)
            .with_alignment(ALIGNMENT);
        self.zip.start_file(format!("{FOLDER}/{name}"), options)?;
        self.zip.write_all(data)
    }
}

/// The pickle of a dictionary of tensors whose storages have their places as keys.
fn pickle(tensors: &[&TensorInfo], nesting: Nesting) -> Result<Vec<u8>> {
    let mut out = Pickler {
        bytes: b"\x80\x02".to_vec(),
        said: Vec::new(),
    };
    let prefix = match nesting {
        Nesting::Flat => "",
        Nesting::Checkpoint => {
            out.bytes.extend(b"}(");
            for (key, value) in [("epoch", 0), ("step", 0)] {
                out.text(key)?;
                out.integer(value)?;
            }
            for text in ["name", "clipzoo", "state_dict"] {
                out.text(text)?;
            }
            "module."
        }
    };
    out.bytes.extend(b"}(");
    for (key, info) in tensors.iter().enumerate() {
        out.text(&format!("{prefix}{}", info.name))?;
        out.tensor(key, info)?;
    }
    out.bytes.push(b'u');
    if nesting == Nesting::Checkpoint {
        out.bytes.push(b'u');
    }
    out.bytes.push(b'.');
    Ok(out.bytes)
}

struct Pickler {
    bytes: Vec<u8>,
    /// What was memoized, in the order of its memo numbers.
    said: Vec<Vec<u8>>,
}

impl Pickler {
    /// An operation that comes again and again: said once, recalled later.
    fn once(&mut self, operation: Vec<u8>) {
        // A handful at most: names of storages and of the functions around them.
        if let Some(place) = self.said.iter().position(|said| *said == operation) {
            self.bytes.extend([b'h', place as u8]);
        } else {
            self.bytes.extend(&operation);
            self.bytes.extend([b'q', self.said.len() as u8]);
            self.said.push(operation);
        }
    }

    fn global(&mut self, module: &str, name: &str) {
        self.once(format!("c{module}\n{name}\n").into_bytes());
    }

    fn text(&mut self, text: &str) -> Result<()> {
        let operation = unicode(text)?;
        self.bytes.extend(operation);
        Ok(())
    }

    fn integer(&mut self, value: usize) -> Result<()> {
        match value {
            0..=0xff => self.bytes.extend([b'K', value as u8]),
            0x100..=0xffff => {
                self.bytes.push(b'M');
                self.bytes.extend((value as u16).to_le_bytes());
            }
            0x1_0000..=0x7fff_ffff => {
                self.bytes.push(b'J');
                self.bytes.extend((value as u32).to_le_bytes());
            }
            _ => {
                // LONG1 has a sign: no shape comes near 2^63.
                let value = i64::try_from(value).map_err(|_| too_large("a shape"))?;
                self.bytes.extend([0x8a, 8]);
                self.bytes.extend(value.to_le_bytes());
            }
        }
        Ok(())
    }

    fn tuple(&mut self, numbers: &[usize]) -> Result<()> {
        if numbers.is_empty() {
            self.bytes.push(b')');
            return Ok(());
        }
        self.bytes.push(b'(');
        numbers.iter().try_for_each(|&number| self.integer(number))?;
        self.bytes.push(b't');
        Ok(())
    }

    fn tensor(&mut self, key: usize, info: &TensorInfo) -> Result<()> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.once(unicode("storage")?);
        self.global("torch", storage(info.dtype));
        self.text(&key.to_string())?;
        self.once(unicode("cpu")?);
        self.integer(info.elements())?;
        self.bytes.extend(b"tQK\x00");
        self.tuple(&info.shape)?;
        self.tuple(&strides(&info.shape))?;
        // No gradient, no hooks.
        self.bytes.push(0x89);
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")RtR");
        Ok(())
    }
}

fn unicode(text: &str) -> Result<Vec<u8>> {
    let length = u32::try_from(text.len()).map_err(|_| too_large("a name"))?;
    Ok([b"X", &length.to_le_bytes()[..], text.as_bytes()].concat())
}

fn too_large(what: &str) -> Error {
    Error::invalid(format!("{what} is too large for PyTorch's container"))
}

/// The storage class of an element type.
fn storage(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "DoubleStorage",
        Dtype::F32 => "FloatStorage",
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        Dtype::I64 => "LongStorage",
        Dtype::I32 => "IntStorage",
        Dtype::I16 => "ShortStorage",
        Dtype::I8 => "CharStorage",
        Dtype::U8 => "ByteStorage",
        Dtype::Bool => "BoolStorage",
    }
}

/// Steps between neighbours along each dimension of a contiguous tensor; dimensions of 0 count as 1, as in PyTorch. A step
/// beyond all numbers is the largest, for which the container has no place.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut step = 1usize;
    let mut strides = Vec::with_capacity(shape.len());
    for &size in shape.iter().rev() {
        strides.push(step);
        step = step.saturating_mul(size.max(1));
    }
    strides.reverse();
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Table;
    use crate::weights::{Format, WeightsFile};
    use proptest::prelude::*;

    const DTYPES: [Dtype; 10] = [
        Dtype::F64,
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I64,
        Dtype::I32,
        Dtype::I16,
        Dtype::I8,
        Dtype::U8,
        Dtype::Bool,
    ];

    /// Any few tensors: every type, ranks 0 to 4, dimensions of 0 and 1, names beyond ASCII, any bits.
    fn tables() -> impl Strategy<Value = Table> {
        let shape = proptest::collection::vec(0usize..5, 0..5);
        let tensor = (
            "[a-zé.{}\\n ]{0,12}",
            prop::sample::select(&DTYPES[..]),
            shape,
            any::<u8>(),
        );
        proptest::collection::vec(tensor, 0..6).prop_map(|tensors| {
            let mut table = Table::new([("first.weight", vec![2, 3], vec![0.5; 6])]);
            for (place, (name, dtype, shape, seed)) in tensors.into_iter().enumerate() {
                let bytes = shape.iter().product::<usize>() * dtype.size();
                let data = (0..bytes)
                    .map(|at| (at as u8).wrapping_mul(37).wrapping_add(seed))
                    .collect();
                table.push_bytes(&format!("{place}.{name}"), dtype, shape, data);
            }
            table
        })
    }

    fn written(table: &Table, nesting: Nesting) -> (tempfile::TempDir, WeightsFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.bin");
        write(&path, table, nesting).unwrap();
        let file = WeightsFile::open(&path).unwrap();
        (folder, file)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_again_to_the_bit(table in tables()) {
            let (_folder, file) = written(&table, Nesting::Flat);
            prop_assert_eq!(file.format, Format::PickleZip);
            prop_assert_eq!(file.tensors.tensors(), table.tensors());
            prop_assert_eq!(Table::of(&*file.tensors), Table::of(&table));
            for info in table.tensors().iter().filter(|info| info.bytes() > 0) {
                prop_assert!(file.tensors.view(&info.name).unwrap().unwrap().is_aligned());
            }
        }

        #[test]
        fn a_checkpoint_has_its_tensors_below(table in tables()) {
            let (_folder, file) = written(&table, Nesting::Checkpoint);
            let names: Vec<String> = table.names().iter().map(|name| format!("module.{name}")).collect();
            prop_assert_eq!(file.tensors.names(), names.iter().map(String::as_str).collect::<Vec<_>>());
            for name in table.names() {
                let there = file.tensors.view(&format!("module.{name}")).unwrap();
                prop_assert_eq!(there, table.view(name).unwrap());
            }
        }
    }

    #[test]
    fn the_container_holds_what_pytorch_looks_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.bin");
        let table = Table::new([("a", vec![300], vec![1.0; 300]), ("b", vec![], vec![2.0])]);
        write(&path, &table, Nesting::Flat).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
        let mut names = Vec::new();
        for place in 0..archive.len() {
            let file = archive.by_index(place).unwrap();
            assert_eq!(file.compression(), CompressionMethod::Stored);
            assert_eq!(file.data_start().unwrap() % 64, 0, "{:?}", file.name());
            names.push(file.name().unwrap().into_owned());
        }
        let wanted = ["data.pkl", "byteorder", "data/0", "data/1", "version"];
        assert_eq!(names, wanted.map(|name| format!("archive/{name}")));
        write(&path, &table, Nesting::Flat).unwrap();
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "the same weights make the same file"
        );
    }

    #[test]
    fn large_numbers_keep_their_value() {
        let mut out = Pickler {
            bytes: Vec::new(),
            said: Vec::new(),
        };
        for value in [0, 255, 256, 65535, 65536, 1 << 40] {
            out.integer(value).unwrap();
        }
        assert!(out.integer(usize::MAX).is_err());
        let wanted = b"K\x00K\xffM\x00\x01M\xff\xffJ\x00\x00\x01\x00\x8a\x08\x00\x00\x00\x00\x00\x01\x00\x00";
        assert_eq!(out.bytes, wanted);
        assert_eq!(strides(&[2, 0, 3]), [3, 3, 1]);
        let empty = TensorInfo {
            name: "w".to_owned(),
            dtype: Dtype::F32,
            shape: vec![0, 1 << 40, 1 << 40],
        };
        let error = pickle(&[&empty], Nesting::Flat).unwrap_err().to_string();
        assert!(error.contains("a shape is too large"), "{error}");
    }
}
