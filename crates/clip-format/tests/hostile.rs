//! Files that somebody made to do harm: each is refused, quickly, before it costs memory.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use clip_format::clip_core::serde_json::{Map, Value, json};
use clip_format::clip_core::{Kind, Result};
use clip_format::{Checkpoint, Dtype, Families, Mapping, Remapped, Row, TensorInfo, TensorView, Weights, WeightsFile};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// What is said of bytes, which must be soon.
fn refused(bytes: Vec<u8>) -> String {
    let start = Instant::now();
    let message = WeightsFile::from_bytes(bytes).unwrap_err().to_string();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}: {message}");
    message
}

fn zipped(files: &[(&str, &[u8], CompressionMethod)]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data, method) in files {
        let options = SimpleFileOptions::default().compression_method(*method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Where a signature stands in a container.
fn places(bytes: &[u8], signature: &[u8]) -> Vec<usize> {
    let found = bytes.windows(signature.len()).enumerate();
    found
        .filter(|(_, window)| *window == signature)
        .map(|(at, _)| at)
        .collect()
}

const ONE: &[u8] = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage\
                     ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00K\x04\x85K\x01\x85\x89)tRs.";

/// One tensor of four numbers in PyTorch's container.
fn one(data: &[u8]) -> Vec<u8> {
    let stored = CompressionMethod::Stored;
    zipped(&[("m/data.pkl", ONE, stored), ("m/data/0", data, stored)])
}

#[test]
fn a_bomb_is_not_unpacked() {
    // Both the pickle and the data would be a thousand times as long.
    let zeros = vec![0; 64 << 20];
    let deflated = CompressionMethod::Deflated;
    let bomb = zipped(&[("m/data.pkl", &zeros, deflated)]);
    assert!(bomb.len() < 1 << 20);
    assert!(refused(bomb).contains("m/data.pkl is compressed or encrypted"));
    let bomb = zipped(&[
        ("m/data.pkl", ONE, CompressionMethod::Stored),
        ("m/data/0", &zeros, deflated),
    ]);
    assert!(refused(bomb).contains("m/data/0 is compressed or encrypted"));
}

#[test]
fn sizes_and_places_that_are_not_there_are_refused() {
    let sound = one(&[0; 16]);
    assert!(WeightsFile::from_bytes(sound.clone()).is_ok());
    // In the central directory: sizes at 20 and 24, the place of the local header at 42.
    for entry in places(&sound, b"PK\x01\x02") {
        for (field, value) in [(20, 0x7fff_fff0u32), (24, 0x7fff_fff0), (42, 0x7fff_fff0), (42, 7)] {
            let mut bytes = sound.clone();
            bytes[entry + field..entry + field + 4].copy_from_slice(&value.to_le_bytes());
            if field != 24 {
                refused(bytes);
            } else if let Ok(file) = WeightsFile::from_bytes(bytes) {
                // What it would unpack to is nobody's business here: stored bytes are as long as they are.
                assert_eq!(file.tensors.view("w").unwrap().unwrap().data.len(), 16);
            }
        }
    }
    assert!(refused(one(&[0; 15])).contains("cut short: 15 bytes of 16"));
    for cut in [0, 1, 3, 4, 20, sound.len() / 2, sound.len() - 1] {
        refused(sound[..cut].to_vec());
    }
}

/// Pickles of many megabytes whose every operation asks for a little.
#[test]
fn pickles_that_only_grow_are_stopped() {
    let pickled = |program: Vec<u8>| zipped(&[("m/data.pkl", &program, CompressionMethod::Stored)]);
    let many = |operation: &[u8]| [&b"\x80\x02"[..], &operation.repeat(8_000_000 / operation.len())].concat();
    for operation in [&b"("[..], b"]", b"N", b"]2", b"K\x01\x85", b"}q\x00h\x00"] {
        let message = refused(pickled(many(operation)));
        assert!(message.contains("more than 1048576 values"), "{operation:?}: {message}");
    }
    assert!(refused(pickled(vec![b'N'; 17 << 20])).contains("data.pkl is longer than 16777216 bytes"));
    // As deep as it is long: nothing here recurses, neither in reading nor in letting go.
    let deep = [&b"\x80\x02N"[..], &b"\x85".repeat(1_000_000), b"."].concat();
    assert!(refused(pickled(deep)).contains("no state dictionary"));
    // A length of 4 GB in front of nothing.
    assert!(refused(pickled(b"\x80\x02X\xff\xff\xff\xff.".to_vec())).contains("within an operation"));
}

/// A dictionary of many names for one tensor, whose 64 sides stand in the pickle once and would be copied for each.
#[test]
fn names_without_number_for_one_tensor_are_stopped() {
    let sides = [&b"("[..], &b"K\x01".repeat(64), b"t"].concat();
    let tensor = [
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n",
        &b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"[..],
        &sides,
        &sides,
        b"\x89)tRq\x000",
    ]
    .concat();
    let container = |names: &mut dyn Iterator<Item = String>| {
        let mut program = [b"\x80\x02", &tensor[..], b"}("].concat();
        for name in names {
            program.push(b'X');
            program.extend((name.len() as u32).to_le_bytes());
            program.extend(name.as_bytes());
            program.extend(b"h\x00");
        }
        program.extend(b"u.");
        let stored = CompressionMethod::Stored;
        zipped(&[("m/data.pkl", &program, stored), ("m/data/0", &[0; 4], stored)])
    };
    let names = |count: usize| (0..count).map(|at| format!("{at:x}"));
    let message = refused(container(&mut names(65_537)));
    assert!(
        message.contains("more than 65536 tensors, which no CLIP has"),
        "{message}"
    );
    let file = WeightsFile::from_bytes(container(&mut names(65_536))).unwrap();
    assert_eq!(file.tensors.tensors().len(), 65_536);
    // Nor is one name as long as the pickle.
    let message = refused(container(&mut ["x".repeat(1 << 20)].into_iter()));
    assert!(
        message.contains("more than 512 bytes in the name of a tensor"),
        "{message}"
    );
}

#[test]
fn headers_of_safetensors_that_lie_are_refused() {
    let headed = |header: &str| [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
    for header in [
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775807]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}"#,
        r#"{"a":null}"#,
    ] {
        refused(headed(header));
    }
    refused(headed(&format!(
        "{{\"a\":{}{}}}",
        "[".repeat(2_000_000),
        "]".repeat(2_000_000)
    )));
    for length in [0, 1, 7, u64::MAX, 1 << 62, 100_000_001] {
        refused([&length.to_le_bytes()[..], b"{}"].concat());
    }
}

#[test]
fn an_index_cannot_name_files_elsewhere_or_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors.index.json");
    let open = |index: &Value| {
        std::fs::write(&path, index.to_string()).unwrap();
        WeightsFile::open(&path).unwrap_err().to_string()
    };
    for shard in ["/etc/passwd", "../m.safetensors", "a/b.safetensors", "..", "", "."] {
        let message = open(&json!({"weight_map": {"a": shard}}));
        assert!(message.contains("is no file name"), "{shard}: {message}");
    }
    assert!(!open(&json!({"weight_map": {"a": "model.safetensors.index.json"}})).is_empty());
    // Tens of thousands of shards, none of them there: the first that is missing ends it.
    let many: Map<String, Value> = (0..50_000)
        .map(|at| (format!("t{at}"), format!("s{at}.safetensors").into()))
        .collect();
    let message = open(&json!({"weight_map": many}));
    assert!(message.contains("s0.safetensors"), "{message}");
}

#[test]
fn configs_as_deep_as_they_are_long_are_no_json() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), headless()).unwrap();
    let deep = format!("{{\"model_type\":{}1{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    std::fs::write(folder.path().join("config.json"), deep).unwrap();
    let error = Checkpoint::open(folder.path(), &Families::bundled()).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(
        error.to_string().contains("config.json: is not JSON: recursion limit"),
        "{error}"
    );
}

/// A safetensors file with one tensor.
fn headless() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
}

/// Names alone.
struct Names(Vec<TensorInfo>);

impl Weights for Names {
    fn tensors(&self) -> &[TensorInfo] {
        &self.0
    }

    fn view(&self, _name: &str) -> Result<Option<TensorView<'_>>> {
        Ok(None)
    }
}

/// A file may hold hundreds of thousands of empty tensors; a mapping must not look at each for each.
#[test]
fn names_without_number_are_mapped_in_time() {
    const ROWS: &[Row] = &[
        Row::Concat {
            file: &["{i}.q.{p}", "{i}.k.{p}"],
            model: "{i}.qk.{p}",
        },
        Row::Default {
            model: "{i}.qk.zero",
            rows_of: "{i}.q.weight",
        },
    ];
    let name = |at: usize, part: &str| TensorInfo {
        name: format!("{at}.{part}.weight"),
        dtype: Dtype::F32,
        shape: vec![0, 1],
    };
    // Every third lacks its other part.
    let names = (0..200_000).flat_map(|at| [Some(name(at, "q")), (at % 3 > 0).then(|| name(at, "k"))]);
    let names = Names(names.flatten().collect());
    let mapping = Mapping::new().under("", "", ROWS).unwrap();
    let start = Instant::now();
    let model = Remapped::load(&mapping, &names as &dyn Weights).unwrap();
    assert_eq!(model.unknown().len(), 200_000_usize.div_ceil(3));
    assert_eq!(model.tensors().len(), 2 * 200_000);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
