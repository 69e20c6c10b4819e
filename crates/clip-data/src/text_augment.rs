//! Changed views of a text for training: the same draw gives the same view, on every machine.

mod pieces;
mod synonyms;

use clip_core::{Error, Result};

pub use synonyms::Synonyms;

use crate::chance::{Chance, bound};
use pieces::{Piece, join, pieces};

/// The share of a text's words that synonyms replace (Wei and Zou 2019, "EDA", alpha).
const REPLACED: f64 = 0.1;

/// What may happen to a text. A view differs by one of three ways, drawn evenly among those that are on and can change
/// this text: words replaced by synonyms, words swapped, or words dropped, as DeCLIP (Li et al. 2022) makes its text
/// views.
///
/// An English word stands between spaces. A text with a Han character is cut into the segments of a dictionary, and
/// numbers and words in Latin letters stay whole in it. Punctuation stays where it is.
///
/// ```
/// use clip_data::TextAugment;
/// let augment = TextAugment { swap: 0.5, drop: 0.0, synonyms: None };
/// let view = augment.apply("red shoe", 7);
/// assert_eq!(view, "shoe red");
/// assert_eq!(view, augment.apply("red shoe", 7));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TextAugment {
    /// How many times two words of a text change places, as a share of its words, 0 to 1; at least once unless 0, which
    /// turns this way off.
    pub swap: f64,
    /// How likely each word is dropped, 0 to 1; one word always stays. 0 turns this way off.
    pub drop: f64,
    /// What a word may be replaced by: a tenth of a text's words, at least one; `None` turns this way off.
    pub synonyms: Option<Synonyms>,
}

impl Default for TextAugment {
    /// A tenth of the words, as EDA and DeCLIP have it, without synonyms, which are of a language.
    fn default() -> Self {
        Self {
            swap: 0.1,
            drop: 0.1,
            synonyms: None,
        }
    }
}

#[derive(Clone, Copy)]
enum Way {
    Replace,
    Swap,
    Drop,
}

impl TextAugment {
    /// Checks that every share is in range.
    ///
    /// # Errors
    /// Names the one that is not.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [("swap", self.swap), ("drop", self.drop)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::invalid(format!("the text augmentation's `{name}` is {value}"))
                    .remedy("it must be from 0 to 1"));
            }
        }
        Ok(())
    }

    /// A view of the text, a function of the text, these settings and the draw alone; never empty unless the text is. A
    /// text of which no way can make another one is its own view. Shares out of range count as the nearest in range.
    #[must_use]
    pub fn apply(&self, text: &str, draw: u64) -> String {
        let mut pieces = pieces(text);
        let words: Vec<usize> = (0..pieces.len()).filter(|&at| pieces[at].is_word()).collect();
        let replaceable: Vec<usize> = match &self.synonyms {
            Some(synonyms) => words
                .iter()
                .copied()
                .filter(|&at| synonyms.knows(pieces[at].text()))
                .collect(),
            None => Vec::new(),
        };
        let (swap, drop) = (bound(self.swap, 0.0, 1.0), bound(self.drop, 0.0, 1.0));
        let mut ways = Vec::new();
        if !replaceable.is_empty() {
            ways.push(Way::Replace);
        }
        if words.len() > 1 {
            ways.extend((swap > 0.0).then_some(Way::Swap));
            ways.extend((drop > 0.0).then_some(Way::Drop));
        }
        if ways.is_empty() {
            return text.to_owned();
        }
        let mut chance = Chance(draw);
        match ways[chance.below(ways.len())] {
            Way::Replace => self.replace(&mut pieces, replaceable, words.len(), &mut chance),
            Way::Swap => swap_words(&mut pieces, &words, swap, &mut chance),
            Way::Drop => drop_words(&mut pieces, &words, drop, &mut chance),
        }
        join(&pieces)
    }

    fn replace(&self, pieces: &mut [Piece<'_>], mut replaceable: Vec<usize>, words: usize, chance: &mut Chance) {
        let Some(synonyms) = &self.synonyms else { return };
        for _ in 0..share(REPLACED, words).min(replaceable.len()) {
            let at = replaceable.swap_remove(chance.below(replaceable.len()));
            if let Some(replaced) = synonyms.replace(pieces[at].text(), chance) {
                pieces[at] = Piece::Word(replaced.into());
            }
        }
    }
}

/// Lets two words at a time change places, which are never the same; `words` are at least two.
fn swap_words(pieces: &mut [Piece<'_>], words: &[usize], swap: f64, chance: &mut Chance) {
    for _ in 0..share(swap, words.len()) {
        let one = chance.below(words.len());
        let other = (one + 1 + chance.below(words.len() - 1)) % words.len();
        pieces.swap(words[one], words[other]);
    }
}

/// Drops words by chance, all but one at most.
fn drop_words(pieces: &mut [Piece<'_>], words: &[usize], drop: f64, chance: &mut Chance) {
    // Drawn before the others, so that every word has its chance whatever becomes of the rest.
    let stays = words[chance.below(words.len())];
    let dropped: Vec<usize> = words.iter().copied().filter(|_| chance.unit() < drop).collect();
    let all = dropped.len() == words.len();
    for at in dropped.into_iter().filter(|&at| !all || at != stays) {
        pieces[at] = Piece::Between("");
    }
}

/// A share of so many words: at least one.
fn share(share: f64, words: usize) -> usize {
    ((share * words as f64).round() as usize).max(1)
}

#[cfg(test)]
mod tests;
