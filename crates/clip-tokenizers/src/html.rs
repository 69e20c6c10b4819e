//! HTML character references, by two rules: the standard's, and the more careful one of the text repairs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::repair::windows_1252;

/// HTML5's named references: `name code-point…` a line; a name ends in `;` unless it may stand without.
const NAMES: &str = include_str!("../data/html5-entities.txt");

/// The longest name that is tried, its semicolon not counted.
const LONGEST_NAME: usize = 32;

static NAMED: LazyLock<HashMap<&'static str, String>> = LazyLock::new(|| {
    let parse = |line: &'static str| {
        let mut fields = line.split(' ');
        let name = fields.next()?;
        Some((
            name,
            fields
                .filter_map(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?))
                .collect(),
        ))
    };
    NAMES.lines().filter_map(parse).collect()
});

/// Names that someone upper-cased along with the text around them: `EACUTE;`. Only names that are all lower case and do
/// not mean something else in upper case.
static UPPER_CASED: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let lower = NAMED
        .iter()
        .filter(|(name, _)| name.ends_with(';') && !name.contains(|c: char| c.is_ascii_uppercase()));
    let upper = lower.map(|(name, text)| (name.to_ascii_uppercase(), text.to_uppercase()));
    upper
        .filter(|(name, _)| unescape(&format!("&{name}")).strip_prefix('&') == Some(name))
        .collect()
});

/// Replaces character references as browsers do and as Python's `html.unescape` does: a name without its semicolon counts
/// too, the longest that fits; numbers 128 to 159 are read as Windows-1252; impossible numbers become U+FFFD and those of
/// control characters vanish.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    replace_references(text, |reference| match reference.strip_prefix('#') {
        Some(number) => numbered(number),
        None => named(reference),
    })
}

/// Replaces only what cannot be meant otherwise: a reference that ends in a semicolon; upper-cased names too.
pub(crate) fn unescape_closed(text: &str) -> Cow<'_, str> {
    replace_references(text, |reference| {
        let (body, _) = reference.split_once(';')?;
        let letters = body.strip_prefix('#').unwrap_or(body);
        if !(1..=24).contains(&letters.len()) || !letters.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let closed = &reference[..body.len() + 1];
        let text = match closed.strip_prefix('#') {
            // A number that is only half understood, or that is a semicolon itself, stays.
            Some(number) => numbered(number)
                .filter(|(text, read)| *read == closed.len() && !text.contains(';'))
                .map(|(text, _)| text)?,
            None => Cow::Borrowed(NAMED.get(closed).or_else(|| UPPER_CASED.get(closed))?.as_str()),
        };
        Some((text, closed.len()))
    })
}

/// Calls `expand` with what follows each `&`; it answers with the replacement and how many bytes it read.
fn replace_references<'t>(
    text: &'t str,
    expand: impl Fn(&'t str) -> Option<(Cow<'static, str>, usize)>,
) -> Cow<'t, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut from = 0;
    while let Some(found) = text[from..].find('&') {
        let reference = from + found + 1;
        from = reference;
        if let Some((replacement, read)) = expand(&text[reference..]) {
            out.push_str(&text[copied..reference - 1]);
            out.push_str(&replacement);
            from = reference + read;
            copied = from;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// `215`, `xD7`, `XD7`, with or without a semicolon. The answer counts the `#` before it as read.
fn numbered(text: &str) -> Option<(Cow<'static, str>, usize)> {
    let (digits, radix, sign) = match text.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 2),
        None => (text, 10, 1),
    };
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    let read = sign + length + usize::from(digits[length..].starts_with(';'));
    // Only the size of a number that is too large matters, so it stops growing.
    let number = digits[..length]
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0u32, |number, digit| number.saturating_mul(radix).saturating_add(digit));
    Some((Cow::Owned(character(number).into_iter().collect()), read))
}

/// What a number stands for; nothing for control characters and noncharacters.
fn character(number: u32) -> Option<char> {
    match number {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => Some(windows_1252(number as u8)),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        0..=0x10_ffff if number & 0xfffe == 0xfffe => None,
        _ => Some(char::from_u32(number).unwrap_or('\u{fffd}')),
    }
}

/// The longest name at the start of the text; one letter is never a name.
fn named(text: &str) -> Option<(Cow<'static, str>, usize)> {
    let ends = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let mut lengths: Vec<usize> = text
        .char_indices()
        .take(LONGEST_NAME)
        .take_while(|&(_, c)| !ends(c))
        .map(|(at, c)| at + c.len_utf8())
        .collect();
    let longest = *lengths.last()?;
    if text[longest..].starts_with(';') {
        lengths.push(longest + 1);
    }
    let names = lengths.into_iter().skip(1).rev();
    names
        .filter_map(|length| Some((Cow::Borrowed(NAMED.get(&text[..length])?.as_str()), length)))
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_browsers_read_them() {
        for (text, expected) in [
            ("no reference", "no reference"),
            ("&lt;b&gt; &amp;amp;", "<b> &amp;"),
            ("&copy2024 &notit; &notin; &ltx", "©2024 ¬it; ∉ <x"),
            ("&NotEqualTilde;&fjlig;", "≂̸fj"),
            ("&#215; &#xD7 &#XD7;", "× × ×"),
            ("&#128;&#x81;&#150;", "€\u{81}–"),
            (
                "&#0;&#xD800;&#x110000;&#99999999999999999999;",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("[&#11;&#xFFFE;&#x1ffff;&#127;&#13;]", "[\r]"),
            (
                "& &; &# &#; &#x; &#xg; &unknown; &a",
                "& &; &# &#; &#x; &#xg; &unknown; &a",
            ),
            ("&&amp;&", "&&&"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn repairs_read_only_what_is_closed() {
        for (text, expected) in [
            ("AT&T this&not that &amp", "AT&T this&not that &amp"),
            (
                "&amp;lt; P&EACUTE;REZ STRA&SZLIG;E &nTILDE;",
                "&lt; PÉREZ STRASSE &nTILDE;",
            ),
            ("&#39;&#x27; &#59; &#12a; &#xZZ; &;", "'' &#59; &#12a; &#xZZ; &;"),
        ] {
            assert_eq!(unescape_closed(text), expected, "{text}");
        }
    }
}
