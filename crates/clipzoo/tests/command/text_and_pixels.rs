//! `tokenize` and `preprocess` against the reference, and `inspect`, `models`.

use std::fs;

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, fixtures, floats, off, parse, small_model};

/// A model whose text tower has the bundled vocabulary's rows.
fn clip_model(folder: &Folder, context_length: usize) {
    let config = json!({
        "embed_dim": 4,
        "vision_config": {
            "model_type": "clip_vision_model", "image_size": 16, "patch_size": 16, "hidden_size": 4,
            "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
        },
        "text_config": {
            "model_type": "clip_text_model", "vocab_size": 49408, "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": context_length,
        },
        "tokenizer": { "type": "clip_bpe" },
    });
    clipzoo::create(folder.path("clip"), &config, &clipzoo::zoo().unwrap(), 1).unwrap();
}

/// The reference's texts, and its ids without padding, which is zeros.
fn reference(name: &str) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(fixtures().join("tokenizers").join(name)).unwrap();
    let cases = text.lines().map(parse).map(|case| {
        let ids = case["ids"].as_array().unwrap();
        let end = ids.iter().rposition(|id| *id != json!(0)).unwrap();
        (case["text"].clone(), json!(ids[..=end]))
    });
    cases.unzip()
}

#[test]
fn ids_are_the_references() {
    let folder = Folder::new();
    clip_model(&folder, 77);
    for (name, flags) in [
        ("open_clip_simple.jsonl", ""),
        ("open_clip_simple_ctx16.jsonl", "--context-length 16"),
    ] {
        let (texts, wanted) = reference(name);
        let lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
        folder.write("t.jsonl", lines);
        folder
            .run(&format!(
                "tokenize --model clip --texts t.jsonl {flags} --output ids.jsonl"
            ))
            .ok();
        let got = folder.lines("ids.jsonl");
        assert_eq!(got.len(), wanted.len());
        for (text, (got, wanted)) in texts.iter().zip(got.iter().zip(&wanted)) {
            assert_eq!(got, wanted, "{name}: {text}");
        }
    }
}

#[test]
fn a_vocabulary_beside_the_weights_counts() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.txt", "red shoe 3\nblue hat\n");
    folder
        .run("tokenize --model model --texts t.txt --output ids.jsonl")
        .ok();
    assert_eq!(folder.text("ids.jsonl"), "[2, 5, 8, 13, 3]\n[2, 7, 1, 3]\n");
}

#[test]
fn pixels_are_the_references() {
    let folder = Folder::new();
    let oc = json!({ "preprocess_cfg": { "size": 32, "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest" } });
    let hf = json!({ "image_processor_type": "CLIPImageProcessor", "size": { "shortest_edge": 32 }, "resample": 3,
        "do_center_crop": true, "crop_size": { "height": 32, "width": 32 },
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711] });
    folder.write("open_clip.cfg", oc.to_string());
    folder.write("anything.json", hf.to_string());
    let expected = fs::read(fixtures().join("preprocess/expected.safetensors")).unwrap();
    let pictures = ["rgb.png", "palette.png", "rgba.png", "bilevel.png"];
    let images: Vec<String> = pictures
        .iter()
        .map(|name| fixtures().join("preprocess/images").join(name).display().to_string())
        .collect();
    // OpenCLIP's numbers to the bit of rounding; Hugging Face's may be a level of 255 off (its own back end rounds so).
    for (config, transform, most) in [
        ("open_clip.cfg", "oc32", 1e-4),
        ("anything.json", "hf_clip32", 1.01 / 255.0 / 0.26),
    ] {
        folder
            .run(&format!(
                "preprocess --config {config} {} --output p.safetensors",
                images.join(" ")
            ))
            .ok();
        let (shape, pixels) = floats(&folder.read("p.safetensors"), "pixels");
        assert_eq!(shape, [pictures.len(), 3, 32, 32]);
        for (row, name) in pictures.iter().enumerate() {
            let (_, wanted) = floats(&expected, &format!("{name}/{transform}"));
            let off = off(&pixels[row * 3072..][..3072], &wanted);
            assert!(off < most, "{name}/{transform}: off by {off}");
        }
    }
}

#[test]
fn a_model_prepares_pictures_by_its_own_config() {
    let folder = Folder::new();
    let model = fixtures().join("models/oc_vit_tiny");
    let picture = fixtures().join("preprocess/images/rgb.png");
    let line = format!(
        "preprocess --model {} {} --output p.safetensors",
        model.display(),
        picture.display()
    );
    folder.run(&line).ok();
    assert_eq!(floats(&folder.read("p.safetensors"), "pixels").0, [1, 3, 64, 64]);
    folder.run("preprocess rgb.png --output p.safetensors").refused();
}

#[test]
fn inspect_and_models_speak_json() {
    let folder = Folder::new();
    let model = fixtures().join("models/hf_vtde_bert_clipvision_tiny");
    let said = folder.run(&format!("inspect {} --json", model.display())).json();
    assert_eq!(said["config"]["text_config"]["model_type"], json!("bert"));
    assert!(said["tensors"].as_array().unwrap().len() > 30);
    let said = folder.run("models --json").json();
    let names = said["image_backbones"].as_array().unwrap();
    assert!(names.contains(&json!("clip_vision_model")), "{said}");
}
