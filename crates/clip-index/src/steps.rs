//! How the rows of a gallery fall between the right rows of a query.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU32, Ordering as Memory};

use clip_core::Embeddings;

use crate::gemm::{COLUMNS, Kernel, PAIRS};
use crate::groups::Groups;
use crate::lists::Right;
use crate::sweep::Strip;

/// The scores of a query's right rows, and how all rows fall between them.
pub(crate) struct Steps {
    /// By descending score; of equal scores, by ascending gain.
    right: Vec<(f32, f32)>,
    /// `fallen[i]`: rows, right ones too, whose score reaches that of `right[i]` and not that of the one before it.
    fallen: Vec<AtomicU32>,
    /// The group that the last row belonged to and its best score so far, where rows count by groups.
    open: Option<(u32, f32)>,
}

/// The right rows of a query that score alike. They stand behind all wrong rows of their score, the least worth first.
pub(crate) struct Stair<'a> {
    /// Right rows with better scores.
    pub(crate) better: usize,
    /// Rows before the first of these, right and wrong.
    pub(crate) before: u64,
    /// Scores and gains.
    pub(crate) right: &'a [(f32, f32)],
}

impl Steps {
    /// `right` are gallery rows or, with groups, groups of them.
    pub(crate) fn new(query: &[f32], gallery: &Embeddings, right: &[Right], groups: Option<&Groups>) -> Self {
        let own = |right: &Right| [right.row];
        let mut scored = match groups {
            None => score(query, gallery, right, own),
            Some(groups) => score(query, gallery, right, |right| groups.rows(right.row)),
        };
        let descending = |left: f32, other: f32| other.partial_cmp(&left).unwrap_or(Ordering::Equal);
        scored.sort_unstable_by(|left, other| descending(left.0, other.0).then(left.1.total_cmp(&other.1)));
        Self {
            fallen: scored.iter().map(|_| AtomicU32::new(0)).collect(),
            right: scored,
            open: None,
        }
    }

    fn step(&self, score: f32) -> usize {
        self.right.partition_point(|&(right, _)| right > score)
    }

    fn see(&mut self, score: f32) {
        let step = self.step(score);
        if let Some(fallen) = self.fallen.get_mut(step) {
            *fallen.get_mut() += 1;
        }
    }

    /// The same where others count here as well. Sums of integers do not depend on their order.
    fn see_shared(&self, score: f32) {
        if let Some(fallen) = self.fallen.get(self.step(score)) {
            fallen.fetch_add(1, Memory::Relaxed);
        }
    }

    /// Takes in the last group of the gallery.
    pub(crate) fn close(&mut self) {
        if let Some((_, best)) = self.open.take() {
            self.see(best);
        }
    }

    /// The right rows, best first, in parts of equal score.
    pub(crate) fn stairs(&self) -> impl Iterator<Item = Stair<'_>> {
        let (mut better, mut reached) = (0, 0u64);
        self.right.chunk_by(|left, other| left.0 == other.0).map(move |right| {
            reached += u64::from(self.fallen[better].load(Memory::Relaxed));
            let stair = Stair {
                better,
                before: reached - right.len() as u64,
                right,
            };
            better += right.len();
            stair
        })
    }

    /// How many rows are right.
    pub(crate) fn right(&self) -> usize {
        self.right.len()
    }

    /// What the right rows are worth.
    pub(crate) fn gains(&self) -> impl Iterator<Item = f32> {
        self.right.iter().map(|(_, gain)| *gain)
    }
}

/// The best score among the rows that each right one stands for, with its gain.
fn score<R: AsRef<[u32]>>(
    query: &[f32],
    gallery: &Embeddings,
    right: &[Right],
    members: impl Fn(&Right) -> R,
) -> Vec<(f32, f32)> {
    let mut scored: Vec<(f32, f32)> = right.iter().map(|right| (f32::NEG_INFINITY, right.gain)).collect();
    let mut eight: Vec<(usize, usize)> = Vec::with_capacity(PAIRS);
    let flush = |eight: &mut Vec<(usize, usize)>, scored: &mut [(f32, f32)]| {
        // A last group of fewer rows is filled up with its first.
        let Some(&first) = eight.first() else { return };
        let row = |i: usize| gallery.row(eight.get(i).unwrap_or(&first).1);
        let scores = Kernel::best().pairs([query; PAIRS], std::array::from_fn(row));
        for (&(place, _), score) in eight.iter().zip(scores) {
            scored[place].0 = scored[place].0.max(score);
        }
        eight.clear();
    };
    for (place, right) in right.iter().enumerate() {
        for &row in members(right).as_ref() {
            eight.push((place, row as usize));
            if eight.len() == PAIRS {
                flush(&mut eight, &mut scored);
            }
        }
    }
    flush(&mut eight, &mut scored);
    scored
}

/// Takes in the scores of a strip, each row by itself.
pub(crate) fn count_rows(steps: &mut [Steps], strip: &Strip<'_>) {
    for (steps, scores) in steps.iter_mut().zip(strip.scores) {
        let Some(&(lowest, _)) = steps.right.last() else {
            continue;
        };
        let scores = &scores[..strip.columns];
        // Most rows lie below all right ones; to see that goes by vectors.
        if scores.iter().map(|&score| u32::from(score >= lowest)).sum::<u32>() > 0 {
            scores.iter().for_each(|&score| steps.see(score));
        }
    }
}

/// Takes in the scores of a strip column by column: gallery rows are queries too. `steps` begin with the strip's first.
pub(crate) fn count_columns(steps: &[Steps], strip: &Strip<'_>) {
    let mut lowest = [f32::INFINITY; COLUMNS];
    for (lowest, steps) in lowest.iter_mut().zip(steps) {
        *lowest = steps.right.last().map_or(f32::INFINITY, |(score, _)| *score);
    }
    let mut reached = [0u32; COLUMNS];
    for scores in strip.scores {
        for ((reached, score), lowest) in reached.iter_mut().zip(scores).zip(&lowest) {
            *reached += u32::from(score >= lowest);
        }
    }
    let columns = steps.iter().zip(reached).take(strip.columns).enumerate();
    for (column, (steps, _)) in columns.filter(|(_, (_, reached))| *reached > 0) {
        strip.scores.iter().for_each(|scores| steps.see_shared(scores[column]));
    }
}

/// Takes in the scores of a strip, where `groups` says of every gallery row to which group it belongs: those of one
/// group stand side by side, and may go on in the next strip.
pub(crate) fn count_groups(steps: &mut [Steps], groups: &[u32], strip: &Strip<'_>) {
    for (steps, scores) in steps.iter_mut().zip(strip.scores) {
        if steps.right.is_empty() {
            continue;
        }
        for (&group, &score) in groups[strip.column..].iter().zip(&scores[..strip.columns]) {
            match &mut steps.open {
                Some((open, best)) if *open == group => *best = best.max(score),
                open => {
                    if let Some((_, best)) = open.replace((group, score)) {
                        steps.see(best);
                    }
                }
            }
        }
    }
}
