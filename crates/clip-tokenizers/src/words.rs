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
            GeneralCategory::Unassigned => newer_kind(c),
            category if !is_word_category(category) => Kind::Other,
            GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber | GeneralCategory::OtherNumber => {
                Kind::Number
            }
            _ => Kind::Letter,
        },
    }
}

/// What Unicode 17 and 18 assigned: misread text turns into such characters, and the expression's library knows them.
#[rustfmt::skip]
fn newer_kind(c: char) -> Kind {
    match c {
        '\u{558}' | '\u{58b}'..='\u{58c}' | '\u{88f}' | '\u{c5c}' | '\u{cdc}' | '\u{208f}' |
        '\u{209d}'..='\u{209f}' | '\u{a7ce}'..='\u{a7cf}' | '\u{a7d2}' | '\u{a7d4}' | '\u{a7dd}' |
        '\u{a7e2}' | '\u{a7f1}' | '\u{ab6c}'..='\u{ab6d}' | '\u{107bb}'..='\u{107bf}' |
        '\u{10940}'..='\u{10959}' | '\u{10ec5}'..='\u{10ec7}' | '\u{10ed9}'..='\u{10eee}' |
        '\u{11b0a}' | '\u{11db0}'..='\u{11ddb}' | '\u{11df1}' | '\u{16ea0}'..='\u{16eb8}' |
        '\u{16ebb}'..='\u{16ed3}' | '\u{16ff2}'..='\u{16ff3}' | '\u{187f8}'..='\u{187ff}' |
        '\u{18cd6}'..='\u{18cda}' | '\u{18d09}'..='\u{18d20}' | '\u{18d80}'..='\u{18df2}' |
        '\u{18e00}'..='\u{19191}' | '\u{191a0}'..='\u{191d2}' | '\u{1b123}'..='\u{1b128}' |
        '\u{1b168}' | '\u{1d6a6}' | '\u{1df1f}'..='\u{1df24}' | '\u{1df2b}'..='\u{1df81}' |
        '\u{1df90}'..='\u{1df96}' | '\u{1dfcd}'..='\u{1dfff}' | '\u{1e6c0}'..='\u{1e6de}' |
        '\u{1e6e0}'..='\u{1e6e2}' | '\u{1e6e4}'..='\u{1e6e5}' | '\u{1e6e7}'..='\u{1e6ed}' |
        '\u{1e6f0}'..='\u{1e6f4}' | '\u{1e6fe}'..='\u{1e6ff}' | '\u{2b73a}'..='\u{2b73f}' |
        '\u{2b81e}' | '\u{2cea2}'..='\u{2cead}' | '\u{323b0}'..='\u{33479}' |
        '\u{3d000}'..='\u{3fc3f}' => Kind::Letter,
        '\u{11de0}'..='\u{11de9}' | '\u{1246f}' | '\u{12475}'..='\u{1247f}' |
        '\u{12550}'..='\u{12686}' | '\u{16ff4}'..='\u{16ff6}' => Kind::Number,
        _ => Kind::Other,
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
