//! Multiplying alpha into the other channels and dividing it out again, in Pillow's integers.

/// `a * b / 255`, rounded, for 8-bit values.
pub(super) fn mul(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    ((product + (product >> 8)) >> 8) as u8
}

/// Multiplies the last channel into the others.
pub(super) fn multiply<const CHANNELS: usize>(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    for pixel in out.as_chunks_mut::<CHANNELS>().0 {
        let alpha = pixel[CHANNELS - 1];
        for colour in &mut pixel[..CHANNELS - 1] {
            *colour = mul(*colour, alpha);
        }
    }
    out
}

/// Divides the other channels by the last; as they are where it is 0 or 255.
pub(super) fn divide<const CHANNELS: usize>(data: &mut [u8]) {
    for pixel in data.as_chunks_mut::<CHANNELS>().0 {
        let alpha = pixel[CHANNELS - 1];
        if alpha == 0 || alpha == 255 {
            continue;
        }
        for colour in &mut pixel[..CHANNELS - 1] {
            *colour = (255 * u32::from(*colour) / u32::from(alpha)).min(255) as u8;
        }
    }
}
