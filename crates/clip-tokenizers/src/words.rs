//! How OpenCLIP splits clean text into words: its regular expression
//! `<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, ignoring case, by hand.

use unicode_general_category::{GeneralCategory, get_general_category};

/// The start token, which may also stand in a text.
pub(crate) const START: &str = "<start_of_text>";
/// The end token.
pub(crate) const END: &str = "<end_of_text>";

const WHOLE: [&str; 9] = [START, END, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// The words of a clean text, in order. Whitespace is in none.
pub(crate) struct Words<'t> {
    rest: &'t str,
}

pub(crate) fn words(text: &str) -> Words<'_> {
    Words { rest: text }
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        loop {
            let first = self.rest.chars().next()?;
            let end_of = |of: Kind| self.rest.find(|c| kind(c) != of).unwrap_or(self.rest.len());
            let whole = if matches!(first, '<' | '\'') {
                whole_length(self.rest)
            } else {
                None
            };
            let first_kind = kind(first);
            let length = match (whole, first_kind) {
                (Some(length), _) => length,
                (None, Kind::Letter | Kind::Other) => end_of(first_kind),
                (None, Kind::Number | Kind::Nothing) => first.len_utf8(),
            };
            let (word, rest) = self.rest.split_at(length);
            self.rest = rest;
            if whole.is_some() || first_kind != Kind::Nothing {
                return Some(word);
            }
        }
    }
}

/// The length of a special token or a contraction at the start of the text.
fn whole_length(text: &str) -> Option<usize> {
    WHOLE.iter().find_map(|whole| {
        let mut characters = text.char_indices();
        let same = whole
            .chars()
            .all(|expected| characters.next().is_some_and(|(_, c)| folds_to(c, expected)));
        same.then(|| text.len() - characters.as_str().len())
    })
}

/// Whether a character is the expected one, ignoring case: the long s is an s.
fn folds_to(c: char, expected: char) -> bool {
    c.eq_ignore_ascii_case(&expected) || (c == 'ſ' && expected == 's')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Other,
    Nothing,
}

fn kind(c: char) -> Kind {
    match c {
        'a'..='z' | 'A'..='Z' => Kind::Letter,
        '0'..='9' => Kind::Number,
        // The iota subscript is a mark whose capital is a letter: with case ignored, no alternative takes it.
        '\u{345}' => Kind::Nothing,
        _ if c.is_whitespace() => Kind::Nothing,
        _ if c.is_ascii() => Kind::Other,
        _ => match get_general_category(c) {
            category if !is_word_category(category) => Kind::Other,
            GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber | GeneralCategory::OtherNumber => {
                Kind::Number
            }
            _ => Kind::Letter,
        },
    }
}

/// Letters and numbers.
pub(crate) fn is_word_category(category: GeneralCategory) -> bool {
    use GeneralCategory as G;
    matches!(
        category,
        G::UppercaseLetter
            | G::LowercaseLetter
            | G::TitlecaseLetter
            | G::ModifierLetter
            | G::OtherLetter
            | G::DecimalNumber
            | G::LetterNumber
            | G::OtherNumber
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        words(text).collect()
    }

    #[test]
    fn words_numbers_and_marks_part() {
        assert_eq!(
            split("it's a 4k tv!!! (new)"),
            ["it", "'s", "a", "4", "k", "tv", "!!!", "(", "new", ")"]
        );
        assert_eq!(split("they're 'll'x ''s"), ["they", "'re", "'ll", "'", "x", "''", "s"]);
        assert_eq!(split("红色½ⅷ 👍🏽é"), ["红色", "½", "ⅷ", "👍🏽", "é"]);
        assert_eq!(split("  \u{345} "), [""; 0]);
    }

    #[test]
    fn special_tokens_in_a_text_are_words_unless_marks_precede() {
        assert_eq!(split("a<end_of_text>b"), ["a", "<end_of_text>", "b"]);
        assert_eq!(split("!<end_of_text>"), ["!<", "end", "_", "of", "_", "text", ">"]);
        assert_eq!(split("<ſtart_of_text>'ſ"), ["<ſtart_of_text>", "'ſ"]);
    }
}
