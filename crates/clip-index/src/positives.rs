//! Which gallery rows are right for which query.

use std::collections::{HashMap, HashSet};

use clip_core::{Error, Result};

use crate::groups::Groups;
use crate::lists::{PositiveLists, Right};

/// The right gallery rows of each query. A query without any is not ranked.
#[derive(Debug, Clone, PartialEq)]
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

impl Positives {
    /// The right rows of one query, ascending.
    pub fn rows(&self, query: usize) -> Vec<usize> {
        match self {
            Self::Diagonal => vec![query],
            Self::Lists(lists) => lists.of(query).iter().map(|right| right.row as usize).collect(),
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

    /// Whether a query may have more than one right row, or a right row is graded.
    pub fn several(&self) -> bool {
        match self {
            Self::Diagonal => false,
            Self::Lists(lists) => self.graded() || (0..lists.len()).any(|query| lists.of(query).len() > 1),
            Self::Labels { queries, gallery } => {
                let wanted: HashSet<u64> = queries.iter().copied().collect();
                let mut met = HashSet::new();
                gallery
                    .iter()
                    .any(|label| wanted.contains(label) && !met.insert(*label))
            }
        }
    }

    /// Whether a right row is worth other than 1.
    pub fn graded(&self) -> bool {
        matches!(self, Self::Lists(lists) if lists.graded())
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
pub(crate) fn wrong(what: String) -> Result<()> {
    Err(Error::invalid(what).remedy("check that both come from the same table"))
}

/// Finds the right rows of any query without reading through the gallery.
pub(crate) struct Lookup<'a> {
    positives: &'a Positives,
    labelled: HashMap<u64, Vec<u32>>,
    groups: Option<&'a Groups>,
}

impl<'a> Lookup<'a> {
    /// With groups, it is groups that are right: those with a right row. `positives` have been checked.
    pub(crate) fn new(positives: &'a Positives, groups: Option<&'a Groups>) -> Self {
        let mut labelled: HashMap<u64, Vec<u32>> = HashMap::new();
        if let Positives::Labels { gallery, .. } = positives {
            for (row, &label) in (0..).zip(gallery) {
                labelled.entry(label).or_default().push(row);
            }
        }
        Self {
            positives,
            labelled,
            groups,
        }
    }

    /// How many rows are right for a query, at the most: groups are fewer.
    pub(crate) fn most(&self, query: usize) -> usize {
        match self.positives {
            Positives::Diagonal => 1,
            Positives::Lists(lists) => lists.of(query).len(),
            Positives::Labels { .. } => self.of_label(query).len(),
        }
    }

    /// The right rows of a query or, with groups, its right groups, each once; ascending.
    pub(crate) fn find(&self, query: usize, found: &mut Vec<Right>) {
        found.clear();
        match self.positives {
            Positives::Diagonal => found.extend(u32::try_from(query).map(Right::plain)),
            Positives::Lists(lists) => found.extend_from_slice(lists.of(query)),
            Positives::Labels { .. } => found.extend(self.of_label(query).iter().map(|&row| Right::plain(row))),
        }
        if let Some(groups) = self.groups {
            found
                .iter_mut()
                .for_each(|right| right.row = groups.of(right.row as usize));
            Right::tidy(found);
        }
    }

    fn of_label(&self, query: usize) -> &[u32] {
        match self.positives {
            Positives::Labels { queries, .. } => queries.get(query).and_then(|label| self.labelled.get(label)),
            _ => None,
        }
        .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::tests::lists;

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
    fn several_are_more_than_one_of_a_query() {
        let labels = |queries: &[u64], gallery: &[u64]| Positives::Labels {
            queries: queries.to_vec(),
            gallery: gallery.to_vec(),
        };
        assert!(labels(&[1, 2], &[2, 1, 2]).several());
        assert!(!labels(&[1, 1], &[3, 1, 3]).several());
        assert!(Positives::Lists(lists(&[&[], &[0, 1]])).several());
        assert!(!Positives::Lists(lists(&[&[0], &[0]])).several() && !Positives::Diagonal.several());
        let mut graded = PositiveLists::default();
        graded.push_graded([(0, 2.0)]).unwrap();
        assert!(Positives::Lists(graded).several());
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
