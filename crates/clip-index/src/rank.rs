//! At which rank each query finds its best positive.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use clip_core::{Embeddings, Result};

use crate::gemm::COLUMNS;
use crate::positives::Positives;
use crate::sweep::{Strip, check, sweep};
use crate::targets::{Target, targets};
use crate::threads::Options;

/// The rank of each query's best positive in the gallery, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranks {
    ranks: Vec<Option<NonZeroU32>>,
    gallery: usize,
}

impl Ranks {
    /// Given ranks in a gallery of so many rows.
    pub fn new(ranks: Vec<Option<NonZeroU32>>, gallery: usize) -> Self {
        Self { ranks, gallery }
    }

    /// The rank of each query; `None` for a query without a positive.
    pub fn ranks(&self) -> &[Option<NonZeroU32>] {
        &self.ranks
    }

    /// Rows of the gallery.
    pub fn gallery(&self) -> usize {
        self.gallery
    }
}

/// Ranks each query's best positive: 1 + the gallery rows that are no positives of the query and score at least as
/// high. So a tie counts against, and other positives never count.
///
/// An error if the dimensions differ, a row is not finite, or `positives` do not fit the rows.
///
/// ```
/// use clip_core::Embeddings;
/// use clip_index::{Options, Positives, rank};
/// let texts = Embeddings::new(vec![1.0, 0.0, 0.6, 0.8], 2)?;
/// let images = Embeddings::new(vec![1.0, 0.0, 0.8, 0.6], 2)?;
/// let ranks = rank(&texts, &images, &Positives::Diagonal, Options::default())?;
/// assert_eq!(ranks.ranks().iter().flatten().map(|rank| rank.get()).collect::<Vec<_>>(), [1, 1]);
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn rank(queries: &Embeddings, gallery: &Embeddings, positives: &Positives, options: Options) -> Result<Ranks> {
    options.install(|| {
        check(queries, gallery)?;
        positives.check(queries.len(), gallery.len())?;
        let targets = targets(queries, gallery, positives);
        let mut reached = vec![0; queries.len()];
        sweep(queries, gallery, &mut reached, |reached, first, strip| {
            count_rows(reached, &targets[first..], strip)
        });
        Ok(Ranks::new(finish(&reached, &targets), gallery.len()))
    })?
}

/// Ranks in both directions, texts among images and images among texts, in one pass over the scores.
/// `positives` are the right images of each text.
pub fn rank_both(
    texts: &Embeddings,
    images: &Embeddings,
    positives: &Positives,
    options: Options,
) -> Result<(Ranks, Ranks)> {
    options.install(|| {
        check(texts, images)?;
        positives.check(texts.len(), images.len())?;
        let rows = targets(texts, images, positives);
        let columns = targets(images, texts, &positives.transposed(images.len())?);
        // Strips of queries run side by side and add to the same columns.
        let column_counts: Vec<AtomicU32> = columns.iter().map(|_| AtomicU32::new(0)).collect();
        let mut row_counts = vec![0; texts.len()];
        sweep(texts, images, &mut row_counts, |counts, first, strip| {
            count_rows(counts, &rows[first..], strip);
            count_columns(&column_counts[strip.column..], &columns[strip.column..], strip);
        });
        let column_counts: Vec<u32> = column_counts.into_iter().map(AtomicU32::into_inner).collect();
        Ok((
            Ranks::new(finish(&row_counts, &rows), images.len()),
            Ranks::new(finish(&column_counts, &columns), texts.len()),
        ))
    })?
}

/// Adds to each query how many scores of its row reach its target.
fn count_rows(counts: &mut [u32], targets: &[Target], strip: &Strip<'_>) {
    for ((count, target), scores) in counts.iter_mut().zip(targets).zip(strip.scores) {
        let reaches = |&score: &f32| u32::from(score >= target.score);
        // A whole row has a known length, of which the compiler makes vectors.
        *count += match strip.columns {
            COLUMNS => scores.iter().map(reaches).sum::<u32>(),
            columns => scores[..columns].iter().map(reaches).sum(),
        };
    }
}

/// Adds to each gallery row how many scores of its column reach its target.
fn count_columns(counts: &[AtomicU32], targets: &[Target], strip: &Strip<'_>) {
    let mut wanted = [f32::INFINITY; COLUMNS];
    wanted
        .iter_mut()
        .zip(targets)
        .for_each(|(wanted, target)| *wanted = target.score);
    let mut reached = [0u32; COLUMNS];
    for scores in strip.scores {
        for ((reached, score), wanted) in reached.iter_mut().zip(scores).zip(&wanted) {
            *reached += u32::from(score >= wanted);
        }
    }
    // Sums of integers do not depend on their order, so the figures do not depend on the threads.
    counts
        .iter()
        .zip(reached)
        .filter(|(_, n)| *n > 0)
        .for_each(|(count, n)| {
            count.fetch_add(n, Ordering::Relaxed);
        });
}

/// Of the scores that reach a target, those of the positives that define it are not wrong. All other positives lie
/// below it.
fn finish(reached: &[u32], targets: &[Target]) -> Vec<Option<NonZeroU32>> {
    let rank = |(&reached, target): (&u32, &Target)| match target.positives {
        0 => None,
        positives => NonZeroU32::new(1 + (reached - positives)),
    };
    reached.iter().zip(targets).map(rank).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lists::PositiveLists;

    /// Unit-like rows on a grid of eighths: products and sums are exact in f32, so ties are real ties.
    fn grid(rows: std::ops::Range<usize>, dim: usize) -> impl Strategy<Value = Embeddings> {
        prop::collection::vec(prop::collection::vec(-4i8..=4, dim), rows).prop_map(move |rows| {
            Embeddings::new(rows.concat().iter().map(|&x| f32::from(x) / 8.0).collect(), dim).unwrap()
        })
    }

    /// The rule, word by word, on exact integers (64 times the score).
    fn brute(
        queries: &Embeddings,
        gallery: &Embeddings,
        right: impl Fn(usize, usize) -> bool,
    ) -> Vec<Option<NonZeroU32>> {
        let score =
            |a: &[f32], b: &[f32]| -> i64 { a.iter().zip(b).map(|(a, b)| (a * 8.0) as i64 * (b * 8.0) as i64).sum() };
        let rank = |(i, query): (usize, &[f32])| {
            let scores: Vec<i64> = gallery.rows().map(|row| score(query, row)).collect();
            let best = (0..scores.len()).filter(|&j| right(i, j)).map(|j| scores[j]).max()?;
            NonZeroU32::new(1 + (0..scores.len()).filter(|&j| !right(i, j) && scores[j] >= best).count() as u32)
        };
        queries.rows().enumerate().map(rank).collect()
    }

    fn agrees(
        texts: &Embeddings,
        images: &Embeddings,
        positives: &Positives,
        right: impl Fn(usize, usize) -> bool,
    ) -> Result<(), TestCaseError> {
        let (forth, back) = rank_both(texts, images, positives, Options::default().threads(2)).unwrap();
        prop_assert_eq!(forth.ranks(), brute(texts, images, &right));
        prop_assert_eq!(back.ranks(), brute(images, texts, |i, t| right(t, i)));
        prop_assert_eq!((forth.gallery(), back.gallery()), (images.len(), texts.len()));
        prop_assert_eq!(&rank(texts, images, positives, Options::default()).unwrap(), &forth);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn diagonal_ranks_agree_with_the_rule(rows in grid(2..150, 3), noise in any::<u64>()) {
            let half = rows.len() / 2;
            let texts = Embeddings::new(rows.data()[..half * 3].to_vec(), 3).unwrap();
            // Some pictures equal their texts, so that not all ranks are bad.
            let pictures = (0..half).flat_map(|i| rows.row(if noise >> (i % 64) & 1 == 1 { i } else { half + i }).to_vec());
            let images = Embeddings::new(pictures.collect(), 3).unwrap();
            agrees(&texts, &images, &Positives::Diagonal, |t, i| t == i)?;
        }

        #[test]
        fn several_positives_agree_with_the_rule(
            texts in grid(1..120, 2), images in grid(1..120, 2), labels in prop::collection::vec(0u64..9, 240),
        ) {
            let (left, right) = (labels[..texts.len()].to_vec(), labels[120..120 + images.len()].to_vec());
            let mut lists = PositiveLists::default();
            for text in &left {
                lists.push((0..right.len()).rev().filter(|&image| right[image] == *text)).unwrap();
            }
            let same = |t: usize, i: usize| left[t] == right[i];
            agrees(&texts, &images, &Positives::Lists(lists), same)?;
            let labels = Positives::Labels { queries: left.clone(), gallery: right.clone() };
            agrees(&texts, &images, &labels, same)?;
        }
    }

    /// Values that no grid makes exact: equal rows must tie at whatever place they stand, or the count is wrong.
    #[test]
    fn equal_rows_tie_to_the_bit_at_every_place() {
        for dim in [1, 3, 7, 64, 100, 512, 513] {
            let mut seed = dim as u32;
            let mut value = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let base = Embeddings::new((0..3 * dim).map(|_| value()).collect(), dim)
                .unwrap()
                .normalised();
            // All rows are one of three: a query ties with every row of its own kind, whatever tile it is in.
            let rows = 211;
            let kind = |row: usize| (row * row / 5) % 3;
            let all = Embeddings::new((0..rows).flat_map(|row| base.row(kind(row)).to_vec()).collect(), dim).unwrap();
            let alike = |row: usize| (0..rows).filter(|&other| kind(other) == kind(row)).count() as u32;
            let (forth, back) = rank_both(&all, &all, &Positives::Diagonal, Options::default()).unwrap();
            // In one dimension, unit rows are 1 or -1 and kinds may coincide.
            let same = |row: usize, other: usize| base.row(kind(row)) == base.row(kind(other));
            for row in 0..rows {
                let ties = if dim == 1 {
                    (0..rows).filter(|&o| same(row, o)).count() as u32
                } else {
                    alike(row)
                };
                assert_eq!(forth.ranks()[row].unwrap().get(), ties, "dim {dim}, row {row}");
            }
            assert_eq!(forth, back);
            let labels: Vec<u64> = (0..rows).map(|row| kind(row) as u64).collect();
            let labels = Positives::Labels {
                queries: labels.clone(),
                gallery: labels,
            };
            let ranks = rank(&all, &all, &labels, Options::default()).unwrap();
            if dim > 1 {
                assert!(ranks.ranks().iter().all(|rank| rank.unwrap().get() == 1), "dim {dim}");
            }
        }
    }

    #[test]
    fn a_query_without_a_positive_has_no_rank() {
        let rows = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let mut lists = PositiveLists::default();
        lists.push([]).unwrap();
        lists.push([0, 1]).unwrap();
        let (forth, back) = rank_both(&rows, &rows, &Positives::Lists(lists), Options::default()).unwrap();
        let ranks = |ranks: &Ranks| {
            ranks
                .ranks()
                .iter()
                .map(|rank| rank.map(NonZeroU32::get))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (ranks(&forth), ranks(&back)),
            (vec![None, Some(1)], vec![Some(2), Some(1)])
        );
        let none = rank(
            &Embeddings::default(),
            &Embeddings::default(),
            &Positives::Diagonal,
            Options::default(),
        )
        .unwrap();
        assert_eq!((none.ranks(), none.gallery()), (&[][..], 0));
    }
}
