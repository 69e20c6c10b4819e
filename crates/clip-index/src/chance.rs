//! What blind guessing would reach, for comparison.

use std::collections::BTreeMap;

use clip_core::Result;

use crate::cuts::Cuts;
use crate::figures::{Figures, nothing};
use crate::groups::Groups;
use crate::positives::{Lookup, Positives};
use crate::precision::{Precision, PrecisionFigures, ideal, ideal_at};
use crate::precisions::check_groups;
use crate::sampled::{Sample, sizes};

/// The figures that rankings in random order have on average. With groups, it is groups that are ranked.
///
/// With `p` positives in a gallery of `g` rows, the best one stands behind rank `k` if the first `k` rows are all
/// wrong, which has the probability `product over i < k of (g - p - i) / (g - i)`.
///
/// ```
/// use clip_index::{Cuts, Positives, chance};
/// let figures = chance(&Positives::Diagonal, 200, 200, None, &Cuts::default())?;
/// assert!((figures.recall(5).unwrap() - 2.5).abs() < 1e-9 && (figures.median_rank - 100.5).abs() < 1e-9);
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn chance(
    positives: &Positives,
    queries: usize,
    gallery: usize,
    groups: Option<&Groups>,
    cuts: &Cuts,
) -> Result<Figures> {
    positives.check(queries, gallery)?;
    check_groups(groups, gallery)?;
    let lookup = Lookup::new(positives, groups);
    let gallery = groups.map_or(gallery, Groups::len);
    // How many queries have so many right ones; those without any are not ranked.
    let (mut counts, mut right) = (BTreeMap::new(), Vec::new());
    for query in 0..queries {
        let positives = match groups {
            None => lookup.most(query),
            Some(_) => {
                lookup.find(query, &mut right);
                right.len()
            }
        };
        *counts.entry((gallery, positives)).or_default() += 1;
    }
    figures(counts, cuts)
}

/// The figures that [`rank_sampled`](crate::rank_sampled) has on average where all orders are equally likely.
pub fn chance_sampled(
    positives: &Positives,
    queries: usize,
    gallery: usize,
    sample: Sample<'_>,
    cuts: &Cuts,
) -> Result<Figures> {
    let sizes = sizes(positives, sample, queries, gallery)?;
    figures(
        sizes.into_iter().map(|(size, queries)| ((size, 1), queries)).collect(),
        cuts,
    )
}

/// The figures of so many queries by how many rows each is ranked among and how many of them are right.
fn figures(mut counts: BTreeMap<(usize, usize), usize>, cuts: &Cuts) -> Result<Figures> {
    counts.retain(|(_, positives), _| *positives > 0);
    let ranked: usize = counts.values().sum();
    let Some((&(most, _), _)) = counts.last_key_value() else {
        return Err(nothing());
    };
    // within[k]: the share of queries with a rank of at most k.
    let mut within = vec![0.0; most + 1];
    for ((gallery, positives), queries) in counts {
        let mut behind = 1.0;
        for (k, within) in within.iter_mut().enumerate().skip(1) {
            behind *= match gallery + 1 - k.min(gallery + 1) {
                0 => 0.0,
                left => left.saturating_sub(positives) as f64 / left as f64,
            };
            *within += (1.0 - behind) * queries as f64 / ranked as f64;
        }
    }
    let recalls = cuts.map(|k| 100.0 * within[most.min(k as usize)]);
    let mean = |figure: fn(f64) -> f64| {
        (1..=most)
            .map(|k| (within[k] - within[k - 1]) * figure(k as f64))
            .sum::<f64>()
    };
    Ok(Figures {
        queries: ranked,
        gallery: most,
        mean_recall: recalls.mean(),
        recalls,
        median_rank: median(&within),
        mrr: mean(|rank| 1.0 / rank),
        mean_rank: mean(|rank| rank),
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

/// The figures that rankings in random order have on average where several rows are right.
///
/// With `p` right rows of `g`, a right row stands at rank `k` with the probability `p / g` and then has on average
/// `(p - 1)(k - 1) / (g - 1)` right ones before it; each rank holds on average `1 / g` of all gain.
pub fn chance_precision(
    positives: &Positives,
    queries: usize,
    gallery: usize,
    groups: Option<&Groups>,
    cuts: &Cuts,
) -> Result<PrecisionFigures> {
    positives.check(queries, gallery)?;
    check_groups(groups, gallery)?;
    let lookup = Lookup::new(positives, groups);
    let gallery = groups.map_or(gallery, Groups::len);
    let size = gallery as f64;
    let harmonic: f64 = (1..=gallery).map(|k| 1.0 / k as f64).sum();
    let discounts = ideal(std::iter::repeat_n(1.0, gallery));
    let mut found = Vec::new();
    let precisions: Vec<_> = (0..queries)
        .map(|query| {
            lookup.find(query, &mut found);
            let right = found.len() as f64;
            let others = if gallery > 1 { (right - 1.0) / (size - 1.0) } else { 0.0 };
            let ideal = ideal(found.iter().map(|right| right.gain));
            let gain: f64 = found.iter().map(|right| f64::from(right.gain)).sum();
            Some(Precision {
                right: found.len(),
                // Ranks are `chance`'s business; nothing reads this one.
                rank: std::num::NonZeroU32::MIN,
                average: (harmonic + others * (size - harmonic)) / size,
                precisions: cuts.map(|k| right / size * f64::from(k).min(size) / f64::from(k)),
                ndcg: gain / size * discounts.last()? / ideal.last()?,
                ndcgs: cuts.map(|k| gain / size * ideal_at(&discounts, k) / ideal_at(&ideal, k)),
            })
        })
        .collect();
    PrecisionFigures::new(&precisions, gallery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::PositiveLists;

    #[test]
    fn chance_of_one_and_of_several_positives() {
        let cuts = Cuts::default();
        let figures = chance(&Positives::Diagonal, 4, 4, None, &cuts).unwrap();
        assert!((figures.recall(1).unwrap() - 25.0).abs() < 1e-9 && (figures.recall(5).unwrap() - 100.0).abs() < 1e-9);
        assert!((figures.mrr - (1.0 + 0.5 + 1.0 / 3.0 + 0.25) / 4.0).abs() < 1e-12);
        assert_eq!(figures.median_rank, 2.5);
        assert!((figures.mean_rank - 2.5).abs() < 1e-12);

        // Two of three rows are right: the best is first in 2 of 3 orders, else second.
        let mut lists = PositiveLists::default();
        lists.push([0, 2]).unwrap();
        lists.push([]).unwrap();
        let positives = Positives::Lists(lists);
        let figures = chance(&positives, 2, 3, None, &cuts).unwrap();
        assert!((figures.recall(1).unwrap() - 200.0 / 3.0).abs() < 1e-9);
        assert!((figures.mrr - (2.0 / 3.0 + 1.0 / 6.0)).abs() < 1e-12);
        assert_eq!((figures.queries, figures.median_rank), (1, 1.0));
        // Both are of one product, which is one of two.
        let groups = Groups::new(&[1, 2, 1]);
        let figures = chance(&positives, 2, 3, Some(&groups), &cuts).unwrap();
        assert_eq!((figures.gallery, figures.median_rank), (2, 1.5));

        let labels = Positives::Labels {
            queries: vec![1],
            gallery: vec![2],
        };
        assert!(chance(&labels, 1, 1, None, &cuts).is_err());
    }
}
