//! Any mode to RGB, as Pillow converts.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Once;

use clip_core::{Error, Raster, Result};

use super::alpha::mul;
use super::config::Alpha;

/// The RGB bytes of the samples.
///
/// # Errors
/// A mode without a rule.
pub(crate) fn to_rgb(raster: &Raster, alpha: Alpha) -> Result<Cow<'_, [u8]>> {
    let flat = |pixel: [u8; 4]| flatten(pixel, alpha);
    Ok(match raster {
        Raster::Rgb(data) => Cow::Borrowed(data),
        Raster::Bilevel(data) | Raster::Grey(data) => triple(data.iter().copied()),
        Raster::GreyAlpha(data) => triple(
            data.as_chunks::<2>()
                .0
                .iter()
                .map(|&[grey, opacity]| flat([grey, grey, grey, opacity])[0]),
        ),
        Raster::Grey16(data) => {
            if data.iter().any(|&value| value > 255) {
                warn_of_white();
            }
            triple(data.iter().map(|&value| value.min(255) as u8))
        }
        Raster::Palette { indices, colours } => {
            let colour = |&index: &u8| colours.get(usize::from(index)).copied().unwrap_or([0, 0, 0, 255]);
            Cow::Owned(indices.iter().map(colour).flat_map(flat).collect())
        }
        Raster::Rgba(data) => Cow::Owned(data.as_chunks::<4>().0.iter().copied().flat_map(flat).collect()),
        Raster::Cmyk(data) => Cow::Owned(data.as_chunks::<4>().0.iter().flat_map(|&pixel| inks(pixel)).collect()),
        _ => return Err(Error::internal("a picture of a mode that has no rule for RGB")),
    })
}

/// One pixel without its alpha, or laid on white in Pillow's integers (7 bits after the point).
fn flatten([red, green, blue, opacity]: [u8; 4], alpha: Alpha) -> [u8; 3] {
    match (alpha, opacity) {
        (Alpha::Drop, _) => [red, green, blue],
        (Alpha::OnWhite, opacity) => [red, green, blue].map(|colour| {
            let white = 255 - u32::from(opacity);
            let sum = ((u32::from(colour) * u32::from(opacity) + 255 * white) << 7) + (128 << 7);
            (((sum >> 8) + sum) >> 15) as u8
        }),
    }
}

fn triple(greys: impl Iterator<Item = u8>) -> Cow<'static, [u8]> {
    Cow::Owned(greys.flat_map(|grey| [grey; 3]).collect())
}

/// What the black ink leaves, less the share of it each coloured ink takes.
fn inks([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let left = 255 - black;
    [cyan, magenta, yellow].map(|ink| left.saturating_sub(mul(ink, left)))
}

/// Said once a process: the user cannot see it in the numbers.
fn warn_of_white() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A warning that cannot be written is no reason to fail.
        let _ = writeln!(
            std::io::stderr(),
            "warning: 16-bit grey pictures come out white where they exceed 255, as in the reference implementations; \
             convert them to 8 bits if their content matters"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode() {
        let rgb = |raster: Raster| to_rgb(&raster, Alpha::Drop).unwrap().into_owned();
        assert_eq!(rgb(Raster::Bilevel(vec![0, 255])), [0, 0, 0, 255, 255, 255]);
        assert_eq!(rgb(Raster::GreyAlpha(vec![7, 0])), [7, 7, 7]);
        assert_eq!(rgb(Raster::Grey16(vec![200, 300])), [200, 200, 200, 255, 255, 255]);
        assert_eq!(rgb(Raster::Rgba(vec![1, 2, 3, 0])), [1, 2, 3]);
        assert_eq!(
            rgb(Raster::Palette {
                indices: vec![1],
                colours: vec![[0; 4], [9, 8, 7, 6]]
            }),
            [9, 8, 7]
        );
        let white = |pixel: [u8; 4]| {
            to_rgb(&Raster::Rgba(pixel.to_vec()), Alpha::OnWhite)
                .unwrap()
                .into_owned()
        };
        assert_eq!(white([10, 20, 30, 255]), [10, 20, 30]);
        assert_eq!(white([10, 20, 30, 0]), [255, 255, 255]);
        assert_eq!(white([0, 100, 255, 128]), [127, 177, 255]);
        assert_eq!(rgb(Raster::Cmyk(vec![0, 128, 255, 55])), [200, 100, 0]);
    }
}
