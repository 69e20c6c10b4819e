//! Words as Chinese-CLIP's copy of BERT's first tokenizer finds them: by whitespace and punctuation, each Chinese
//! character by itself.

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

use crate::repair::is_space;

/// The words of a text. `lower_case` drops case and accents.
pub(crate) fn basic_words(text: &str, lower_case: bool) -> Vec<String> {
    let mut words = Vec::new();
    for token in spaced(text).split(is_space).filter(|token| !token.is_empty()) {
        if lower_case {
            let plain = token.to_lowercase().nfd().filter(|&c| !is_mark(c)).collect::<String>();
            push_words(&plain, &mut words);
        } else {
            push_words(token, &mut words);
        }
    }
    words
}

/// The text without control characters, with plain spaces, and with spaces around Chinese characters.
fn spaced(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' | ' ' => out.push(' '),
            '\u{fffd}' => {}
            _ if is_chinese(c) => out.extend([' ', c, ' ']),
            _ if c.is_ascii_graphic() => out.push(c),
            _ => match get_general_category(c) {
                GeneralCategory::Control | GeneralCategory::Format => {}
                GeneralCategory::SpaceSeparator => out.push(' '),
                _ => out.push(c),
            },
        }
    }
    out
}

/// Splits at whitespace and around punctuation.
fn push_words(token: &str, words: &mut Vec<String>) {
    let mut word = String::new();
    for c in token.chars() {
        if is_space(c) || is_punctuation(c) {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            if !is_space(c) {
                words.push(c.into());
            }
        } else {
            word.push(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
}

fn is_mark(c: char) -> bool {
    !c.is_ascii() && get_general_category(c) == GeneralCategory::NonspacingMark
}

/// Punctuation, and every ASCII sign.
fn is_punctuation(c: char) -> bool {
    use GeneralCategory as G;
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(
        get_general_category(c),
        G::ConnectorPunctuation
            | G::DashPunctuation
            | G::OpenPunctuation
            | G::ClosePunctuation
            | G::InitialPunctuation
            | G::FinalPunctuation
            | G::OtherPunctuation
    )
}

/// The blocks of Chinese characters that BERT knows.
fn is_chinese(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b820}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_part_at_space_punctuation_and_chinese() {
        assert_eq!(
            basic_words("Ärger 红a色, [MASK]\u{200b}x\u{0}y", true),
            ["arger", "红", "a", "色", ",", "[", "mask", "]", "xy"]
        );
        assert_eq!(basic_words("Ärger\u{a0}ΟΔΟΣ\u{e000}", false), ["Ärger", "ΟΔΟΣ\u{e000}"]);
        assert_eq!(basic_words("ΟΔΟΣ \u{2028}", true), ["οδος"]);
    }
}
