//! `convert`: layouts there and back, and a run that goes on in EasyNLP's.

use std::sync::Arc;

use clipzoo::clip_core::Result;
use clipzoo::clip_core::serde_json::json;
use clipzoo::clip_format::{Dtype, TensorInfo, TensorView, Weights, WeightsFile, write_safetensors};

use super::support::{Folder, SCHEMA, parse, small_model, table};

/// A new model of EasyNLP's English kind, in our own layout: heads of 64, QuickGELU, byte pairs.
fn english(folder: &Folder, name: &str) {
    let config = json!({
        "embed_dim": 8,
        "vision_config": {
            "model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, "hidden_size": 64,
            "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        },
        "text_config": {
            "model_type": "clip_text_model", "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 16, "vocab_size": 49408, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5, "pooling": "argmax", "eos_token_id": 49407, "pad_token_id": 0,
        },
        "tokenizer": { "type": "clip_bpe" },
    });
    clipzoo::create(folder.path(name), &config, &clipzoo::zoo().unwrap(), 5).unwrap();
}

fn tensors(folder: &Folder, file: &str) -> Arc<dyn Weights> {
    WeightsFile::open(&folder.path(file)).unwrap().tensors
}

fn same(one: &dyn Weights, other: &dyn Weights) -> bool {
    let sorted = |weights: &dyn Weights| {
        let mut tensors = weights.tensors().to_vec();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    };
    let view = |weights: &dyn Weights, name: &str| weights.view(name).unwrap().unwrap().data.into_owned();
    sorted(one) == sorted(other) && one.names().iter().all(|name| view(one, name) == view(other, name))
}

#[test]
fn a_model_goes_to_easynlp_trains_on_and_comes_back() {
    let folder = Folder::new();
    english(&folder, "m");
    let said = folder.run("convert --model m --to easynlp --output e").ok();
    assert!(said.starts_with("clipzoo -> easynlp-open-clip\n"), "{said}");
    assert!(said.contains("e/pytorch_model.bin ("), "{said}");
    // EasyNLP prepares pictures in its own way; without this file so do we.
    std::fs::remove_file(folder.path("e/preprocessor_config.json")).unwrap();
    assert_eq!(folder.names("e"), ["config.json", "pytorch_model.bin", "vocab.txt"]);
    let said = folder.run("convert --model e --to clipzoo --output back --json").json();
    assert_eq!(
        (&said["from"], &said["to"]),
        (&json!("easynlp-open-clip"), &json!("clipzoo"))
    );
    assert_eq!((&said["output"], &said["dtypes"]), (&json!("back"), &json!(["F32"])));
    assert!(same(
        &*tensors(&folder, "m/model.safetensors"),
        &*tensors(&folder, "back/model.safetensors")
    ));

    folder.write("train.tsv", table(0..12));
    let train =
        format!("train --model e --train train.tsv {SCHEMA} --output run --batch-size 6 --epochs 1 --device cpu");
    folder.run(&train).ok();
    for written in ["run/best", "run/last"] {
        assert_eq!(folder.names(written), folder.names("e"));
        for kept in ["config.json", "vocab.txt"] {
            let (before, after) = (
                folder.read(&format!("e/{kept}")),
                folder.read(&format!("{written}/{kept}")),
            );
            assert!(
                before == after
                    || parse(&String::from_utf8(before).unwrap()) == parse(&String::from_utf8(after).unwrap())
            );
        }
        let (before, after) = (
            tensors(&folder, "e/pytorch_model.bin"),
            tensors(&folder, &format!("{written}/pytorch_model.bin")),
        );
        assert_eq!(before.names().len(), after.names().len());
        assert!(after.names().iter().all(|name| name.starts_with("open_clip.")));
        assert!(!same(&*before, &*after), "it learnt nothing");
    }
    // What was trained is the same model in whatever layout.
    folder.run("convert --model run/best --to open_clip --output o").ok();
    folder.write("t.txt", "red shoe\nblue bag 3\n");
    for model in ["run/best", "o"] {
        folder
            .run(&format!(
                "predict --model {model} --texts t.txt --output {}.npy --device cpu",
                model.replace('/', "_")
            ))
            .ok();
    }
    assert!(folder.read("run_best.npy") == folder.read("o.npy"));
}

#[test]
fn the_type_of_the_weights_can_be_changed() {
    let folder = Folder::new();
    folder.fixture("models/oc_vit_tiny", "m");
    let types = |output: &str, dtype: &str| {
        let line = format!("convert --model m --to clipzoo --output {output} --dtype {dtype} --json");
        folder.run(&line).json()["dtypes"].clone()
    };
    assert_eq!(types("a", "f16"), json!(["F16"]));
    assert_eq!(types("b", "bf16"), json!(["BF16"]));
    assert_eq!(types("c", "keep"), json!(["F32"]));
    folder.run("convert --model a --to open_clip --output d").ok();
    let half = tensors(&folder, "d/open_clip_model.safetensors");
    assert!(half.tensors().iter().all(|tensor| tensor.dtype == Dtype::F16));
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_nothing_behind() {
    let folder = Folder::new();
    small_model(&folder, "m");
    let message = folder.run("convert --model m --to onnx --output o").misused();
    assert!(message.contains("--to onnx: no such layout"), "{message}");
    for layout in ["clipzoo", "easynlp", "hf", "open_clip", "easynlp-chinese-clip"] {
        assert!(message.contains(layout), "{message}");
    }
    folder.write("used/holiday.jpg", "");
    for output in ["used", "used/holiday.jpg"] {
        let message = folder
            .run(&format!("convert --model m --to clipzoo --output {output}"))
            .misused();
        assert!(message.contains("not empty"), "{message}");
    }
    assert_eq!(folder.names("used"), ["holiday.jpg"]);
    let message = folder.run("convert --model m --to open_clip --output o").failed();
    assert!(
        message.contains("the layout `open_clip` cannot express the tower `bert`; ")
            && message.ends_with("save it as `clipzoo`"),
        "{message}"
    );
    let message = folder.run("convert --model gone --to clipzoo --output o").failed();
    assert!(message.contains("gone"), "{message}");
    assert_eq!(folder.names(""), ["m", "used"]);
}

/// Zeros, made when they are asked for.
struct Zeros(Vec<TensorInfo>);

impl Weights for Zeros {
    fn tensors(&self) -> &[TensorInfo] {
        &self.0
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let info = self.0.iter().find(|info| info.name == name);
        Ok(info.map(|info| TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: vec![0; info.bytes()].into(),
        }))
    }
}

/// A model of 400 MB in our own layout becomes pickled halves and then safetensors, in far less memory than it has.
#[test]
#[cfg(target_os = "linux")]
fn a_large_model_is_rewritten_tensor_by_tensor() {
    const WIDTH: usize = 1024;
    const LAYERS: usize = 8;
    let folder = Folder::new();
    english(&folder, "m");
    let mut wide = Vec::new();
    for mut info in tensors(&folder, "m/model.safetensors").tensors().to_vec() {
        if !info.name.starts_with("text") {
            wide.push(info);
            continue;
        }
        let positions = usize::from(info.name.ends_with("position_embedding"));
        for side in info.shape.iter_mut().skip(positions) {
            // The text tower's width was 16; 2000 tokens keep its table as small as any other tensor.
            *side = match *side {
                49408 => 2000,
                8 => 8,
                narrow => narrow / 16 * WIDTH,
            };
        }
        let Some((before, after)) = info.name.split_once(".0.") else {
            wide.push(info);
            continue;
        };
        wide.extend((0..LAYERS).map(|layer| TensorInfo {
            name: format!("{before}.{layer}.{after}"),
            ..info.clone()
        }));
    }
    write_safetensors(&folder.path("m/model.safetensors"), &Zeros(wide)).unwrap();
    assert!(folder.path("m/model.safetensors").metadata().unwrap().len() > 400_000_000);
    let mut config = parse(&folder.text("m/config.json"));
    let text = &mut config["text_config"];
    (text["hidden_size"], text["intermediate_size"]) = (WIDTH.into(), (4 * WIDTH).into());
    (text["num_hidden_layers"], text["vocab_size"], text["eos_token_id"]) = (LAYERS.into(), 2000.into(), 1999.into());
    folder.write("m/config.json", config.to_string());

    let idle = super::memory::peak(folder.command("models"));
    for line in [
        "convert --model m --to easynlp --output e --dtype f16",
        "convert --model e --to open_clip --output o --dtype f32",
    ] {
        let held = super::memory::peak(folder.command(line)).saturating_sub(idle);
        println!("{line}: {} MB above the idle {} MB", held >> 20, idle >> 20);
        assert!(held < 150 << 20, "{line}: {held}");
    }
}
