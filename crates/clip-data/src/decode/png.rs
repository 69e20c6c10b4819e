//! PNG: palettes, single bits and 16-bit grey stay what they are.

use std::io::{Cursor, ErrorKind};

use clip_core::{Image, Raster, Result};
use png::{BitDepth, ColorType, DecodingError, Transformations};

use super::{Decoded, Limits, broken, grey_ramp, orient, truncated, unpack};

/// Decodes a whole PNG; of an animation the picture every viewer shows.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(unreadable)?;
    let (width, height) = (info.width, info.height);
    let [columns, _] = limits.check(width.into(), height.into())?;
    let mut reader = decoder.read_info().map_err(unreadable)?;
    let size = reader
        .output_buffer_size()
        .ok_or_else(|| unreadable(DecodingError::LimitsExceeded))?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(unreadable)?;
    if let Err(DecodingError::IoError(_)) = reader.finish() {
        // Whatever else is wrong behind the picture, Pillow does not look at it.
        return Err(truncated("PNG"));
    }
    let info = reader.info();
    let bits = info.bit_depth as usize;
    let stride = info.raw_row_length() - 1;
    let pixels = |data: Vec<u8>| {
        if bits < 8 {
            unpack(&data, bits, columns, stride)
        } else {
            data
        }
    };
    let raster = match (info.color_type, info.bit_depth) {
        (ColorType::Grayscale, BitDepth::Sixteen) => Raster::Grey16(wide(&data)),
        (ColorType::Grayscale, BitDepth::One) => Raster::Bilevel(pixels(data).into_iter().map(|v| v * 255).collect()),
        (ColorType::Grayscale, BitDepth::Two) => Raster::Grey(pixels(data).into_iter().map(|v| v * 85).collect()),
        (ColorType::Grayscale, BitDepth::Four) => Raster::Grey(pixels(data).into_iter().map(|v| v * 17).collect()),
        (ColorType::Grayscale, BitDepth::Eight) => Raster::Grey(data),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
            // Pillow has no 16-bit mode with alpha and opens it in colour.
            let pixels = data.as_chunks::<4>().0.iter();
            Raster::Rgba(
                pixels
                    .flat_map(|&[grey, _, alpha, _]| [grey, grey, grey, alpha])
                    .collect(),
            )
        }
        (ColorType::GrayscaleAlpha, _) => Raster::GreyAlpha(data),
        (ColorType::Rgb, BitDepth::Sixteen) => Raster::Rgb(high_bytes(&data)),
        (ColorType::Rgb, _) => Raster::Rgb(data),
        (ColorType::Rgba, BitDepth::Sixteen) => Raster::Rgba(high_bytes(&data)),
        (ColorType::Rgba, _) => Raster::Rgba(data),
        (ColorType::Indexed, _) => {
            let indices = pixels(data);
            let mut colours = palette(info);
            grey_ramp(&mut colours, &indices);
            Raster::Palette { indices, colours }
        }
    };
    let orientation = info.exif_metadata.as_ref().and_then(|exif| orient::of_exif(exif));
    Ok(Decoded {
        image: Image::new(width, height, raster)?,
        orientation,
    })
}

fn palette(info: &png::Info<'_>) -> Vec<[u8; 4]> {
    let colours = info.palette.as_deref().unwrap_or_default().as_chunks::<3>().0;
    let alpha = info.trns.as_deref().unwrap_or_default();
    let alpha = alpha.iter().copied().chain(std::iter::repeat(255));
    colours
        .iter()
        .zip(alpha)
        .take(256)
        .map(|(&[red, green, blue], alpha)| [red, green, blue, alpha])
        .collect()
}

/// 16-bit samples, the high byte first in the file.
fn wide(data: &[u8]) -> Vec<u16> {
    data.as_chunks::<2>()
        .0
        .iter()
        .map(|&pair| u16::from_be_bytes(pair))
        .collect()
}

fn high_bytes(data: &[u8]) -> Vec<u8> {
    data.iter().step_by(2).copied().collect()
}

fn unreadable(error: DecodingError) -> clip_core::Error {
    match error {
        DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => truncated("PNG"),
        other => broken(format!("the PNG picture is broken: {other}")),
    }
}
