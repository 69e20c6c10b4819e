//! Repairs on the bytes of a misread text, before they are read as UTF-8: bytes that a space or a question mark replaced.

/// A set of bytes, as ranges.
type Set = &'static [(u8, u8)];
/// A sequence of bytes.
type Sequence = &'static [Set];

const SPACE: Set = &[(b' ', b' ')];
const CONTINUATION: Set = &[(0x80, 0xbf)];
/// Continuations but 85 and A0, after which a space is likely to be a space.
const LIKELY: Set = &[(0x80, 0x84), (0x86, 0x9f), (0xa1, 0xbf)];
const F0: Set = &[(0xf0, 0xf0)];

/// UTF-8 in which a space stands for the byte A0, which many programs take for a space. Only where the result is a
/// likely character.
const SPACED: &[Sequence] = &[
    &[
        &[(0xc2, 0xc3), (0xc5, 0xc5), (0xce, 0xce), (0xd0, 0xd0), (0xd9, 0xd9)],
        SPACE,
    ],
    &[&[(0xe2, 0xe3)], SPACE, LIKELY],
    &[&[(0xe0, 0xe3)], LIKELY, SPACE],
    &[F0, SPACE, CONTINUATION, CONTINUATION],
    &[F0, CONTINUATION, SPACE, CONTINUATION],
    &[F0, CONTINUATION, CONTINUATION, SPACE],
];

/// A lost byte: 1A stands for U+FFFD, and sometimes it became a question mark.
const LOST: Set = &[(0x1a, 0x1a), (b'?', b'?')];
const LOST_OR_CONTINUATION: Set = &[(0x1a, 0x1a), (b'?', b'?'), (0x80, 0xbf)];
const MARK_OR_CONTINUATION: Set = &[(0x1a, 0x1a), (0x80, 0xbf)];
const ED: Set = &[(0xed, 0xed)];
const HIGH: Set = &[(0xa0, 0xaf)];
const LOW: Set = &[(0xb0, 0xbf)];
const OF_THREE: Set = &[(0xe0, 0xef)];
const OF_FOUR: Set = &[(0xf0, 0xf4)];

/// UTF-8 (and UTF-8 over UTF-16) of which bytes were lost. The first that fits counts.
const LOSSY: &[Sequence] = &[
    &[&[(0xc2, 0xdf)], &[(0x1a, 0x1a)]],
    &[&[(0xc2, 0xc3)], &[(b'?', b'?')]],
    &[ED, HIGH, LOST, ED, LOW, LOST_OR_CONTINUATION],
    &[ED, HIGH, LOST_OR_CONTINUATION, ED, LOW, LOST],
    &[OF_THREE, LOST, MARK_OR_CONTINUATION],
    &[OF_THREE, MARK_OR_CONTINUATION, LOST],
    &[OF_FOUR, LOST, MARK_OR_CONTINUATION, MARK_OR_CONTINUATION],
    &[OF_FOUR, MARK_OR_CONTINUATION, LOST, MARK_OR_CONTINUATION],
    &[OF_FOUR, MARK_OR_CONTINUATION, MARK_OR_CONTINUATION, LOST],
    &[&[(0x1a, 0x1a)]],
];

/// What may follow `Ã` and a space that is part of a Portuguese contraction (`àquele`, `às`), or another space.
const ONE_WORD: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];

/// Puts A0 back where a space took its place. `Ã ` is most often the French or Spanish word `à`, so the space stays too.
pub(super) fn restore_a0(bytes: Vec<u8>) -> Vec<u8> {
    if !(0..bytes.len()).any(|at| length_at(SPACED, &bytes[at..]).is_some()) {
        return bytes;
    }
    let mut words = Vec::with_capacity(bytes.len() + 8);
    for (at, &byte) in bytes.iter().enumerate() {
        words.push(byte);
        let rest = &bytes[at + 1..];
        if byte == 0xc3 && rest.first() == Some(&b' ') && !ONE_WORD.iter().any(|word| rest[1..].starts_with(word)) {
            words.push(0xa0);
        }
    }
    replace(&words, SPACED, |matched, out| {
        out.extend(matched.iter().map(|&b| if b == b' ' { 0xa0 } else { b }))
    })
}

/// Replaces what lost a byte with U+FFFD.
pub(super) fn mark_lost(bytes: &[u8]) -> Vec<u8> {
    replace(bytes, LOSSY, |_, out| out.extend("\u{fffd}".bytes()))
}

fn replace(bytes: &[u8], sequences: &[Sequence], write: impl Fn(&[u8], &mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match length_at(sequences, &bytes[at..]) {
            Some(length) => {
                write(&bytes[at..at + length], &mut out);
                at += length;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn length_at(sequences: &[Sequence], bytes: &[u8]) -> Option<usize> {
    let has = |set: Set, byte: u8| set.iter().any(|&(first, last)| (first..=last).contains(&byte));
    let fits = |sequence: &Sequence| {
        sequence.len() <= bytes.len() && sequence.iter().zip(bytes).all(|(&set, &byte)| has(set, byte))
    };
    sequences
        .iter()
        .find(|sequence| fits(sequence))
        .map(|sequence| sequence.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_becomes_a0_again() {
        assert_eq!(restore_a0(b"voil\xc3  le".to_vec()), b"voil\xc3\xa0 le");
        assert_eq!(restore_a0(b"\xc3 la".to_vec()), b"\xc3\xa0 la");
        assert_eq!(restore_a0(b"\xc3 quele".to_vec()), b"\xc3\xa0quele");
        assert_eq!(restore_a0(b"\xe2 \x80".to_vec()), b"\xe2\xa0\x80");
        assert_eq!(restore_a0(b"plain text".to_vec()), b"plain text");
    }

    #[test]
    fn what_lost_a_byte_is_marked() {
        assert_eq!(
            mark_lost(b"\xe2\x80\x1a x \xc3? \x1a"),
            "\u{fffd} x \u{fffd} \u{fffd}".as_bytes()
        );
        assert_eq!(mark_lost(b"why? \xe2\x80\x9c"), b"why? \xe2\x80\x9c");
    }
}
