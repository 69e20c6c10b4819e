//! How fast pictures become pixels, on one thread: `cargo run --release -p clip-data --example preprocess_speed --
//! 224 PICTURE...` prints milliseconds a picture by stage (the best of some rounds) and pictures a second.
#![allow(clippy::print_stdout)] // Reason: what it measures is its output.

use std::time::{Duration, Instant};

use clip_core::{EncodedImage, ImageDecoder as _, ImageTransform as _};
use clip_data::{ClipTransform, Decoder, TransformConfig};

const ROUNDS: usize = 20;

fn main() -> clip_core::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let size = arguments.next().and_then(|size| size.parse().ok()).unwrap_or(224);
    let pictures = arguments
        .map(|path| {
            let bytes = std::fs::read(&path).map_err(|error| clip_core::Error::io("read the picture", &path, error))?;
            Ok(EncodedImage::Bytes(bytes.into()))
        })
        .collect::<clip_core::Result<Vec<_>>>()?;
    if pictures.is_empty() {
        println!("usage: preprocess_speed SIZE PICTURE...");
        return Ok(());
    }
    let decoder = Decoder::default();
    let transform = ClipTransform::new(TransformConfig::open_clip(size))?;
    let mut pixels = vec![0.0; 3 * size * size];
    let (mut decoding, mut transforming) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let mut round = [Duration::ZERO; 2];
        for picture in &pictures {
            let start = Instant::now();
            let image = decoder.decode(picture)?;
            let decoded = Instant::now();
            transform.apply(&image, &mut pixels)?;
            round[0] += decoded - start;
            round[1] += decoded.elapsed();
        }
        decoding = decoding.min(round[0]);
        transforming = transforming.min(round[1]);
    }
    let each = |time: Duration| time.as_secs_f64() * 1e3 / pictures.len() as f64;
    let (decoding, transforming) = (each(decoding), each(transforming));
    println!("decode {decoding:.3} ms, resize + crop + normalise {transforming:.3} ms");
    println!("{:.1} pictures/s on one thread", 1e3 / (decoding + transforming));
    Ok(())
}
