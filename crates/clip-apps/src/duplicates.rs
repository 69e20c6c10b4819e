//! Pictures that a catalogue holds twice: equal ones, and ones that a model can hardly tell apart.

use clip_core::{Embeddings, Error, Result};
use clip_index::{Options, Scored, top_k};

/// Pictures that are one, in some sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Duplicates {
    /// Their rows, ascending; two at least.
    pub rows: Vec<usize>,
    /// For each the cosine with the nearest other of them; 1 for equal pictures.
    pub scores: Vec<f32>,
}

/// Neighbours that are looked at first; more where all of them are near.
const FIRST: usize = 16;

/// Neighbours of one picture that are looked at in the end. A picture with more near ones than this (a placeholder, a logo)
/// still joins its group, by those.
const MOST: usize = 1024;

/// Pictures that are scored at once.
const CHUNK: usize = 4096;

/// Groups of rows whose fingerprints are equal, ordered by first row. `prints` are fingerprints with their rows, in any
/// order; they are sorted in place, so no second copy is made.
pub fn equal_groups(prints: &mut [(u128, usize)]) -> Vec<Duplicates> {
    prints.sort_unstable();
    let same = prints
        .chunk_by(|one, other| one.0 == other.0)
        .filter(|group| group.len() > 1);
    let mut groups: Vec<Duplicates> = same
        .map(|group| Duplicates {
            rows: group.iter().map(|&(_, row)| row).collect(),
            scores: vec![1.0; group.len()],
        })
        .collect();
    groups.sort_unstable_by_key(|group| group.rows.first().copied());
    groups
}

/// Groups of rows that are near: from each a chain of pairs of at least `threshold` (a cosine) leads to every other of its
/// group. Ordered by first row. Rows of zeros are near nothing.
///
/// `images` are unit rows and stay in memory; beyond them a few numbers a row are held.
///
/// # Errors
/// The threshold is not above 0 and at most 1, or a row is not finite.
pub fn near_groups(images: &Embeddings, threshold: f32, options: Options) -> Result<Vec<Duplicates>> {
    if !(threshold > 0.0 && threshold <= 1.0) {
        return Err(
            Error::invalid(format!("{threshold} is no cosine to ask for")).remedy("use a number above 0, at most 1")
        );
    }
    let mut links = Links::new(images.len());
    for first in (0..images.len()).step_by(CHUNK) {
        let mut rows: Vec<usize> = (first..images.len().min(first + CHUNK)).collect();
        let mut k = FIRST;
        while !rows.is_empty() {
            let queries = pick(images, &rows)?;
            // One more, since each row finds itself.
            let found = top_k(&queries, images, k + 1, options)?;
            let mut more = Vec::new();
            for (&row, hits) in rows.iter().zip(&found) {
                links.take(row, hits, threshold);
                let full = hits.len() > k && hits.last().is_some_and(|hit| hit.score >= threshold);
                if full && k < MOST {
                    more.push(row);
                }
            }
            (rows, k) = (more, (k * 8).min(MOST));
        }
    }
    Ok(links.groups())
}

fn pick(images: &Embeddings, rows: &[usize]) -> Result<Embeddings> {
    let values = rows.iter().flat_map(|&row| images.row(row)).copied().collect();
    Embeddings::new(values, images.dim().max(1))
}

/// Which rows are linked, as a forest: each row points to another of its group, and the first of a group to itself.
struct Links {
    above: Vec<usize>,
    best: Vec<f32>,
}

impl Links {
    fn new(rows: usize) -> Self {
        Self {
            above: (0..rows).collect(),
            best: vec![0.0; rows],
        }
    }

    fn take(&mut self, row: usize, hits: &[Scored], threshold: f32) {
        for hit in hits.iter().filter(|hit| hit.row != row && hit.score >= threshold) {
            let score = hit.score.min(1.0);
            for row in [row, hit.row] {
                self.best[row] = self.best[row].max(score);
            }
            let (one, other) = (self.first(row), self.first(hit.row));
            let (low, high) = (one.min(other), one.max(other));
            self.above[high] = low;
        }
    }

    /// The first row of a row's group; the way there is shortened for the next time.
    fn first(&mut self, mut row: usize) -> usize {
        while self.above[row] != row {
            self.above[row] = self.above[self.above[row]];
            row = self.above[row];
        }
        row
    }

    fn groups(mut self) -> Vec<Duplicates> {
        let mut members: Vec<(usize, usize)> = (0..self.above.len()).map(|row| (self.first(row), row)).collect();
        members.sort_unstable();
        let groups = members
            .chunk_by(|one, other| one.0 == other.0)
            .filter(|group| group.len() > 1);
        let group = |group: &[(usize, usize)]| Duplicates {
            rows: group.iter().map(|&(_, row)| row).collect(),
            scores: group.iter().map(|&(_, row)| self.best[row]).collect(),
        };
        groups.map(group).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_prints_are_groups_in_order() {
        let mut prints = vec![(9, 0), (4, 1), (9, 2), (5, 3), (4, 4), (4, 5)];
        let groups = equal_groups(&mut prints);
        let rows: Vec<_> = groups.iter().map(|group| group.rows.clone()).collect();
        assert_eq!(rows, [vec![0, 2], vec![1, 4, 5]]);
        assert_eq!(groups[1].scores, [1.0; 3]);
        assert!(equal_groups(&mut [(1, 0), (2, 1)]).is_empty());
    }

    #[test]
    fn one_picture_many_times_is_one_group() {
        // More copies than are looked at first, and two others.
        let mut values = [1.0, 0.0].repeat(3000);
        values.extend([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let images = Embeddings::new(values, 2).unwrap();
        let groups = near_groups(&images, 0.9, Options::default()).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].rows, (0..3000).collect::<Vec<_>>());
        assert!(near_groups(&images, 0.0, Options::default()).is_err());
        assert!(near_groups(&images, f32::NAN, Options::default()).is_err());
        assert!(
            near_groups(&Embeddings::default(), 0.5, Options::default())
                .unwrap()
                .is_empty()
        );
    }

    /// The definition: what can be reached over pairs that are near.
    fn by_definition(images: &Embeddings, threshold: f32) -> Vec<Vec<usize>> {
        let near = |one: usize, other: usize| {
            images
                .row(one)
                .iter()
                .zip(images.row(other))
                .map(|(a, b)| a * b)
                .sum::<f32>()
                >= threshold
        };
        let (mut groups, mut seen) = (Vec::new(), vec![false; images.len()]);
        for start in 0..images.len() {
            let (mut group, mut open) = (Vec::new(), vec![start]);
            while let Some(row) = open.pop() {
                if std::mem::replace(&mut seen[row], true) {
                    continue;
                }
                group.push(row);
                open.extend((0..images.len()).filter(|&other| other != row && near(row, other)));
            }
            group.sort_unstable();
            if group.len() > 1 {
                groups.push(group);
            }
        }
        groups
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn groups_are_those_of_the_definition(
            values in prop::collection::vec(-3i8..=3, 3 * 2..3 * 90), threshold in 0.5f32..1.0
        ) {
            let values = values[..values.len() / 3 * 3].iter().map(|&x| f32::from(x)).collect();
            let images = Embeddings::new(values, 3).unwrap().normalised();
            // A pair at the threshold itself may fall on either side by its last bit.
            let scores = (0..images.len()).flat_map(|one| (0..images.len()).map(move |other| (one, other)));
            let close = scores.into_iter().any(|(one, other)| {
                let score: f32 = images.row(one).iter().zip(images.row(other)).map(|(a, b)| a * b).sum();
                (score - threshold).abs() < 1e-5
            });
            prop_assume!(!close);
            let found = near_groups(&images, threshold, Options::default()).unwrap();
            let rows: Vec<_> = found.iter().map(|group| group.rows.clone()).collect();
            prop_assert_eq!(rows, by_definition(&images, threshold));
            for group in found {
                prop_assert!(group.scores.iter().all(|&score| (threshold..=1.0).contains(&score)));
            }
        }
    }
}
