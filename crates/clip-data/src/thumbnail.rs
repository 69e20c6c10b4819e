//! Small pictures for people to look at.

use clip_core::{Error, Image, Raster, Result};

use crate::augment::Augment;
use crate::transform::Alpha;

/// A picture as a PNG file of at most about `shortest` pixels on the shorter side, transparency laid on white.
///
/// # Errors
/// The picture cannot be written as PNG.
pub fn thumbnail(image: &Image, shortest: usize) -> Result<Vec<u8>> {
    let reduce = Augment {
        shortest,
        alpha: Alpha::OnWhite,
        ..Augment::none()
    };
    let small = reduce.apply(image, 0);
    let Raster::Rgb(samples) = small.raster() else {
        return Err(Error::internal("a reduced picture is not RGB"));
    };
    png_of(small.width(), small.height(), samples)
}

/// RGB samples as a PNG file.
pub(crate) fn png_of(width: u32, height: u32, samples: &[u8]) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| Error::internal(format!("cannot write a PNG: {error}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(samples).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;

    #[test]
    fn a_thumbnail_is_a_small_picture_that_opens() {
        let cutout = Image::new(80, 40, Raster::Rgba([9, 9, 9, 0].repeat(80 * 40))).unwrap();
        let bytes = thumbnail(&cutout, 20).unwrap();
        let opened = Decoder::default().decode_bytes(&bytes).unwrap();
        assert_eq!((opened.width(), opened.height()), (40, 20));
        assert_eq!(opened.raster(), &Raster::Rgb(vec![255; 40 * 20 * 3]));
    }
}
