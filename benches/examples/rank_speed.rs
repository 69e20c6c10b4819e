//! How fast both directions are ranked in one pass, beside the bare matrix product, and in how much memory:
//! `rank_speed [ROWS] [DIM] [THREADS] [ROUNDS]`, by default 32,528 rows of 512 numbers on two threads, three rounds.
//!
//! In each round, in turn: the ranking; the same products by the same kernel, which nobody looks at; and libtorch's
//! product, 1,024 texts at a time. Seconds are on the clock and of all processors, the least of the rounds: on a machine
//! that others use, compare the latter. The memory is what the ranking takes beyond the features.
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

use clip_core::{Embeddings, Error, Result};
use clip_index::{Cuts, Figures, Options, Positives, bare_product, rank_both};
use clip_nn::tch::{self, Tensor};
use clipzoo_benches::{Clock, peak_memory};

/// Texts that libtorch multiplies at once.
const CHUNK: usize = 1024;

/// What is measured: its name, and how.
type Work<'a> = (&'a str, &'a dyn Fn() -> Result<()>);

fn main() -> Result<()> {
    let usage = |_| Error::invalid("usage: rank_speed [ROWS] [DIM] [THREADS] [ROUNDS]");
    let words: Vec<usize> = std::env::args()
        .skip(1)
        .map(|word| word.parse().map_err(usage))
        .collect::<Result<_>>()?;
    let number = |place: usize, default: usize| words.get(place).copied().unwrap_or(default);
    let (rows, dim, threads, rounds) = (number(0, 32_528), number(1, 512), number(2, 2), number(3, 3));
    let (texts, images) = pairs(rows, dim)?;
    let options = Options::default().threads(threads);

    // Linux forgets the peak of the preparations when asked; elsewhere the difference reads 0 or NaN.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak_memory();
    let (forth, back) = rank_both(&texts, &images, &Positives::Diagonal, options)?;
    println!("memory beyond the features: {:.0} MiB", peak_memory() - before);
    for (direction, ranks) in [("text to image", &forth), ("image to text", &back)] {
        let figures = Figures::new(ranks, &Cuts::default())?;
        println!(
            "{direction}: mean recall {:.3} %, MRR {:.4}",
            figures.mean_recall, figures.mrr
        );
    }

    tch::set_num_threads(threads as i32);
    let tensor = |rows: &Embeddings| Tensor::from_slice(rows.data()).view([-1, dim as i64]);
    let (left, right) = (tensor(&texts), tensor(&images));
    let ranked = || rank_both(&texts, &images, &Positives::Diagonal, options).map(drop);
    let bare = || bare_product(&texts, &images, options);
    let libtorch = || {
        let chunks = left.split(CHUNK as i64, 0);
        chunks.iter().for_each(|chunk| drop(chunk.matmul(&right.tr())));
        Ok(())
    };
    let work: [Work<'_>; 3] = [
        ("ranked both ways", &ranked),
        ("bare product, same kernel", &bare),
        ("bare product, libtorch", &libtorch),
    ];
    let mut best = [[f64::INFINITY; 2]; 3];
    for _ in 0..rounds {
        for (best, (_, work)) in best.iter_mut().zip(&work) {
            let (wall, processor) = (Clock::on_the_wall(), Clock::of_processor());
            work()?;
            let seconds = [wall.seconds(), processor.seconds()];
            *best = [best[0].min(seconds[0]), best[1].min(seconds[1])];
        }
    }
    println!("{rows} x {rows} x {dim}, {threads} threads, least of {rounds} rounds");
    let operations = 2.0 * (rows * rows * dim) as f64;
    for ((name, _), [wall, processor]) in work.iter().zip(best) {
        println!(
            "{name:<26} {wall:6.2} s, {processor:6.2} CPU s, {:4.0} GFLOP/s; ranking takes {:.2}x (CPU {:.2}x)",
            operations / wall / 1e9,
            best[0][0] / wall,
            best[0][1] / processor
        );
    }
    Ok(())
}

/// Unit rows, a text near its image: speed does not depend on the values.
fn pairs(rows: usize, dim: usize) -> Result<(Embeddings, Embeddings)> {
    let (images, noise) = (random(rows, dim, 1)?, random(rows, dim, 2)?);
    let mixed = images
        .data()
        .iter()
        .zip(noise.data())
        .map(|(image, noise)| image + 3.0 * noise);
    Ok((Embeddings::new(mixed.collect(), dim)?.normalised(), images))
}

/// Rows of a simple generator.
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
