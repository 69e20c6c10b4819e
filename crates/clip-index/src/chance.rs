//! What blind guessing would reach, for comparison.

use std::collections::{BTreeMap, HashMap};

use clip_core::{Error, Result};

use crate::figures::Figures;
use crate::positives::Positives;

/// The figures that rankings in random order have on average: texts among images, images among texts.
/// `positives` are the right images of each text.
///
/// With `p` positives in a gallery of `g` rows, the best one stands behind rank `k` if the first `k` rows are all
/// wrong, which has the probability `product over i < k of (g - p - i) / (g - i)`.
///
/// ```
/// use clip_index::{Positives, chance_both};
/// let (forth, _) = chance_both(&Positives::Diagonal, 200, 200)?;
/// assert!((forth.recall_5 - 2.5).abs() < 1e-9 && (forth.median_rank - 100.5).abs() < 1e-9);
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn chance_both(positives: &Positives, texts: usize, images: usize) -> Result<(Figures, Figures)> {
    positives.check(texts, images)?;
    let back = positives.transposed(images)?;
    Ok((chance(positives, texts, images)?, chance(&back, images, texts)?))
}

fn chance(positives: &Positives, queries: usize, gallery: usize) -> Result<Figures> {
    // How many queries have so many positives; those without any are not ranked.
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut add = |positives: usize| *counts.entry(positives).or_default() += 1;
    match positives {
        Positives::Diagonal => (0..queries).for_each(|_| add(1)),
        Positives::Lists(lists) => (0..queries).for_each(|query| add(lists.of(query).len())),
        Positives::Labels { queries, gallery } => {
            let mut rows: HashMap<u64, usize> = HashMap::new();
            gallery.iter().for_each(|&label| *rows.entry(label).or_default() += 1);
            queries
                .iter()
                .for_each(|label| add(rows.get(label).copied().unwrap_or(0)));
        }
    }
    counts.remove(&0);
    let ranked: usize = counts.values().sum();
    if ranked == 0 {
        return Err(Error::invalid(
            "no query has a right answer in the gallery, so there is nothing to guess",
        ));
    }
    // within[k]: the share of queries with a rank of at most k.
    let mut within = vec![0.0; gallery + 1];
    for (positives, queries) in counts {
        let mut behind = 1.0;
        for (k, within) in within.iter_mut().enumerate().skip(1) {
            let (wrong, left) = (
                (gallery - positives + 1).saturating_sub(k) as f64,
                (gallery + 1 - k) as f64,
            );
            behind *= wrong / left;
            *within += (1.0 - behind) * queries as f64 / ranked as f64;
        }
    }
    let recall = |k: usize| 100.0 * within[k.min(gallery)];
    let [recall_1, recall_5, recall_10] = [1, 5, 10].map(recall);
    Ok(Figures {
        queries: ranked,
        gallery,
        recall_1,
        recall_5,
        recall_10,
        mean_recall: (recall_1 + recall_5 + recall_10) / 3.0,
        median_rank: median(&within),
        mrr: (1..=gallery).map(|k| (within[k] - within[k - 1]) / k as f64).sum(),
    })
}

/// The middle of a distribution of ranks: between two ranks where half the queries lie at or below the lower one.
fn median(within: &[f64]) -> f64 {
    // The shares are sums of fractions: a half may miss 0.5 by its last bits.
    const ROUNDING: f64 = 1e-9;
    let lower = within.partition_point(|&share| share < 0.5 - ROUNDING);
    let upper = within
        .partition_point(|&share| share <= 0.5 + ROUNDING)
        .min(within.len() - 1);
    (lower + upper) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positives::PositiveLists;

    #[test]
    fn chance_of_one_and_of_several_positives() {
        let (forth, back) = chance_both(&Positives::Diagonal, 4, 4).unwrap();
        assert_eq!(forth, back);
        assert!((forth.recall_1 - 25.0).abs() < 1e-9 && (forth.recall_5 - 100.0).abs() < 1e-9);
        assert!((forth.mrr - (1.0 + 0.5 + 1.0 / 3.0 + 0.25) / 4.0).abs() < 1e-12);
        assert_eq!(forth.median_rank, 2.5);

        // Two of three rows are right: the best is first in 2 of 3 orders, else second.
        let mut lists = PositiveLists::default();
        lists.push([0, 2]).unwrap();
        lists.push([]).unwrap();
        let (forth, back) = chance_both(&Positives::Lists(lists), 2, 3).unwrap();
        assert!((forth.recall_1 - 200.0 / 3.0).abs() < 1e-9 && (forth.mrr - (2.0 / 3.0 + 1.0 / 6.0)).abs() < 1e-12);
        assert_eq!(
            (forth.queries, forth.median_rank, back.queries, back.gallery),
            (1, 1.0, 2, 2)
        );

        let labels = Positives::Labels {
            queries: vec![1],
            gallery: vec![2],
        };
        assert!(chance_both(&labels, 1, 1).is_err());
    }
}
