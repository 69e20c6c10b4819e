//! Which gallery rows are right for which query.

use std::collections::HashMap;

use clip_core::{Embeddings, Error, Result};
use rayon::prelude::*;

use crate::gemm::{COLUMNS, Kernel, PAIRS, QUERIES, pack};

/// The right gallery rows of each query. A query without any is not ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Positives {
    /// Row `i` of the gallery is right for query `i`; both sides have equal length.
    Diagonal,
    /// Rows by query.
    Lists(PositiveLists),
    /// A gallery row is right for a query if their labels are equal: rows of one product, or of equal texts.
    Labels {
        /// The label of each query.
        queries: Vec<u64>,
        /// The label of each gallery row.
        gallery: Vec<u64>,
    },
}

/// Ascending gallery rows of each query, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PositiveLists {
    /// Query `i` has `rows[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
    rows: Vec<u32>,
}

impl PositiveLists {
    /// Appends the gallery rows of the next query, in any order; repeated rows count once. An error if a row is past
    /// the range of `u32`.
    pub fn push(&mut self, rows: impl IntoIterator<Item = usize>) -> Result<()> {
        let start = self.rows.len();
        for row in rows {
            match u32::try_from(row) {
                Ok(row) => self.rows.push(row),
                Err(_) => {
                    self.rows.truncate(start);
                    return Err(Error::invalid(format!("gallery row {row} is past {}", u32::MAX)));
                }
            }
        }
        let mut own = self.rows.split_off(start);
        own.sort_unstable();
        own.dedup();
        self.rows.append(&mut own);
        self.ends.push(self.rows.len());
        Ok(())
    }

    /// How many queries.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no query.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The gallery rows of a query, ascending; none if there is no such query.
    pub fn of(&self, query: usize) -> &[u32] {
        let start = query
            .checked_sub(1)
            .map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        self.ends.get(query).map_or(&[], |&end| &self.rows[start..end])
    }

    /// The queries of each of `gallery` rows; an error if a list names a row past them.
    fn transposed(&self, gallery: usize) -> Result<Self> {
        self.check(gallery)?;
        let mut ends = vec![0; gallery];
        self.rows.iter().for_each(|&row| ends[row as usize] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        // Each `ends[row]` is the start of the row's list now, and moves to its end as the list is filled.
        let mut rows = vec![0; self.rows.len()];
        for query in 0..self.len() {
            for &row in self.of(query) {
                // The number of queries fits: the kernel takes no more than u32::MAX rows.
                rows[ends[row as usize]] = query as u32;
                ends[row as usize] += 1;
            }
        }
        Ok(Self { ends, rows })
    }

    /// Whether there is a list for each query, of rows that are there.
    pub(crate) fn check_fit(&self, queries: usize, gallery: usize) -> Result<()> {
        if self.len() != queries {
            return wrong(format!("{} lists of right rows for {queries} queries", self.len()));
        }
        self.check(gallery)
    }

    fn check(&self, gallery: usize) -> Result<()> {
        let bad = (0..self.len()).find(|&query| self.of(query).last().is_some_and(|&row| row as usize >= gallery));
        bad.map_or(Ok(()), |query| {
            let row = self.of(query).last().copied().unwrap_or(0);
            Err(Error::invalid(format!(
                "query {query} names gallery row {row}, but the gallery has {gallery} rows"
            ))
            .remedy("rows are counted from 0"))
        })
    }
}

impl Positives {
    /// The right rows of one query, ascending.
    pub fn rows(&self, query: usize) -> Vec<usize> {
        match self {
            Self::Diagonal => vec![query],
            Self::Lists(lists) => lists.of(query).iter().map(|&row| row as usize).collect(),
            Self::Labels { queries, gallery } => match queries.get(query) {
                Some(wanted) => (0..)
                    .zip(gallery)
                    .filter(|(_, label)| *label == wanted)
                    .map(|(row, _)| row)
                    .collect(),
                None => Vec::new(),
            },
        }
    }

    /// The same facts seen from a gallery of so many rows: the right queries of each. An error if a list names a row
    /// past it.
    pub fn transposed(&self, gallery: usize) -> Result<Self> {
        Ok(match self {
            Self::Diagonal => Self::Diagonal,
            Self::Lists(lists) => Self::Lists(lists.transposed(gallery)?),
            Self::Labels { queries, gallery } => Self::Labels {
                queries: gallery.clone(),
                gallery: queries.clone(),
            },
        })
    }

    /// Whether they fit that many rows.
    pub(crate) fn check(&self, queries: usize, gallery: usize) -> Result<()> {
        match self {
            Self::Diagonal if queries != gallery => wrong(format!(
                "{queries} queries and {gallery} gallery rows do not pair up row by row; say which rows belong together"
            )),
            Self::Lists(lists) => lists.check_fit(queries, gallery),
            Self::Labels {
                queries: left,
                gallery: right,
            } if left.len() != queries || right.len() != gallery => wrong(format!(
                "{} and {} labels for {queries} queries and {gallery} gallery rows",
                left.len(),
                right.len()
            )),
            _ => Ok(()),
        }
    }
}

/// Positives that are not of these rows.
fn wrong(what: String) -> Result<()> {
    Err(Error::invalid(what).remedy("check that both come from the same table"))
}

/// What a query must be ranked by: the score of its best positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Target {
    /// The best score of a positive; infinite if there is none, which no score reaches.
    pub(crate) score: f32,
    /// How many positives have this score: so many of the scores that reach it are not wrong.
    pub(crate) positives: u32,
}

impl Target {
    const NONE: Self = Self {
        score: f32::INFINITY,
        positives: 0,
    };

    fn see(&mut self, score: f32) {
        if self.positives == 0 || score > self.score {
            *self = Self { score, positives: 1 };
        } else if score == self.score {
            self.positives += 1;
        }
    }
}

/// The target of each query. `positives` have been checked.
pub(crate) fn targets(queries: &Embeddings, gallery: &Embeddings, positives: &Positives) -> Vec<Target> {
    match positives {
        Positives::Diagonal => by_pairs(queries, gallery, |query, rows| rows.push(query)),
        Positives::Lists(lists) => by_pairs(queries, gallery, |query, rows| {
            rows.extend(lists.of(query).iter().map(|&row| row as usize))
        }),
        Positives::Labels {
            queries: left,
            gallery: right,
        } => by_groups(queries, gallery, left, right),
    }
}

/// Scores pair after pair: right where queries have few positives.
fn by_pairs(queries: &Embeddings, gallery: &Embeddings, list: impl Fn(usize, &mut Vec<usize>) + Sync) -> Vec<Target> {
    const TOGETHER: usize = 256;
    let kernel = Kernel::best();
    let mut targets = vec![Target::NONE; queries.len()];
    targets
        .par_chunks_mut(TOGETHER)
        .enumerate()
        .for_each(|(chunk, targets)| {
            let (mut pairs, mut rows) = (Vec::new(), Vec::new());
            for query in 0..targets.len() {
                rows.clear();
                list(chunk * TOGETHER + query, &mut rows);
                for &row in &rows {
                    pairs.push((query, row));
                    if pairs.len() == PAIRS {
                        see_pairs(kernel, queries, gallery, chunk * TOGETHER, &mut pairs, targets);
                    }
                }
            }
            see_pairs(kernel, queries, gallery, chunk * TOGETHER, &mut pairs, targets);
        });
    targets
}

/// Scores up to eight pairs, filled up with the last of them, and empties the list.
fn see_pairs(
    kernel: Kernel,
    queries: &Embeddings,
    gallery: &Embeddings,
    first: usize,
    pairs: &mut Vec<(usize, usize)>,
    targets: &mut [Target],
) {
    let Some(&last) = pairs.last() else { return };
    let pair = |i: usize| pairs.get(i).copied().unwrap_or(last);
    let left = std::array::from_fn(|i| queries.row(first + pair(i).0));
    let right = std::array::from_fn(|i| gallery.row(pair(i).1));
    let scores = kernel.pairs(left, right);
    pairs
        .iter()
        .zip(scores)
        .for_each(|(&(query, _), score)| targets[query].see(score));
    pairs.clear();
}

/// Scores the queries of a label with the gallery rows of that label, tile by tile: right where labels are few.
fn by_groups(queries: &Embeddings, gallery: &Embeddings, left: &[u64], right: &[u64]) -> Vec<Target> {
    let mut groups: HashMap<u64, (Vec<usize>, Vec<usize>)> = HashMap::new();
    left.iter()
        .enumerate()
        .for_each(|(row, &label)| groups.entry(label).or_default().0.push(row));
    right
        .iter()
        .enumerate()
        .for_each(|(row, &label)| groups.entry(label).or_default().1.push(row));
    let tasks: Vec<(&[usize], &[usize])> = groups
        .values()
        .flat_map(|(queries, rows)| queries.chunks(QUERIES).map(|part| (part, rows.as_slice())))
        .collect();
    let kernel = Kernel::best();
    let found: Vec<(&[usize], [Target; QUERIES])> = tasks
        .into_par_iter()
        .map(|(part, rows)| (part, group_targets(kernel, queries, gallery, part, rows)))
        .collect();
    let mut targets = vec![Target::NONE; queries.len()];
    for (part, own) in found {
        part.iter()
            .zip(own)
            .for_each(|(&query, target)| targets[query] = target);
    }
    targets
}

/// The targets of up to 12 queries of one label.
fn group_targets(
    kernel: Kernel,
    queries: &Embeddings,
    gallery: &Embeddings,
    part: &[usize],
    rows: &[usize],
) -> [Target; QUERIES] {
    let mut targets = [Target::NONE; QUERIES];
    // Below a few pairs, a tile would compute mostly nothing.
    if part.len() * rows.len() <= 2 * PAIRS {
        let mut pairs = Vec::with_capacity(PAIRS);
        for (i, &query) in part.iter().enumerate() {
            for eight in rows.chunks(PAIRS) {
                let at = |j: usize| gallery.row(eight.get(j).copied().unwrap_or(eight[0]));
                let scores = kernel.pairs([queries.row(query); PAIRS], std::array::from_fn(at));
                pairs.clear();
                pairs.extend_from_slice(&scores[..eight.len()]);
                pairs.iter().for_each(|&score| targets[i].see(score));
            }
        }
        return targets;
    }
    let mut left = vec![[0.0; QUERIES]; queries.dim()];
    let mut right = vec![[0.0; COLUMNS]; queries.dim()];
    pack(part.iter().map(|&query| queries.row(query)), &mut left);
    for rows in rows.chunks(COLUMNS) {
        pack(rows.iter().map(|&row| gallery.row(row)), &mut right);
        let mut tile = [[0.0; COLUMNS]; QUERIES];
        kernel.tile(&left, &right, &mut tile);
        for (target, scores) in targets.iter_mut().zip(&tile).take(part.len()) {
            scores[..rows.len()].iter().for_each(|&score| target.see(score));
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(rows: &[&[usize]]) -> PositiveLists {
        let mut lists = PositiveLists::default();
        rows.iter().for_each(|rows| lists.push(rows.iter().copied()).unwrap());
        lists
    }

    #[test]
    fn lists_are_sorted_and_turn_round() {
        let there = lists(&[&[2, 0, 2], &[], &[2], &[3]]);
        assert_eq!((there.of(0), there.of(1), there.of(9)), (&[0, 2][..], &[][..], &[][..]));
        let back = there.transposed(5).unwrap();
        assert_eq!(back, lists(&[&[0], &[], &[0, 2], &[3], &[]]));
        assert_eq!(back.transposed(4).unwrap(), there);
    }

    #[test]
    fn rows_of_a_query() {
        let labels = Positives::Labels {
            queries: vec![5, 6],
            gallery: vec![6, 5, 6],
        };
        assert_eq!((labels.rows(1), labels.rows(2)), (vec![0, 2], vec![]));
        assert_eq!(
            (Positives::Diagonal.rows(3), Positives::Lists(lists(&[&[4, 1]])).rows(0)),
            (vec![3], vec![1, 4])
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let what = |positives: Positives| positives.check(2, 3).unwrap_err().what().to_owned();
        assert!(what(Positives::Diagonal).starts_with("2 queries and 3 gallery rows"));
        assert_eq!(
            what(Positives::Lists(lists(&[&[1]]))),
            "1 lists of right rows for 2 queries"
        );
        assert_eq!(
            what(Positives::Lists(lists(&[&[1], &[0, 3]]))),
            "query 1 names gallery row 3, but the gallery has 3 rows"
        );
        let labels = Positives::Labels {
            queries: vec![1, 2],
            gallery: vec![1, 2],
        };
        assert!(what(labels).starts_with("2 and 2 labels"));
    }
}
