//! WebP, lossless and lossy, the first picture of an animation.

use std::io::Cursor;

use clip_core::{Image, Raster, Result};
use image_webp::WebPDecoder;

use super::{Decoded, Limits, broken, orient, truncated};

/// Decodes a whole WebP file.
pub(super) fn decode(bytes: &[u8], limits: &Limits, orient: bool) -> Result<Decoded> {
    let stated = bytes
        .get(4..8)
        .and_then(|size| size.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    if bytes.len() as u64 - 8 < u64::from(stated) {
        return Err(truncated("WebP"));
    }
    let unreadable = |error| broken(format!("the WebP picture is broken: {error}"));
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let [columns, rows] = limits.check(width.into(), height.into())?;
    let alpha = decoder.has_alpha();
    let mut data = vec![0; columns * rows * if alpha { 4 } else { 3 }];
    decoder.read_image(&mut data).map_err(unreadable)?;
    let orientation = match orient {
        // Broken EXIF data is no reason to refuse a picture.
        true => decoder
            .exif_metadata()
            .ok()
            .flatten()
            .and_then(|exif| orient::of_exif(exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif))),
        false => None,
    };
    let raster = if alpha { Raster::Rgba(data) } else { Raster::Rgb(data) };
    Ok(Decoded {
        image: Image::new(width, height, raster)?,
        orientation,
    })
}
