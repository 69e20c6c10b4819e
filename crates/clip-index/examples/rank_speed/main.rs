//! How fast both directions are ranked in one pass, beside the bare matrix product, and in how much memory.
//!
//! `cargo run --release -p clip-index --example rank_speed -- [rows] [dim] [threads] [rank|bare|top]`
//!
//! `bare` is the yardstick: the same products by `matrixmultiply`, tile by tile, looked at by nobody.
#![allow(clippy::print_stdout)]

mod gemm;

use std::time::Instant;

use clip_core::{Embeddings, Result};
use clip_index::{Figures, Options, Positives, rank_both, top_k};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (rows, dim, threads) = (number(0, 32_528), number(1, 512), number(2, 0));
    let what = arguments.get(3).map_or("rank", String::as_str);
    let images = random(rows, dim, 1)?;
    let noise = random(rows, dim, 2)?;
    let mixed = images
        .data()
        .iter()
        .zip(noise.data())
        .map(|(image, noise)| image + 3.0 * noise);
    let texts = Embeddings::new(mixed.collect(), dim)?.normalised();
    let options = Options::default().threads(threads);
    drop(noise);

    // Linux forgets the peak of the preparations when asked; elsewhere both figures read 0 or include them.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak_mib();
    let start = Instant::now();
    match what {
        "bare" => gemm::product(&texts, &images, threads),
        "top" => println!("best hit of text 0: {:?}", top_k(&texts, &images, 10, options)?[0][0]),
        _ => {
            let (forth, back) = rank_both(&texts, &images, &Positives::Diagonal, options)?;
            println!("text to image {:?}", Figures::new(&forth)?);
            println!("image to text {:?}", Figures::new(&back)?);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let flops = 2.0 * (rows * rows * dim) as f64 / seconds / 1e9;
    println!("{what}: {rows} x {rows} x {dim} in {seconds:.2} s, {flops:.0} GFLOP/s");
    println!("peak memory {} MiB before, {} MiB after (VmHWM)", before, peak_mib());
    Ok(())
}

/// Unit rows of a simple generator: speed does not depend on the values.
fn random(rows: usize, dim: usize, seed: u64) -> Result<Embeddings> {
    let mut state = seed;
    let mut value = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    Ok(Embeddings::new((0..rows * dim).map(|_| value()).collect(), dim)?.normalised())
}

/// The most memory this process has held so far, where the system tells.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}
