//! The best gallery rows of each query.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use clip_core::{Embeddings, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::gemm::{Kernel, PAIRS};
use crate::sweep::{check, sweep};
use crate::threads::Options;

/// A gallery row and its score with a query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The gallery row, from 0.
    pub row: usize,
    /// The dot product: the cosine, of unit rows.
    pub score: f32,
}

/// So few queries are scored row by row: to pack the gallery for tiles would cost more than it saves.
const FEW: usize = 4;

/// Orders by worth: what a heap's top holds is the worst, the first to go.
#[derive(Clone, Copy, PartialEq)]
struct Worst(Scored);

impl Eq for Worst {}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        // Scores are finite. Of equal scores the later row is worse.
        other
            .0
            .score
            .partial_cmp(&self.0.score)
            .unwrap_or(Ordering::Equal)
            .then(self.0.row.cmp(&other.0.row))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` best gallery rows of each query, best first; of equal scores the lower row comes first. All rows if the
/// gallery has no more than `k`.
///
/// An error if the dimensions differ or a row is not finite.
pub fn top_k(queries: &Embeddings, gallery: &Embeddings, k: usize, options: Options) -> Result<Vec<Vec<Scored>>> {
    options.install(|| {
        check(queries, gallery)?;
        let k = k.min(gallery.len());
        if k == 0 {
            return Ok(vec![Vec::new(); queries.len()]);
        }
        let mut heaps: Vec<BinaryHeap<Worst>> = vec![BinaryHeap::new(); queries.len()];
        if queries.len() <= FEW {
            heaps
                .iter_mut()
                .zip(queries.rows())
                .for_each(|(heap, query)| *heap = scan(query, gallery, k));
            return Ok(heaps.into_iter().map(in_order).collect());
        }
        sweep(queries, gallery, &mut heaps, |heaps, _, strip| {
            for (heap, scores) in heaps.iter_mut().zip(strip.scores) {
                keep_best(heap, k, strip.column, &scores[..strip.columns]);
            }
        });
        Ok(heaps
            .into_iter()
            .map(|heap| heap.into_sorted_vec().into_iter().map(|Worst(hit)| hit).collect())
            .collect())
    })?
}

fn in_order(heap: BinaryHeap<Worst>) -> Vec<Scored> {
    heap.into_sorted_vec().into_iter().map(|Worst(hit)| hit).collect()
}

/// The best rows for one query, read where they lie, by several threads. Their scores have the bits that a sweep gives.
fn scan(query: &[f32], gallery: &Embeddings, k: usize) -> BinaryHeap<Worst> {
    /// Rows of a task.
    const ROWS: usize = 2048;
    let (kernel, dim) = (Kernel::best(), query.len());
    let part = |(number, rows): (usize, &[f32])| {
        let mut heap = BinaryHeap::new();
        for (eight, rows) in rows.chunks(PAIRS * dim).enumerate() {
            // A last group of fewer rows is filled up with its first.
            let count = rows.len() / dim;
            let row = |i: usize| &rows[(if i < count { i } else { 0 }) * dim..][..dim];
            let scores = kernel.pairs([query; PAIRS], std::array::from_fn(row));
            keep_best(&mut heap, k, number * ROWS + eight * PAIRS, &scores[..count]);
        }
        heap
    };
    gallery
        .data()
        .par_chunks(ROWS * dim)
        .enumerate()
        .map(part)
        .reduce(BinaryHeap::new, |mut one, other| {
            for hit in other {
                if one.len() < k {
                    one.push(hit);
                } else if let Some(mut worst) = one.peek_mut()
                    && hit < *worst
                {
                    *worst = hit;
                }
            }
            one
        })
}

/// Takes in the scores of the rows from `first` on, which come after all rows before.
fn keep_best(heap: &mut BinaryHeap<Worst>, k: usize, first: usize, scores: &[f32]) {
    // Nearly all scores of a long gallery are worse than the worst kept; to count the others goes by vectors.
    if heap.len() == k
        && let Some(worst) = heap.peek()
        && scores
            .iter()
            .map(|&score| u32::from(score > worst.0.score))
            .sum::<u32>()
            == 0
    {
        return;
    }
    for (row, &score) in (first..).zip(scores) {
        let hit = Worst(Scored { row, score });
        if heap.len() < k {
            heap.push(hit);
        } else if let Some(mut worst) = heap.peek_mut()
            && score > worst.0.score
        {
            *worst = hit;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// On a grid of eighths, where scores are exact and often tie.
        #[test]
        fn the_best_rows_in_order(
            values in prop::collection::vec(-4i8..=4, 2 * 40), gallery in prop::collection::vec(-4i8..=4, 2..2 * 110), k in 0usize..130,
        ) {
            let rows = |values: &[i8]| {
                let even = values.len() / 2 * 2;
                Embeddings::new(values[..even].iter().map(|&x| f32::from(x) / 8.0).collect(), 2).unwrap()
            };
            let (queries, gallery) = (rows(&values), rows(&gallery));
            let found = top_k(&queries, &gallery, k, Options::default()).unwrap();
            prop_assert_eq!(found.len(), queries.len());
            // Few queries take another way to the same hits.
            let few = Embeddings::new(queries.data()[..2 * FEW].to_vec(), 2).unwrap();
            prop_assert_eq!(&top_k(&few, &gallery, k, Options::default().threads(2)).unwrap(), &found[..FEW]);
            for (query, found) in queries.rows().zip(found) {
                let score = |row: usize| query[0] * gallery.row(row)[0] + query[1] * gallery.row(row)[1];
                let mut rows: Vec<usize> = (0..gallery.len()).collect();
                rows.sort_by(|&a, &b| score(b).partial_cmp(&score(a)).unwrap().then(a.cmp(&b)));
                rows.truncate(k);
                prop_assert!(found.iter().all(|hit| hit.score == score(hit.row)));
                prop_assert_eq!(found.into_iter().map(|hit| hit.row).collect::<Vec<_>>(), rows);
            }
        }
    }

    /// Over several tasks of the scan, and with values that no grid makes exact.
    #[test]
    fn one_query_and_many_find_the_same() {
        let mut state = 7u32;
        let mut value = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let dim = 19;
        let gallery = Embeddings::new((0..5000 * dim).map(|_| value()).collect(), dim).unwrap();
        let queries = Embeddings::new((0..9 * dim).map(|_| value()).collect(), dim).unwrap();
        let found = top_k(&queries, &gallery, 7, Options::default()).unwrap();
        for (query, found) in queries.rows().zip(found) {
            let alone = Embeddings::new(query.to_vec(), dim).unwrap();
            assert_eq!(top_k(&alone, &gallery, 7, Options::default()).unwrap(), [found]);
        }
    }

    #[test]
    fn an_empty_gallery_has_no_hits() {
        let query = Embeddings::new(vec![1.0, 0.0], 2).unwrap();
        assert_eq!(
            top_k(&query, &Embeddings::default(), 3, Options::default()).unwrap(),
            [vec![]]
        );
        assert!(
            top_k(&Embeddings::default(), &query, 3, Options::default())
                .unwrap()
                .is_empty()
        );
        let wide = Embeddings::new(vec![1.0; 3], 3).unwrap();
        assert!(top_k(&query, &wide, 1, Options::default()).is_err());
    }
}
