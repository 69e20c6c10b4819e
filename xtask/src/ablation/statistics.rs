//! Paired differences between two arms, and how sure they are.
//!
//! A value is known for each fold, seed and unit (a thing that is asked for, or a concept). Both arms have the same ones:
//! what is paired is a unit in a fold under a seed. Chance chose the units and the seeds, so both are drawn again, with
//! replacement: the units once for all folds, since the folds ask for the same things, the seeds in each fold. The folds
//! are not drawn: there are four artists and no more.

use std::collections::BTreeMap;

use super::draw::Draw;

/// How often is drawn.
const REPLICATES: usize = 2000;

/// An arm's values by fold and seed: one a unit, `NaN` where a unit has none.
pub(super) type Values = BTreeMap<(String, u64), Vec<f64>>;

/// A mean paired difference with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Difference {
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Pairs of runs behind it.
    pub(super) pairs: usize,
}

/// The mean over folds of the mean over seeds of the mean over units.
pub(super) fn mean(values: &Values) -> Option<f64> {
    let mut folds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((fold, _), units) in values {
        let known: Vec<f64> = units.iter().copied().filter(|value| !value.is_nan()).collect();
        folds.entry(fold).or_default().push(average(&known)?);
    }
    let means: Option<Vec<f64>> = folds.values().map(|seeds| average(seeds)).collect();
    average(&means?)
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// `arm` minus `baseline` over the folds and seeds that both have; `None` if there is none, or if units do not match.
pub(super) fn difference(arm: &Values, baseline: &Values) -> Option<Difference> {
    let mut folds: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    let mut pairs = 0;
    for (key, ours) in arm {
        let Some(theirs) = baseline.get(key) else { continue };
        if ours.len() != theirs.len() {
            return None;
        }
        let units = ours.iter().zip(theirs).map(|(a, b)| a - b).collect();
        folds.entry(&key.0).or_default().push(units);
        pairs += 1;
    }
    let units = folds.values().flatten().map(Vec::len).max()?;
    if folds.values().flatten().any(|run| run.len() != units) {
        return None;
    }
    let folds: Vec<Vec<Vec<f64>>> = folds.into_values().collect();
    let observed = statistic(&folds, &vec![1; units], |_, seed| seed)?;
    let mut drawn: Vec<f64> = (0..REPLICATES as u64)
        .filter_map(|replicate| {
            let mut draw = Draw::of("bootstrap", replicate);
            let mut counts = vec![0u32; units];
            (0..units).for_each(|_| counts[draw.below(units)] += 1);
            statistic(&folds, &counts, |seeds, _| draw.below(seeds))
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Some(Difference {
        mean: observed,
        low: quantile(&drawn, 0.025)?,
        high: quantile(&drawn, 0.975)?,
        pairs,
    })
}

/// The mean over folds, over seeds as `choose` takes them (of how many, which in turn), over units as often as counted.
fn statistic(folds: &[Vec<Vec<f64>>], counts: &[u32], mut choose: impl FnMut(usize, usize) -> usize) -> Option<f64> {
    let mut total = 0.0;
    for seeds in folds {
        // Each run's mean is needed once, however often its seed is drawn.
        let mut means: Vec<Option<f64>> = vec![None; seeds.len()];
        let mut sum = 0.0;
        for turn in 0..seeds.len() {
            let chosen = choose(seeds.len(), turn);
            let mean = match means[chosen] {
                Some(mean) => mean,
                None => weighted(&seeds[chosen], counts)?,
            };
            means[chosen] = Some(mean);
            sum += mean;
        }
        total += sum / seeds.len() as f64;
    }
    (!folds.is_empty()).then(|| total / folds.len() as f64)
}

fn weighted(units: &[f64], counts: &[u32]) -> Option<f64> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for (value, count) in units.iter().zip(counts) {
        if !value.is_nan() {
            sum += value * f64::from(*count);
            weight += f64::from(*count);
        }
    }
    (weight > 0.0).then(|| sum / weight)
}

/// A quantile of sorted values, between neighbours.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)?) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (sorted.get(below)?, sorted.get(above)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Approximately normal: the sum of twelve.
    fn normal(draw: &mut Draw) -> f64 {
        (0..12).map(|_| draw.share()).sum::<f64>() - 6.0
    }

    fn values(folds: &[&str], seeds: u64, mut unit: impl FnMut(&str, u64, usize) -> f64, units: usize) -> Values {
        let mut values = Values::new();
        for fold in folds {
            for seed in 0..seeds {
                let of_run = (0..units).map(|place| unit(fold, seed, place)).collect();
                values.insert(((*fold).to_owned(), seed), of_run);
            }
        }
        values
    }

    #[test]
    fn an_interval_over_units_is_that_of_the_normal_distribution() {
        let mut draw = Draw::of("normal", 0);
        let arm = values(&["a"], 1, |_, _, _| 3.0 + normal(&mut draw), 400);
        let none = values(&["a"], 1, |_, _, _| 0.0, 400);
        let of_run = &arm[&("a".to_owned(), 0)];
        let mean = of_run.iter().sum::<f64>() / 400.0;
        let variance = of_run.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 399.0;
        let half = 1.96 * (variance / 400.0).sqrt();
        let found = difference(&arm, &none).unwrap();
        assert!((found.mean - mean).abs() < 1e-12 && found.pairs == 1);
        assert!((found.high - mean - half).abs() < 0.1 * half, "{found:?} {mean} {half}");
        assert!((mean - found.low - half).abs() < 0.1 * half, "{found:?} {mean} {half}");
    }

    #[test]
    fn seeds_that_differ_widen_it_and_folds_count_alike() {
        // Every unit of a run is the same, so only seeds differ: the deviation of a mean of four of -1, 1, -1, 1 is 1/2.
        let seeds = |_: &str, seed: u64, _: usize| if seed.is_multiple_of(2) { 1.0 } else { -1.0 };
        let arm = values(&["a"], 4, seeds, 9);
        let none = values(&["a", "b"], 4, |_, _, _| 0.0, 9);
        let found = difference(&arm, &none).unwrap();
        assert_eq!((found.mean, found.pairs, found.low, found.high), (0.0, 4, -1.0, 1.0));
        // A fold of one run counts as much as a fold of four.
        let mut uneven = values(&["a"], 4, |_, _, _| 1.0, 9);
        uneven.insert(("b".into(), 0), vec![3.0; 9]);
        let found = difference(&uneven, &none).unwrap();
        assert_eq!((found.mean, found.pairs), (2.0, 5));
        assert_eq!(mean(&uneven), Some(2.0));
    }

    #[test]
    fn both_arms_share_units_so_that_what_is_hard_for_both_does_not_count() {
        let hard = |place: usize| if place.is_multiple_of(2) { 100.0 } else { 0.0 };
        let arm = values(&["a"], 2, |_, _, place| hard(place) + 1.0, 50);
        let base = values(&["a"], 2, |_, _, place| hard(place), 50);
        let found = difference(&arm, &base).unwrap();
        assert_eq!((found.mean, found.low, found.high), (1.0, 1.0, 1.0));
    }

    #[test]
    fn a_unit_without_a_value_is_left_out_and_strange_pairs_are_none() {
        let mut arm = values(&["a"], 1, |_, _, _| 2.0, 4);
        arm.get_mut(&("a".to_owned(), 0)).unwrap()[1] = f64::NAN;
        let base = values(&["a"], 1, |_, _, _| 1.0, 4);
        assert_eq!(difference(&arm, &base).unwrap().mean, 1.0);
        assert_eq!(mean(&arm), Some(2.0));
        assert_eq!(difference(&arm, &values(&["b"], 1, |_, _, _| 1.0, 4)), None);
        assert_eq!(difference(&arm, &values(&["a"], 1, |_, _, _| 1.0, 5)), None);
    }
}
