//! A comparison in numbers.

use clip_core::Result;
use clip_index::{Cuts, Figures, Ranks};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Compared;

/// Who put a right row further ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Winner {
    /// The first model.
    A,
    /// The second.
    B,
    /// Both put one at the same rank.
    Draw,
    /// Neither has one among the first that are shown, so nobody would see a difference.
    Neither,
}

impl Winner {
    /// By the ranks of the best right row, from 1, where the first `top` are shown.
    pub(super) fn of(a: u32, b: u32, top: usize) -> Self {
        if a.min(b) as usize > top {
            return Self::Neither;
        }
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Self::A,
            std::cmp::Ordering::Greater => Self::B,
            std::cmp::Ordering::Equal => Self::Draw,
        }
    }
}

/// All queries together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompareSummary {
    /// Queries.
    pub queries: usize,
    /// Rows of the gallery.
    pub gallery: usize,
    /// How many of the first rows count as shown.
    pub top: usize,
    /// Percent of the first `top` rows that both models show, on average over the queries.
    pub overlap: f64,
    /// Percent of the queries for which both put the same row first.
    pub same_first: f64,
    /// Who finds what is right; null where nothing is known to be.
    pub judged: Option<Judged>,
}

/// The queries of which a right row is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Judged {
    /// How many.
    pub queries: usize,
    /// Queries that A wins: it has a right row among the first `top`, and further ahead than B.
    pub wins_a: usize,
    /// Queries that B wins.
    pub wins_b: usize,
    /// Queries for which both have it at the same rank, among the first `top`.
    pub draws: usize,
    /// Queries for which neither has it among the first `top`.
    pub neither: usize,
    /// How likely wins as unevenly shared, or more so, are if both models are equally good (two-sided sign test); 1 where nobody wins.
    pub sign_test: f64,
    /// The figures of A.
    pub a: SideFigures,
    /// The figures of B.
    pub b: SideFigures,
}

/// What one model reaches: recalls in percent over the whole gallery, `mrr` from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideFigures {
    /// Percent of the queries with a right row first.
    #[serde(rename = "r@1")]
    pub recall_1: f64,
    /// Percent of the queries with a right row among the first 5.
    #[serde(rename = "r@5")]
    pub recall_5: f64,
    /// Percent of the queries with a right row among the first 10.
    #[serde(rename = "r@10")]
    pub recall_10: f64,
    /// The rank in the middle.
    pub median_rank: f64,
    /// Mean reciprocal rank.
    pub mrr: f64,
}

impl SideFigures {
    fn new(ranks: &Ranks) -> Result<Self> {
        let figures = Figures::new(ranks, &Cuts::default())?;
        let [recall_1, recall_5, recall_10] = [1, 5, 10].map(|k| ranks.recall(k));
        Ok(Self {
            recall_1,
            recall_5,
            recall_10,
            median_rank: figures.median_rank,
            mrr: figures.mrr,
        })
    }
}

impl Judged {
    /// The sign test in percent, for people: no chance is shown as none.
    pub fn sign_test_shown(&self) -> String {
        if self.sign_test < 0.001 {
            "< 0.1 %".to_owned()
        } else {
            format!("{:.1} %", 100.0 * self.sign_test)
        }
    }

    pub(super) fn new(a: &Ranks, b: &Ranks, queries: &[Compared], top: usize) -> Result<Self> {
        let winners: Vec<Winner> = queries.iter().filter_map(|query| query.winner(top)).collect();
        let count = |winner: Winner| winners.iter().filter(|&&won| won == winner).count();
        let (wins_a, wins_b) = (count(Winner::A), count(Winner::B));
        Ok(Self {
            queries: winners.len(),
            wins_a,
            wins_b,
            draws: count(Winner::Draw),
            neither: count(Winner::Neither),
            sign_test: sign_test(wins_a, wins_b),
            a: SideFigures::new(a)?,
            b: SideFigures::new(b)?,
        })
    }
}

impl CompareSummary {
    pub(super) fn new(queries: &[Compared], gallery: usize, top: usize, judged: Option<Judged>) -> Self {
        let shown = top.min(gallery).max(1);
        let percent = |sum: f64| 100.0 * sum / queries.len().max(1) as f64;
        let overlap = queries.iter().map(|query| query.common as f64 / shown as f64).sum();
        let same = |query: &&Compared| {
            let [a, b] = &query.sides;
            a.hits.first().map(|hit| hit.row) == b.hits.first().map(|hit| hit.row)
        };
        Self {
            queries: queries.len(),
            gallery,
            top,
            overlap: percent(overlap),
            same_first: percent(queries.iter().filter(same).count() as f64),
            judged,
        }
    }
}

/// The chance that a fair coin falls as unevenly as `a` to `b`, or more so.
fn sign_test(a: usize, b: usize) -> f64 {
    let (n, least) = ((a + b) as f64, a.min(b));
    // Logarithms, since 0.5ⁿ is no number any more from n = 1075 on.
    let mut ln_term = -n * std::f64::consts::LN_2;
    let mut sum = ln_term.exp();
    for i in 0..least {
        ln_term += ((n - i as f64) / (i as f64 + 1.0)).ln();
        sum += ln_term.exp();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_is_that_of_the_tables() {
        for (a, b, p) in [
            (0, 0, 1.0),
            (3, 3, 1.0),
            (0, 5, 0.0625),
            (9, 1, 0.021_484_375),
            // Out of 2,000 throws, as a normal approximation with continuity correction gives it.
            (1050, 950, 0.0268),
        ] {
            assert!((sign_test(a, b) - p).abs() < 2e-4, "{a} {b} {}", sign_test(a, b));
            assert_eq!(sign_test(a, b), sign_test(b, a));
        }
    }

    #[test]
    fn who_is_not_shown_does_not_win() {
        assert_eq!(Winner::of(1, 3, 5), Winner::A);
        assert_eq!(Winner::of(9, 5, 5), Winner::B);
        assert_eq!(Winner::of(2, 2, 5), Winner::Draw);
        assert_eq!(Winner::of(6, 400, 5), Winner::Neither);
    }
}
