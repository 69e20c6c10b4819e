//! Rows that count once together.

use std::collections::HashMap;

use clip_core::{Embeddings, Result};

/// Gallery rows that count once together, by the best score among them: the pictures of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The group of each row, numbered in the order of their first rows.
    of: Vec<u32>,
    /// Rows, group after group; ascending within each.
    rows: Vec<u32>,
    /// Group `i` has `rows[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
}

impl Groups {
    /// Rows of equal labels are a group.
    pub fn new(labels: &[u64]) -> Self {
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        let mut number = |&label| {
            let next = numbers.len() as u32;
            *numbers.entry(label).or_insert(next)
        };
        let of: Vec<u32> = labels.iter().map(&mut number).collect();
        let mut rows: Vec<u32> = (0..).take(of.len()).collect();
        // Stable: rows of a group stay in order.
        rows.sort_by_key(|&row| of[row as usize]);
        let mut ends = vec![0; numbers.len()];
        of.iter().for_each(|&group| ends[group as usize] += 1);
        let mut end = 0;
        for own in &mut ends {
            end += *own;
            *own = end;
        }
        Self { of, rows, ends }
    }

    /// How many groups.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no group, since there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many rows they are made of.
    pub fn members(&self) -> usize {
        self.of.len()
    }

    /// The group of a row.
    pub(crate) fn of(&self, row: usize) -> u32 {
        self.of[row]
    }

    /// The rows of a group.
    pub(crate) fn rows(&self, group: u32) -> &[u32] {
        let group = group as usize;
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.rows[start..self.ends[group]]
    }

    /// The rows in the order of their groups, and the group of each.
    pub(crate) fn in_order(&self, gallery: &Embeddings) -> Result<(Embeddings, Vec<u32>)> {
        let data: Vec<f32> = self
            .rows
            .iter()
            .flat_map(|&row| gallery.row(row as usize).iter().copied())
            .collect();
        let groups = self.rows.iter().map(|&row| self.of[row as usize]).collect();
        if data.is_empty() {
            return Ok((Embeddings::default(), groups));
        }
        Ok((Embeddings::new(data, gallery.dim())?, groups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_with_their_group() {
        let groups = Groups::new(&[7, 3, 7, 9, 3, 3]);
        assert_eq!((groups.len(), groups.members(), groups.is_empty()), (3, 6, false));
        assert_eq!(
            (groups.rows(0), groups.rows(1), groups.rows(2)),
            (&[0, 2][..], &[1, 4, 5][..], &[3][..])
        );
        assert_eq!((groups.of(4), groups.of(3)), (1, 2));
        let rows = Embeddings::new((0..6u8).map(f32::from).collect(), 1).unwrap();
        let (ordered, of) = groups.in_order(&rows).unwrap();
        assert_eq!(ordered.data(), [0.0, 2.0, 1.0, 4.0, 5.0, 3.0]);
        assert_eq!(of, [0, 0, 1, 1, 1, 2]);
        assert!(Groups::new(&[]).is_empty());
    }
}
