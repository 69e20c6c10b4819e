//! A table of synonyms.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use clip_core::{Error, Result};

use crate::chance::Chance;
use crate::small_file::{read_list, rows};

/// What words may be replaced by. Cheap to clone: clones share the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synonyms {
    of: Arc<HashMap<String, Vec<String>>>,
}

impl Synonyms {
    /// Reads a TSV file of at most 16 MiB: `word<TAB>synonym<TAB>…`, in any language. Rows of one word, in whatever
    /// case, add up; rows that begin with `#` and blank rows are ignored.
    ///
    /// # Errors
    /// The file cannot be read, is too large or holds no synonym, or a row lacks a word or a synonym. File and row are
    /// named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_list(path)?).map_err(|error| error.file(path))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut of: HashMap<String, Vec<String>> = HashMap::new();
        for (row, line) in rows(text).filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let mut cells = line.split('\t').map(str::trim);
            let word = cells.next().unwrap_or_default().to_lowercase();
            let synonyms: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
            if word.is_empty() || synonyms.is_empty() {
                let what = if word.is_empty() { "word" } else { "synonym" };
                return Err(Error::invalid(format!("the row has no {what}"))
                    .row(row)
                    .remedy("write word<TAB>synonym"));
            }
            let known = of.entry(word).or_default();
            for synonym in synonyms {
                if known.iter().all(|known| known != synonym) {
                    known.push(synonym.to_owned());
                }
            }
        }
        if of.is_empty() {
            return Err(Error::invalid("the file holds no synonym").remedy("write word<TAB>synonym, one a row"));
        }
        Ok(Self { of: Arc::new(of) })
    }

    /// The synonyms of a word, in whatever case.
    pub fn of(&self, word: &str) -> &[String] {
        self.of.get(&word.to_lowercase()).map_or(&[], Vec::as_slice)
    }

    pub(super) fn knows(&self, word: &str) -> bool {
        !self.of(core(word).1).is_empty()
    }

    /// A word with one of its synonyms in its place, its punctuation and its capitals kept.
    pub(super) fn replace(&self, word: &str, chance: &mut Chance) -> Option<String> {
        let (before, core, behind) = core(word);
        let synonyms = self.of(core);
        if synonyms.is_empty() {
            return None;
        }
        let synonym = &synonyms[chance.below(synonyms.len())];
        let capital = |text: &str| text.starts_with(char::is_uppercase);
        let several = core.chars().filter(|c| c.is_alphabetic()).count() > 1;
        let new = if several && core.to_lowercase() != core && core.to_uppercase() == core {
            synonym.to_uppercase()
        } else if capital(core) && !capital(synonym) {
            let mut letters = synonym.chars();
            letters
                .next()
                .into_iter()
                .flat_map(char::to_uppercase)
                .chain(letters)
                .collect()
        } else {
            synonym.clone()
        };
        Some(format!("{before}{new}{behind}"))
    }
}

/// A word without the punctuation around it, which comes before and behind it.
fn core(word: &str) -> (&str, &str, &str) {
    let start = word.find(char::is_alphanumeric).unwrap_or(word.len());
    let (before, rest) = word.split_at(start);
    let core = rest.trim_end_matches(|c: char| !c.is_alphanumeric());
    (before, core, &rest[core.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_capitals_stay() {
        let synonyms = Synonyms::parse("# things\nshoe\tsneaker\nSofa\tcouch\t\n鞋\t靴\nsofa\tcouch\n").unwrap();
        assert_eq!(synonyms.of("SOFA"), ["couch"]);
        let mut chance = Chance(1);
        let mut replaced = |word| synonyms.replace(word, &mut chance);
        assert_eq!(replaced("(Shoe),").unwrap(), "(Sneaker),");
        assert_eq!(replaced("SOFA!").unwrap(), "COUCH!");
        assert_eq!(replaced("鞋").unwrap(), "靴");
        assert_eq!(replaced("shoes"), None);
        assert!(!synonyms.knows("--"));
    }

    #[test]
    fn bad_rows_are_named() {
        for (text, said) in [
            ("a\tb\nc\n", "row 2: the row has no synonym; write word<TAB>synonym"),
            ("\tb\n", "row 1: the row has no word; write word<TAB>synonym"),
            (
                "# none\n",
                "the file holds no synonym; write word<TAB>synonym, one a row",
            ),
        ] {
            assert_eq!(Synonyms::parse(text).unwrap_err().to_string(), said);
        }
    }
}
