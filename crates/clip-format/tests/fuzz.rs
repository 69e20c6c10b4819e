//! The bodies of the fuzz targets on stable Rust, so that they cannot rot: on the seeds, on sound files of every
//! container, damaged, and on bytes of proptest. `fuzz/` runs the same bodies under libFuzzer; CONTRIBUTING.md says how.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test, and another crate's library"
)]

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 7] = [
    ("safetensors", targets::safetensors),
    ("pickle_zip", targets::pickle_zip),
    ("pickle_program", targets::pickle_program),
    ("pickle_legacy", targets::pickle_legacy),
    ("torchscript", targets::torchscript),
    ("sharded_index", targets::sharded_index),
    ("family_config", targets::family_config),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Files that the readers take, in every container, and configs.
fn sound() -> Vec<Vec<u8>> {
    let weights = files(&root().join("tests/fixtures/weights"));
    let weights = weights.into_iter().map(|(_, bytes)| bytes);
    let configs = targets::config_seeds().into_iter().map(String::into_bytes);
    weights.chain(configs).collect()
}

/// No input of a few kilobytes may keep a reader longer, on whatever machine.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn every_target_takes_its_seeds_and_every_other_file() {
    for (name, body) in TARGETS {
        let seeds = files(&root().join("fuzz/corpus").join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        let start = Instant::now();
        seeds.iter().for_each(|(_, bytes)| body(bytes));
        sound().iter().for_each(|bytes| body(bytes));
        body(&[]);
        assert!(start.elapsed() < LONGEST, "{name} took {:?}", start.elapsed());
    }
}

#[test]
fn every_target_is_a_program_of_the_fuzz_crate() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let programs = files(&root().join("fuzz/fuzz_targets"));
    assert_eq!(programs.len(), TARGETS.len());
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let program = fs::read_to_string(root().join(format!("fuzz/fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("clipzoo_fuzz::{name}(data)")), "{name}");
    }
}

/// A sound file with some bytes changed, some cut off, and some put in.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let put_in = (
        any::<prop::sample::Index>(),
        proptest::collection::vec(any::<u8>(), 0..20),
    );
    let cut = proptest::option::weighted(0.3, any::<prop::sample::Index>());
    (prop::sample::select(sound()), flips, put_in, cut).prop_map(|(mut bytes, flips, (at, new), cut)| {
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let at = at.index(bytes.len());
        bytes.splice(at..at, new);
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    })
}

/// Pickles that are mostly sound operations, which random bytes seldom are.
fn operations() -> impl Strategy<Value = Vec<u8>> {
    const CODES: &[u8] = b"(.012NK)}]tedausRbcQhqloi\x85\x86\x87\x94\x93\x81\x92\x8f\x90\x91\x88\x89";
    const STORAGE: &[u8] =
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x10tQ";
    let operation = prop_oneof![
        prop::sample::select(CODES).prop_map(|code| vec![code]),
        any::<u8>().prop_map(|number| vec![b'K', number]),
        any::<i32>().prop_map(|number| [&b"J"[..], &number.to_le_bytes()].concat()),
        Just(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec()),
        Just(b"ctorch\nFloatStorage\n".to_vec()),
        Just(b"ccollections\nOrderedDict\n)R".to_vec()),
        Just(b"X\x07\x00\x00\x00storage".to_vec()),
        Just(b"X\x01\x00\x00\x000".to_vec()),
        Just(STORAGE.to_vec()),
    ];
    let operations = proptest::collection::vec(operation, 0..60);
    operations.prop_map(|operations| [b"\x80\x02".to_vec(), operations.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        TARGETS.iter().for_each(|(_, body)| body(&bytes));
    }

    #[test]
    fn damaged_files_come_back(bytes in damaged()) {
        TARGETS.iter().for_each(|(_, body)| body(&bytes));
    }

    #[test]
    fn any_operations_come_back(bytes in operations()) {
        targets::pickle_program(&bytes);
        targets::pickle_legacy(&bytes);
        targets::torchscript(&bytes);
    }
}

/// The seeds are those that are made here; `UPDATE_SEEDS=1 cargo test -p clip-format --test fuzz` writes them.
#[test]
fn the_seeds_are_those_that_are_made() {
    let update = std::env::var_os("UPDATE_SEEDS").is_some();
    for (target, name, bytes) in made() {
        let path = root().join("fuzz/corpus").join(target).join(&name);
        if update {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let there = fs::read(&path).unwrap_or_default();
        assert!(there == bytes, "{target}/{name} is another: set UPDATE_SEEDS");
    }
}

/// Target, name and bytes of each seed.
fn made() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut made = Vec::new();
    let mut put = |target: &'static str, name: &str, bytes: &[u8]| made.push((target, name.to_owned(), bytes.to_vec()));
    for (at, config) in targets::config_seeds().iter().enumerate() {
        put("family_config", &format!("{at}.json"), config.as_bytes());
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    put("family_config", "deep.json", deep.as_bytes());
    for (name, bytes) in files(&root().join("tests/fixtures/weights")) {
        let name = Path::new(&name).file_name().unwrap().to_str().unwrap();
        let target = match name {
            _ if name.ends_with(".json") => continue,
            _ if name.ends_with(".safetensors") => "safetensors",
            _ if name.starts_with("legacy") => "pickle_legacy",
            "script.pt" => "torchscript",
            _ => "pickle_zip",
        };
        put(target, name, &bytes);
        put(target, &format!("half-{name}"), &bytes[..bytes.len() / 2]);
    }
    let zip = fs::read(root().join("tests/fixtures/weights/zip.bin")).unwrap();
    let start = zip.windows(2).position(|two| two == b"\x80\x02").unwrap();
    let end = zip.windows(2).position(|two| two == b"u.").unwrap() + 2;
    put("pickle_program", "torch", &zip[start..end]);
    let system = b"\x80\x02cposix\nsystem\n(X\x02\x00\x00\x00lstR.";
    put("pickle_program", "system", system);
    put("pickle_legacy", "system", system);
    let deep = [&b"\x80\x02"[..], &b"(".repeat(20_000), b")"].concat();
    put("pickle_program", "deep", &deep);
    let memo = [&b"\x80\x02]q\x00"[..], &b"h\x00a".repeat(4000), b"."].concat();
    put("pickle_program", "memo", &memo);
    let headed = |header: &str, data: usize| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; data]].concat()
    };
    put("safetensors", "huge", &[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    let overflow = r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#;
    put("safetensors", "overflow", &headed(overflow, 8));
    let overlap = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#;
    put("safetensors", "overlap", &headed(overlap, 12));
    for (name, map) in [
        ("sound", r#"{"a": "1.safetensors", "b": "1.safetensors"}"#),
        ("missing-file", r#"{"a": "1.safetensors", "b": "2.safetensors"}"#),
        ("missing-tensor", r#"{"c": "1.safetensors"}"#),
        ("outside", r#"{"a": "../1.safetensors"}"#),
        ("itself", r#"{"a": "model.safetensors.index.json"}"#),
        ("number", r#"{"a": 1}"#),
    ] {
        put("sharded_index", name, format!(r#"{{"weight_map": {map}}}"#).as_bytes());
    }
    made
}
