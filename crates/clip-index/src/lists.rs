//! Right gallery rows, query by query, and how right each is.

use clip_core::{Error, Result};

use crate::positives::wrong;

/// A gallery row that is right for a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Right {
    /// The gallery row, from 0.
    pub row: u32,
    /// How right it is: what it adds to a query's gain. 1 where nobody graded; finite and above 0.
    pub gain: f32,
}

impl Right {
    /// A right row that nobody graded.
    pub(crate) fn plain(row: u32) -> Self {
        Self { row, gain: 1.0 }
    }

    /// Puts rows in ascending order, each once, by the most it is worth.
    pub(crate) fn tidy(rows: &mut Vec<Self>) {
        rows.sort_unstable_by(|one, other| one.row.cmp(&other.row).then(other.gain.total_cmp(&one.gain)));
        rows.dedup_by_key(|right| right.row);
    }
}

/// Ascending gallery rows of each query, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PositiveLists {
    /// Query `i` has `rows[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
    rows: Vec<Right>,
}

impl PositiveLists {
    /// Appends the gallery rows of the next query, in any order; repeated rows count once. An error if a row is past
    /// the range of `u32`.
    pub fn push(&mut self, rows: impl IntoIterator<Item = usize>) -> Result<()> {
        self.push_graded(rows.into_iter().map(|row| (row, 1.0)))
    }

    /// Appends the gallery rows of the next query with their gains, in any order. A repeated row counts once, by the
    /// most it is worth; a row of gain 0 is not right and is left out. An error if a row is past the range of `u32`,
    /// or a gain is below 0 or not finite.
    pub fn push_graded(&mut self, rows: impl IntoIterator<Item = (usize, f32)>) -> Result<()> {
        let mut own = Vec::new();
        for (row, gain) in rows {
            let Ok(row) = u32::try_from(row) else {
                return Err(Error::invalid(format!("gallery row {row} is past {}", u32::MAX)));
            };
            if !(gain.is_finite() && gain >= 0.0) {
                return Err(Error::invalid(format!("{gain} is no grade")).remedy("grades are numbers from 0 up"));
            }
            if gain > 0.0 {
                own.push(Right { row, gain });
            }
        }
        Right::tidy(&mut own);
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

    /// The right rows of a query, ascending; none if there is no such query.
    pub fn of(&self, query: usize) -> &[Right] {
        let start = query
            .checked_sub(1)
            .map_or(0, |before| self.ends.get(before).copied().unwrap_or(0));
        self.ends.get(query).map_or(&[], |&end| &self.rows[start..end])
    }

    /// Whether a row is worth other than 1.
    pub fn graded(&self) -> bool {
        self.rows.iter().any(|right| right.gain != 1.0)
    }

    /// The queries of each of `gallery` rows; an error if a list names a row past them.
    pub(crate) fn transposed(&self, gallery: usize) -> Result<Self> {
        self.check(gallery)?;
        let mut ends = vec![0; gallery];
        self.rows.iter().for_each(|right| ends[right.row as usize] += 1);
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        // Each `ends[row]` is the start of the row's list now, and moves to its end as the list is filled.
        let mut rows = vec![Right::plain(0); self.rows.len()];
        for query in 0..self.len() {
            for right in self.of(query) {
                // The number of queries fits: the kernel takes no more than u32::MAX rows.
                rows[ends[right.row as usize]] = Right {
                    row: query as u32,
                    gain: right.gain,
                };
                ends[right.row as usize] += 1;
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
        let past = |query: &usize| self.of(*query).last().filter(|last| last.row as usize >= gallery);
        let Some((query, last)) = (0..self.len()).find_map(|query| Some((query, past(&query)?))) else {
            return Ok(());
        };
        let what = format!(
            "query {query} names gallery row {}, but the gallery has {gallery} rows",
            last.row
        );
        Err(Error::invalid(what).remedy("rows are counted from 0"))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn lists(rows: &[&[usize]]) -> PositiveLists {
        let mut lists = PositiveLists::default();
        rows.iter().for_each(|rows| lists.push(rows.iter().copied()).unwrap());
        lists
    }

    #[test]
    fn lists_are_sorted_and_turn_round() {
        let there = lists(&[&[2, 0, 2], &[], &[2], &[3]]);
        let rows = |query: usize| there.of(query).iter().map(|right| right.row).collect::<Vec<_>>();
        assert_eq!((rows(0), rows(1), rows(9)), (vec![0, 2], vec![], vec![]));
        let back = there.transposed(5).unwrap();
        assert_eq!(back, lists(&[&[0], &[], &[0, 2], &[3], &[]]));
        assert_eq!(back.transposed(4).unwrap(), there);
    }

    #[test]
    fn grades_go_along_and_0_is_not_right() {
        let mut there = PositiveLists::default();
        there.push_graded([(4, 1.0), (2, 3.0), (4, 2.0), (1, 0.0)]).unwrap();
        let gains = [(2, 3.0), (4, 2.0)].map(|(row, gain)| Right { row, gain });
        assert_eq!((there.of(0), there.graded()), (&gains[..], true));
        assert_eq!(there.transposed(5).unwrap().of(4), [Right { row: 0, gain: 2.0 }]);
        for bad in [-1.0, f32::NAN, f32::INFINITY] {
            let error = there.push_graded([(0, bad)]).unwrap_err();
            assert!(error.what().ends_with("is no grade"), "{error}");
        }
        assert_eq!(there.len(), 1);
        assert!(!lists(&[&[2]]).graded());
    }
}
