//! What runs once a text, once a picture and once a query, without libtorch: `cargo bench -p clipzoo-benches`.

use std::hint::black_box;

use clip_core::{Embeddings, Image, ImageTransform as _, Raster, Result, Tokenizer as _};
use clip_data::{ClipTransform, TransformConfig};
use clip_index::{Options, top_k};
use clip_tokenizers::{BpeOptions, ClipBpe};
use criterion::{Criterion, Throughput};

const TITLES: usize = 256;
const WIDTH: u32 = 800;
const HEIGHT: u32 = 600;
const SIDE: usize = 224;
const QUERIES: usize = 64;
const GALLERY: usize = 8_192;
const DIM: usize = 512;
const HITS: usize = 10;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    byte_pairs(&mut criterion)?;
    pixels(&mut criterion)?;
    nearest(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// Opening the tokenizer counts in a command's start; encoding, in everything else.
fn byte_pairs(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("byte pairs");
    group.bench_function("open the bundled vocabulary", |bench| {
        bench.iter(|| ClipBpe::bundled(BpeOptions::default()));
    });
    let tokenizer = ClipBpe::bundled(BpeOptions::default())?;
    // No two are alike, as in a shop's list.
    let titles: Vec<String> = (0..TITLES)
        .map(|n| format!("Women's cotton dress no. {n}, size {} &amp; belt, 100% linen", n % 40))
        .collect();
    let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
    tokenizer.encode(&titles)?;
    group.throughput(Throughput::Elements(TITLES as u64));
    group.bench_function("encode titles", |bench| {
        bench.iter(|| tokenizer.encode(black_box(&titles)));
    });
    group.finish();
    Ok(())
}

/// Resize, crop and normalise; decoding is measured by clip-data's example `preprocess_speed`, on real photographs.
fn pixels(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("pixels");
    let mut value = generator();
    let samples = (0..WIDTH * HEIGHT * 3).map(|_| (value() >> 56) as u8).collect();
    let image = Image::new(WIDTH, HEIGHT, Raster::Rgb(samples))?;
    let transform = ClipTransform::new(TransformConfig::open_clip(SIDE))?;
    let mut row = vec![0.0; 3 * SIDE * SIDE];
    transform.apply(&image, &mut row)?;
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("{WIDTH}x{HEIGHT} to {SIDE}x{SIDE}"), |bench| {
        bench.iter(|| transform.apply(black_box(&image), &mut row));
    });
    group.finish();
    Ok(())
}

/// One thread, so that a figure is the kernel's and not the machine's.
fn nearest(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("nearest");
    let (queries, gallery) = (unit_rows(QUERIES)?, unit_rows(GALLERY)?);
    let options = Options::default().threads(1);
    top_k(&queries, &gallery, HITS, options)?;
    group.throughput(Throughput::Elements(QUERIES as u64));
    group.bench_function(format!("top {HITS} of {GALLERY}x{DIM}, {QUERIES} queries"), |bench| {
        bench.iter(|| top_k(black_box(&queries), &gallery, HITS, options));
    });
    group.finish();
    Ok(())
}

fn unit_rows(rows: usize) -> Result<Embeddings> {
    let mut value = generator();
    let data = (0..rows * DIM).map(|_| (value() >> 40) as f32 / 8_388_608.0 - 1.0);
    Ok(Embeddings::new(data.collect(), DIM)?.normalised())
}

/// A simple generator: speed does not depend on the values, and every run has the same.
fn generator() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state
    }
}
