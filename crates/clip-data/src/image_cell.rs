//! Image cells: a path, a data URI, or base64 in any of its alphabets.

use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use clip_core::{EncodedImage, Error, Result};

/// Extensions of picture files, in lower case; any case is taken.
pub const PICTURE_EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Clean text of one alphabet, by far the most common, goes straight through one of these; what neither takes is looked
/// at letter by letter. Bits behind the last whole byte do not count, as in EasyNLP's decoder.
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Whether a name ends in a picture's extension.
pub fn is_picture_name(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && PICTURE_EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

/// The picture that an image cell holds or names.
///
/// A cell that ends in a picture's extension is a path, relative to `folder`; a cell that starts with `data:` is a
/// data URI; everything else is base64. White space around the cell does not count.
///
/// # Errors
/// The cell is empty, a web address, a data URI without base64, or truncated base64. Whether a file is there and holds
/// a picture is seen when it is opened.
pub fn parse_image_cell(cell: &str, folder: &Path) -> Result<EncodedImage> {
    let cell = cell.trim_ascii();
    if cell.is_empty() {
        return Err(Error::invalid("the image cell is empty"));
    }
    if is_picture_name(cell) {
        if let Some((scheme, _)) = cell.split_once("://") {
            return Err(
                Error::invalid(format!("the image cell is a web address (`{scheme}://…`)"))
                    .remedy("download the picture and name the file"),
            );
        }
        return Ok(EncodedImage::File(folder.join(cell)));
    }
    let bytes = if cell.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:")) {
        data_uri(&cell[5..])?
    } else {
        let bytes = decode_base64(cell)?;
        refuse_plain_text(cell, &bytes)?;
        bytes
    };
    if bytes.is_empty() {
        return Err(Error::invalid("the image cell holds no base64"));
    }
    Ok(EncodedImage::Bytes(bytes.into()))
}

/// The bytes of base64 text: standard, URL-safe or both alphabets in one text, padding optional.
///
/// Other bytes (white space, line ends, punctuation) are skipped, and nothing counts behind a properly padded group:
/// the rules of EasyNLP's decoder, so that its tables give the same bytes; only missing padding, which it refuses,
/// is taken as well.
///
/// # Errors
/// A single letter is left at the end: six bits, of which no byte can be made. The text was cut.
///
/// ```
/// assert_eq!(clip_data::decode_base64("-/+_")?, [0xfb, 0xff, 0xbf]);
/// assert_eq!(clip_data::decode_base64("YWI")?, b"ab");
/// assert!(clip_data::decode_base64("YWJjZ").is_err());
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn decode_base64(text: &str) -> Result<Vec<u8>> {
    // A clash with the other alphabet shows within a few letters, so the second try is all but free.
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .or_else(|_| decode_letters(text))
}

/// The rules of [`decode_base64`], letter by letter.
fn decode_letters(text: &str) -> Result<Vec<u8>> {
    let mut letters = Vec::with_capacity(text.len());
    let mut pads = 0;
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => letters.push(byte),
            b'-' => letters.push(b'+'),
            b'_' => letters.push(b'/'),
            b'=' => {
                // A pad counts only where a group can end; elsewhere it is skipped like any other byte.
                let place = letters.len() % 4;
                pads += 1;
                if place >= 2 && place + pads >= 4 {
                    break;
                }
                continue;
            }
            _ => continue,
        }
        pads = 0;
    }
    if letters.len() % 4 == 1 {
        return Err(Error::invalid(format!(
            "the base64 is truncated: {} letters make no whole bytes",
            letters.len()
        ))
        .remedy("export the row again"));
    }
    STANDARD
        .decode(&letters)
        .map_err(|error| Error::invalid(format!("the base64 is broken: {error}")).source(error))
}

/// The bytes of a data URI, given behind `data:`.
fn data_uri(rest: &str) -> Result<Vec<u8>> {
    let Some((head, data)) = rest.split_once(',') else {
        return Err(Error::invalid("the data URI has no comma").remedy("write data:image/png;base64,…"));
    };
    if !head
        .rsplit(';')
        .next()
        .is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case("base64"))
    {
        return Err(Error::invalid("the data URI is not base64").remedy("write data:image/png;base64,…"));
    }
    if !data.contains('%') {
        return decode_base64(data);
    }
    // In a URI, `+`, `/` and `=` may be written as percent signs and two hexadecimal digits.
    let mut plain = String::with_capacity(data.len());
    let mut parts = data.split('%');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part
            .get(..2)
            .filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        let Some(code) = code.filter(u8::is_ascii) else {
            return Err(Error::invalid(
                "the data URI has a percent sign without two hexadecimal digits",
            ));
        };
        plain.push(char::from(code));
        plain.push_str(&part[2..]);
    }
    decode_base64(&plain)
}

/// Skipping foreign bytes would turn any sentence into bytes. Where some were skipped, what remains must begin like a
/// picture; otherwise the cell is something else, and the message says so.
fn refuse_plain_text(cell: &str, bytes: &[u8]) -> Result<()> {
    let foreign = cell
        .chars()
        .find(|&c| !(c.is_ascii_alphanumeric() || "+/-_=".contains(c) || c.is_ascii_whitespace()));
    match foreign {
        Some(foreign) if !begins_like_a_picture(bytes) => Err(Error::invalid(format!(
            "the image cell is no path to a picture, no data URI and no base64: it holds `{}`",
            foreign.escape_debug()
        ))
        .remedy(format!("a path ends in one of: {}", PICTURE_EXTENSIONS.join(", ")))),
        _ => Ok(()),
    }
}

fn begins_like_a_picture(bytes: &[u8]) -> bool {
    let starts: [&[u8]; 5] = [&[0xff, 0xd8, 0xff], b"\x89PNG", b"GIF8", b"RIFF", b"BM"];
    starts.iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose as engines;
    use proptest::prelude::*;

    #[test]
    fn the_rules_of_the_reference_decoder() {
        let cases: [(&str, &[u8]); 14] = [
            ("YWJj", b"abc"),
            ("YWI=", b"ab"),
            ("YQ==", b"a"),
            ("-_-_", &[0xfb, 0xff, 0xbf]),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
            ("-/+_", &[0xfb, 0xff, 0xbf]),
            ("YW Jj", b"abc"),
            (" YWJj\r", b"abc"),
            ("Y!W*J.j", b"abc"),
            ("YWJj=ZGVm", b"abcdef"),
            ("YQ==YQ==", b"a"),
            ("YQ=Y", &[0x61, 0x06]),
            ("", b""),
            ("====", b""),
        ];
        for (text, bytes) in cases {
            // `YQ=Y` has a pad that a letter follows: the group goes on, and two letters and one make two bytes.
            assert_eq!(decode_base64(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(decode_base64("YWI").unwrap(), b"ab");
        assert_eq!(decode_base64("YQ").unwrap(), b"a");
    }

    fn message(cell: &str) -> String {
        parse_image_cell(cell, Path::new("shop")).unwrap_err().to_string()
    }

    #[test]
    fn cells_of_each_kind() {
        let folder = Path::new("shop");
        for name in ["a.jpg", "b/c.JPEG", "d e.Png", "x.webp", "y.gif", "z.bmp", "图.jpg"] {
            assert_eq!(
                parse_image_cell(name, folder).unwrap(),
                EncodedImage::File(folder.join(name))
            );
        }
        let absolute = EncodedImage::File("/pictures/a.png".into());
        assert_eq!(parse_image_cell("/pictures/a.png", folder).unwrap(), absolute);
        let bytes = EncodedImage::Bytes(b"abc".as_slice().into());
        for cell in ["YWJj", "data:image/png;base64,YWJj", "DATA:;base64,YW%4Aj", " YWJj\r"] {
            assert_eq!(parse_image_cell(cell, folder).unwrap(), bytes, "{cell}");
        }
        // A cell with skipped bytes is taken where a picture comes out of it.
        let png = format!("*{}", STANDARD.encode(b"\x89PNG rest"));
        assert_eq!(
            parse_image_cell(&png, folder).unwrap(),
            EncodedImage::Bytes(b"\x89PNG rest".as_slice().into())
        );
    }

    #[test]
    fn refused_cells_say_why() {
        assert_eq!(message(" "), "the image cell is empty");
        assert_eq!(message("==="), "the image cell holds no base64");
        assert_eq!(
            message("YWJjZ"),
            "the base64 is truncated: 5 letters make no whole bytes; export the row again"
        );
        assert_eq!(
            message("photos/red-shoe.tiff"),
            "the image cell is no path to a picture, no data URI and no base64: it holds `.`; \
             a path ends in one of: jpg, jpeg, png, webp, gif, bmp"
        );
        assert_eq!(
            message("https://shop.example/a.jpg"),
            "the image cell is a web address (`https://…`); download the picture and name the file"
        );
        assert_eq!(
            message("data:image/png"),
            "the data URI has no comma; write data:image/png;base64,…"
        );
        assert_eq!(
            message("data:image/png,YWJj"),
            "the data URI is not base64; write data:image/png;base64,…"
        );
        assert_eq!(
            message("data:;base64,YW%Zj"),
            "the data URI has a percent sign without two hexadecimal digits"
        );
    }

    proptest! {
        #[test]
        fn every_alphabet_comes_back(
            bytes in prop::collection::vec(any::<u8>(), 0..200), choice in 0usize..4, spaces in 0usize..50,
        ) {
            let engine =
                &[engines::STANDARD, engines::URL_SAFE, engines::STANDARD_NO_PAD, engines::URL_SAFE_NO_PAD][choice];
            let mut text = engine.encode(&bytes);
            text.insert(spaces.min(text.len()), if spaces % 2 == 0 { ' ' } else { '\n' });
            prop_assert_eq!(decode_base64(&text).unwrap(), bytes);
        }

        #[test]
        fn mixed_alphabets_come_back(bytes in prop::collection::vec(any::<u8>(), 0..200), picks: u64) {
            let text = STANDARD.encode(&bytes);
            let mixed = text.char_indices().map(|(at, c)| match c {
                '+' if picks >> (at % 64) & 1 == 1 => '-',
                '/' if picks >> (at % 64) & 1 == 1 => '_',
                c => c,
            });
            prop_assert_eq!(decode_base64(&mixed.collect::<String>()).unwrap(), bytes);
        }

        #[test]
        fn the_fast_way_agrees_with_the_slow_one(text in "[A-Za-e0-2+/_=-]{0,24}") {
            let [fast, slow] = [decode_base64(&text), decode_letters(&text)].map(Result::ok);
            prop_assert_eq!(fast, slow);
        }

        #[test]
        fn no_cell_panics(cell in "\\PC{0,60}", uri in "data:[a-z;]{0,9},?[ -~é]{0,20}") {
            parse_image_cell(&cell, Path::new("")).ok();
            parse_image_cell(&uri, Path::new("")).ok();
        }
    }
}
