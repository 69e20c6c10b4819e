//! The figures of a retrieval evaluation.

use clip_core::{Error, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::cuts::{AtCuts, Cuts};
use crate::rank::Ranks;

/// What one direction of an evaluation reports: recalls in percent, `mrr` from 0 to 1. All look at the best positive of
/// a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Queries ranked: those with at least one positive.
    pub queries: usize,
    /// Rows searched; where each query has its own, the most that one had.
    pub gallery: usize,
    /// Percent of queries that find a positive among the first k.
    pub recalls: AtCuts,
    /// Mean of the recalls.
    pub mean_recall: f64,
    /// The rank in the middle; the mean of the two middle ones if the queries are even in number.
    pub median_rank: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
    /// Mean rank.
    pub mean_rank: f64,
}

impl Figures {
    /// The figures of given ranks; an error if no query was ranked.
    pub fn new(ranks: &Ranks, cuts: &Cuts) -> Result<Self> {
        let mut ranked: Vec<u32> = ranks.ranks().iter().flatten().map(|rank| rank.get()).collect();
        if ranked.is_empty() {
            return Err(nothing());
        }
        ranked.sort_unstable();
        let queries = ranked.len();
        let recalls = cuts.map(|k| percent_within(&ranked, k));
        let mean =
            |figure: fn(f64) -> f64| ranked.iter().map(|&rank| figure(rank.into())).sum::<f64>() / queries as f64;
        Ok(Self {
            queries,
            gallery: ranks.gallery(),
            mean_recall: recalls.mean(),
            recalls,
            median_rank: f64::midpoint(ranked[(queries - 1) / 2].into(), ranked[queries / 2].into()),
            mrr: mean(|rank| 1.0 / rank),
            mean_rank: mean(|rank| rank),
        })
    }

    /// Percent of queries that find a positive among the first `k`, if that was asked for.
    pub fn recall(&self, k: u32) -> Option<f64> {
        self.recalls.get(k)
    }
}

impl Figures {
    /// Entries of a map: `queries`, `gallery`, `r@K` for each k, `mean_recall`, `median_rank`, `mrr`, `mean_rank`.
    pub fn serialize_figures<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("queries", &self.queries)?;
        map.serialize_entry("gallery", &self.gallery)?;
        self.recalls.serialize("r", map)?;
        map.serialize_entry("mean_recall", &self.mean_recall)?;
        map.serialize_entry("median_rank", &self.median_rank)?;
        map.serialize_entry("mrr", &self.mrr)?;
        map.serialize_entry("mean_rank", &self.mean_rank)
    }
}

/// As [`serialize_figures`](Figures::serialize_figures) writes them.
impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_figures(&mut map)?;
        map.end()
    }
}

/// There is no figure of no query.
pub(crate) fn nothing() -> Error {
    Error::invalid("no query has a right answer in the gallery, so there is nothing to evaluate")
        .remedy("check what is said to be right")
}

impl Ranks {
    /// Percent of the ranked queries that find a positive among the first `k`; 0 if none was ranked.
    pub fn recall(&self, k: u32) -> f64 {
        let mut ranked: Vec<u32> = self.ranks().iter().flatten().map(|rank| rank.get()).collect();
        ranked.sort_unstable();
        percent_within(&ranked, k)
    }
}

/// Percent of ascending ranks that are at most `k`.
fn percent_within(ranked: &[u32], k: u32) -> f64 {
    let within = ranked.partition_point(|&rank| rank <= k);
    100.0 * within as f64 / ranked.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn ranks(ranks: &[u32]) -> Ranks {
        Ranks::new(ranks.iter().map(|&rank| NonZeroU32::new(rank)).collect(), 50)
    }

    #[test]
    fn figures_follow_their_definitions() {
        // 0 stands for a query without a positive, which counts nowhere.
        let found = ranks(&[1, 0, 6, 2, 40]);
        let figures = Figures::new(&found, &Cuts::default()).unwrap();
        assert_eq!((figures.queries, figures.gallery), (4, 50));
        assert_eq!(
            [1, 5, 10, 2].map(|k| figures.recall(k)),
            [Some(25.0), Some(50.0), Some(75.0), None]
        );
        assert_eq!((figures.mean_recall, figures.median_rank), (50.0, 4.0));
        assert_eq!(figures.mean_rank, 49.0 / 4.0);
        assert!((figures.mrr - (1.0 + 1.0 / 6.0 + 0.5 + 1.0 / 40.0) / 4.0).abs() < 1e-15);
        let deeper = Figures::new(&found, &Cuts::new([50, 2]).unwrap()).unwrap();
        assert_eq!((deeper.recall(2), deeper.mean_recall), (Some(50.0), 75.0));
        let odd = Figures::new(&ranks(&[3, 9, 5]), &Cuts::default()).unwrap();
        assert_eq!(odd.median_rank, 5.0);
        assert_eq!(
            (ranks(&[3, 9, 5]).recall(8), ranks(&[]).recall(1)),
            (100.0 * 2.0 / 3.0, 0.0)
        );
        assert!(Figures::new(&ranks(&[0]), &Cuts::default()).is_err());
    }

    #[test]
    fn json_has_the_fixed_names() {
        let json = serde_json::to_value(Figures::new(&ranks(&[1]), &Cuts::default()).unwrap()).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            [
                "queries",
                "gallery",
                "r@1",
                "r@5",
                "r@10",
                "mean_recall",
                "median_rank",
                "mrr",
                "mean_rank"
            ]
        );
    }
}
