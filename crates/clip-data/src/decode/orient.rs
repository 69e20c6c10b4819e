//! EXIF orientation: reading it, and turning a picture by it.

use clip_core::{Image, Raster, Result};

/// The orientation (1 to 8) in a TIFF block, which is what EXIF data is.
pub(super) fn of_exif(tiff: &[u8]) -> Option<u8> {
    let little = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        } as usize)
    };
    let directory = long(4)?;
    for entry in 0..usize::from(short(directory)?) {
        let at = directory.checked_add(2 + entry * 12)?;
        if short(at)? == 0x0112 {
            let value = short(at + 8)?;
            return u8::try_from(value).ok().filter(|value| (1..=8).contains(value));
        }
    }
    None
}

/// Turns and mirrors the picture so that it stands upright.
pub(super) fn apply(image: Image, orientation: u8) -> Result<Image> {
    if !(2..=8).contains(&orientation) {
        return Ok(image);
    }
    let turn = Turn {
        width: image.width() as usize,
        height: image.height() as usize,
        orientation,
    };
    let (width, height) = if orientation >= 5 {
        (image.height(), image.width())
    } else {
        (image.width(), image.height())
    };
    let raster = match image.into_raster() {
        Raster::Bilevel(data) => Raster::Bilevel(turn.samples::<u8, 1>(&data)),
        Raster::Palette { indices, colours } => Raster::Palette {
            indices: turn.samples::<u8, 1>(&indices),
            colours,
        },
        Raster::Grey(data) => Raster::Grey(turn.samples::<u8, 1>(&data)),
        Raster::GreyAlpha(data) => Raster::GreyAlpha(turn.samples::<u8, 2>(&data)),
        Raster::Grey16(data) => Raster::Grey16(turn.samples::<u16, 1>(&data)),
        Raster::Rgb(data) => Raster::Rgb(turn.samples::<u8, 3>(&data)),
        Raster::Rgba(data) => Raster::Rgba(turn.samples::<u8, 4>(&data)),
        Raster::Cmyk(data) => Raster::Cmyk(turn.samples::<u8, 4>(&data)),
        // A mode the decoders do not make.
        other => other,
    };
    Image::new(width, height, raster)
}

struct Turn {
    width: usize,
    height: usize,
    orientation: u8,
}

impl Turn {
    fn samples<T: Copy, const CHANNELS: usize>(&self, data: &[T]) -> Vec<T> {
        let pixels = data.as_chunks::<CHANNELS>().0;
        let (right, bottom) = (self.width - 1, self.height - 1);
        let (rows, columns) = if self.orientation >= 5 {
            (self.width, self.height)
        } else {
            (self.height, self.width)
        };
        let mut out = Vec::with_capacity(data.len());
        for y in 0..rows {
            for x in 0..columns {
                let (from_x, from_y) = match self.orientation {
                    2 => (right - x, y),
                    3 => (right - x, bottom - y),
                    4 => (x, bottom - y),
                    5 => (y, x),
                    6 => (y, bottom - x),
                    7 => (right - y, bottom - x),
                    _ => (right - y, x),
                };
                out.extend_from_slice(&pixels[from_y * self.width + from_x]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_as_exif_says() {
        // 1 2
        // 3 4
        // 5 6
        let turned = |orientation| {
            let image = Image::new(2, 3, Raster::Grey(vec![1, 2, 3, 4, 5, 6])).unwrap();
            let image = apply(image, orientation).unwrap();
            let Raster::Grey(data) = image.raster() else {
                panic!("another mode")
            };
            (image.width(), data.clone())
        };
        assert_eq!(turned(1), (2, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turned(2), (2, vec![2, 1, 4, 3, 6, 5]));
        assert_eq!(turned(3), (2, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turned(4), (2, vec![5, 6, 3, 4, 1, 2]));
        assert_eq!(turned(5), (3, vec![1, 3, 5, 2, 4, 6]));
        assert_eq!(turned(6), (3, vec![5, 3, 1, 6, 4, 2]));
        assert_eq!(turned(7), (3, vec![6, 4, 2, 5, 3, 1]));
        assert_eq!(turned(8), (3, vec![2, 4, 6, 1, 3, 5]));
    }

    #[test]
    fn reads_both_byte_orders_and_no_nonsense() {
        let little = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        let big = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0";
        assert_eq!(of_exif(little), Some(6));
        assert_eq!(of_exif(big), Some(3));
        for end in 0..little.len() - 2 {
            assert_eq!(of_exif(&little[..end]), None);
        }
    }
}
