//! The yardstick: the matrix product alone.
#![allow(unsafe_code)] // Its interface takes pointers.

use clip_core::Embeddings;
use rayon::prelude::*;

/// Rows of a tile.
const TILE: usize = 1024;

/// All scores, in tiles that each thread overwrites.
pub(crate) fn product(texts: &Embeddings, images: &Embeddings, threads: usize) {
    let dim = texts.dim();
    let strip = |scores: &mut Vec<f32>, texts: &[f32]| {
        for images in images.data().chunks(TILE * dim) {
            let (m, n) = (texts.len() / dim, images.len() / dim);
            let (left, right, output) = (texts.as_ptr(), images.as_ptr(), scores.as_mut_ptr());
            // Rows of both sides are contiguous; the right side is read transposed.
            let (dim_step, n_step) = (dim as isize, n as isize);
            // SAFETY: both slices hold whole rows of `dim` values, and `scores` holds TILE * TILE >= m * n.
            unsafe {
                matrixmultiply::sgemm(
                    m, dim, n, 1.0, left, dim_step, 1, right, 1, dim_step, 0.0, output, n_step, 1,
                );
            }
        }
    };
    let work = || {
        texts
            .data()
            .par_chunks(TILE * dim)
            .for_each_init(|| vec![0f32; TILE * TILE], strip)
    };
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}
