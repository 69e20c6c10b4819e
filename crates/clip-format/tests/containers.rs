//! Every container that weights come in, as PyTorch and safetensors write it: one table of tensors, read from each and
//! written again. `xtask/parity/weights.py` made the files.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clip_format::clip_core::serde_json::{self, json};
use clip_format::{Checkpoint, Dtype, Families, Format, Weights, WeightsFile, convert, write_weights};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// A tensor's type, shape and bytes.
type Held = (Dtype, Vec<usize>, Vec<u8>);

/// What is in a file, without the prefix of a data-parallel run.
fn held(weights: &dyn Weights) -> BTreeMap<String, Held> {
    let names = weights.names().into_iter();
    names
        .map(|name| {
            let view = weights.view(name).unwrap().unwrap();
            let name = name.strip_prefix("module.").unwrap_or(name);
            (name.to_owned(), (view.dtype, view.shape, view.data.into_owned()))
        })
        .collect()
}

/// The table of weights.py.
fn table() -> BTreeMap<String, Held> {
    let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let entry = |name: &str, dtype, shape: &[usize], bytes| (name.to_owned(), (dtype, shape.to_vec(), bytes));
    let counting = |shape: &[usize], values: &[f32]| (Dtype::F32, shape.to_vec(), f32s(values));
    let mut table = BTreeMap::from([
        entry("plain", Dtype::F32, &[2, 3], f32s(&[0.0, 0.25, 0.5, 0.75, 1.0, 1.25])),
        // 1.5, -0.25 and 65504 as halves; 3 and -1e30 as brain floats.
        entry("short", Dtype::F16, &[3], vec![0x00, 0x3e, 0x00, 0xb4, 0xff, 0x7b]),
        entry("brain", Dtype::BF16, &[2], vec![0x40, 0x40, 0x4a, 0xf1]),
        entry("scalar", Dtype::F32, &[], f32s(&[2.5])),
        entry(
            "count",
            Dtype::I64,
            &[2],
            [7i64, -1].iter().flat_map(|n| n.to_le_bytes()).collect(),
        ),
    ]);
    table.insert("turned".to_owned(), counting(&[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    table.insert("head".to_owned(), counting(&[4], &[0.0, 1.0, 2.0, 3.0]));
    table.insert("tail".to_owned(), counting(&[2, 2], &[4.0, 5.0, 6.0, 7.0]));
    table
}

fn open(name: &str) -> WeightsFile {
    WeightsFile::open(&fixtures().join("weights").join(name)).unwrap()
}

#[test]
fn safetensors() {
    let file = open("one.safetensors");
    assert_eq!(file.format, Format::Safetensors);
    assert_eq!(held(&*file.tensors), table());
}

#[test]
fn pytorchs_zip_container() {
    let file = open("zip.bin");
    assert_eq!(file.format, Format::PickleZip);
    assert_eq!(held(&*file.tensors), table());
    assert_eq!(file.tensors.names()[0], "plain", "in the order of the dictionary");
}

#[test]
fn a_state_dict_nested_in_a_training_checkpoint() {
    let file = open("nested.pt");
    assert_eq!(held(&*file.tensors), table());
    assert!(file.tensors.names().iter().all(|name| name.starts_with("module.")));
}

#[test]
fn the_container_before_pytorch_1_6() {
    for name in ["legacy.bin", "legacy_nested.pt"] {
        let file = open(name);
        assert_eq!(file.format, Format::PickleLegacy, "{name}");
        assert_eq!(held(&*file.tensors), table(), "{name}");
    }
}

#[test]
fn a_traced_model() {
    let file = open("script.pt");
    assert_eq!(file.format, Format::TorchScript);
    assert_eq!(held(&*file.tensors), table());
}

#[test]
fn shards_with_an_index() {
    let file = open("sharded.index.json");
    assert_eq!(file.format, Format::Sharded);
    assert_eq!(held(&*file.tensors), table());
    assert_eq!(file.files.len(), 3);
}

#[test]
fn each_is_the_same_after_it_was_written_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "one.safetensors",
        "zip.bin",
        "nested.pt",
        "legacy.bin",
        "legacy_nested.pt",
        "sharded.index.json",
    ];
    for name in names {
        let file = open(name);
        for ending in ["safetensors", "bin", "pt"] {
            let path = folder.path().join(format!("m.{ending}"));
            write_weights(&path, &*file.tensors).unwrap();
            let again = WeightsFile::open(&path).unwrap();
            let mut found = held(&*again.tensors);
            if ending == "pt" && file.tensors.names()[0].starts_with("module.") {
                // Behind the prefix twice, as a wrapper around a wrapper has it.
                found = found
                    .into_iter()
                    .map(|(name, held)| (name["module.".len()..].to_owned(), held))
                    .collect();
            }
            assert_eq!(found, table(), "{name} as {ending}");
        }
    }
}

#[test]
fn bytes_in_memory_are_read_as_the_file_is() {
    let bytes = |name: &str| fs::read(fixtures().join("weights").join(name)).unwrap();
    for name in [
        "one.safetensors",
        "zip.bin",
        "nested.pt",
        "legacy.bin",
        "legacy_nested.pt",
    ] {
        let file = WeightsFile::from_bytes(bytes(name)).unwrap();
        assert_eq!(held(&*file.tensors), table(), "{name}");
        file.tensors.release();
        assert_eq!(held(&*file.tensors), table(), "{name}");
    }
    for other in [Vec::new(), bytes("sharded.index.json")] {
        assert!(WeightsFile::from_bytes(other).is_err());
    }
}

/// A model directory in shards of every float type is the model in one file.
#[test]
fn a_sharded_model_is_the_model() {
    let families = Families::bundled();
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let whole = folder.path().join(format!("whole-{dtype}"));
        let source = Checkpoint::open(fixtures().join("models/hf_vtde_bert_clipvision_tiny"), &families).unwrap();
        convert(&source, "hf", Some(dtype), &whole, &families).unwrap();
        let sharded = folder.path().join(format!("sharded-{dtype}"));
        fs::create_dir(&sharded).unwrap();
        fs::copy(whole.join("config.json"), sharded.join("config.json")).unwrap();
        let file = WeightsFile::open(&whole.join("model.safetensors")).unwrap();
        let mut weight_map = serde_json::Map::new();
        for (shard, ending) in [(0, "safetensors"), (1, "bin"), (2, "safetensors")] {
            let name = format!("model-{shard}.{ending}");
            let part = Part::of(&*file.tensors, shard, 3);
            part.names()
                .iter()
                .for_each(|tensor| drop(weight_map.insert((*tensor).to_owned(), name.clone().into())));
            write_weights(&sharded.join(&name), &part).unwrap();
        }
        fs::write(
            sharded.join("model.safetensors.index.json"),
            json!({"weight_map": weight_map}).to_string(),
        )
        .unwrap();
        let (one, other) = (
            Checkpoint::open(&whole, &families).unwrap(),
            Checkpoint::open(&sharded, &families).unwrap(),
        );
        assert_eq!(other.format(), Format::Sharded);
        assert_eq!(one.id().unwrap(), other.id().unwrap(), "{dtype}");
    }
}

/// Every so-manieth tensor of a file.
struct Part<'a> {
    whole: &'a dyn Weights,
    tensors: Vec<clip_format::TensorInfo>,
}

impl<'a> Part<'a> {
    fn of(whole: &'a dyn Weights, part: usize, parts: usize) -> Self {
        let tensors = whole.tensors().iter().skip(part).step_by(parts).cloned();
        Self {
            whole,
            tensors: tensors.collect(),
        }
    }
}

impl Weights for Part<'_> {
    fn tensors(&self) -> &[clip_format::TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> clip_format::clip_core::Result<Option<clip_format::TensorView<'_>>> {
        self.whole.view(name)
    }
}
