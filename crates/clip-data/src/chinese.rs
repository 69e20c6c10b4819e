//! What Chinese text needs that English has from its spaces: which characters are Han, and where words end.

use std::sync::OnceLock;

use jieba_rs::Jieba;

/// Whether a character is a Han one: the unified ideographs with their extensions, the compatibility ones, and the
/// ideographic zero and iteration mark.
pub(crate) fn is_han(c: char) -> bool {
    matches!(c, '々' | '〇'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2fa1f}' | '\u{30000}'..='\u{323af}')
}

/// Whether a text holds a Han character.
pub(crate) fn has_han(text: &str) -> bool {
    text.chars().any(is_han)
}

/// Whether a character belongs to a word that stands between spaces or Han characters: a letter or a digit that is not
/// Han.
pub(crate) fn is_spaced(c: char) -> bool {
    c.is_alphanumeric() && !is_han(c)
}

/// A segment of a Chinese text, and what part of speech the dictionary takes it for (`n…` for nouns).
pub(crate) struct Segment<'t> {
    pub(crate) text: &'t str,
    pub(crate) tag: &'t str,
}

/// Cuts a text into segments that together are the text. Spaces and punctuation are segments too; a number with its
/// unit and a word in Latin letters stay whole, whatever the dictionary says (`3.5mm`, `iPhone15`).
pub(crate) fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut segments: Vec<Segment<'_>> = Vec::new();
    let mut start = 0;
    for word in segmenter().tag(text, true) {
        let end = word.byte_end;
        let goes_on = |c: &char| is_spaced(*c) || matches!(c, '.' | '-' | '+' | '%' | '/' | '\'' | '&' | '#' | '*');
        let (left, right) = (
            text[..word.byte_start].chars().next_back(),
            text[word.byte_start..].chars().next(),
        );
        match segments.last_mut() {
            Some(last) if left.as_ref().is_some_and(goes_on) && right.as_ref().is_some_and(goes_on) => {
                // A word of the dictionary that holds both scripts keeps its tag: `T恤` behind a brand.
                *last = Segment {
                    text: &text[start..end],
                    tag: if has_han(word.word) { word.tag } else { last.tag },
                };
            }
            _ => {
                start = word.byte_start;
                segments.push(Segment {
                    text: word.word,
                    tag: word.tag,
                });
            }
        }
    }
    segments
}

/// The segmenter, made on first use and then shared: it takes a moment and some memory, which English texts are spared.
fn segmenter() -> &'static Jieba {
    static SEGMENTER: OnceLock<Jieba> = OnceLock::new();
    SEGMENTER.get_or_init(Jieba::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        segments(text).into_iter().map(|segment| segment.text).collect()
    }

    #[test]
    fn words_numbers_and_latin_letters_are_whole() {
        assert_eq!(
            cut("李宁 男士运动鞋3.5mm耳机iPhone15手机壳"),
            ["李宁", " ", "男士", "运动鞋", "3.5mm", "耳机", "iPhone15", "手机", "壳"]
        );
        assert_eq!(cut("纯棉T恤，100%棉"), ["纯棉", "T恤", "，", "100%", "棉"]);
    }

    proptest! {
        #[test]
        fn segments_together_are_the_text(text in "[\\PC \t鞋男红色运动棉裙a-z0-9.%]{0,40}") {
            prop_assert_eq!(cut(&text).concat(), text);
        }
    }
}
