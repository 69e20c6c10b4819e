//! By which score each query is ranked: that of its best positive.

use std::collections::HashMap;

use clip_core::Embeddings;
use rayon::prelude::*;

use crate::gemm::{COLUMNS, Kernel, PAIRS, QUERIES, pack};
use crate::positives::Positives;

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
            rows.extend(lists.of(query).iter().map(|right| right.row as usize))
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
