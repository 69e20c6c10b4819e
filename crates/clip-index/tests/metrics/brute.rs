//! The figures of one query, from its ranking written out.

/// A gallery row, or a product, as one query sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) score: i64,
    /// 0 is wrong.
    pub(crate) grade: u8,
}

/// What the definitions say.
#[derive(Debug)]
pub(crate) struct Brute {
    pub(crate) right: usize,
    pub(crate) rank: u32,
    pub(crate) average: f64,
    pub(crate) precisions: Vec<f64>,
    pub(crate) ndcg: f64,
    pub(crate) ndcgs: Vec<f64>,
}

impl Brute {
    /// `None` if no row is right.
    pub(crate) fn of(mut rows: Vec<Row>, cuts: &[u32]) -> Option<Self> {
        // Best first; a tie counts against.
        rows.sort_by_key(|row| (-row.score, row.grade));
        let first = rows.iter().position(|row| row.grade > 0)?;
        let grades: Vec<u8> = rows.iter().map(|row| row.grade).collect();
        let mut best = grades.clone();
        best.sort_by(|one, other| other.cmp(one));
        let right = |down_to: usize| grades.iter().take(down_to).filter(|&&grade| grade > 0).count() as f64;
        let gain = |grades: &[u8], down_to: usize| -> f64 {
            let places = grades.iter().take(down_to).enumerate();
            places
                .map(|(place, &grade)| f64::from(grade) / (place as f64 + 2.0).log2())
                .sum()
        };
        let all = rows.len();
        let precisions_at_right = (1..=all)
            .filter(|rank| grades[rank - 1] > 0)
            .map(|rank| right(rank) / rank as f64);
        Some(Self {
            right: right(all) as usize,
            rank: first as u32 + 1,
            average: precisions_at_right.sum::<f64>() / right(all),
            precisions: cuts.iter().map(|&k| right(k as usize) / f64::from(k)).collect(),
            ndcg: gain(&grades, all) / gain(&best, all),
            ndcgs: cuts
                .iter()
                .map(|&k| gain(&grades, k as usize) / gain(&best, k as usize))
                .collect(),
        })
    }
}
