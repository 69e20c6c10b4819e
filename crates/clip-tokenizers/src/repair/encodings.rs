//! The single-byte encodings that text is most often misread in, there and back.

use std::sync::LazyLock;

/// `name code-point…` a line: what the bytes 128 to 255 mean, `-` where they mean nothing.
const TABLES: &str = include_str!("../../data/encodings.txt");

/// One single-byte encoding; the bytes below 128 are ASCII.
pub(super) struct Encoding {
    pub(super) name: &'static str,
    /// Unassigned bytes stand for the control character of their number, and byte 1A for U+FFFD, the mark of a
    /// character that was lost on the way. So do browsers and the programs that garble text.
    pub(super) sloppy: bool,
    upper: Vec<char>,
    by_char: Vec<(char, u8)>,
}

/// All of them, in the order in which they are tried: likely ones first.
pub(super) static ENCODINGS: LazyLock<Vec<Encoding>> = LazyLock::new(|| {
    let latin_1 = (0x80..=0xff_u8).map(char::from).collect();
    let tables = TABLES.lines().filter_map(|line| {
        let (name, points) = line.split_once(' ')?;
        let read = |hex| u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
        let upper = points
            .split(' ')
            .zip(0x80_u8..=0xff)
            .map(|(hex, byte)| read(hex).unwrap_or(char::from(byte)))
            .collect();
        Some(Encoding::new(name, upper))
    });
    std::iter::once(Encoding::new("latin-1", latin_1))
        .chain(tables)
        .collect()
});

/// The bytes that Windows-1252 leaves without meaning.
const UNASSIGNED_1252: [u8; 5] = [0x81, 0x8d, 0x8f, 0x90, 0x9d];

/// What a byte from 128 to 255 means in Windows-1252; unassigned bytes keep their number.
pub(crate) fn windows_1252(byte: u8) -> char {
    ENCODINGS[1]
        .upper
        .get(usize::from(byte).wrapping_sub(0x80))
        .copied()
        .unwrap_or(char::from(byte))
}

/// Reads Latin-1 text as Windows-1252; nothing if a character has no meaning there.
pub(super) fn latin_1_as_windows_1252(text: &str) -> Option<String> {
    let read = |c: char| {
        let byte = u8::try_from(u32::from(c)).ok()?;
        (!UNASSIGNED_1252.contains(&byte)).then(|| windows_1252(byte))
    };
    text.chars().map(read).collect()
}

impl Encoding {
    fn new(name: &'static str, upper: Vec<char>) -> Self {
        let mut by_char: Vec<_> = upper.iter().copied().zip(0x80_u8..=0xff).collect();
        by_char.sort_unstable();
        Self {
            name,
            sloppy: name.starts_with("windows"),
            upper,
            by_char,
        }
    }

    /// The bytes that read as this text; nothing if a character is not in the encoding.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.byte(c)).collect()
    }

    fn byte(&self, c: char) -> Option<u8> {
        match c {
            '\u{1a}' if self.sloppy => None,
            '\u{fffd}' if self.sloppy => Some(0x1a),
            '\0'..='\u{7f}' => Some(c as u8),
            _ => self.upper_byte(c),
        }
    }

    /// The byte from 128 on that means this character.
    pub(super) fn upper_byte(&self, c: char) -> Option<u8> {
        let at = self.by_char.binary_search_by_key(&c, |&(c, _)| c).ok()?;
        Some(self.by_char[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_complete_and_reversible() {
        let names: Vec<_> = ENCODINGS.iter().map(|encoding| encoding.name).collect();
        assert_eq!(names.len(), 10);
        for encoding in ENCODINGS.iter() {
            for byte in 0x80..=0xff {
                let c = encoding.upper[usize::from(byte) - 0x80];
                assert_eq!(
                    encoding.encode(&c.to_string()),
                    Some(vec![byte]),
                    "{} {byte:x}",
                    encoding.name
                );
            }
        }
    }

    #[test]
    fn sloppy_encodings_take_lost_characters() {
        assert_eq!(ENCODINGS[1].encode("é\u{81}\u{fffd}"), Some(vec![0xe9, 0x81, 0x1a]));
        assert_eq!(ENCODINGS[1].encode("\u{1a}"), None);
        assert_eq!(ENCODINGS[0].encode("\u{1a}"), Some(vec![0x1a]));
        assert_eq!(latin_1_as_windows_1252("a\u{93}é"), Some("a“é".into()));
        assert_eq!(latin_1_as_windows_1252("\u{81}"), None);
    }
}
