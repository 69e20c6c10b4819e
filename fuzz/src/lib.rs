//! The bodies of the fuzz targets: each takes any bytes and must come back, without a panic, without more memory than the
//! bytes themselves are worth, whatever they claim.
//!
//! `crates/clip-format/tests/fuzz.rs` runs them on stable Rust, on the seeds in `corpus/` and on bytes of proptest.

use std::io::{Cursor, Write};

use clip_format::clip_core::serde_json::{self, Value, json};
use clip_format::clip_core::{Error, Result};
use clip_format::clip_data::TransformConfig;
use clip_format::{Dtype, Evidence, Families, Family, Format, Remapped, TensorInfo, TensorView, Weights, WeightsFile};

/// Any bytes as a safetensors file.
pub fn safetensors(data: &[u8]) {
    // Its own reader is taken where the header looks like JSON; elsewhere the other readers have their own targets.
    if data.get(8) == Some(&b'{') {
        read(data);
    } else {
        let header = [&(data.len() as u64).to_le_bytes()[..], b"{", data].concat();
        read(&header);
    }
}

/// Any bytes as PyTorch's zip container.
pub fn pickle_zip(data: &[u8]) {
    read(&[b"PK", data].concat());
    read(data);
}

/// Any bytes as the pickle inside a sound container, beside a little data.
pub fn pickle_program(data: &[u8]) {
    let files: [(&str, &[u8]); 4] = [
        ("m/data.pkl", data),
        ("m/byteorder", b"little"),
        ("m/data/0", &[0; 64]),
        ("m/version", b"3\n"),
    ];
    if let Some(container) = container(&files) {
        read(&container);
    }
}

/// Any bytes as the container before PyTorch 1.6.
pub fn pickle_legacy(data: &[u8]) {
    read(data);
    // Behind a sound beginning, where the object's own pickle stands.
    let start = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    read(&[&start[..], data].concat());
}

/// Any bytes as what a traced model holds.
pub fn torchscript(data: &[u8]) {
    let (code, pickle) = data.split_at(data.len() / 4);
    let files: [(&str, &[u8]); 6] = [
        ("m/data.pkl", pickle),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/code/__torch__.py", code),
        ("m/data/0", &[0; 64]),
        ("m/constants/0", &[0; 16]),
        ("m/version", b"2\n"),
    ];
    if let Some(container) = container(&files) {
        read(&container);
    }
    read(data);
}

/// Any bytes as the index of weights in two files, one of which is there.
pub fn sharded_index(data: &[u8]) {
    // The same folder for all calls of a thread; what it is called and where it stands, the readers must not care about.
    thread_local!(static FOLDER: Option<tempfile::TempDir> = shard_beside().ok());
    FOLDER.with(|folder| {
        let Some(folder) = folder else {
            panic!("no room for a folder of a few bytes");
        };
        let index = folder.path().join("model.safetensors.index.json");
        if let Err(error) = std::fs::write(&index, data) {
            panic!("no room for a few bytes: {error}");
        }
        if let Ok(file) = WeightsFile::open(&index) {
            read_all(&file, SHARD_BYTES);
        }
    });
}

/// As long as the data in [`shard_beside`]'s file.
const SHARD_BYTES: usize = 24;

/// A folder with one sound file: tensors `a` and `b`.
fn shard_beside() -> std::io::Result<tempfile::TempDir> {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let folder = tempfile::tempdir()?;
    let bytes = [&length[..], header.as_bytes(), &[0; SHARD_BYTES]].concat();
    std::fs::write(folder.path().join("1.safetensors"), bytes)?;
    Ok(folder)
}

/// Any bytes as a config, and as a preprocessor's: for each family, whether it would recognise it or not.
///
/// `{"config": …, "tensors": [["name", [2, 3]], …]}`, or the config alone.
pub fn family_config(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let config = value.get("config").unwrap_or(&value);
    let tensors = announced(value.get("tensors"));
    let beside = |name: &str| match name {
        "text.json" | "vision.json" => Ok(value.get(name).cloned()),
        _ => Ok(None),
    };
    let families = Families::bundled();
    let evidence = Evidence {
        config: Some(("config.json", config)),
        tensors: &tensors,
        file: "model.safetensors",
        format: Format::Safetensors,
        beside: &beside,
    };
    let _ = families.recognise(&evidence);
    let bare = Evidence {
        config: None,
        tensors: &tensors,
        file: "clip_cn_x.pt",
        format: Format::PickleZip,
        beside: &beside,
    };
    let _ = families.recognise(&bare);
    for family in families.iter() {
        let _ = family.asks(&bare);
        for evidence in [&evidence, &bare] {
            let _ = through(family, evidence, &families);
        }
    }
    if let Ok(transform) = TransformConfig::from_json(config) {
        assert!(transform.check().is_ok());
    }
}

/// Config and names through a family, and on into every other.
fn through(family: &dyn Family, evidence: &Evidence<'_>, families: &Families) -> Result<()> {
    let canonical = family.canonical(evidence)?;
    let transform = family.default_transform(&canonical).ok();
    let mapping = family.mapping(&canonical)?;
    let file: &dyn Weights = &Announced(evidence.tensors.to_vec());
    if let Ok(model) = Remapped::load(&mapping, file) {
        let most = 2 * evidence.tensors.len() + 64;
        assert!(
            model.tensors().len() <= most,
            "{} tensors out of {}",
            model.tensors().len(),
            evidence.tensors.len()
        );
        let model: &dyn Weights = &model;
        let _ = Remapped::save(&mapping, model);
    }
    for other in families.iter() {
        let _ = other.restore(&canonical, transform.as_ref());
    }
    Ok(())
}

/// Names and shapes without data.
struct Announced(Vec<TensorInfo>);

impl Weights for Announced {
    fn tensors(&self) -> &[TensorInfo] {
        &self.0
    }

    fn view(&self, _name: &str) -> Result<Option<TensorView<'_>>> {
        Err(Error::invalid("nobody looks at the data here"))
    }
}

fn announced(value: Option<&Value>) -> Vec<TensorInfo> {
    let tensors = value.and_then(Value::as_array).into_iter().flatten();
    let tensor = |tensor: &Value| {
        let shape = tensor
            .get(1)?
            .as_array()?
            .iter()
            .map(Value::as_u64)
            .collect::<Option<Vec<_>>>()?;
        // Readers check before that no product overflows.
        let count = shape.iter().try_fold(4u64, |count, side| count.checked_mul(*side));
        count.filter(|count| *count < 1 << 40)?;
        Some(TensorInfo {
            name: tensor.get(0)?.as_str()?.to_owned(),
            dtype: Dtype::F32,
            shape: shape.into_iter().map(|side| side as usize).collect(),
        })
    };
    tensors.filter_map(tensor).collect()
}

/// Opens a file's bytes and reads all of its tensors: each must be as long as its shape says, and none longer than the file.
fn read(data: &[u8]) {
    let Ok(file) = WeightsFile::from_bytes(data.to_vec()) else {
        return;
    };
    read_all(&file, data.len());
}

/// Reads all tensors of a file of at most so many bytes.
fn read_all(file: &WeightsFile, most: usize) {
    for info in file.tensors.tensors() {
        match file.tensors.view(&info.name) {
            Ok(Some(view)) => {
                assert_eq!(view.data.len(), info.bytes());
                assert!(view.data.len() <= most, "a view larger than its file");
            }
            Ok(None) => panic!("`{}` is announced and not there", info.name),
            Err(_) => {}
        }
    }
}

fn container(files: &[(&str, &[u8])]) -> Option<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, data) in files {
        archive.start_file(*name, stored).ok()?;
        archive.write_all(data).ok()?;
    }
    Some(archive.finish().ok()?.into_inner())
}

/// Configs to start from, as JSON texts: one a family and form.
pub fn config_seeds() -> Vec<String> {
    let tower = json!({"model_type": "clip_vision_model", "hidden_size": 64, "image_size": 32, "patch_size": 8});
    let bert = json!({"model_type": "bert", "hidden_size": 16, "vocab_size": 30});
    let seeds = [
        json!({"config": {"model_cfg": {"embed_dim": 4, "vision_cfg": {"layers": 1, "width": 64}, "text_cfg": {"pool_type": "eos"}}},
            "tensors": [["visual.proj", [64, 4]], ["visual.transformer.resblocks.0.attn.in_proj_weight", [192, 64]], ["module.x", []]]}),
        json!({"config": {"model_type": "vision-text-dual-encoder", "text_config": bert, "vision_config": tower},
            "tensors": [["text_model.encoder.layer.0.attention.self.query.weight", [16, 16]], ["logit_scale", [1]]]}),
        json!({"config": {"model_type": "clip", "text_config": {}, "vision_config": {}}, "tensors": [["text_model.final_layer_norm.weight", [4]]]}),
        json!({"config": {"model_type": "chinese_clip", "text_config": bert, "vision_config": tower}}),
        json!({"config": {"model_type": "siglip", "text_config": {}, "vision_config": {}}}),
        json!({"model_type": "open_clip", "embed_dim": 4, "image_resolution": 4, "vision_layers": 1, "vision_width": 64,
            "vision_patch_size": 2, "context_length": 7, "vocab_size": 11, "transformer_width": 8, "transformer_heads": 2, "transformer_layers": 1}),
        json!({"model_type": "chinese_clip", "embed_dim": 4, "image_resolution": 4, "vision_layers": [1, 1, 1, 1], "vision_width": 64,
            "vision_patch_size": null, "vocab_size": 11, "text_hidden_size": 8, "text_num_hidden_layers": 1}),
        json!({"model_type": "clipzoo", "embed_dim": 4, "vision_config": tower, "text_config": bert}),
        json!({"text_config": bert, "vision_config": tower, "vision.json": {"vision_layers": 1}, "text.json": {"vocab_size": 4}}),
        json!({"tensors": [["vision_model.embeddings.class_embedding", [8]], ["vision_model.embeddings.patch_embedding.weight", [8, 3, 2, 2]],
            ["vision_model.embeddings.position_embedding.weight", [5, 8]], ["vision_model.encoder.layers.0.mlp.fc1.weight", [12, 8]],
            ["text_model.embeddings.word_embeddings.weight", [11, 8]], ["text_projection.weight", [4, 8]]]}),
        json!({"preprocess_cfg": {"size": [30, 20], "resize_mode": "longest"}}),
        json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, "crop_size": 32}),
    ];
    seeds.iter().map(Value::to_string).collect()
}
