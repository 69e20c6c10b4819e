//! Pictures in a format of our own choice: binary PPM (`P6`), one of the simplest there are.

use clip_core::{EncodedImage, Error, Image, ImageDecoder, Raster, Result};

/// The most bytes of samples that a picture may have, so that no header can fill the memory.
const LIMIT: u64 = 64 << 20;

/// Opens binary PPM files with one byte a sample.
pub struct Ppm;

impl ImageDecoder for Ppm {
    fn decode(&self, image: &EncodedImage) -> Result<Image> {
        match image {
            EncodedImage::Bytes(bytes) => decode(bytes),
            EncodedImage::File(path) => {
                let bytes = std::fs::read(path).map_err(|error| Error::io("read the picture", path, error))?;
                decode(&bytes).map_err(|error| error.file(path))
            }
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Image> {
    let bad = |what: &str| Error::invalid(format!("no binary PPM: {what}")).remedy("write it as P6, 255 levels");
    let mut rest = bytes
        .strip_prefix(b"P6")
        .ok_or_else(|| bad("it does not begin with P6"))?;
    let [width, height, levels] = [number(&mut rest), number(&mut rest), number(&mut rest)]
        .map(|number| number.ok_or_else(|| bad("its header is cut short")));
    let (width, height) = (width?, height?);
    if levels? != 255 {
        return Err(bad("it has not 255 levels"));
    }
    let size = u64::from(width) * u64::from(height) * 3;
    if size > LIMIT {
        return Err(Error::exhausted(format!(
            "a picture of {width} x {height} pixels is too large"
        )));
    }
    // One blank ends the header; samples follow.
    let samples = rest
        .get(1..)
        .filter(|samples| samples.len() as u64 == size)
        .ok_or_else(|| bad("it is cut short"))?;
    Image::new(width, height, Raster::Rgb(samples.to_vec()))
}

/// Takes a number and the blanks before it.
fn number(rest: &mut &[u8]) -> Option<u32> {
    *rest = rest.trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, tail) = rest.split_at(digits);
    *rest = tail;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The file of a piece of cloth: a colour, uneven as weaving makes it.
pub fn woven(colour: [u8; 3], seed: u32) -> Vec<u8> {
    const SIDE: u32 = 24;
    let mut file = format!("P6\n{SIDE} {SIDE}\n255\n").into_bytes();
    let mut state = seed.wrapping_add(1);
    for place in 0..SIDE * SIDE {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let thread = if (place / SIDE + place % SIDE) % 4 < 2 { 8 } else { -8 };
        let uneven = (state >> 27) as i32 - 16 + thread;
        file.extend(colour.map(|value| (i32::from(value) + uneven).clamp(0, 255) as u8));
    }
    file
}

/// A file as a data URI in base64, as a browser would send it.
pub fn data_uri(file: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut uri = "data:image/x-portable-pixmap;base64,".to_owned();
    for three in file.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(three.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| {
            if i <= three.len() {
                char::from(DIGITS[bits >> (18 - 6 * i) & 63])
            } else {
                '='
            }
        };
        uri.extend((0..4).map(digit));
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_files_open_and_bad_ones_say_why() {
        let file = woven([200, 10, 10], 1);
        assert_eq!(
            decode(&file).map(|image| (image.width(), image.height())).ok(),
            Some((24, 24))
        );
        for (bad, why) in [
            (&b"P3\n1 1\n255\n"[..], "begin with P6"),
            (b"P6\n1", "header is cut short"),
            (b"P6\n1 1\n65535\nabcdef", "255 levels"),
            (b"P6\n1 1\n255\nab", "cut short"),
            (b"P6\n60000 60000\n255\n", "too large"),
        ] {
            let message = decode(bad).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(why), "{message}");
        }
    }
}
