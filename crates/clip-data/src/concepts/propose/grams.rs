//! The phrases of one title.

use unicode_normalization::UnicodeNormalization;

use super::TitleLanguage;
use super::words::{Part, chinese, english, without_advertising};
use crate::chinese::{has_han, is_han, is_spaced, segments};

/// The most words of a phrase.
const LONGEST: usize = 3;

/// Of a longer text this many bytes count: a title is shorter, and a novel in a cell does not fill the memory.
const READ: usize = 10_000;

/// What parts the words of a phrase while it is counted.
pub(super) const BETWEEN: char = '\u{1f}';

/// A phrase of a title.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gram {
    /// Its words, English ones in lower case, with [`BETWEEN`] between them.
    pub(super) key: Box<str>,
    /// Whether it may be proposed; the others are counted for what they say of longer ones.
    pub(super) whole: bool,
}

/// The phrases of one to three words that one title holds, each once: what [`PhraseCounts`](super::PhraseCounts) adds
/// up. Made apart from the counts, so that several threads can make them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TitlePhrases {
    pub(super) grams: Vec<Gram>,
    /// Words that may belong to a phrase.
    pub(super) words: u64,
}

impl TitlePhrases {
    /// The phrases of a title, which may be in several texts. Of a text of more than 10,000 bytes the start counts.
    pub fn of<'t>(texts: impl IntoIterator<Item = &'t str>, language: TitleLanguage) -> Self {
        let mut phrases = Self::default();
        for text in texts {
            let text = &text[..text.floor_char_boundary(READ)];
            if language != TitleLanguage::Chinese {
                phrases.add_english(text);
            }
            if language != TitleLanguage::English && has_han(text) {
                phrases.add_chinese(text);
            }
        }
        phrases.grams.sort_unstable();
        phrases.grams.dedup_by(|next, kept| {
            // A phrase may be proposed if one of its places allows it.
            kept.whole |= next.whole && next.key == kept.key;
            next.key == kept.key
        });
        phrases
    }

    /// Words between spaces; anything else, a Han character too, ends a run of them.
    fn add_english(&mut self, text: &str) {
        let text: String = text
            .nfc()
            .flat_map(char::to_lowercase)
            .map(|c| if c == '’' { '\'' } else { c })
            .collect();
        let mut run: Vec<(&str, Part)> = Vec::new();
        let mut rest = text.as_str();
        while let Some(first) = rest.chars().next() {
            if !is_spaced(first) {
                if !first.is_whitespace() {
                    self.end(&mut run);
                }
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let (word, behind) = rest.split_at(word_length(rest));
            rest = behind;
            self.take(&mut run, word, english(word));
        }
        self.end(&mut run);
    }

    /// Segments; a space, punctuation and Latin letters end a run of them.
    fn add_chinese(&mut self, text: &str) {
        // As the dictionary writes T恤.
        let text = without_advertising(&text.to_ascii_uppercase());
        let mut run: Vec<(&str, Part)> = Vec::new();
        for segment in segments(&text) {
            let part = if segment.text.contains(is_han) {
                chinese(segment.text, segment.tag)
            } else {
                Part::Break
            };
            self.take(&mut run, segment.text, part);
        }
        self.end(&mut run);
    }

    fn take<'t>(&mut self, run: &mut Vec<(&'t str, Part)>, word: &'t str, part: Part) {
        if part == Part::Break {
            self.end(run);
        } else {
            run.push((word, part));
        }
    }

    /// Adds the phrases of a run.
    fn end(&mut self, run: &mut Vec<(&str, Part)>) {
        self.words += run.len() as u64;
        for start in 0..run.len() {
            let mut key = String::new();
            for (length, &(word, part)) in (1..=LONGEST).zip(&run[start..]) {
                if run[start..start + length - 1].iter().any(|(before, _)| *before == word) {
                    break;
                }
                if length > 1 {
                    key.push(BETWEEN);
                }
                key.push_str(word);
                self.grams.push(Gram {
                    key: key.as_str().into(),
                    whole: part == Part::Noun || (part == Part::Weak && length > 1),
                });
            }
        }
        run.clear();
    }
}

/// The length of the word a text begins with: letters and digits, and hyphens and apostrophes between letters.
fn word_length(text: &str) -> usize {
    let mut before = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let joins = matches!(c, '-' | '\'')
            && before.is_some_and(char::is_alphanumeric)
            && characters.peek().is_some_and(|&(_, next)| is_spaced(next));
        if !is_spaced(c) && !joins {
            return at;
        }
        before = Some(c);
    }
    text.len()
}
