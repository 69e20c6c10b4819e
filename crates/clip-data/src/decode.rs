//! Opening pictures: JPEG, PNG, WebP, GIF (first frame) and BMP, in the mode of the file, as Pillow opens them.

mod bmp;
mod gif;
mod jpeg;
mod orient;
mod png;
mod webp;

use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use clip_core::{EncodedImage, Error, Image, ImageDecoder, Result};

/// Opens pictures in the mode of their file (palette, 1-bit, alpha, 16-bit grey and CMYK kept), as Pillow 13.0.0 does.
///
/// Lossless files and WebP give Pillow's samples. A JPEG differs from libjpeg-turbo's result, which the references
/// use: by at most 3 levels (0.05 on average) without chroma subsampling; with it by 0.2 to 0.8 on average and at most
/// 16 on photographs, more at the edges of pure noise.
///
/// A file that ends before its picture does is an error: a JPEG without its end marker, a PNG without its last chunk,
/// a WebP shorter than it says, a GIF or BMP whose (first) picture is not whole. As in Pillow, damage inside a JPEG
/// that still has its end is not seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoder {
    /// What is refused before memory is taken for it.
    pub limits: Limits,
    /// Whether the EXIF orientation is applied; the references ignore it.
    pub orient: bool,
}

/// Sizes above which a picture is refused, with [`clip_core::Kind::Exhausted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Width times height; by default 178,956,970, above which Pillow refuses too.
    pub max_pixels: u64,
    /// Size of the encoded picture in bytes; by default 256 MiB.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 178_956_970,
            max_bytes: 256 << 20,
        }
    }
}

/// The longest side, beyond that of any camera: the weights of a resize take memory by the side, not by the area.
const MAX_SIDE: u64 = 1 << 20;

impl Limits {
    /// Width and height as sizes, if a picture of them is allowed.
    fn check(&self, width: u64, height: u64) -> Result<[usize; 2]> {
        if width == 0 || height == 0 {
            return Err(broken(format!("a picture of {width} x {height} pixels is empty")));
        }
        if width > MAX_SIDE || height > MAX_SIDE || width.saturating_mul(height) > self.max_pixels {
            return Err(Error::exhausted(format!(
                "a picture of {width} x {height} pixels is over the limit of {} pixels (and {MAX_SIDE} a side)",
                self.max_pixels
            ))
            .remedy("make it smaller, or raise `Limits::max_pixels` in your own program"));
        }
        Ok([width as usize, height as usize])
    }
}

impl ImageDecoder for Decoder {
    fn decode(&self, image: &EncodedImage) -> Result<Image> {
        match image {
            EncodedImage::Bytes(bytes) => self.decode_bytes(bytes),
            EncodedImage::File(path) => self.decode_file(path),
        }
    }
}

impl Decoder {
    /// Opens a picture from its bytes.
    ///
    /// # Errors
    /// The bytes are no picture, a broken or truncated one, or over the limits.
    pub fn decode_bytes(&self, bytes: &[u8]) -> Result<Image> {
        if bytes.len() as u64 > self.limits.max_bytes {
            return Err(self.too_long(bytes.len() as u64));
        }
        let format = Format::of(bytes)?;
        // The formats' decoders are meant not to panic on broken files; should one, it must not end a run.
        let decoded = catch_unwind(AssertUnwindSafe(|| format.decode(bytes, &self.limits, self.orient)))
            .unwrap_or_else(|_| Err(broken(format!("the {} picture is broken", format.name()))))?;
        match decoded.orientation {
            Some(orientation) if self.orient => orient::apply(decoded.image, orientation),
            _ => Ok(decoded.image),
        }
    }

    fn decode_file(&self, path: &Path) -> Result<Image> {
        let read = |error| Error::io("read the picture", path, error);
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        if length > self.limits.max_bytes {
            return Err(self.too_long(length).file(path));
        }
        // A pipe has no length beforehand: one byte more than allowed shows that it is too long.
        let mut bytes = Vec::with_capacity(length as usize + 1);
        file.take(self.limits.max_bytes + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        self.decode_bytes(&bytes).map_err(|error| error.file(path))
    }

    fn too_long(&self, bytes: u64) -> Error {
        Error::exhausted(format!(
            "an encoded picture of {bytes} bytes is over the limit of {}",
            self.limits.max_bytes
        ))
        .remedy("make it smaller, or raise `Limits::max_bytes` in your own program")
    }
}

/// A picture, and the orientation its EXIF data gives, where it was asked for.
struct Decoded {
    image: Image,
    orientation: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Jpeg,
    Png,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    /// By the first bytes, whatever the file is called.
    fn of(bytes: &[u8]) -> Result<Self> {
        Ok(match bytes {
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Self::Png,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Self::WebP,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Self::Gif,
            [b'B', b'M', ..] => Self::Bmp,
            [] => return Err(broken("the picture is empty (0 bytes)".to_owned())),
            _ => return Err(foreign(bytes)),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }

    fn decode(self, bytes: &[u8], limits: &Limits, orient: bool) -> Result<Decoded> {
        match self {
            Self::Jpeg => jpeg::decode(bytes, limits),
            Self::Png => png::decode(bytes, limits),
            Self::WebP => webp::decode(bytes, limits, orient),
            Self::Gif => gif::decode(bytes, limits),
            Self::Bmp => bmp::decode(bytes, limits),
        }
    }
}

/// What the bytes are, if it is something known.
fn foreign(bytes: &[u8]) -> Error {
    let guess = match bytes {
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => " (it looks like TIFF)",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => " (it looks like AVIF, HEIC or a film)",
        [b'%', b'P', b'D', b'F', ..] => " (it looks like PDF)",
        [b'<', ..] => " (it looks like SVG, HTML or XML)",
        _ => "",
    };
    Error::invalid(format!("this is no JPEG, PNG, WebP, GIF or BMP picture{guess}"))
        .remedy("convert it to one of these formats, or leave the row out")
}

fn broken(what: String) -> Error {
    Error::invalid(what).remedy("get the picture again, or leave the row out")
}

fn truncated(format: &str) -> Error {
    broken(format!(
        "the {format} picture is truncated: the file ends before the picture does"
    ))
}

/// A colour of grey, which Pillow's palettes hold where a file names fewer colours than its pixels use.
fn grey_ramp(colours: &mut Vec<[u8; 4]>, indices: &[u8]) {
    let needed = indices.iter().max().map_or(0, |&index| usize::from(index) + 1);
    for index in colours.len()..needed {
        let level = index as u8;
        colours.push([level, level, level, 255]);
    }
}

/// Pixels of 1, 2 or 4 bits, the first one high, one a byte; each row of `width` starts a new byte.
fn unpack(packed: &[u8], bits: usize, width: usize, stride: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = ((1_u16 << bits) - 1) as u8;
    let pixel = |row: &[u8], x: usize| (row[x / per_byte] >> (8 - bits * (x % per_byte + 1))) & mask;
    packed
        .chunks_exact(stride)
        .flat_map(|row| (0..width).map(move |x| pixel(row, x)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(bytes: &[u8]) -> String {
        Decoder::default().decode_bytes(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_picture_says_so() {
        assert!(refuse(b"").contains("empty (0 bytes)"));
        assert!(refuse(b"hello").starts_with("this is no JPEG"));
        assert!(refuse(b"<svg>").contains("SVG"));
    }

    #[test]
    fn a_long_file_is_refused() {
        let decoder = Decoder {
            limits: Limits {
                max_bytes: 4,
                ..Limits::default()
            },
            orient: false,
        };
        let error = decoder.decode_bytes(b"BM123").unwrap_err();
        assert_eq!(error.kind(), clip_core::Kind::Exhausted);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Decoder::default()
            .decode(&EncodedImage::File("gone.png".into()))
            .unwrap_err();
        assert_eq!(error.kind(), clip_core::Kind::NotFound);
        assert!(error.to_string().starts_with("gone.png: "));
    }

    #[test]
    fn bits_are_unpacked_high_first() {
        assert_eq!(unpack(&[0b1010_0000, 0b0100_0000], 1, 3, 1), [1, 0, 1, 0, 1, 0]);
        assert_eq!(unpack(&[0x1b], 2, 4, 1), [0, 1, 2, 3]);
        assert_eq!(unpack(&[0xa5, 0xf0], 4, 3, 2), [10, 5, 15]);
    }
}
