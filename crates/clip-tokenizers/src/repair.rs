//! Repairs of broken text, as ftfy 6.3.1 makes them with its default settings: text read in the wrong encoding, HTML
//! references, ligatures, full-width letters, curly quotes, line breaks, control characters; then NFC.
//!
//! OpenCLIP was trained on text that passed through ftfy, so every rule is kept, also the doubtful ones: another result is
//! another id. Written from ftfy's behaviour and tables (Apache-2.0); see `docs/decisions/0001-ftfy.md`.

mod encodings;
mod garbled;
mod lossy;
mod utf8;

use std::borrow::Cow;

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::{UnicodeNormalization, is_nfc};

pub(crate) use encodings::windows_1252;
use encodings::{ENCODINGS, latin_1_as_windows_1252};
use garbled::looks_garbled;

use crate::html::unescape_closed;

/// A segment is a line, or this many characters of a longer line.
const LONGEST_SEGMENT: usize = 1_000_000;

/// A repair can uncover the next one. Text that needs more rounds than this was made to need them.
const MOST_ROUNDS: usize = 100;

/// Whitespace in Python's sense: Unicode's, and the four ASCII separators.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Repairs a text, segment by segment.
pub(crate) fn repair(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\x0c') && byte != b'&')
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // A `<` shows that the text is HTML: references in it, and in all that follows, are meant.
    let mut references = true;
    for segment in text.split_inclusive('\n').flat_map(segments) {
        references &= !segment.contains('<');
        out.push_str(&repair_segment(segment, references));
    }
    Cow::Owned(out)
}

/// A line in pieces of at most [`LONGEST_SEGMENT`] characters.
fn segments(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let end = rest
            .char_indices()
            .nth(LONGEST_SEGMENT)
            .map_or(rest.len(), |(at, _)| at);
        let (segment, tail) = rest.split_at(end);
        rest = tail;
        (!segment.is_empty()).then_some(segment)
    })
}

fn repair_segment(segment: &str, references: bool) -> String {
    let mut text = segment.to_owned();
    for _ in 0..MOST_ROUNDS {
        let unescaped = if references {
            unescape_closed(&text)
        } else {
            Cow::Borrowed(text.as_str())
        };
        let mut next = drop_controls(&standard_characters(&repair_encoding(&unescaped)));
        if !is_nfc(&next) {
            next = next.nfc().collect();
        }
        if next == text {
            break;
        }
        text = next;
    }
    text
}

/// Undoes wrong readings until none is left.
fn repair_encoding(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MOST_ROUNDS {
        match undo_one_reading(&text) {
            Some(next) if next != text => text = next,
            _ => break,
        }
    }
    text
}

/// The text as it was before one wrong reading; nothing if there is no sign of one.
fn undo_one_reading(text: &str) -> Option<String> {
    if text.is_ascii() || !looks_garbled(text) {
        return None;
    }
    if let Some(utf8) = ENCODINGS.iter().find_map(|encoding| utf8_misread(text, encoding)) {
        return Some(utf8);
    }
    if let Some(pieces) = repair_pieces(text).filter(|pieces| pieces != text) {
        return Some(pieces);
    }
    if let Some(windows) = latin_1_as_windows_1252(text).filter(|windows| windows != text) {
        return Some(windows);
    }
    text.contains(is_c1).then(|| {
        text.chars()
            .map(|c| if is_c1(c) { windows_1252(c as u8) } else { c })
            .collect()
    })
}

/// The text that is UTF-8 once its characters are bytes of the encoding again.
fn utf8_misread(text: &str, encoding: &encodings::Encoding) -> Option<String> {
    let mut bytes = encoding.encode(text)?;
    // In Mac Roman the sequence would be an en dash and a space, which people write.
    if encoding.name != "macroman" {
        bytes = lossy::restore_a0(bytes);
    }
    if encoding.sloppy {
        bytes = lossy::mark_lost(&bytes);
    }
    utf8::decode(&bytes)
}

/// Repairs the parts that look like misread UTF-8 where the text as a whole cannot be repaired: text put together from
/// several sources. Nothing if there is no such part.
fn repair_pieces(text: &str) -> Option<String> {
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut copied, mut found) = (0, 0, false);
    while at < characters.len() {
        let after_continuation = at > 0 && clue(characters[at - 1].1).continues == Continues::Surely;
        let length = if after_continuation {
            0
        } else {
            misread_length(&characters[at..])
        };
        if length == 0 {
            at += 1;
            continue;
        }
        found = true;
        let start = characters[at].0;
        at += length;
        let end = characters.get(at).map_or(text.len(), |&(end, _)| end);
        let piece = &text[start..end];
        // The piece must be shorter than the text, or this would not end.
        if piece.len() < text.len() && looks_garbled(piece) {
            out.push_str(&text[copied..start]);
            out.push_str(&repair_encoding(piece));
            copied = end;
        }
    }
    out.push_str(&text[copied..]);
    found.then_some(out)
}

/// How many characters from here on look like whole UTF-8 sequences, misread.
fn misread_length(characters: &[(usize, char)]) -> usize {
    let mut length = 0;
    while let Some(&(_, first)) = characters.get(length) {
        let sequence = clue(first).leads;
        let continues = |&(_, c): &(usize, char)| clue(c).continues != Continues::No;
        match characters.get(length + 1..length + sequence) {
            Some(rest) if sequence > 0 && rest.iter().all(continues) => length += sequence,
            _ => break,
        }
    }
    length
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Continues {
    No,
    /// It also occurs by itself: a space, a dash, a quotation mark, a bullet, dots.
    Perhaps,
    Surely,
}

/// What part of a UTF-8 sequence a character can be in an encoding that is like Latin-1.
#[derive(Clone, Copy)]
struct Clue {
    /// The length of the sequence that it would start; 0 if it starts none.
    leads: usize,
    continues: Continues,
}

/// Latin-1 and the Windows encodings stand first in the list; the three after them are not like Latin-1.
const LIKE_LATIN_1: usize = 7;

fn clue(c: char) -> Clue {
    let mut clue = Clue {
        leads: 0,
        continues: Continues::No,
    };
    if c == ' ' {
        clue.continues = Continues::Perhaps;
    }
    if c.is_ascii() {
        return clue;
    }
    for byte in ENCODINGS[..LIKE_LATIN_1]
        .iter()
        .filter_map(|encoding| encoding.upper_byte(c))
    {
        match byte {
            0xc2..=0xdf => clue.leads = 2,
            0xe0..=0xef => clue.leads = 3,
            0xf0 | 0xf3 => clue.leads = 4,
            0x80..=0xbf if matches!(c, '–' | '—' | '―' | '‘' | '’' | '‚' | '“' | '”' | '„' | '•' | '…') =>
            {
                clue.continues = Continues::Perhaps;
            }
            0x80..=0xbf => clue.continues = Continues::Surely,
            _ => {}
        }
    }
    clue
}

fn is_c1(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}

/// C1 controls read as Windows-1252, ligatures and widths undone, quotes straight, line breaks as line feeds.
fn standard_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut last = '\0';
    for c in text.chars() {
        match c {
            '\n' if last == '\r' => {}
            '\r' | '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{80}'..='\u{9f}' => out.push(straight(windows_1252(c as u8))),
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc().map(straight)),
            _ => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(straight(c)),
            },
        }
        last = c;
    }
    out
}

/// Ligatures and digraphs of Latin letters. Others, such as `æ`, are meant.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

fn straight(c: char) -> char {
    match c {
        'ʼ' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

/// Drops terminal colour sequences and control characters that show nothing.
fn drop_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let sequence = if c == '\u{1b}' { terminal_sequence(rest) } else { 0 };
        let length = sequence.max(c.len_utf8());
        if sequence == 0 && !is_invisible(c) {
            out.push(c);
        }
        rest = &rest[length..];
    }
    out
}

/// The length of `ESC [ numbers; letter` at the start of the text; 0 if it is something else.
fn terminal_sequence(text: &str) -> usize {
    let Some(numbers) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let number = |c: char| c == ';' || get_general_category(c) == GeneralCategory::DecimalNumber;
    let command = numbers.trim_start_matches(number);
    if command.starts_with(|c: char| c.is_ascii_alphabetic()) {
        text.len() - command.len() + 1
    } else {
        0
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffc}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_text_is_repaired() {
        for (broken, whole) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("schÃ¶n", "schön"),
            ("âœ” No problems", "✔ No problems"),
            ("&macr;\\_(ã\u{83}\u{84})_/&macr;", "¯\\_(ツ)_/¯"),
            (
                "Broken text&hellip; it&#x2019;s ﬂubberiﬁc!",
                "Broken text… it's flubberific!",
            ),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "LOUD NOISES"),
            ("voilÃ\u{a0} le travail", "voilà le travail"),
            ("voilÃ  le travail", "voilà le travail"),
            ("â€œ like this â€\u{fffd}", "\" like this \u{fffd}"),
            ("ÃƒÂ©tÃƒÂ©", "été"),
            ("a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}x\u{feff}\u{8}", "red x"),
            ("e\u{301} Ｕﾀｰﾝ ŉ ‘x’", "é Uターン 'n 'x'"),
            ("&lt;b&gt; <b> &amp;", "&lt;b&gt; <b> &amp;"),
            ("", ""),
        ] {
            assert_eq!(repair(broken), whole, "{broken:?}");
        }
    }

    #[test]
    fn a_tag_keeps_the_references_after_it() {
        assert_eq!(repair("&eacute;\n<\n&eacute;"), "é\n<\n&eacute;");
    }

    #[test]
    fn many_levels_end() {
        let nested = format!("&{}lt;", "amp;".repeat(5_000));
        assert!(repair(&nested).ends_with("lt;"));
    }
}
