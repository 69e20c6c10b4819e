//! Concepts found in a pair's texts by a list of phrases.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use clip_core::{Concept, ConceptSource, Error, Id, Pair, Result};
use unicode_normalization::UnicodeNormalization;

use super::plurals::other_forms;
use crate::chinese::{has_han, is_spaced};
use crate::small_file::{read_list, rows};

/// The most bytes of all phrases together: the automaton takes some seventy times as much, English ones being spelt in several ways.
const MAX_PHRASE_BYTES: usize = 2 << 20;

/// Concepts are the phrases of a list that a pair's texts hold.
///
/// A phrase with a Han character is found anywhere in a text. Any other is found between word boundaries and in its
/// plural and singular spellings: `dress` in `Dresses`, never in `dresser`; letters and digits beside Han characters are
/// words of their own. Case counts nowhere, nor do the kind and the number of spaces, nor how accents are composed.
/// Where phrases overlap, the leftmost counts, and of several that begin there the longest: `running shoe` hides `shoe`.
/// Each concept comes once, in the order of its first place, and is called as the list calls it.
///
/// ```
/// use clip_data::PhraseConcepts;
/// let phrases = PhraseConcepts::new(["running shoe", "shoe", "运动鞋"])?;
/// let found = |text| phrases.find(text).into_iter().map(|c| c.name.to_string()).collect::<Vec<_>>();
/// assert_eq!(found("Red RUNNING shoes, shoe laces"), ["running shoe", "shoe"]);
/// assert_eq!(found("李宁男士运动鞋"), ["运动鞋"]);
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PhraseConcepts {
    concepts: Vec<Concept>,
    /// Finds spellings.
    automaton: AhoCorasick,
    /// What each spelling means.
    spellings: Vec<Spelling>,
}

/// Reads a list of at most 16 MiB: a phrase a row, or a TSV as `clipzoo concepts` writes it, of which only the first
/// column counts. Rows that begin with `#` and blank rows are ignored.
///
/// # Errors
/// The file cannot be read, is too large or holds no phrase, or a row has an empty first column. File and row are named.
pub fn read_phrases(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    let text = read_list(path)?;
    let mut phrases = Vec::new();
    for (row, line) in rows(&text).filter(|(_, line)| !line.trim_start().starts_with('#')) {
        let phrase = line.split('\t').next().unwrap_or_default().trim();
        if phrase.is_empty() {
            return Err(Error::invalid("the first column is empty")
                .file(path)
                .row(row)
                .remedy("write the phrase there, or delete the row"));
        }
        phrases.push(phrase.to_owned());
    }
    if phrases.is_empty() {
        return Err(no_phrase().file(path));
    }
    Ok(phrases)
}

fn no_phrase() -> Error {
    Error::invalid("the list holds no phrase").remedy("write a phrase a row")
}

#[derive(Debug, Clone, Copy)]
struct Spelling {
    /// Which concept.
    concept: u32,
    /// Whether it must stand between word boundaries.
    bounded: bool,
}

impl PhraseConcepts {
    /// Reads a list of phrases: see [`read_phrases`].
    ///
    /// # Errors
    /// As there, and as for [`new`](Self::new).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(read_phrases(path)?).map_err(|error| error.file(path))
    }

    /// Finds the given phrases. A phrase that comes again, in whatever case, is the first one.
    ///
    /// # Errors
    /// There is no phrase, one is blank, or together they have more than 2 MiB.
    pub fn new<S: AsRef<str>>(phrases: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut concepts = Vec::new();
        let mut spelt: HashMap<String, u32> = HashMap::new();
        let mut bytes = 0;
        for phrase in phrases {
            let phrase = phrase.as_ref().trim();
            bytes += phrase.len();
            if bytes > MAX_PHRASE_BYTES {
                let what = format!("the phrases have more than {} MiB together", MAX_PHRASE_BYTES >> 20);
                return Err(Error::exhausted(what).remedy("shorten the list"));
            }
            let folded = fold(phrase);
            if folded.is_empty() {
                return Err(Error::invalid("a phrase is blank").remedy("write a word, or leave it out"));
            }
            let number = u32::try_from(concepts.len()).map_err(|_| Error::exhausted("too many phrases"))?;
            if let std::collections::hash_map::Entry::Vacant(vacant) = spelt.entry(folded) {
                vacant.insert(number);
                concepts.push(Concept {
                    id: Id::of(phrase),
                    name: Arc::from(phrase),
                });
            }
        }
        if concepts.is_empty() {
            return Err(no_phrase());
        }
        add_other_forms(&concepts, &mut spelt);
        // In the order of the spelling, so that the automaton does not depend on the order of a hash.
        let mut spelt: Vec<(String, u32)> = spelt.into_iter().collect();
        spelt.sort_unstable();
        let automaton = AhoCorasick::new(spelt.iter().map(|(spelling, _)| spelling))
            .map_err(|error| Error::exhausted(format!("the phrases are too many: {error}")).source(error))?;
        let spellings = spelt
            .iter()
            .map(|(spelling, concept)| Spelling {
                concept: *concept,
                bounded: !has_han(spelling),
            })
            .collect();
        Ok(Self {
            concepts,
            automaton,
            spellings,
        })
    }

    /// All concepts that can be found, in the order of the list.
    pub fn all(&self) -> &[Concept] {
        &self.concepts
    }

    /// The concepts of a text, each once, in the order of their first place.
    pub fn find(&self, text: &str) -> Vec<Concept> {
        let mut found = Vec::new();
        self.find_in(text, &mut found);
        found
            .into_iter()
            .map(|concept| self.concepts[concept as usize].clone())
            .collect()
    }

    /// Appends the concepts of a text that are not in the list yet.
    fn find_in(&self, text: &str, found: &mut Vec<u32>) {
        let text = fold(text);
        // The longest match at each place. Which of them count is known only once those that begin before are known;
        // the automaton cannot tell, since it would let a match within a word hide a shorter one that is a word.
        let mut longest: BTreeMap<usize, (usize, u32)> = BTreeMap::new();
        for hit in self.automaton.find_overlapping_iter(&text) {
            let spelling = self.spellings[hit.pattern().as_usize()];
            if !spelling.bounded || stands_alone(&text, hit.start(), hit.end()) {
                // Matches come by their ends, so that a later one is a longer one.
                longest.insert(hit.start(), (hit.end(), spelling.concept));
            }
        }
        let mut reached = 0;
        for (start, (end, concept)) in longest {
            if start < reached {
                continue;
            }
            reached = end;
            if !found.contains(&concept) {
                found.push(concept);
            }
        }
    }
}

impl ConceptSource for PhraseConcepts {
    fn concepts(&self, pair: &Pair) -> Result<Vec<Concept>> {
        let mut found = Vec::new();
        for text in &pair.texts {
            self.find_in(text, &mut found);
        }
        Ok(found
            .into_iter()
            .map(|concept| self.concepts[concept as usize].clone())
            .collect())
    }
}

/// Adds plurals and singulars, where no phrase is spelt so itself; of several phrases with one spelling the first has it.
fn add_other_forms(concepts: &[Concept], spelt: &mut HashMap<String, u32>) {
    for (number, concept) in (0..).zip(concepts) {
        if has_han(&concept.name) {
            continue;
        }
        for form in other_forms(&fold(&concept.name)) {
            spelt.entry(form).or_insert(number);
        }
    }
}

/// How texts and phrases are compared: composed, in lower case, with one plain space for any run of whitespace and none
/// at the ends.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut space = false;
    for c in text.nfc() {
        if c.is_whitespace() {
            space = !folded.is_empty();
            continue;
        }
        if std::mem::take(&mut space) {
            folded.push(' ');
        }
        match c {
            // The capital of both sigmas is one letter.
            'ς' => folded.push('σ'),
            _ => folded.extend(c.to_lowercase()),
        }
    }
    folded
}

/// Whether a match neither begins nor ends within a word.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let (before, own, behind) = (&text[..start], &text[start..end], &text[end..]);
    let within = |left: &str, right: &str| left.ends_with(is_spaced) && right.starts_with(is_spaced);
    !within(before, own) && !within(own, behind)
}

#[cfg(test)]
mod tests;
