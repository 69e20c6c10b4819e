//! Proposes a list of concept phrases from a table's titles, for a person to edit.

mod grams;
mod words;

use std::cmp::Reverse;
use std::collections::HashMap;

use grams::BETWEEN;
pub use grams::TitlePhrases;

use super::plurals::singulars_of;
use crate::chinese::has_han;

/// Phrases counted at once; each takes some 100 bytes.
const MAX_PHRASES: usize = 2_000_000;

/// Words are a phrase from this share on of the mutual information they would have if they never stood apart.
const LEAST_BOND: f64 = 0.25;

/// In which language titles are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TitleLanguage {
    /// Both, text by text and word by word.
    #[default]
    Auto,
    /// Words between spaces.
    English,
    /// Segments of a dictionary.
    Chinese,
}

/// A phrase that may be a concept.
#[derive(Debug, Clone, PartialEq)]
pub struct ProposedPhrase {
    /// As it is written most often; English words in lower case, letters within Chinese ones in upper case.
    pub phrase: String,
    /// Titles that hold it, in its singular or its plural.
    pub count: u64,
    /// Pointwise mutual information in bits: how much more often its words stand together than chance would have it, at
    /// the cut where that is least (`log2(count · words / (count of left · count of right))`); 0 for one word.
    pub pmi: f64,
    /// The first title that holds it.
    pub example: u64,
}

/// Counts the phrases of titles, in bounded memory.
///
/// ```
/// use clip_data::{PhraseCounts, TitleLanguage, TitlePhrases};
/// let mut counts = PhraseCounts::default();
/// for (number, title) in (0..).zip(["Red running shoes", "Men's running shoes, blue", "running shoe", "wool hat"]) {
///     counts.add(number, TitlePhrases::of([title], TitleLanguage::Auto));
/// }
/// let proposed = counts.propose(2, 10);
/// // `shoe` and `running` stand in no other phrase.
/// assert_eq!(proposed.iter().map(|p| (&*p.phrase, p.count)).collect::<Vec<_>>(), [("running shoes", 3)]);
/// ```
#[derive(Debug)]
pub struct PhraseCounts {
    counted: HashMap<Box<str>, Counted>,
    limit: usize,
    words: u64,
    lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    count: u64,
    first: u64,
    whole: bool,
}

impl Default for PhraseCounts {
    fn default() -> Self {
        Self::with_limit(MAX_PHRASES)
    }
}

impl PhraseCounts {
    /// Holds at most so many phrases. Where there are more, the rarest are forgotten, and begin anew when they come
    /// again.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            counted: HashMap::new(),
            limit: limit.max(1),
            words: 0,
            lost: 0,
        }
    }

    /// How much too low a count may be, since rare phrases were forgotten in between; 0 if none was. A phrase that comes
    /// in no more titles than this may be missing.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Adds a title's phrases. `number` is what [`ProposedPhrase::example`] gives back.
    pub fn add(&mut self, number: u64, title: TitlePhrases) {
        self.words += title.words;
        for gram in title.grams {
            let counted = self.counted.entry(gram.key).or_insert(Counted {
                count: 0,
                first: number,
                whole: false,
            });
            counted.count += 1;
            counted.whole |= gram.whole;
        }
        if self.counted.len() > self.limit {
            self.forget();
        }
    }

    /// Forgets the rarest phrases until there is room for as many again. No phrase is left without its parts, since
    /// those are as frequent at least.
    fn forget(&mut self) {
        let mut least = 1;
        while self.counted.len() > self.limit / 2 {
            self.counted.retain(|_, counted| counted.count > least);
            least += 1;
        }
        self.lost += least - 1;
    }

    /// The `top` best phrases that come in at least `min_count` titles, best first: frequent ones, and of several words
    /// those that stand together much more than by chance. A phrase that only comes inside of one longer phrase is left out.
    pub fn propose(self, min_count: u64, top: usize) -> Vec<ProposedPhrase> {
        let groups = Groups::of(self.counted);
        let mut kept: Vec<(f64, ProposedPhrase)> = Vec::new();
        // How often a phrase stands inside of one that is kept. Longer ones come first.
        let mut inside: HashMap<&str, u64> = HashMap::new();
        let mut order: Vec<&Group> = groups.groups.iter().collect();
        order.sort_by_key(|group| Reverse(group.length()));
        for group in order {
            let pmi = groups.pmi(group, self.words);
            let bond = bond(group.count, pmi, self.words);
            let loose = group.length() > 1 && bond < LEAST_BOND;
            if !group.whole || group.count < min_count || loose {
                continue;
            }
            if inside.get(group.name.as_ref()).is_some_and(|&most| most >= group.count) {
                continue;
            }
            for part in parts(&group.name) {
                // Counted under the name of its group.
                if let Some(part) = groups.find(part) {
                    let most = inside.entry(part.name.as_ref()).or_default();
                    *most = (*most).max(group.count);
                }
            }
            // Up to twice as much where the words never stand apart.
            let score = (1.0 + group.count as f64).log2() * (1.0 + bond);
            kept.push((score, group.proposed(pmi)));
        }
        kept.sort_by(|(left, one), (right, other)| right.total_cmp(left).then_with(|| one.phrase.cmp(&other.phrase)));
        kept.into_iter().take(top).map(|(_, phrase)| phrase).collect()
    }
}

/// Normalised mutual information (Bouma 2009): 0 by chance, 1 where the words of a phrase never stand apart.
fn bond(count: u64, pmi: f64, words: u64) -> f64 {
    let most = (words as f64 / count as f64).log2();
    if most > 0.0 { (pmi / most).clamp(0.0, 1.0) } else { 0.0 }
}

/// A phrase in all its spellings.
struct Group {
    /// The most frequent spelling, as it is counted.
    name: Box<str>,
    /// How often that one comes.
    most: u64,
    count: u64,
    first: u64,
    whole: bool,
}

impl Group {
    fn length(&self) -> usize {
        self.name.split(BETWEEN).count()
    }

    fn proposed(&self, pmi: f64) -> ProposedPhrase {
        let between = if has_han(&self.name) { "" } else { " " };
        ProposedPhrase {
            phrase: self.name.split(BETWEEN).collect::<Vec<_>>().join(between),
            count: self.count,
            pmi,
            example: self.first,
        }
    }
}

/// Singulars and plurals, put together.
struct Groups {
    groups: Vec<Group>,
    of: HashMap<Box<str>, usize>,
}

impl Groups {
    fn of(counted: HashMap<Box<str>, Counted>) -> Self {
        let mut sorted: Vec<(Box<str>, Counted)> = counted.into_iter().collect();
        // Shorter spellings first, so that a singular is there before its plural; else by letters, for one result
        // whatever the order of the hash.
        sorted.sort_unstable_by(|(left, _), (right, _)| left.len().cmp(&right.len()).then_with(|| left.cmp(right)));
        let mut groups: Vec<Group> = Vec::new();
        let mut of: HashMap<Box<str>, usize> = HashMap::new();
        for (key, counted) in sorted {
            let known = singulars_of(&key)
                .into_iter()
                .find_map(|singular| of.get(singular.as_str()).copied());
            let Counted { count, first, whole } = counted;
            let at = known.unwrap_or(groups.len());
            if let Some(group) = groups.get_mut(at) {
                if count > group.most {
                    (group.name, group.most) = (key.clone(), count);
                }
                group.count += count;
                group.first = group.first.min(first);
                group.whole |= whole;
            } else {
                let name = key.clone();
                groups.push(Group {
                    name,
                    most: count,
                    count,
                    first,
                    whole,
                });
            }
            of.insert(key, at);
        }
        Self { groups, of }
    }

    fn find(&self, key: &str) -> Option<&Group> {
        self.of.get(key).map(|&at| &self.groups[at])
    }

    /// The least mutual information over the places where a phrase can be cut, among so many words.
    fn pmi(&self, group: &Group, words: u64) -> f64 {
        let cuts = group.name.match_indices(BETWEEN).filter_map(|(at, between)| {
            let left = self.find(&group.name[..at])?;
            let right = self.find(&group.name[at + between.len()..])?;
            let chance = left.count as f64 * right.count as f64 / words as f64;
            Some((group.count as f64 / chance).log2())
        });
        cuts.reduce(f64::min).unwrap_or(0.0)
    }
}

/// The shorter phrases within a phrase.
fn parts(key: &str) -> Vec<&str> {
    let mut starts = vec![0];
    starts.extend(key.match_indices(BETWEEN).map(|(at, between)| at + between.len()));
    let mut parts = Vec::new();
    for (number, &start) in starts.iter().enumerate() {
        let ends = starts[number + 1..]
            .iter()
            .map(|next| next - BETWEEN.len_utf8())
            .chain([key.len()]);
        parts.extend(ends.map(|end| &key[start..end]).filter(|part| part.len() < key.len()));
    }
    parts
}

#[cfg(test)]
mod tests;
