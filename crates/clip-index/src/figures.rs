//! The figures of a retrieval evaluation.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::rank::Ranks;

/// What one direction of an evaluation reports: recalls in percent, `mrr` from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Queries ranked: those with at least one positive.
    pub queries: usize,
    /// Rows searched.
    pub gallery: usize,
    /// Percent of queries that find a positive at rank 1.
    #[serde(rename = "r@1")]
    pub recall_1: f64,
    /// Percent of queries that find a positive among the first 5.
    #[serde(rename = "r@5")]
    pub recall_5: f64,
    /// Percent of queries that find a positive among the first 10.
    #[serde(rename = "r@10")]
    pub recall_10: f64,
    /// Mean of the three recalls.
    pub mean_recall: f64,
    /// The rank in the middle; the mean of the two middle ones if the queries are even in number.
    pub median_rank: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
}

impl Figures {
    /// The figures of given ranks; an error if no query was ranked.
    pub fn new(ranks: &Ranks) -> Result<Self> {
        let mut ranked: Vec<u32> = ranks.ranks().iter().flatten().map(|rank| rank.get()).collect();
        if ranked.is_empty() {
            return Err(Error::invalid(
                "no query has a right answer in the gallery, so there is nothing to evaluate",
            ));
        }
        ranked.sort_unstable();
        let queries = ranked.len();
        let [recall_1, recall_5, recall_10] = [1, 5, 10].map(|k| percent_within(&ranked, k));
        let middle = (f64::from(ranked[(queries - 1) / 2]) + f64::from(ranked[queries / 2])) / 2.0;
        Ok(Self {
            queries,
            gallery: ranks.gallery(),
            recall_1,
            recall_5,
            recall_10,
            mean_recall: (recall_1 + recall_5 + recall_10) / 3.0,
            median_rank: middle,
            mrr: ranked.iter().map(|&rank| 1.0 / f64::from(rank)).sum::<f64>() / queries as f64,
        })
    }
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
        let figures = Figures::new(&ranks(&[1, 0, 6, 2, 40])).unwrap();
        assert_eq!((figures.queries, figures.gallery), (4, 50));
        assert_eq!(
            (figures.recall_1, figures.recall_5, figures.recall_10),
            (25.0, 50.0, 75.0)
        );
        assert_eq!((figures.mean_recall, figures.median_rank), (50.0, 4.0));
        assert!((figures.mrr - (1.0 + 1.0 / 6.0 + 0.5 + 1.0 / 40.0) / 4.0).abs() < 1e-15);
        assert_eq!(Figures::new(&ranks(&[3, 9, 5])).unwrap().median_rank, 5.0);
        assert_eq!(
            (ranks(&[3, 9, 5]).recall(8), ranks(&[]).recall(1)),
            (100.0 * 2.0 / 3.0, 0.0)
        );
        assert!(Figures::new(&ranks(&[0])).is_err());
    }

    #[test]
    fn json_has_the_fixed_names() {
        let json = serde_json::to_value(Figures::new(&ranks(&[1])).unwrap()).unwrap();
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
                "mrr"
            ]
        );
    }
}
