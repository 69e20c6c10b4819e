//! What a picture shows, as a number: equal for equal pixels, whatever file they come in.

use clip_core::{Image, Result};
use xxhash_rust::xxh3::xxh3_128;

use crate::transform::Alpha;
use crate::transform::convert::to_rgb;

/// A 128-bit hash of a picture's size and its colours on white. Two files of equal pixels have one, in whatever format and
/// mode: a grey PNG and the same greys as RGB, say. Pictures that differ in one pixel have two.
///
/// # Errors
/// A mode without a rule for RGB.
pub fn pixel_fingerprint(image: &Image) -> Result<u128> {
    let rgb = to_rgb(image.raster(), Alpha::OnWhite)?;
    let size = (u128::from(image.width()) << 32) | u128::from(image.height());
    // The size is mixed in by multiplication with an odd number, so that turned pictures of one colour differ.
    Ok(xxh3_128(&rgb) ^ size.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

#[cfg(test)]
mod tests {
    use clip_core::Raster;

    use super::*;

    #[test]
    fn pixels_count_and_nothing_else() {
        let print = |width, height, raster| pixel_fingerprint(&Image::new(width, height, raster).unwrap()).unwrap();
        let grey = print(2, 1, Raster::Grey(vec![7, 9]));
        assert_eq!(grey, print(2, 1, Raster::Rgb(vec![7, 7, 7, 9, 9, 9])));
        assert_eq!(grey, print(2, 1, Raster::Rgba(vec![7, 7, 7, 255, 9, 9, 9, 255])));
        assert_ne!(grey, print(2, 1, Raster::Grey(vec![7, 8])));
        assert_ne!(grey, print(1, 2, Raster::Grey(vec![7, 9])));
        assert_ne!(grey, print(2, 1, Raster::Grey(vec![9, 7])));
        // What is seen through counts as it looks on white.
        let clear = |colour| print(1, 1, Raster::Rgba(vec![colour, colour, colour, 0]));
        assert_eq!(clear(3), clear(200));
    }
}
