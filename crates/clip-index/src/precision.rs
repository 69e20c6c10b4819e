//! How far ahead all right rows of a query stand: average precision.

use clip_core::{Embeddings, Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::gemm::{Kernel, PAIRS};
use crate::positives::PositiveLists;
use crate::sweep::{Strip, check, sweep};
use crate::threads::Options;

/// Rows that [`Precision::precision_10`] looks at.
const FIRST: usize = 10;

/// Where the right rows of one query stand among all rows. A tie counts against: of rows with equal scores the right
/// ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    /// The mean, over the right rows, of the share of right ones among the rows down to each (not interpolated); above 0,
    /// up to 1.
    pub average: f64,
    /// How many of the first 10 rows are right, divided by 10, also where fewer rows are there or right.
    #[serde(rename = "precision@10")]
    pub precision_10: f64,
}

/// What an evaluation with several right rows a query reports, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PrecisionFigures {
    /// Queries with at least one right row.
    pub queries: usize,
    /// Rows searched.
    pub gallery: usize,
    /// Mean average precision over the queries, 0 to 100.
    pub map: f64,
    /// Mean precision among the first 10 rows, 0 to 100.
    #[serde(rename = "precision@10")]
    pub precision_10: f64,
}

impl PrecisionFigures {
    /// The means over the queries that have a right row; an error if none has.
    pub fn new(precisions: &[Option<Precision>], gallery: usize) -> Result<Self> {
        let queries = precisions.iter().flatten().count();
        if queries == 0 {
            return Err(Error::invalid(
                "no query has a right answer in the gallery, so there is nothing to evaluate",
            ));
        }
        let mean =
            |part: fn(&Precision) -> f64| 100.0 * precisions.iter().flatten().map(part).sum::<f64>() / queries as f64;
        Ok(Self {
            queries,
            gallery,
            map: mean(|precision| precision.average),
            precision_10: mean(|precision| precision.precision_10),
        })
    }
}

/// The average precision of each query over its right rows; `None` for a query without any.
///
/// One pass over the scores, which are never held: what is kept is a score and a number for each right row.
///
/// An error if the dimensions differ, a row is not finite, or `positives` do not fit the rows.
///
/// ```
/// use clip_core::Embeddings;
/// use clip_index::{Options, PositiveLists, average_precision};
/// let concept = Embeddings::new(vec![1.0, 0.0], 2)?;
/// let images = Embeddings::new(vec![0.8, 0.6, 1.0, 0.0, 0.0, 1.0], 2)?;
/// let mut carried = PositiveLists::default();
/// carried.push([0, 1])?;
/// let found = average_precision(&concept, &images, &carried, Options::default())?;
/// assert_eq!(found[0].map(|precision| precision.average), Some(1.0));
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn average_precision(
    queries: &Embeddings,
    gallery: &Embeddings,
    positives: &PositiveLists,
    options: Options,
) -> Result<Vec<Option<Precision>>> {
    options.install(|| {
        check(queries, gallery)?;
        positives.check_fit(queries.len(), gallery.len())?;
        let mut steps: Vec<Steps> = (0..queries.len())
            .into_par_iter()
            .map(|query| Steps::new(queries.row(query), gallery, positives.of(query)))
            .collect();
        sweep(queries, gallery, &mut steps, |steps, _, strip| count(steps, strip));
        Ok(steps.iter().map(Steps::precision).collect())
    })?
}

/// The scores of a query's right rows, and how the other rows fall between them.
struct Steps {
    /// Descending.
    right: Vec<f32>,
    /// `fallen[i]`: rows, right ones too, whose score reaches `right[i]` and not the score before it.
    fallen: Vec<u32>,
}

impl Steps {
    fn new(query: &[f32], gallery: &Embeddings, rows: &[u32]) -> Self {
        let kernel = Kernel::best();
        let mut right = Vec::with_capacity(rows.len());
        for eight in rows.chunks(PAIRS) {
            // A last group of fewer rows is filled up with its first.
            let row = |i: usize| gallery.row(eight.get(i).copied().unwrap_or(eight[0]) as usize);
            let scores = kernel.pairs([query; PAIRS], std::array::from_fn(row));
            right.extend_from_slice(&scores[..eight.len()]);
        }
        // Scores are finite; equal ones are one bit pattern or the two zeros, whose order does not matter.
        right.sort_unstable_by(|left, other| other.total_cmp(left));
        let fallen = vec![0; right.len()];
        Self { right, fallen }
    }

    fn see(&mut self, score: f32) {
        let step = self.right.partition_point(|&right| right > score);
        if let Some(fallen) = self.fallen.get_mut(step) {
            *fallen += 1;
        }
    }

    fn precision(&self) -> Option<Precision> {
        if self.right.is_empty() {
            return None;
        }
        let (mut reached, mut sum, mut first) = (0u64, 0.0, 0usize);
        let mut step = 0;
        while step < self.right.len() {
            // Right rows of one score stand together, behind the wrong ones of that score.
            let alike = self.right[step..]
                .iter()
                .take_while(|&&score| score == self.right[step])
                .count();
            reached += u64::from(self.fallen[step]);
            let before = reached - alike as u64;
            for own in 1..=alike {
                let rank = before + own as u64;
                sum += (step + own) as f64 / rank as f64;
                first += usize::from(rank <= FIRST as u64);
            }
            step += alike;
        }
        Some(Precision {
            average: sum / self.right.len() as f64,
            precision_10: first as f64 / FIRST as f64,
        })
    }
}

fn count(steps: &mut [Steps], strip: &Strip<'_>) {
    for (steps, scores) in steps.iter_mut().zip(strip.scores) {
        let Some(&lowest) = steps.right.last() else { continue };
        let scores = &scores[..strip.columns];
        // Most rows lie below all right ones; to see that goes by vectors.
        if scores.iter().map(|&score| u32::from(score >= lowest)).sum::<u32>() > 0 {
            scores.iter().for_each(|&score| steps.see(score));
        }
    }
}

/// The figures that rankings in random order have on average.
///
/// With `p` right rows of `g`, a right row stands at rank `k` with the probability `p / g` and then has on average
/// `(p - 1)(k - 1) / (g - 1)` right ones before it.
pub fn chance_precision(positives: &PositiveLists, gallery: usize) -> Result<PrecisionFigures> {
    positives.check_fit(positives.len(), gallery)?;
    let size = gallery as f64;
    let harmonic: f64 = (1..=gallery).map(|k| 1.0 / k as f64).sum();
    let guessed = |query: usize| {
        let right = positives.of(query).len() as f64;
        let others = if gallery > 1 { (right - 1.0) / (size - 1.0) } else { 0.0 };
        (right > 0.0).then(|| Precision {
            average: (harmonic + others * (size - harmonic)) / size,
            precision_10: right / size * gallery.min(FIRST) as f64 / FIRST as f64,
        })
    };
    let precisions: Vec<_> = (0..positives.len()).map(guessed).collect();
    PrecisionFigures::new(&precisions, gallery)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(values: &[f32], dim: usize) -> Embeddings {
        Embeddings::new(values.to_vec(), dim).unwrap()
    }

    fn lists(rows: &[Vec<usize>]) -> PositiveLists {
        let mut lists = PositiveLists::default();
        rows.iter().for_each(|rows| lists.push(rows.iter().copied()).unwrap());
        lists
    }

    /// The definition, over a sorted list.
    fn naive(scores: &[f64], right: &[usize]) -> Option<Precision> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| {
            // Not `total_cmp`: the two zeros are one score.
            scores[b]
                .partial_cmp(&scores[a])
                .unwrap()
                .then(right.contains(&a).cmp(&right.contains(&b)))
        });
        let (mut found, mut sum, mut first) = (0.0, 0.0, 0.0);
        for (place, row) in order.iter().enumerate() {
            if right.contains(row) {
                found += 1.0;
                sum += found / (place + 1) as f64;
                first += f64::from(u8::from(place < 10));
            }
        }
        (found > 0.0).then(|| Precision {
            average: sum / found,
            precision_10: first / 10.0,
        })
    }

    #[test]
    fn by_hand() {
        // Scores 0.9, 0.5, 0.5, 0.1; right: the second and the last. The tie counts against: ranks 3 and 4.
        let gallery = rows(&[0.9, 0.5, 0.5, 0.1], 1);
        let found = average_precision(
            &rows(&[1.0, 1.0], 1),
            &gallery,
            &lists(&[vec![1, 3], vec![]]),
            Options::default(),
        )
        .unwrap();
        let first = found[0].unwrap();
        assert!((first.average - (1.0 / 3.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
        assert_eq!((first.precision_10, found[1]), (0.2, None));
        let figures = PrecisionFigures::new(&found, 4).unwrap();
        assert_eq!((figures.queries, figures.gallery, figures.precision_10), (1, 4, 20.0));
        let json = serde_json::to_value(figures).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["queries", "gallery", "map", "precision@10"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (query, gallery) = (rows(&[1.0], 1), rows(&[1.0, 0.5], 1));
        let what = |lists: &PositiveLists| {
            average_precision(&query, &gallery, lists, Options::default())
                .unwrap_err()
                .what()
                .to_owned()
        };
        assert_eq!(what(&lists(&[])), "0 lists of right rows for 1 queries");
        assert_eq!(
            what(&lists(&[vec![2]])),
            "query 0 names gallery row 2, but the gallery has 2 rows"
        );
        assert!(PrecisionFigures::new(&[None], 2).is_err());
        let none = average_precision(&query, &Embeddings::default(), &lists(&[vec![]]), Options::default()).unwrap();
        assert_eq!(none, [None]);
    }

    /// Against the mean over every order of four rows.
    #[test]
    fn chance_is_the_mean_over_all_orders() {
        let mut orders = vec![vec![0usize]];
        for next in 1..4 {
            orders = orders
                .iter()
                .flat_map(|order| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, next);
                        order
                    })
                })
                .collect();
        }
        for right in [vec![0], vec![0, 1], vec![0, 1, 2], vec![0, 1, 2, 3]] {
            let average = |order: &Vec<usize>| {
                let scores: Vec<f64> = order.iter().map(|&place| -(place as f64)).collect();
                naive(&scores, &right).unwrap().average
            };
            let mean = orders.iter().map(average).sum::<f64>() / orders.len() as f64;
            let guessed = chance_precision(&lists(&[right]), 4).unwrap();
            assert!((guessed.map - 100.0 * mean).abs() < 1e-9);
        }
        assert_eq!(chance_precision(&lists(&[vec![0]]), 1).unwrap().map, 100.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// On a grid of eighths, where scores are exact in f32 and often tie.
        #[test]
        fn agrees_with_the_definition(
            queries in prop::collection::vec(-4i8..=4, 2 * 30), gallery in prop::collection::vec(-4i8..=4, 2 * 130),
            carried in prop::collection::vec(prop::collection::vec(0usize..130, 0..40), 30), threads in 1usize..3,
        ) {
            let grid = |values: &[i8]| rows(&values.iter().map(|&x| f32::from(x) / 8.0).collect::<Vec<_>>(), 2);
            let (queries, gallery) = (grid(&queries), grid(&gallery));
            let found = average_precision(&queries, &gallery, &lists(&carried), Options::default().threads(threads)).unwrap();
            for (query, (found, right)) in found.iter().zip(&carried).enumerate() {
                let score = |row: &[f32]| -> f64 {
                    row.iter().zip(queries.row(query)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let scores: Vec<f64> = gallery.rows().map(score).collect();
                let wanted = naive(&scores, right);
                prop_assert_eq!(found.is_some(), wanted.is_some());
                if let (Some(found), Some(wanted)) = (found, wanted) {
                    prop_assert!((found.average - wanted.average).abs() < 1e-12, "{:?} {:?}", found, wanted);
                    prop_assert_eq!(found.precision_10, wanted.precision_10);
                }
            }
        }
    }
}
