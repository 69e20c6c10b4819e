//! One pass over the score matrix, tile by tile, so that the matrix itself is never held.

use std::hint::black_box;

use clip_core::{Embeddings, Error, Result};
use rayon::prelude::*;

use crate::gemm::{COLUMNS, Kernel, QUERIES, Tile, pack};
use crate::threads::Options;

/// Query rows that one task packs and scores against each panel of the gallery: 8 tiles, 196 KiB at 512 dimensions,
/// which leaves a second-level cache room for the panel.
pub(crate) const STRIP: usize = 8 * QUERIES;

/// Bytes of the gallery that are packed at a time. They lie in the last-level cache while all queries pass.
const BLOCK_BYTES: usize = 4 << 20;

/// Scores of up to [`STRIP`] queries with up to 32 gallery rows.
pub(crate) struct Strip<'a> {
    /// The first gallery row.
    pub(crate) column: usize,
    /// How many gallery rows: what stands behind them in `scores` is of no row.
    pub(crate) columns: usize,
    /// A row a query.
    pub(crate) scores: &'a [[f32; COLUMNS]],
}

/// Buffers of a task.
struct Buffers {
    queries: Vec<[f32; QUERIES]>,
    scores: [Tile; STRIP / QUERIES],
}

/// Gives every score to `visit` once. The queries are cut into strips, whose states (one a query) `visit` gets
/// together with the number of the strip's first query; a strip sees the gallery in ascending order. Extra memory is
/// one block of the gallery and one strip a thread.
pub(crate) fn sweep<S: Send>(
    queries: &Embeddings,
    gallery: &Embeddings,
    states: &mut [S],
    visit: impl Fn(&mut [S], usize, &Strip<'_>) + Sync,
) {
    let (kernel, dim) = (Kernel::best(), queries.dim());
    if queries.is_empty() || gallery.is_empty() {
        return;
    }
    let panel = dim * COLUMNS;
    let block = (BLOCK_BYTES / (4 * panel)).clamp(1, gallery.len().div_ceil(COLUMNS)) * COLUMNS;
    let strip = strip_length(queries.len());
    let mut packed = vec![[0f32; COLUMNS]; block / COLUMNS * dim];
    for first in (0..gallery.len()).step_by(block) {
        let panels = (gallery.len() - first).min(block).div_ceil(COLUMNS);
        let packed = &mut packed[..panels * dim];
        packed
            .par_chunks_exact_mut(dim)
            .enumerate()
            .for_each(|(panel, packed)| {
                pack(rows_from(gallery, first + panel * COLUMNS), packed);
            });
        states.par_chunks_mut(strip).enumerate().for_each_init(
            || Buffers::new(dim),
            |buffers, (number, states)| {
                let query = number * strip;
                buffers.pack(queries, query, states.len(), dim);
                for (panel, packed) in packed.chunks_exact(dim).enumerate() {
                    let column = first + panel * COLUMNS;
                    let columns = COLUMNS.min(gallery.len() - column);
                    let scores = &buffers.score(kernel, packed, states.len(), dim)[..states.len()];
                    visit(
                        states,
                        query,
                        &Strip {
                            column,
                            columns,
                            scores,
                        },
                    );
                }
            },
        );
    }
}

/// Makes all scores and looks at none: the yardstick that the ranking is measured by.
#[doc(hidden)]
pub fn bare_product(queries: &Embeddings, gallery: &Embeddings, options: Options) -> Result<()> {
    options.install(|| {
        check(queries, gallery)?;
        sweep(queries, gallery, &mut vec![(); queries.len()], |_, _, strip| {
            black_box(strip.scores);
        });
        Ok(())
    })?
}

/// Shorter strips where there are too few queries to give each thread some.
fn strip_length(queries: usize) -> usize {
    let share = queries.div_ceil(4 * rayon::current_num_threads());
    share.next_multiple_of(QUERIES).min(STRIP)
}

/// The rows from `first` on.
fn rows_from(embeddings: &Embeddings, first: usize) -> impl Iterator<Item = &[f32]> {
    embeddings.data()[first * embeddings.dim()..].chunks_exact(embeddings.dim())
}

impl Buffers {
    fn new(dim: usize) -> Self {
        Self {
            queries: vec![[0.0; QUERIES]; STRIP / QUERIES * dim],
            scores: [[[0.0; COLUMNS]; QUERIES]; STRIP / QUERIES],
        }
    }

    fn pack(&mut self, queries: &Embeddings, first: usize, count: usize, dim: usize) {
        for (tile, packed) in self
            .queries
            .chunks_exact_mut(dim)
            .take(count.div_ceil(QUERIES))
            .enumerate()
        {
            pack(rows_from(queries, first + tile * QUERIES), packed);
        }
    }

    /// Scores of the packed queries with a packed panel; rows past `count` are of no query.
    fn score(&mut self, kernel: Kernel, panel: &[[f32; COLUMNS]], count: usize, dim: usize) -> &[[f32; COLUMNS]] {
        let tiles = count.div_ceil(QUERIES);
        for (tile, queries) in self.scores.iter_mut().zip(self.queries.chunks_exact(dim)).take(tiles) {
            kernel.tile(queries, panel, tile);
        }
        self.scores.as_flattened()
    }
}

/// Refuses rows that cannot be scored: other dimensions, values that are not finite, or so large that a score might
/// not be.
pub(crate) fn check(queries: &Embeddings, gallery: &Embeddings) -> Result<()> {
    if !queries.is_empty() && !gallery.is_empty() && queries.dim() != gallery.dim() {
        let (left, right) = (queries.dim(), gallery.dim());
        return Err(
            Error::invalid(format!("queries of {left} dimensions, a gallery of {right}"))
                .remedy("take features of one model"),
        );
    }
    check_values(queries, "queries")?;
    check_values(gallery, "gallery")
}

fn check_values(embeddings: &Embeddings, side: &str) -> Result<()> {
    if u32::try_from(embeddings.len()).is_err() {
        return Err(Error::exhausted(format!("the {side} have more than {} rows", u32::MAX)));
    }
    // Within this limit no sum of products leaves the finite numbers.
    let limit = (1e38 / embeddings.dim().max(1) as f32).sqrt();
    // The bits of magnitudes are ordered as the magnitudes are, with infinity and NaN on top.
    let largest = |row: &[f32]| f32::from_bits(row.iter().fold(0, |most, x| most.max(x.abs().to_bits())));
    let fits = |row: &[f32]| largest(row) <= limit;
    let rows = embeddings.data().par_chunks_exact(embeddings.dim().max(1));
    let Some(row) = rows.position_first(|row| !fits(row)) else {
        return Ok(());
    };
    let value = largest(embeddings.row(row));
    let what = if value.is_finite() {
        format!("the value {value:e}")
    } else {
        "a value that is not finite".to_owned()
    };
    Err(
        Error::invalid(format!("row {row} of the {side} (counted from 0) holds {what}"))
            .remedy("embeddings are rows of length 1"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_is_visited_once_in_gallery_order() {
        // Sizes on both sides of the edges of tiles, strips and, with 70,000 dimensions, blocks.
        for (queries, gallery, dim) in [
            (1, 1, 1),
            (12, 32, 3),
            (13, 33, 5),
            (97, 100, 7),
            (2, 70, 70_000),
            (0, 5, 2),
        ] {
            let rows = |count: usize| {
                let values = (0..count * dim).map(|i| if i % dim == 0 { 1.0 + (i / dim) as f32 } else { 0.0 });
                Embeddings::new(values.collect(), dim).unwrap()
            };
            let mut seen = vec![Vec::new(); queries];
            sweep(&rows(queries), &rows(gallery), &mut seen, |states, first, strip| {
                for (i, (state, scores)) in states.iter_mut().zip(strip.scores).enumerate() {
                    for (j, score) in scores[..strip.columns].iter().enumerate() {
                        assert_eq!(*score, (first + i + 1) as f32 * (strip.column + j + 1) as f32);
                        state.push(strip.column + j);
                    }
                }
            });
            assert!(
                seen.iter().all(|seen| seen.iter().copied().eq(0..gallery)),
                "{queries} x {gallery} x {dim}"
            );
        }
    }

    #[test]
    fn bad_rows_are_named() {
        let fine = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        for (value, what) in [
            (f32::NAN, "not finite"),
            (f32::NEG_INFINITY, "not finite"),
            (-2e19, "2e19"),
        ] {
            let bad = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0, 0.5, value], 2).unwrap();
            let message = check(&fine, &bad).unwrap_err().to_string();
            assert!(
                message.contains("row 2 of the gallery") && message.contains(what),
                "{message}"
            );
            assert!(
                check(&bad, &fine)
                    .unwrap_err()
                    .to_string()
                    .contains("row 2 of the queries")
            );
        }
        let other = Embeddings::new(vec![1.0, 0.0, 0.0], 3).unwrap();
        assert_eq!(
            check(&fine, &other).unwrap_err().what(),
            "queries of 2 dimensions, a gallery of 3"
        );
        assert!(check(&fine, &Embeddings::default()).is_ok());
    }
}
