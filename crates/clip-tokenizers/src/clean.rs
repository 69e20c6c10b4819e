//! Text as OpenCLIP cleans it before it looks for words.

use crate::html::unescape;
use crate::repair::{is_space, repair};

/// Repairs, HTML references (twice, for text that was escaped twice), then whitespace: runs become one space, none at the
/// ends. Case stays.
pub(crate) fn clean(text: &str) -> String {
    let repaired = repair(text);
    let once = unescape(&repaired);
    collapse_whitespace(&unescape(&once))
}

/// The same, then an underscore is a space, ASCII punctuation goes, and case is lower: OpenCLIP's `canonicalize`, after
/// big_vision's.
pub(crate) fn canonical(text: &str) -> String {
    let cleaned = clean(text).replace('_', " ");
    let plain: String = cleaned.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    collapse_whitespace(&plain.to_lowercase())
}

fn collapse_whitespace(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cleaned() {
        assert_eq!(clean("  A &amp;amp; B\t\n&lt;b&gt; \u{1d}x\u{a0}"), "A & B <b> x");
        assert_eq!(clean("<p>&amp;amp;eacute;</p>"), "<p>&eacute;</p>");
        assert_eq!(clean("\u{3000}"), "");
    }

    #[test]
    fn a_canonical_text_has_no_ascii_punctuation() {
        assert_eq!(
            canonical(" A &amp;amp; B: t_shirt (L), naïve… CAFÉ’S!"),
            "a b t shirt l naïve… cafés"
        );
        assert_eq!(canonical("?!"), "");
    }
}
