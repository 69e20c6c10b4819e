//! A text as words and what stands between them.

use std::borrow::Cow;

use crate::chinese::{has_han, is_spaced, segments};

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Has a letter or a digit; may be moved, dropped and replaced.
    Word(Cow<'t, str>),
    /// Space and punctuation; stays where it is.
    Between(&'t str),
}

impl Piece<'_> {
    pub(super) fn is_word(&self) -> bool {
        matches!(self, Self::Word(_))
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Between(between) => between,
        }
    }
}

/// Takes a text apart: at its spaces, or into segments where it holds Han characters.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    if has_han(text) {
        return segments(text).into_iter().map(|segment| piece(segment.text)).collect();
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let space = first.is_whitespace();
        let end = rest.find(|c: char| c.is_whitespace() != space).unwrap_or(rest.len());
        let (own, behind) = rest.split_at(end);
        pieces.push(piece(own));
        rest = behind;
    }
    pieces
}

fn piece(text: &str) -> Piece<'_> {
    if text.contains(char::is_alphanumeric) {
        Piece::Word(text.into())
    } else {
        Piece::Between(text)
    }
}

/// Puts a text together again. Where a word came to stand beside another one without a space, which their scripts need,
/// it gets one; where a word went, only one space stays; none stays at the ends.
pub(super) fn join(pieces: &[Piece<'_>]) -> String {
    let mut text = String::new();
    for piece in pieces {
        let mut own = piece.text();
        if text.is_empty() || text.ends_with(char::is_whitespace) {
            own = own.trim_start();
        }
        if text.ends_with(is_spaced) && own.starts_with(is_spaced) {
            text.push(' ');
        }
        text.push_str(own);
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_is_between() {
        let words = |text| -> Vec<String> {
            let pieces = pieces(text);
            pieces
                .iter()
                .filter(|piece| piece.is_word())
                .map(|piece| piece.text().to_owned())
                .collect()
        };
        assert_eq!(
            words("Red shoes, size 42 - new!"),
            ["Red", "shoes,", "size", "42", "new!"]
        );
        assert_eq!(words("【新款】Nike运动鞋 42码"), ["新款", "Nike", "运动鞋", "42", "码"]);
        assert_eq!(words(" -- "), [""; 0]);
    }

    #[test]
    fn joined_words_stay_apart() {
        let word = |text: &'static str| Piece::Word(text.into());
        assert_eq!(join(&[word("鞋"), word("Nike"), word("42")]), "鞋Nike 42");
        let gone = [
            Piece::Between(" "),
            word("a"),
            Piece::Between(" "),
            Piece::Between(""),
            Piece::Between(" "),
            word("b"),
        ];
        assert_eq!(join(&gone), "a b");
    }
}
