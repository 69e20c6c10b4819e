//! Pictures that are cut, damaged or meant to fill the memory.
#![allow(clippy::unwrap_used)] // Reason: a helper that fails should fail its test.

use std::path::PathBuf;

use clip_core::{EncodedImage, ImageDecoder as _, Kind};
use clip_data::{Decoder, Limits};
use proptest::prelude::*;

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/preprocess/images"
    ));
    std::fs::read(folder.join(name)).unwrap()
}

const WHOLE: [&str; 20] = [
    "rgb_photo.jpg",
    "rgb_portrait_progressive.jpg",
    "rgb_444_q100.jpg",
    "cmyk.jpg",
    "gray.jpg",
    "exif_orient6.jpg",
    "rgb.png",
    "rgba.png",
    "palette.png",
    "palette_transparent.png",
    "gray.png",
    "gray_alpha.png",
    "gray16.png",
    "bilevel.png",
    "one_pixel.png",
    "rgb.bmp",
    "frames.gif",
    "lossless.webp",
    "lossy.webp",
    "exact64.png",
];

#[test]
fn every_cut_is_one_clear_error() {
    for name in WHOLE {
        let bytes = read(name);
        let decoder = Decoder::default();
        decoder.decode_bytes(&bytes).unwrap();
        // Of a GIF only the first frame's pixels count, and the last bytes of its data need hold none.
        let last = if name.ends_with(".gif") {
            first_frame_of(&bytes) - 8
        } else {
            bytes.len()
        };
        let step = (last / 150).max(1);
        for end in (1..last).step_by(step).chain([last - 1, last - 2, last - 5]) {
            let error = decoder
                .decode_bytes(&bytes[..end])
                .err()
                .unwrap_or_else(|| panic!("{name} cut at {end}"));
            assert_eq!(error.kind(), Kind::Invalid, "{name} cut at {end}: {error}");
            assert!(
                error.remedy_text().is_some() && !error.to_string().contains('\n'),
                "{name} at {end}: {error}"
            );
        }
        let error = decoder.decode_bytes(&bytes[..last / 2]).unwrap_err().to_string();
        assert!(error.contains("truncated"), "{name}: {error}");
    }
}

/// Where the first frame's data end: blocks of a length and so many bytes, up to one of length 0.
fn first_frame_of(gif: &[u8]) -> usize {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let blocks = |mut at: usize| {
        while gif[at] != 0 {
            at += usize::from(gif[at]) + 1;
        }
        at + 1
    };
    let mut at = 13 + table(gif[10]);
    while gif[at] == b'!' {
        at = blocks(at + 2);
    }
    blocks(at + 10 + table(gif[at + 9]) + 1)
}

/// A PNG that says it is `side x side`, and holds next to nothing.
fn bomb(side: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(side.to_be_bytes());
    png.extend(side.to_be_bytes());
    png.extend([8, 2, 0, 0, 0]);
    let mut crc = !0_u32;
    for &byte in &png[12..] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    png.extend((!crc).to_be_bytes());
    png
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let error = Decoder::default().decode_bytes(&bomb(50_000)).unwrap_err();
    assert_eq!(error.kind(), Kind::Exhausted);
    assert!(
        error
            .to_string()
            .starts_with("a picture of 50000 x 50000 pixels is over the limit of 178956970")
    );
    assert!(error.remedy_text().is_some());
    // The same header within the limits is only cut.
    assert!(
        Decoder::default()
            .decode_bytes(&bomb(50))
            .unwrap_err()
            .to_string()
            .contains("truncated")
    );
}

#[test]
fn a_jpeg_cut_and_closed_again_is_as_pillow_takes_it() {
    let mut bytes = read("rgb_photo.jpg");
    bytes.truncate(bytes.len() - 300);
    bytes.extend([0xff, 0xd9]);
    assert!(Decoder::default().decode_bytes(&bytes).is_ok());
}

#[test]
fn the_orientation_is_applied_on_demand() {
    let picture = EncodedImage::Bytes(read("exif_orient6.jpg").into());
    let plain = Decoder::default().decode(&picture).unwrap();
    let turned = Decoder {
        orient: true,
        ..Decoder::default()
    }
    .decode(&picture)
    .unwrap();
    assert_eq!((plain.width(), plain.height()), (turned.height(), turned.width()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damage_never_panics(
        name in prop::sample::select(WHOLE.to_vec()),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        head in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = read(name);
        // Half the damage goes where the sizes and tables are.
        let reach = if head { bytes.len().min(200) } else { bytes.len() };
        for (at, value) in hits {
            let at = at.index(reach);
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let decoder = Decoder { limits: Limits { max_pixels: 1 << 20, ..Limits::default() }, orient: true };
        if let Err(error) = decoder.decode_bytes(&bytes) {
            prop_assert!(error.remedy_text().is_some(), "{error}");
        }
    }
}
