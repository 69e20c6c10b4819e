//! Down to which rank a figure looks.

use std::str::FromStr;

use clip_core::{Error, Result};
use serde::ser::SerializeMap;

/// The `k` of recall@k and its like: ascending, each once.
///
/// ```
/// use clip_index::Cuts;
/// assert_eq!("10,1".parse::<Cuts>()?.ranks(), [1, 10]);
/// assert_eq!(Cuts::default().ranks(), [1, 5, 10]);
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cuts(Vec<u32>);

impl Default for Cuts {
    fn default() -> Self {
        Self(vec![1, 5, 10])
    }
}

impl Cuts {
    /// In any order, once or more; an error if there is none or one is 0.
    pub fn new(ranks: impl IntoIterator<Item = u32>) -> Result<Self> {
        let mut ranks: Vec<u32> = ranks.into_iter().collect();
        ranks.sort_unstable();
        ranks.dedup();
        match ranks.first() {
            None => Err(Error::invalid("there is no rank to look down to")),
            Some(0) => Err(Error::invalid("ranks are counted from 1")),
            Some(_) => Ok(Self(ranks)),
        }
    }

    /// The ranks, ascending.
    pub fn ranks(&self) -> &[u32] {
        &self.0
    }

    /// A figure of each.
    pub(crate) fn map(&self, figure: impl Fn(u32) -> f64) -> AtCuts {
        AtCuts(self.0.iter().map(|&k| (k, figure(k))).collect())
    }
}

impl FromStr for Cuts {
    type Err = Error;

    /// Reads whole numbers parted by commas.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str| {
            part.trim()
                .parse()
                .map_err(|_| Error::invalid(format!("`{}` is no whole number", part.trim())))
        };
        Self::new(text.split(',').map(number).collect::<Result<Vec<u32>>>()?)
    }
}

/// A figure by rank that it looks down to, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AtCuts(Vec<(u32, f64)>);

impl AtCuts {
    /// The figure down to a rank, if that was asked for.
    pub fn get(&self, rank: u32) -> Option<f64> {
        self.iter().find(|(own, _)| *own == rank).map(|(_, figure)| figure)
    }

    /// Ranks and figures.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, f64)> {
        self.0.iter().copied()
    }

    /// The mean of all of them.
    pub fn mean(&self) -> f64 {
        self.iter().map(|(_, figure)| figure).sum::<f64>() / self.0.len().max(1) as f64
    }

    /// Entries `NAME@K` of a map.
    pub(crate) fn serialize<M: SerializeMap>(&self, name: &str, map: &mut M) -> Result<(), M::Error> {
        self.iter()
            .try_for_each(|(rank, figure)| map.serialize_entry(&format!("{name}@{rank}"), &figure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rank_is_refused() {
        for (text, what) in [
            ("", "`` is no whole number"),
            ("1,-5", "`-5` is no whole number"),
            ("5, x", "`x` is no whole number"),
            ("0,1", "ranks are counted from 1"),
        ] {
            assert_eq!(text.parse::<Cuts>().unwrap_err().what(), what);
        }
        assert_eq!(" 5,1 ,5".parse::<Cuts>().unwrap().ranks(), [1, 5]);
        assert!(Cuts::new([]).is_err());
    }

    #[test]
    fn figures_are_found_by_rank() {
        let figures = Cuts::default().map(|k| f64::from(k) * 3.0);
        assert_eq!((figures.get(5), figures.get(6)), (Some(15.0), None));
        assert_eq!(figures.mean(), 16.0);
    }
}
