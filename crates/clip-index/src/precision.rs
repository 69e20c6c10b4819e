//! How far ahead all right rows of a query stand: average precision and discounted gain.

use std::num::NonZeroU32;

use clip_core::Result;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::cuts::{AtCuts, Cuts};
use crate::figures::nothing;
use crate::rank::Ranks;
use crate::steps::Steps;

/// Where the right rows of one query stand among all rows. A tie counts against: of rows with equal scores the wrong
/// ones come first, and then the right ones that are worth least.
#[derive(Debug, Clone, PartialEq)]
pub struct Precision {
    /// How many rows are right.
    pub right: usize,
    /// The rank of the best right row among the wrong ones: what [`rank`](crate::rank()) gives.
    pub rank: NonZeroU32,
    /// The mean, over the right rows, of the share of right ones among the rows down to each (not interpolated); above 0,
    /// up to 1.
    pub average: f64,
    /// How many of the first `k` rows are right, divided by `k`, also where fewer rows are there or right.
    pub precisions: AtCuts,
    /// The discounted gain of the whole ranking, divided by that of the best one there could be.
    pub ndcg: f64,
    /// The same of its first `k` rows.
    pub ndcgs: AtCuts,
}

/// What an evaluation with several right rows a query reports, in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionFigures {
    /// Queries with at least one right row.
    pub queries: usize,
    /// Rows searched, or groups of them.
    pub gallery: usize,
    /// Mean average precision over the queries.
    pub map: f64,
    /// Mean precision among the first k rows.
    pub precisions: AtCuts,
    /// Mean normalised discounted cumulated gain.
    pub ndcg: f64,
    /// The same of the first k rows.
    pub ndcgs: AtCuts,
}

impl PrecisionFigures {
    /// The means over the queries that have a right row; an error if none has.
    pub fn new(precisions: &[Option<Precision>], gallery: usize) -> Result<Self> {
        let found: Vec<&Precision> = precisions.iter().flatten().collect();
        let first = found.first().ok_or_else(nothing)?;
        let mean = |part: &dyn Fn(&Precision) -> f64| {
            100.0 * found.iter().map(|precision| part(precision)).sum::<f64>() / found.len() as f64
        };
        let cuts = Cuts::new(first.precisions.iter().map(|(k, _)| k))?;
        let at = |of: fn(&Precision) -> &AtCuts| cuts.map(|k| mean(&|own| of(own).get(k).unwrap_or(f64::NAN)));
        Ok(Self {
            queries: found.len(),
            gallery,
            map: mean(&|own| own.average),
            precisions: at(|own| &own.precisions),
            ndcg: mean(&|own| own.ndcg),
            ndcgs: at(|own| &own.ndcgs),
        })
    }

    /// Entries of a map: `map`, `ndcg`, `precision@K` and `ndcg@K`.
    pub fn serialize_figures<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("map", &self.map)?;
        self.precisions.serialize("precision", map)?;
        map.serialize_entry("ndcg", &self.ndcg)?;
        self.ndcgs.serialize("ndcg", map)
    }
}

/// `queries`, `gallery`, `map`, `precision@K` for each k, `ndcg`, `ndcg@K` for each k.
impl Serialize for PrecisionFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("queries", &self.queries)?;
        map.serialize_entry("gallery", &self.gallery)?;
        self.serialize_figures(&mut map)?;
        map.end()
    }
}

impl Ranks {
    /// The ranks of the best right rows in a gallery of so many rows or groups.
    pub fn of_precisions(precisions: &[Option<Precision>], gallery: usize) -> Self {
        let ranks = precisions
            .iter()
            .map(|precision| precision.as_ref().map(|precision| precision.rank));
        Self::new(ranks.collect(), gallery)
    }
}

/// What a right row at a rank adds, in shares of its gain.
pub(crate) fn discount(rank: u64) -> f64 {
    1.0 / (rank as f64 + 1.0).log2()
}

/// The discounted gain of the best ranking there could be, down to each of its ranks.
pub(crate) fn ideal(gains: impl Iterator<Item = f32>) -> Vec<f64> {
    let mut gains: Vec<f32> = gains.collect();
    gains.sort_unstable_by(|one, other| other.total_cmp(one));
    let mut sum = 0.0;
    let add = |(rank, gain): (u64, f32)| {
        sum += f64::from(gain) * discount(rank);
        sum
    };
    (1..).zip(gains).map(add).collect()
}

/// The best that can be had down to a rank.
pub(crate) fn ideal_at(ideal: &[f64], rank: u32) -> f64 {
    ideal.get(rank as usize - 1).or(ideal.last()).copied().unwrap_or(0.0)
}

impl Precision {
    /// Of counted rows; `None` if none is right.
    pub(crate) fn of(steps: &Steps, cuts: &Cuts) -> Option<Self> {
        let first = steps.stairs().next()?;
        // All that stands before the best right rows is wrong.
        let rank = NonZeroU32::new(u32::try_from(first.before + 1).ok()?)?;
        let (mut average, mut gain) = (0.0, 0.0);
        // Right rows and gain down to each cut.
        let mut within = vec![(0usize, 0.0); cuts.ranks().len()];
        for stair in steps.stairs() {
            for (own, &(_, worth)) in (1..).zip(stair.right) {
                let rank = stair.before + own as u64;
                let discounted = f64::from(worth) * discount(rank);
                average += (stair.better + own) as f64 / rank as f64;
                gain += discounted;
                for ((right, gain), &cut) in within.iter_mut().zip(cuts.ranks()) {
                    if rank <= u64::from(cut) {
                        *right += 1;
                        *gain += discounted;
                    }
                }
            }
        }
        let ideal = ideal(steps.gains());
        let at = |cut: u32| within[cuts.ranks().partition_point(|&own| own < cut)];
        Some(Self {
            right: steps.right(),
            rank,
            average: average / steps.right() as f64,
            precisions: cuts.map(|k| at(k).0 as f64 / f64::from(k)),
            // Sums in another order may differ in their last bits.
            ndcg: (gain / ideal.last()?).min(1.0),
            ndcgs: cuts.map(|k| (at(k).1 / ideal_at(&ideal, k)).min(1.0)),
        })
    }
}
