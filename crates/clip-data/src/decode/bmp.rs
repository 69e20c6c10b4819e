//! BMP: palettes stay what they are; 16, 24 and 32 bits a pixel, masks and run lengths.

use clip_core::{Error, Image, Raster, Result};

use super::{Decoded, Limits, grey_ramp, truncated, unpack};

/// Decodes a whole BMP.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let header = Header::read(bytes)?;
    let [width, height] = limits.check(header.width.into(), header.height.into())?;
    let raster = match header.bits {
        1 | 4 | 8 => indexed(bytes, &header, width, height)?,
        bits => coloured(bytes, &header, width, height, usize::from(bits) / 8)?,
    };
    Ok(Decoded {
        image: Image::new(header.width, header.height, raster)?,
        orientation: None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    Masks,
    Runs8,
    Runs4,
}

struct Header {
    width: u32,
    height: u32,
    top_down: bool,
    bits: u16,
    coding: Coding,
    /// Where each channel's bits are: red, green, blue, alpha.
    masks: [u32; 4],
    colours: Vec<[u8; 4]>,
    /// Where the pixels start.
    offset: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self> {
        let fields = Fields(bytes);
        let length = fields.long(14)?;
        let mut header = match length {
            12 => Self {
                width: fields.short(18)?.into(),
                height: fields.short(20)?.into(),
                top_down: false,
                bits: fields.short(24)?,
                coding: Coding::Plain,
                masks: [0; 4],
                colours: Vec::new(),
                offset: 0,
            },
            40 | 52 | 56 | 64 | 108 | 124 => Self::long(&fields, length as usize)?,
            other => return Err(unsupported(&format!("a header of {other} bytes"))),
        };
        if ![1, 4, 8, 16, 24, 32].contains(&header.bits) {
            return Err(unsupported(&format!("{} bits a pixel", header.bits)));
        }
        let fits = match header.coding {
            Coding::Plain => true,
            Coding::Masks => matches!(header.bits, 16 | 24 | 32),
            Coding::Runs8 => header.bits == 8,
            Coding::Runs4 => header.bits == 4,
        };
        if !fits {
            return Err(unsupported(&format!(
                "this compression at {} bits a pixel",
                header.bits
            )));
        }
        let named = if length == 12 { 0 } else { fields.long(46)? };
        header.palette(&fields, length as usize, named)?;
        Ok(header)
    }

    fn long(fields: &Fields<'_>, length: usize) -> Result<Self> {
        let height = fields.long(22)?;
        // A negative height means that the first row is the top one.
        let top_down = height >> 24 == 0xff;
        let coding = match fields.long(30)? {
            0 => Coding::Plain,
            1 => Coding::Runs8,
            2 => Coding::Runs4,
            3 => Coding::Masks,
            other => return Err(unsupported(&format!("compression {other}"))),
        };
        let mut masks = [0; 4];
        if coding == Coding::Masks {
            // Alpha has a mask from the third version on; a short header has its three masks behind it.
            let count = if length >= 56 { 4 } else { 3 };
            for (index, mask) in masks.iter_mut().enumerate().take(count) {
                *mask = fields.long(54 + index * 4)?;
            }
        }
        Ok(Self {
            width: fields.long(18)?,
            height: if top_down { height.wrapping_neg() } else { height },
            top_down,
            bits: fields.short(28)?,
            coding,
            masks,
            colours: Vec::new(),
            offset: 0,
        })
    }

    fn palette(&mut self, fields: &Fields<'_>, length: usize, named: u32) -> Result<()> {
        let start = 14 + length;
        self.offset = fields.long(10)? as usize;
        if self.bits > 8 {
            if self.offset == 0 {
                self.offset = start;
            }
            return Ok(());
        }
        let width = if length == 12 { 3 } else { 4 };
        let count = if named == 0 { 1 << self.bits } else { named as usize };
        if count > 65536 {
            return Err(unsupported(&format!("a palette of {count} colours")));
        }
        // A file may say that its pixels start where its palette does.
        if self.offset == start || self.offset == 0 {
            self.offset = start + width * count;
        }
        let entries = fields
            .0
            .get(start..start + width * count)
            .ok_or_else(|| truncated("BMP"))?;
        let colour = |entry: &[u8]| [entry[2], entry[1], entry[0], 255];
        self.colours = entries.chunks_exact(width).take(256).map(colour).collect();
        Ok(())
    }

    /// Rows of the file, `stride` bytes each, in the order of the picture.
    fn rows<'a>(&self, bytes: &'a [u8], height: usize, stride: usize) -> Result<Vec<&'a [u8]>> {
        let data = bytes.get(self.offset..).unwrap_or_default();
        let data = data
            .get(..stride.saturating_mul(height))
            .ok_or_else(|| truncated("BMP"))?;
        let rows = data.chunks_exact(stride);
        Ok(if self.top_down {
            rows.collect()
        } else {
            rows.rev().collect()
        })
    }
}

fn indexed(bytes: &[u8], header: &Header, width: usize, height: usize) -> Result<Raster> {
    let indices = match header.coding {
        Coding::Runs8 | Coding::Runs4 => runs(bytes, header, width, height)?,
        _ => {
            let stride = (width * usize::from(header.bits)).div_ceil(32) * 4;
            let rows = header.rows(bytes, height, stride)?;
            match header.bits {
                8 => rows.into_iter().flat_map(|row| &row[..width]).copied().collect(),
                bits => rows
                    .into_iter()
                    .flat_map(|row| unpack(row, bits.into(), width, stride))
                    .collect(),
            }
        }
    };
    let grey = |index: usize, colour: &[u8; 4]| {
        let level = if header.colours.len() == 2 { index * 255 } else { index };
        colour[..3] == [level as u8; 3]
    };
    // Black and white, or a palette that is the grey ramp, is no palette to Pillow.
    let ramp = header
        .colours
        .iter()
        .enumerate()
        .all(|(index, colour)| grey(index, colour));
    Ok(match header.colours.len() {
        2 if ramp && header.bits == 1 => Raster::Bilevel(indices.into_iter().map(|index| index * 255).collect()),
        3.. if ramp && header.bits == 8 => Raster::Grey(indices),
        _ => {
            let mut colours = header.colours.clone();
            grey_ramp(&mut colours, &indices);
            Raster::Palette { indices, colours }
        }
    })
}

/// Run-length coding, from the bottom row up; pixels that are skipped are 0.
fn runs(bytes: &[u8], header: &Header, width: usize, height: usize) -> Result<Vec<u8>> {
    let nibbles = header.coding == Coding::Runs4;
    let mut data = bytes.get(header.offset..).unwrap_or_default().iter().copied();
    let mut next = || data.next().ok_or_else(|| truncated("BMP"));
    let mut indices = vec![0; width * height];
    let (mut x, mut y) = (0, 0);
    let mut put = |x: usize, y: usize, index: u8| {
        if x < width && y < height {
            let row = if header.top_down { y } else { height - 1 - y };
            indices[row * width + x] = index;
        }
    };
    let half = |byte: u8, position: usize| match nibbles {
        true if position.is_multiple_of(2) => byte >> 4,
        true => byte & 15,
        false => byte,
    };
    while y < height {
        match (next()?, next()?) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => (x, y) = (x + usize::from(next()?), y + usize::from(next()?)),
            (0, count) => {
                let count = usize::from(count);
                let length = if nibbles { count.div_ceil(2) } else { count };
                for position in 0..length.next_multiple_of(2) {
                    let byte = next()?;
                    let covered = if nibbles {
                        position * 2..position * 2 + 2
                    } else {
                        position..position + 1
                    };
                    covered
                        .filter(|at| *at < count)
                        .for_each(|at| put(x + at, y, half(byte, at)));
                }
                x += count;
            }
            (count, byte) => {
                (0..usize::from(count)).for_each(|at| put(x + at, y, half(byte, at)));
                x += usize::from(count);
            }
        }
    }
    Ok(indices)
}

fn coloured(bytes: &[u8], header: &Header, width: usize, height: usize, depth: usize) -> Result<Raster> {
    let stride = (width * depth).next_multiple_of(4);
    let rows = header.rows(bytes, height, stride)?;
    let masks = match (header.coding, header.bits) {
        (Coding::Masks, 32) if header.masks == [0; 4] => [0xff_0000, 0xff00, 0xff, 0xff00_0000],
        (Coding::Masks, _) => header.masks,
        (_, 16) => [0x7c00, 0x3e0, 0x1f, 0],
        _ => [0xff_0000, 0xff00, 0xff, 0],
    };
    let channels = masks.map(Channel::of);
    if channels[..3].iter().any(|channel| channel.most == 0) {
        return Err(unsupported("these masks"));
    }
    let alpha = channels[3].most != 0 && header.bits == 32;
    let count = if alpha { 4 } else { 3 };
    let mut data = Vec::with_capacity(width * height * count);
    for row in rows {
        for pixel in row[..width * depth].chunks_exact(depth) {
            let value = pixel
                .iter()
                .rev()
                .fold(0, |value, &byte| (value << 8) | u32::from(byte));
            data.extend(channels[..count].iter().map(|channel| channel.read(value)));
        }
    }
    Ok(if alpha { Raster::Rgba(data) } else { Raster::Rgb(data) })
}

/// A channel's bits within a pixel.
struct Channel {
    shift: u32,
    /// The largest value.
    most: u32,
}

impl Channel {
    fn of(mask: u32) -> Self {
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        Self {
            shift,
            most: mask >> shift,
        }
    }

    /// Brought to 0 to 255, truncated.
    fn read(&self, pixel: u32) -> u8 {
        (u64::from((pixel >> self.shift) & self.most) * 255 / u64::from(self.most)) as u8
    }
}

/// Little-endian numbers at offsets of the file.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        self.0
            .get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| truncated("BMP"))
    }

    fn short(&self, at: usize) -> Result<u16> {
        self.at(at).map(u16::from_le_bytes)
    }

    fn long(&self, at: usize) -> Result<u32> {
        self.at(at).map(u32::from_le_bytes)
    }
}

fn unsupported(what: &str) -> Error {
    Error::invalid(format!("a BMP picture with {what} is not supported")).remedy("convert it to PNG")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bits: u16, coding: u32, width: i32, height: i32, palette: &[[u8; 4]], data: &[u8]) -> Vec<u8> {
        let offset = 54 + palette.len() * 4;
        let mut file = b"BM".to_vec();
        for value in [0, 0, offset as u32, 40] {
            file.extend(value.to_le_bytes());
        }
        file.extend(width.to_le_bytes());
        file.extend(height.to_le_bytes());
        file.extend([1, 0]);
        file.extend(bits.to_le_bytes());
        for value in [coding, 0, 0, 0, palette.len() as u32, 0] {
            file.extend(value.to_le_bytes());
        }
        file.extend(palette.iter().flatten());
        file.extend(data);
        file
    }

    fn open(file: &[u8]) -> Result<Raster> {
        decode(file, &Limits::default()).map(|decoded| decoded.image.into_raster())
    }

    const TWO: [[u8; 4]; 2] = [[1, 2, 3, 0], [4, 5, 6, 0]];

    #[test]
    fn bits_and_rows() {
        let raster = open(&file(1, 0, 3, 2, &TWO, &[0b1010_0000, 0, 0, 0, 0b0100_0000, 0, 0, 0])).unwrap();
        let colours = vec![[3, 2, 1, 255], [6, 5, 4, 255]];
        assert_eq!(
            raster,
            Raster::Palette {
                indices: vec![0, 1, 0, 1, 0, 1],
                colours
            }
        );
        let raster = open(&file(24, 0, 1, -2, &[], &[1, 2, 3, 0, 4, 5, 6, 0])).unwrap();
        assert_eq!(raster, Raster::Rgb(vec![3, 2, 1, 6, 5, 4]));
    }

    #[test]
    fn runs_of_both_kinds() {
        let data = [2, 1, 0, 0, 0, 3, 1, 0, 1, 0, 0, 1];
        let raster = open(&file(8, 1, 3, 2, &TWO, &data)).unwrap();
        let Raster::Palette { indices, .. } = raster else {
            panic!("another mode")
        };
        assert_eq!(indices, [1, 0, 1, 1, 1, 0]);
        let raster = open(&file(4, 2, 3, 1, &TWO, &[3, 0x10, 0, 1])).unwrap();
        let Raster::Palette { indices, .. } = raster else {
            panic!("another mode")
        };
        assert_eq!(indices, [1, 0, 1]);
    }

    #[test]
    fn every_cut_is_an_error() {
        let whole = file(24, 0, 2, 2, &[], &[7; 16]);
        open(&whole).unwrap();
        for end in 2..whole.len() {
            let error = open(&whole[..end]).err().unwrap();
            assert!(error.to_string().contains("truncated"), "{end}: {error}");
        }
    }
}
