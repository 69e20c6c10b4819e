//! Whether a text looks as if it had been read in the wrong encoding: pairs of characters that people do not write.
//!
//! The categories and sequences are those of ftfy 6.3 (<https://github.com/rspeer/python-ftfy>, Apache-2.0), which found
//! them by counting; a text must be judged as there, or its ids differ.

use std::sync::LazyLock;

use unicode_general_category::get_general_category;

use super::is_space;
use crate::words::is_word_category;

// Categories, one bit each.
const COMMON: u32 = 1 << 0;
const CONTROL: u32 = 1 << 1;
const BAD: u32 = 1 << 2;
const LAW: u32 = 1 << 3;
const CURRENCY: u32 = 1 << 4;
const START: u32 = 1 << 5;
const END: u32 = 1 << 6;
const NUMERIC: u32 = 1 << 7;
const KAOMOJI: u32 = 1 << 8;
const UPPER: u32 = 1 << 9;
const LOWER: u32 = 1 << 10;
const UPPER_COMMON: u32 = 1 << 11;
const LOWER_COMMON: u32 = 1 << 12;
const BOX: u32 = 1 << 13;
const ASCII_UPPER: u32 = 1 << 14;
const ASCII_LOWER: u32 = 1 << 15;
const LETTER: u32 = ASCII_UPPER | ASCII_LOWER;
const ACCENTED: u32 = UPPER | LOWER;

/// The characters of each category; `a..b` written as two characters in [`RANGES`].
const MEMBERS: &[(u32, &str)] = &[
    (COMMON, "\u{a0}\u{ad}·´–—―…’"),
    (BAD, "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº"),
    (LAW, "¶§"),
    (CURRENCY, "¢£¥₧€"),
    (START, "¡«¿©΄΅‘‚“„•‹\u{f8ff}"),
    (END, "®»˝”›™"),
    (NUMERIC, "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№"),
    (KAOMOJI, "ŐŌŪŲ°"),
    (UPPER, "ØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    (LOWER, "ßăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ"),
    (UPPER_COMMON, "ÞΆΈΉΊΌΎΏΪΫ"),
    (LOWER_COMMON, "άέήίΰ"),
    (BOX, "│┌┐┘├┤┬┼▀▄█▌▐░▒▓"),
];
const RANGES: &[(u32, char, char)] = &[
    (CONTROL, '\u{80}', '\u{9f}'),
    (KAOMOJI, 'Ò', 'Ö'),
    (KAOMOJI, 'Ù', 'Ü'),
    (KAOMOJI, 'ò', 'ö'),
    (KAOMOJI, 'ø', 'ü'),
    (UPPER, 'À', 'Ñ'),
    (LOWER, 'à', 'ñ'),
    (UPPER_COMMON, 'Α', 'Ω'),
    (UPPER_COMMON, 'Ё', 'Я'),
    (LOWER_COMMON, 'α', 'ω'),
    (LOWER_COMMON, 'а', 'џ'),
    (BOX, '═', '╬'),
    (ASCII_UPPER, 'A', 'Z'),
    (ASCII_LOWER, 'a', 'z'),
];

/// A set of characters.
enum Set {
    /// Those of the categories, and these.
    Of(u32, &'static str),
    /// Those outside the categories.
    Not(u32),
    Space,
    /// Letters, numbers, underscore.
    Word,
    /// Anything but a line feed.
    Any,
}
use Set::{Any, Not, Of, Space, Word};

const fn is(characters: &'static str) -> Set {
    Of(0, characters)
}

const fn of(categories: u32) -> Set {
    Of(categories, "")
}

/// Sequences that people do not write. One is enough.
const SEQUENCES: &[&[Set]] = &[
    &[of(CONTROL)],
    &[
        of(BAD | ACCENTED | BOX | START | END | CURRENCY | NUMERIC | LAW),
        of(BAD),
    ],
    &[of(LETTER), of(LOWER_COMMON | UPPER_COMMON), of(BAD)],
    &[of(BAD), of(ACCENTED | BOX | START | END | CURRENCY | NUMERIC | LAW)],
    &[of(LOWER | LOWER_COMMON | BOX | END | CURRENCY | NUMERIC), of(UPPER)],
    &[of(BOX | END | CURRENCY | NUMERIC), of(LOWER)],
    &[of(LOWER | BOX | END), of(CURRENCY)],
    &[Space, of(UPPER), of(CURRENCY)],
    &[of(UPPER | BOX), of(NUMERIC | LAW)],
    &[of(ACCENTED | BOX | CURRENCY | END), of(START), of(NUMERIC)],
    &[of(ACCENTED | CURRENCY | NUMERIC | BOX | LAW), of(END), of(START)],
    &[of(CURRENCY | NUMERIC | BOX), of(START)],
    &[of(ASCII_LOWER), of(UPPER), of(START | CURRENCY)],
    &[of(BOX), of(KAOMOJI)],
    &[of(ACCENTED | CURRENCY | NUMERIC | START | END | LAW), of(BOX)],
    &[of(BOX), of(END)],
    &[of(ACCENTED), of(START | END), Word],
    &[is("Œœ"), Not(LETTER)],
    &[of(UPPER), is("°")],
    &[is("ÂÃÎÐ"), Of(START | END, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´")],
    &[is("×"), is("²³")],
    // Arabic words read as Windows-1252; the characters are common, so it takes four.
    &[is("ØÙ"), ARABIC, is("ØÙ"), ARABIC],
    // South Asian alphabets.
    &[is("à"), is("²µ¹¼½¾")],
    // Read as Mac Roman.
    &[is("√"), is("±∂†≠®™´≤≥¥µø")],
    &[is("≈"), is("°¢")],
    &[is("‚"), is("Ä"), is("ìîïòôúùû†°¢π")],
    &[is("‚"), is("âó"), is("àä°ê")],
    // Punctuation read as Windows-1251.
    &[is("в"), is("Ђ")],
    // Latin-1 letters and Cyrillic read as Windows-1251.
    &[is("ВГРС"), Of(CONTROL | BAD | START | END | CURRENCY, "°µ"), is("ВГРС")],
    // Twice misread, with a Latin letter near.
    &[is("Г"), is("ў"), is("В"), is("Ђ"), is("В"), Any, Of(LETTER, " ")],
    // `à`, `á` and the no-break space read as Windows-1252.
    &[is("Ã"), is("\u{a0}¡")],
    &[of(ASCII_LOWER), is("ÃÂ"), is(" ")],
    &[of(ASCII_LOWER), Space, is("ÃÂ"), is(" ")],
    &[Of(ASCII_LOWER | END, ".,?!"), is("Â"), Of(START | END, " ")],
    // Punctuation, Latin-1 letters and Greek read as Windows-1253.
    &[is("β"), is("€"), is("™\u{a0}Ά\u{ad}®°")],
    &[is("ΒΓΞΟ"), Of(CONTROL | BAD | START | END | CURRENCY, "°"), is("ΒΓΞΟ")],
    // Punctuation read as Windows-1257.
    &[is("ā"), is("€")],
];

const ARABIC: Set = Of(COMMON | CURRENCY | BAD | NUMERIC | START, "ŸŠ®°µ»");

/// Every character that has a category, ascending, beside all its categories.
static CATEGORIES: LazyLock<Vec<(char, u32)>> = LazyLock::new(|| {
    let members = MEMBERS
        .iter()
        .flat_map(|&(category, members)| members.chars().map(move |c| (c, category)));
    let ranges = RANGES
        .iter()
        .flat_map(|&(category, first, last)| (first..=last).map(move |c| (c, category)));
    let mut all: Vec<(char, u32)> = members.chain(ranges).collect();
    all.sort_unstable();
    all.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 |= later.1;
        }
        same
    });
    all
});

/// Whether the text holds a sequence that shows it was read in the wrong encoding.
pub(super) fn looks_garbled(text: &str) -> bool {
    let characters: Vec<(char, u32)> = text.chars().map(|c| (c, categories(c))).collect();
    // Of the first three characters of every sequence, one has a category and is not ASCII. Most texts end here.
    let marked = |&(c, categories): &(char, u32)| categories != 0 && !c.is_ascii();
    if !characters.iter().any(marked) {
        return false;
    }
    if let [('Ã' | 'Â', _), (' ', _), ..] = characters[..] {
        return true;
    }
    (0..characters.len()).any(|at| {
        let rest = &characters[at..];
        rest.iter().take(3).any(marked) && SEQUENCES.iter().any(|sequence| matches(sequence, rest))
    })
}

fn matches(sequence: &[Set], characters: &[(char, u32)]) -> bool {
    sequence.len() <= characters.len()
        && sequence
            .iter()
            .zip(characters)
            .all(|(set, character)| set.has(*character))
}

fn categories(c: char) -> u32 {
    CATEGORIES
        .binary_search_by_key(&c, |&(c, _)| c)
        .map_or(0, |at| CATEGORIES[at].1)
}

impl Set {
    fn has(&self, (c, categories): (char, u32)) -> bool {
        match self {
            Of(of, characters) => categories & of != 0 || characters.contains(c),
            Not(of) => categories & of == 0,
            Space => is_space(c),
            Word => c == '_' || is_word_category(get_general_category(c)),
            Any => c != '\n',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_not_garbled() {
        for text in [
            "",
            "naïve café",
            "Müller & Söhne",
            "红色连衣裙 100%",
            "Привет, мир",
            "µ-law",
            "“quoted” — €5",
            "à la mode",
            "Œuvre",
        ] {
            assert!(!looks_garbled(text), "{text}");
        }
    }

    #[test]
    fn every_sequence_shows_itself_early() {
        for (at, sequence) in SEQUENCES.iter().enumerate() {
            let shows = |set: &Set| ('\0'..'\u{80}').all(|c| !set.has((c, categories(c))));
            assert!(sequence.iter().take(3).any(shows), "sequence {at}");
        }
    }

    #[test]
    fn misread_text_is_garbled() {
        for text in [
            "schÃ¶n",
            "â€œ",
            "\u{81}",
            "Ã la",
            "РџСЂРёРІРµС‚",
            "Œ!",
            "voilÃ  le",
            "ÐŸÑ€Ð¸",
            "√±",
            "ØªØ±",
        ] {
            assert!(looks_garbled(text), "{text}");
        }
    }
}
