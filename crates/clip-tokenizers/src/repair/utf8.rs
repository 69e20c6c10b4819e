//! UTF-8 as strict as the standard's, and the two variants found in the wild: over UTF-16 (CESU-8), and Java's NUL.

/// Reads bytes as UTF-8, with the variants where the bytes ED or C0 show that they may occur; nothing if the bytes are
/// not UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    if bytes.contains(&0xed) || bytes.contains(&0xc0) {
        decode_variants(bytes)
    } else {
        strict(bytes).map(Into::into)
    }
}

fn strict(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn decode_variants(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = (0..rest.len()).find(|&at| is_variant(&rest[at..])) {
        out.push_str(strict(&rest[..at])?);
        rest = &rest[at..];
        let read = if rest[0] == 0xc0 && rest.len() > 1 {
            out.push('\0');
            2
        } else if rest.len() >= 6 {
            out.push(surrogate_pair(rest)?);
            6
        } else {
            break;
        };
        rest = &rest[read..];
    }
    out.push_str(strict(rest)?);
    Some(out)
}

/// Whether the bytes start with a variant, or with one that the end cuts off. ftfy's expression takes a line feed at the
/// very end for the end, and so do these.
fn is_variant(bytes: &[u8]) -> bool {
    let ended = |at: usize| at >= bytes.len() || bytes[at..] == *b"\n";
    let within = |at: usize, first: u8, last: u8| bytes.get(at).is_some_and(|byte| (first..=last).contains(byte));
    match bytes[0] {
        0xc0 => within(1, 0x80, 0x80) || ended(1),
        0xed => (within(1, 0xa0, 0xbf) || ended(1)) && (within(2, 0x80, 0xbf) || ended(2)),
        _ => false,
    }
}

/// The character of two surrogates of three bytes each.
fn surrogate_pair(bytes: &[u8]) -> Option<char> {
    let &[
        0xed,
        high,
        high_low @ 0x80..=0xbf,
        0xed,
        low @ 0xb0..=0xbf,
        low_low,
        ref rest @ ..,
    ] = bytes
    else {
        return None;
    };
    let last = (0x80..=0xbf).contains(&low_low) || low_low == b'\n' && rest.is_empty();
    if !(0xa0..=0xaf).contains(&high) || !last {
        return None;
    }
    let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
    char::from_u32(
        0x1_0000 + bits(high, 0xf, 16) + bits(high_low, 0x3f, 10) + bits(low, 0xf, 6) + bits(low_low, 0x3f, 0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_read() {
        assert_eq!(decode("naïve 한국어".as_bytes()).as_deref(), Some("naïve 한국어"));
        assert_eq!(decode(b"nul \xc0\x80!").as_deref(), Some("nul \0!"));
        assert_eq!(decode(b"\xed\xa0\xbd\xed\xb8\x80 \xc3\xa9").as_deref(), Some("😀 é"));
    }

    #[test]
    fn broken_bytes_are_refused() {
        for bytes in [
            &b"\xff"[..],
            b"\xc3",
            b"\xed\xa0\xbd",
            b"\xed\xa0\xbd123456",
            b"\xc0\x81",
            b"\xc0",
            b"\xed\xb8\x80\xed\xa0\xbd",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
    }
}
