//! Ranks among a few rows drawn for each query, as the fashion papers report them.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use clip_core::{Embeddings, Error, Result};
use rayon::prelude::*;

use crate::gemm::{Kernel, PAIRS};
use crate::lists::Right;
use crate::positives::{Lookup, Positives};
use crate::rank::Ranks;
use crate::sweep::check;
use crate::threads::Options;

/// Which rows a query is ranked among: one right row and some wrong ones of its category.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// How many wrong rows are drawn.
    pub others: usize,
    /// Decides which.
    pub seed: u64,
    /// The category of each gallery row.
    pub categories: &'a [u64],
}

/// The ranks of right rows among the rows that were drawn with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledRanks {
    /// The rank of each query; the gallery is the most rows that one query had.
    pub ranks: Ranks,
    /// How many queries were ranked among so many rows, the right one included.
    pub sizes: BTreeMap<usize, usize>,
}

/// Ranks one right row of each query among [`Sample::others`] rows that are not right for it, drawn without replacement
/// from the category of the right one. The right row is the query's own (row `i` of query `i`) where that is right, else
/// one that the seed draws; a tie counts against. Where a category has fewer other rows, all of them are taken.
///
/// What is drawn depends on seed, query and rows alone, so it is the same for every model.
///
/// An error if the dimensions differ, a row is not finite, or `positives` or categories do not fit the rows.
pub fn rank_sampled(
    queries: &Embeddings,
    gallery: &Embeddings,
    positives: &Positives,
    sample: Sample<'_>,
    options: Options,
) -> Result<SampledRanks> {
    options.install(|| {
        check(queries, gallery)?;
        let draw = Draw::new(positives, sample, queries.len(), gallery.len())?;
        let ranked: Vec<Option<(NonZeroU32, usize)>> = (0..queries.len())
            .into_par_iter()
            .map_init(Drawn::default, |drawn, query| {
                draw.rows(query, drawn)
                    .then(|| (place(queries.row(query), gallery, &drawn.rows), drawn.rows.len()))
            })
            .collect();
        let sizes = counted(ranked.iter().flatten().map(|(_, size)| *size));
        let most = sizes.last_key_value().map_or(0, |(size, _)| *size);
        let ranks = ranked.into_iter().map(|found| found.map(|(rank, _)| rank)).collect();
        Ok(SampledRanks {
            ranks: Ranks::new(ranks, most),
            sizes,
        })
    })?
}

/// Among how many rows so many queries are ranked by [`rank_sampled`].
pub(crate) fn sizes(
    positives: &Positives,
    sample: Sample<'_>,
    queries: usize,
    gallery: usize,
) -> Result<BTreeMap<usize, usize>> {
    let draw = Draw::new(positives, sample, queries, gallery)?;
    let mut drawn = Drawn::default();
    Ok(counted((0..queries).filter_map(|query| {
        draw.rows(query, &mut drawn).then_some(drawn.rows.len())
    })))
}

fn counted(sizes: impl Iterator<Item = usize>) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    sizes.for_each(|size| *counts.entry(size).or_default() += 1);
    counts
}

/// The rank of the first of the given rows among them.
fn place(query: &[f32], gallery: &Embeddings, rows: &[u32]) -> NonZeroU32 {
    let kernel = Kernel::best();
    let (mut target, mut reached) = (f32::INFINITY, 0);
    for (number, eight) in rows.chunks(PAIRS).enumerate() {
        // A last group of fewer rows is filled up with its first.
        let row = |i: usize| gallery.row(eight.get(i).copied().unwrap_or(eight[0]) as usize);
        let scores = kernel.pairs([query; PAIRS], std::array::from_fn(row));
        if number == 0 {
            target = scores[0];
        }
        reached += scores[..eight.len()]
            .iter()
            .map(|&score| u32::from(score >= target))
            .sum::<u32>();
    }
    // The right row reaches its own score.
    NonZeroU32::new(reached).unwrap_or(NonZeroU32::MIN)
}

/// Draws the rows of any query.
struct Draw<'a> {
    sample: Sample<'a>,
    lookup: Lookup<'a>,
    /// The rows of each category, ascending.
    members: HashMap<u64, Vec<u32>>,
}

/// What was drawn for a query, and room to draw the next.
#[derive(Default)]
struct Drawn {
    /// The right row first.
    rows: Vec<u32>,
    right: Vec<Right>,
    /// Which members stand in another's place.
    moved: HashMap<usize, usize>,
}

impl<'a> Draw<'a> {
    fn new(positives: &'a Positives, sample: Sample<'a>, queries: usize, gallery: usize) -> Result<Self> {
        positives.check(queries, gallery)?;
        if sample.categories.len() != gallery {
            let what = format!("{} categories of {gallery} gallery rows", sample.categories.len());
            return Err(Error::invalid(what));
        }
        let mut members: HashMap<u64, Vec<u32>> = HashMap::new();
        for (row, &category) in (0..).zip(sample.categories) {
            members.entry(category).or_default().push(row);
        }
        let lookup = Lookup::new(positives, None);
        Ok(Self {
            sample,
            lookup,
            members,
        })
    }

    /// Draws the rows of a query; none if no row is right for it.
    fn rows(&self, query: usize, drawn: &mut Drawn) -> bool {
        let Drawn { rows, right, moved } = drawn;
        self.lookup.find(query, right);
        rows.clear();
        moved.clear();
        let mut random = Random::new(self.sample.seed, query as u64);
        let is_right =
            |right: &[Right], row: usize| right.binary_search_by_key(&row, |right| right.row as usize).is_ok();
        let own = match right.len() {
            0 => return false,
            _ if is_right(right, query) => query,
            count => right[random.below(count)].row as usize,
        };
        rows.push(own as u32);
        let members = self.members.get(&self.sample.categories[own]);
        let members = members.map_or(&[][..], Vec::as_slice);
        // The start of a shuffle, of which only what was moved is kept, without the right rows in it.
        for place in 0..members.len() {
            if rows.len() > self.sample.others {
                break;
            }
            let other = place + random.below(members.len() - place);
            let taken = moved.get(&other).copied().unwrap_or(other);
            let here = moved.get(&place).copied().unwrap_or(place);
            moved.insert(other, here);
            let row = members[taken];
            if !is_right(right, row as usize) {
                rows.push(row);
            }
        }
        true
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64, query: u64) -> Self {
        // Streams of neighbouring seeds and queries start far apart.
        let mut start = Self(seed);
        let seed = start.next();
        let mut start = Self(seed ^ query);
        Self(start.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0. The bias is below `count` in 2^64.
    fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_drawn_once_from_the_category_and_none_of_them_is_right(
            categories in prop::collection::vec(0u64..4, 1..90), labels in prop::collection::vec(0u64..20, 90), others in 0usize..30, seed: u64,
        ) {
            let rows = categories.len();
            let labels = labels[..rows].to_vec();
            let positives = Positives::Labels { queries: labels.clone(), gallery: labels.clone() };
            let sample = Sample { others, seed, categories: &categories };
            let draw = Draw::new(&positives, sample, rows, rows).unwrap();
            let (mut drawn, mut again) = (Drawn::default(), Drawn::default());
            for query in 0..rows {
                prop_assert!(draw.rows(query, &mut drawn));
                let (own, rest) = drawn.rows.split_first().unwrap();
                prop_assert_eq!(*own as usize, query);
                let fits = |row: usize| categories[row] == categories[query] && labels[row] != labels[query];
                prop_assert!(rest.iter().all(|&row| fits(row as usize)));
                prop_assert_eq!(rest.len(), others.min((0..rows).filter(|&row| fits(row)).count()));
                let mut once = rest.to_vec();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), rest.len());
                // Not by what was drawn before.
                draw.rows(query, &mut again);
                prop_assert_eq!(&again.rows, &drawn.rows);
            }
        }
    }

    #[test]
    fn draws_are_the_same_in_every_release() {
        let categories = [0; 1000];
        let sample = Sample {
            others: 5,
            seed: 0,
            categories: &categories,
        };
        let draw = Draw::new(&Positives::Diagonal, sample, 1000, 1000).unwrap();
        let mut drawn = Drawn::default();
        let mut rows = |query: usize| {
            draw.rows(query, &mut drawn);
            drawn.rows.clone()
        };
        assert_eq!(rows(0), [0, 138, 971, 279, 902, 659]);
        assert_eq!(rows(7), [7, 306, 641, 614, 334, 900]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let rows = Embeddings::new(vec![1.0, 0.5], 1).unwrap();
        let sample = Sample {
            others: 5,
            seed: 0,
            categories: &[1],
        };
        let error = rank_sampled(&rows, &rows, &Positives::Diagonal, sample, Options::default()).unwrap_err();
        assert_eq!(error.what(), "1 categories of 2 gallery rows");
    }
}
