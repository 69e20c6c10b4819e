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
}
