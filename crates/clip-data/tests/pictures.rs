//! Pictures of the reference: every transform on every file, and what must be refused.
#![allow(clippy::unwrap_used)] // Reason: a helper that fails should fail its test.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clip_core::{EncodedImage, Image, ImageDecoder as _, ImageTransform as _};
use clip_data::{ClipTransform, Decoder, Passes, Rescale, Resize, TransformConfig};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/preprocess"))
}

fn open(name: &str) -> clip_core::Result<Image> {
    Decoder::default().decode(&EncodedImage::File(fixtures().join("images").join(name)))
}

/// Pictures that lose nothing in their file, so that both decoders give the same samples.
fn lossless(name: &str) -> bool {
    !name.ends_with(".jpg") && name != "lossy.webp"
}

fn configuration(transform: &str) -> Value {
    let (mean, std) = (
        [0.48145466, 0.4578275, 0.40821073],
        [0.26862954, 0.26130258, 0.27577711],
    );
    let open_clip = |size: u32, mode: &str| {
        json!({ "preprocess_cfg":
            { "size": size, "mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": mode } })
    };
    let hugging_face = |kind: &str, size: Value, crop: bool, resample: u8, mean: [f64; 3], std: [f64; 3]| {
        json!({ "image_processor_type": kind, "do_resize": true, "size": size, "resample": resample,
            "do_center_crop": crop, "crop_size": { "height": 32, "width": 32 }, "do_rescale": true,
            "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": mean, "image_std": std,
            "do_convert_rgb": kind != "ViTImageProcessor" })
    };
    let (shortest, square, half) = (
        json!({ "shortest_edge": 32 }),
        json!({ "height": 32, "width": 32 }),
        [0.5, 0.5, 0.5],
    );
    match transform {
        "oc32" => open_clip(32, "shortest"),
        "oc32_squash" | "cn32" => open_clip(32, "squash"),
        "oc32_longest" => open_clip(32, "longest"),
        "oc224" => open_clip(224, "shortest"),
        "hf_clip32" | "hf_clip32_pil" => hugging_face("CLIPImageProcessor", shortest, true, 3, mean, std),
        "hf_chinese_clip32" => hugging_face("ChineseCLIPImageProcessor", shortest, true, 3, mean, std),
        "hf_siglip32" => hugging_face("SiglipImageProcessor", square, false, 3, half, half),
        "hf_vit32" => hugging_face("ViTImageProcessor", square, false, 2, half, half),
        other => panic!("no configuration for {other}"),
    }
}

/// Differences in levels of 255: the largest, the mean, and the share of values that differ.
struct Differences {
    most: f64,
    mean: f64,
    share: f64,
}

fn differences(got: &[f32], want: &[f32], config: &TransformConfig) -> Differences {
    assert_eq!(got.len(), want.len());
    let plane = got.len() / 3;
    let levels = got
        .iter()
        .zip(want)
        .enumerate()
        .map(|(i, (a, b))| f64::from((a - b).abs()) * config.std[i / plane] * 255.0);
    let levels: Vec<f64> = levels.collect();
    let count = levels.len() as f64;
    Differences {
        most: levels.iter().copied().fold(0.0, f64::max),
        mean: levels.iter().sum::<f64>() / count,
        share: levels.iter().filter(|level| **level > 0.01).count() as f64 / count,
    }
}

#[test]
fn every_transform_of_the_reference() {
    let file = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let mut failures = Vec::new();
    let mut seen = BTreeSet::new();
    for (key, view) in expected.tensors() {
        let (name, transform) = key.rsplit_once('/').unwrap();
        if transform == "decoded_rgb_u8" {
            continue;
        }
        seen.insert(transform.to_owned());
        // The torchvision back end of the Hugging Face processors rounds otherwise than Pillow, and always goes
        // horizontal first.
        let pillow = !transform.starts_with("hf_") || transform == "hf_clip32_pil";
        let passes = if pillow {
            Passes::Pillow13
        } else {
            Passes::HorizontalFirst
        };
        let config = TransformConfig {
            passes,
            ..TransformConfig::from_json(&configuration(transform)).unwrap()
        };
        let want: Vec<f32> = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        let mut got = vec![f32::NAN; want.len()];
        let applied = open(name).and_then(|image| ClipTransform::new(config.clone())?.apply(&image, &mut got));
        if let Err(error) = applied {
            failures.push(format!("{key}: {error}"));
            continue;
        }
        let Differences { most, mean, share } = differences(&got, &want, &config);
        let good = match (lossless(name), pillow) {
            (true, true) => most < 0.001,
            (true, false) => most <= 1.01,
            (false, _) => most <= 6.0 && mean <= 0.6,
        };
        if !good {
            failures.push(format!(
                "{key}: at most {most:.3} levels, {mean:.3} on average, {:.2} % differ",
                share * 100.0
            ));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(seen.len(), 10, "{seen:?}");
}

#[test]
fn what_the_reference_refuses() {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(fixtures().join("cases.json")).unwrap()).unwrap();
    let refused: Vec<_> = cases.iter().filter(|case| case.get("error").is_some()).collect();
    assert!(refused.len() > 20);
    for case in refused {
        let (name, transform) = (case["image"].as_str().unwrap(), case["transform"].as_str().unwrap());
        let transform = ClipTransform::new(TransformConfig::from_json(&configuration(transform)).unwrap()).unwrap();
        let [height, width] = transform.size();
        let mut pixels = vec![0.0; 3 * height * width];
        let error = open(name)
            .and_then(|image| transform.apply(&image, &mut pixels))
            .unwrap_err();
        assert!(error.remedy_text().is_some(), "{name}: {error}");
    }
}

/// The levels of a decoded picture, by a transform that only converts to RGB.
fn levels(image: &Image) -> Vec<f32> {
    let size = [image.height() as usize, image.width() as usize];
    let config = TransformConfig {
        size,
        resize: Resize::Keep,
        rescale: Rescale::Factor(1.0),
        mean: [0.0; 3],
        std: [1.0; 3],
        ..TransformConfig::open_clip(1)
    };
    let mut pixels = vec![0.0; 3 * size[0] * size[1]];
    ClipTransform::new(config).unwrap().apply(image, &mut pixels).unwrap();
    pixels
}

#[test]
fn decoded_samples_are_the_references() {
    let file = std::fs::read(fixtures().join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&file).unwrap();
    let mut checked = 0;
    for (key, view) in expected.tensors() {
        let Some(name) = key.strip_suffix("/decoded_rgb_u8") else {
            continue;
        };
        let pixels = levels(&open(name).unwrap());
        let plane = pixels.len() / 3;
        assert_eq!(view.data().len(), pixels.len(), "{name}");
        let differences = view
            .data()
            .iter()
            .enumerate()
            .map(|(i, &want)| (pixels[i % 3 * plane + i / 3] - f32::from(want)).abs());
        let differences: Vec<f32> = differences.collect();
        let most = differences.iter().copied().fold(0.0, f32::max);
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        // The JPEG decoders differ: by rounding, and where chroma is subsampled by how it is brought up again.
        let (most_allowed, mean_allowed) = match name {
            "rgb_444_q100.jpg" | "gray.jpg" => (3.0, 0.05),
            _ if name.ends_with(".jpg") => (16.0, 0.8),
            _ => (0.0, 0.0),
        };
        assert!(
            most <= most_allowed && mean <= mean_allowed,
            "{name}: at most {most}, {mean} on average"
        );
        checked += 1;
    }
    assert!(checked > 20, "{checked}");
}
