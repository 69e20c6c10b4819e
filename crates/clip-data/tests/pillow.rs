//! The resize against Pillow's own results, in every mode and filter (made by xtask/parity/pixels.py).
#![allow(clippy::unwrap_used)] // Reason: a helper that fails should fail its test.

use clip_core::{Image, ImageTransform as _, Raster};
use clip_data::{ClipTransform, Crop, Order, Rescale, Resize, TransformConfig};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Case {
    mode: String,
    from: [usize; 2],
    to: [usize; 2],
    size: [usize; 2],
    filter: clip_data::Filter,
    seed: u64,
    hard: bool,
    rgb_first: bool,
}

/// The generator of the script.
fn noise(seed: u64, count: usize, hard: bool) -> Vec<u8> {
    let mut state = seed | 1;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count)
        .map(|_| byte())
        .map(|value| if hard { if value > 127 { 255 } else { 0 } } else { value })
        .collect()
}

impl Case {
    fn picture(&self) -> Image {
        let [height, width] = self.from;
        let channels = match self.mode.as_str() {
            "1" | "L" | "P" => 1,
            "LA" | "I;16" => 2,
            "RGB" => 3,
            _ => 4,
        };
        let data = noise(self.seed, height * width * channels, self.hard);
        let raster = match self.mode.as_str() {
            "1" => Raster::Bilevel(
                data.into_iter()
                    .map(|value| if value > 127 { 255 } else { 0 })
                    .collect(),
            ),
            "P" => {
                let palette = noise(self.seed + 1, 37 * 3, false);
                let colours = palette
                    .as_chunks::<3>()
                    .0
                    .iter()
                    .map(|&[r, g, b]| [r, g, b, 255])
                    .collect();
                Raster::Palette {
                    indices: data.into_iter().map(|value| value % 37).collect(),
                    colours,
                }
            }
            "L" => Raster::Grey(data),
            "LA" => Raster::GreyAlpha(data),
            "I;16" => Raster::Grey16(
                data.as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&pair| u16::from_le_bytes(pair))
                    .collect(),
            ),
            "RGB" => Raster::Rgb(data),
            "RGBA" => Raster::Rgba(data),
            _ => Raster::Cmyk(data),
        };
        Image::new(width as u32, height as u32, raster).unwrap()
    }

    /// The transform that shows bare levels.
    fn transform(&self) -> ClipTransform {
        let config = TransformConfig {
            size: self.size,
            resize: Resize::Squash(self.to),
            filter: self.filter,
            crop: Crop::Floor,
            order: if self.rgb_first {
                Order::RgbFirst
            } else {
                Order::ResizeFirst
            },
            rescale: Rescale::Factor(1.0),
            mean: [0.0; 3],
            std: [1.0; 3],
            ..TransformConfig::open_clip(1)
        };
        ClipTransform::new(config).unwrap()
    }
}

#[test]
fn every_mode_and_filter_to_the_bit() {
    let file = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/pillow_resize.safetensors"
    ))
    .unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&header.metadata().as_ref().unwrap()["cases"]).unwrap();
    let golden = SafeTensors::deserialize(&file).unwrap();
    assert!(cases.len() > 100);
    for (number, case) in cases.iter().enumerate() {
        let want = golden.tensor(&number.to_string()).unwrap();
        let [height, width] = case.size;
        let mut pixels = vec![f32::NAN; 3 * height * width];
        case.transform().apply(&case.picture(), &mut pixels).unwrap();
        let plane = height * width;
        let got: Vec<u8> = (0..plane)
            .flat_map(|at| [0, 1, 2].map(|channel| pixels[channel * plane + at] as u8))
            .collect();
        assert_eq!(got, want.data(), "{case:?}");
    }
}
