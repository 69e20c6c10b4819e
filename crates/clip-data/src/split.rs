//! Splitting the rows of a table so that rows that belong together stay together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::str::FromStr;

use clip_core::{Error, Id, Result};

/// How much of a table is split off: `5%` of its rows, or about so many rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// Of a hundred, above 0 and below 100.
    Percent(f64),
    /// A number of rows.
    Rows(u64),
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent
                .trim()
                .parse()
                .ok()
                .filter(|&p| 0.0 < p && p < 100.0)
                .map(Self::Percent),
            None => text.parse().ok().filter(|&rows| rows > 0).map(Self::Rows),
        };
        share.ok_or_else(|| "write a share like 5%, or a number of rows".to_owned())
    }
}

impl Share {
    /// Rows to aim at, out of `rows`.
    fn of(self, rows: usize) -> f64 {
        match self {
            Self::Percent(percent) => rows as f64 * percent / 100.0,
            Self::Rows(wanted) => wanted as f64,
        }
    }
}

/// For each row the number of its side: 0 for what is left, `i + 1` for `shares[i]`. Rows of one group are on one side.
///
/// Groups are taken in an order that `seed` decides, by a hash of each, so that neither the order of rows nor another
/// group decides on a group's place in it. One goes to the first share that it brings nearer to its number of rows.
///
/// # Errors
/// A share gets no row, or none are left.
pub fn split_groups(groups: &[Id], shares: &[Share], seed: u64) -> Result<Vec<u8>> {
    let mut sizes: HashMap<Id, usize> = HashMap::new();
    for &group in groups {
        *sizes.entry(group).or_default() += 1;
    }
    let mut order: Vec<(Id, Id, usize)> = sizes
        .iter()
        .map(|(&group, &size)| (Id::of(&format!("{seed} {:016x}", group.0)), group, size))
        .collect();
    order.sort_unstable();
    let wanted: Vec<f64> = shares.iter().map(|share| share.of(groups.len())).collect();
    let mut taken = vec![0usize; shares.len()];
    let mut side: HashMap<Id, u8> = HashMap::new();
    for &(_, group, size) in &order {
        let nearer = |at: &usize| taken[*at] as f64 + size as f64 / 2.0 < wanted[*at];
        if let Some(at) = (0..shares.len()).find(nearer) {
            taken[at] += size;
            side.insert(group, at as u8 + 1);
        }
    }
    if let Some(at) = taken.iter().position(|&rows| rows == 0) {
        let least = order
            .iter()
            .map(|&(.., size)| Reverse(size))
            .max()
            .map_or(0, |least| least.0);
        return Err(Error::invalid(format!(
            "a share of about {:.0} of {} rows cannot be filled: the smallest group has {least} rows",
            wanted[at],
            groups.len()
        ))
        .remedy("ask for a larger share, or split by a column of more values"));
    }
    if taken.iter().sum::<usize>() == groups.len() {
        return Err(Error::invalid("nothing is left to train on").remedy("ask for smaller shares"));
    }
    Ok(groups
        .iter()
        .map(|group| side.get(group).copied().unwrap_or(0))
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(names: &[u32]) -> Vec<Id> {
        names.iter().map(|name| Id::of(&name.to_string())).collect()
    }

    #[test]
    fn shares_are_read() {
        assert_eq!("5%".parse(), Ok(Share::Percent(5.0)));
        assert_eq!("0.5 %".parse(), Ok(Share::Percent(0.5)));
        assert_eq!("1000".parse(), Ok(Share::Rows(1000)));
        for wrong in ["", "0", "0%", "100%", "-1", "x%", "0.05", "nan%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_split_is_an_error() {
        let one = ids(&[7; 40]);
        let error = split_groups(&one, &[Share::Percent(5.0)], 0).unwrap_err();
        assert_eq!(
            error.what(),
            "a share of about 2 of 40 rows cannot be filled: the smallest group has 40 rows"
        );
        let many: Vec<u32> = (0..40).collect();
        let error = split_groups(&ids(&many), &[Share::Rows(40)], 0).unwrap_err();
        assert_eq!(error.what(), "nothing is left to train on");
    }

    proptest! {
        #[test]
        fn groups_stay_whole_and_shares_are_met(
            names in prop::collection::vec(0u32..400, 200..1000), seed: u64, percent in 5.0f64..30.0
        ) {
            let groups = ids(&names);
            let shares = [Share::Percent(percent), Share::Rows(20)];
            let sides = split_groups(&groups, &shares, seed).unwrap();
            let mut side: HashMap<Id, u8> = HashMap::new();
            for (group, &at) in groups.iter().zip(&sides) {
                prop_assert_eq!(*side.entry(*group).or_insert(at), at);
            }
            // No group here has more than a few rows, so each share is met to within half of one.
            let largest = names.iter().map(|name| names.iter().filter(|other| *other == name).count()).max().unwrap();
            for (at, share) in shares.iter().enumerate() {
                let rows = sides.iter().filter(|&&side| side == at as u8 + 1).count();
                let off = (rows as f64 - share.of(groups.len())).abs();
                prop_assert!(off <= largest as f64 / 2.0 + 0.5, "{} rows off by {}", rows, off);
            }
            // The order of rows does not matter, and neither do new rows of groups that are known.
            let mut turned = groups.clone();
            turned.reverse();
            let mut again = split_groups(&turned, &shares, seed).unwrap();
            again.reverse();
            prop_assert_eq!(again, sides);
        }
    }
}
