//! Which characters are Han, and so part words by themselves.

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
