//! Augmented views of a picture for training: the same seed gives the same view, on every machine.

use std::borrow::Cow;

use clip_core::{Error, Image, Raster, Result};
use serde::{Deserialize, Serialize};

use crate::chance::{Chance, bound};
use crate::transform::{Alpha, Filter, reduce_to_rgb};

/// What may happen to a picture. A view is an RGB picture: reduced, flipped, rotated, cropped and recoloured, each by
/// chance within these bounds.
///
/// ```
/// use clip_core::{Image, Raster};
/// use clip_data::Augment;
/// # fn main() -> clip_core::Result<()> {
/// let picture = Image::new(4, 3, Raster::Grey((0..12).collect()))?;
/// let augment = Augment::default();
/// assert_eq!(augment.apply(&picture, 7), augment.apply(&picture, 7));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// How likely a view is mirrored left to right, 0 to 1.
    pub flip: f64,
    /// The largest rotation either way, in degrees, 0 to 180; what comes in from outside repeats the border.
    pub rotate: f64,
    /// Least and largest share of the picture's sides that is kept, within 0.05 to 1; the place is random.
    pub scale: [f64; 2],
    /// Strength of the colour jitter, 0 to 1: brightness, contrast and saturation each vary by this share.
    pub colour: f64,
    /// Larger pictures are first reduced to this many pixels on the shorter side, so that a view is cheap to make and
    /// to keep; 0 leaves them as they are.
    pub shortest: usize,
    /// What becomes of transparency; as in the model's transform, so that views look like the picture.
    pub alpha: Alpha,
}

impl Default for Augment {
    fn default() -> Self {
        Self {
            flip: 0.5,
            rotate: 5.0,
            scale: [0.8, 1.0],
            colour: 0.2,
            shortest: 320,
            alpha: Alpha::Drop,
        }
    }
}

const LEAST_SCALE: f64 = 0.05;

impl Augment {
    /// The bounds under which a view is the picture itself, as RGB.
    pub fn none() -> Self {
        Self {
            flip: 0.0,
            rotate: 0.0,
            scale: [1.0, 1.0],
            colour: 0.0,
            shortest: 0,
            alpha: Alpha::Drop,
        }
    }

    /// Checks that every bound is in range.
    ///
    /// # Errors
    /// Names the one that is not.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::invalid(format!("the augmentation's `{name}` is {value}"))
                .remedy(format!("it must be from {least} to {most}"))),
        };
        within("flip", self.flip, 0.0, 1.0)?;
        within("rotate", self.rotate, 0.0, 180.0)?;
        within("scale", self.scale[0], LEAST_SCALE, 1.0)?;
        within("scale", self.scale[1], self.scale[0], 1.0)?;
        within("colour", self.colour, 0.0, 1.0)
    }

    /// A view of the picture, RGB, a function of the picture, these bounds and the seed alone. Bounds out of range
    /// count as the nearest in range.
    #[must_use]
    pub fn apply(&self, image: &Image, seed: u64) -> Image {
        // Only a mode without a rule for RGB fails, and such a picture stays as it is.
        self.view(image, seed).unwrap_or_else(|_| image.clone())
    }

    fn view(&self, image: &Image, seed: u64) -> Result<Image> {
        let (data, [height, width]) = reduce_to_rgb(image, self.shortest, Filter::Bicubic, self.alpha)?;
        let source = Source { data, height, width };
        // All draws are made in this order whatever the bounds, so that changing one bound leaves the others' chance.
        let mut chance = Chance(seed);
        let mirrored = chance.unit() < self.flip;
        let angle = chance.between(-1.0, 1.0) * bound(self.rotate, 0.0, 180.0).to_radians();
        let least = bound(self.scale[0], LEAST_SCALE, 1.0);
        let scale = chance.between(least, bound(self.scale[1], least, 1.0));
        let place = [chance.unit(), chance.unit()];
        let colour = bound(self.colour, 0.0, 1.0);
        let jitter = [0; 3].map(|_| chance.between(1.0 - colour, 1.0 + colour) as f32);
        let [rows, columns] = [height, width].map(|side| ((side as f64 * scale).round() as usize).clamp(1, side));
        let top = (place[0] * (height - rows) as f64).round();
        let left = (place[1] * (width - columns) as f64).round();
        let window = Window {
            top,
            left,
            rows,
            columns,
            angle,
            mirrored,
        };
        let mut pixels = window.cut(&source);
        if colour > 0.0 {
            recolour(&mut pixels, jitter);
        }
        Image::new(columns as u32, rows as u32, Raster::Rgb(pixels))
    }
}

struct Source<'a> {
    data: Cow<'a, [u8]>,
    height: usize,
    width: usize,
}

impl Source<'_> {
    fn pixel(&self, y: f64, x: f64) -> [f64; 3] {
        let y = y.clamp(0.0, (self.height - 1) as f64) as usize;
        let x = x.clamp(0.0, (self.width - 1) as f64) as usize;
        let at = (y * self.width + x) * 3;
        [0, 1, 2].map(|channel| f64::from(self.data[at + channel]))
    }

    /// The colour between pixel centres; outside, the border's.
    fn between(&self, y: f64, x: f64) -> [u8; 3] {
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = (y - top, x - left);
        let [a, b] = [self.pixel(top, left), self.pixel(top, left + 1.0)];
        let [c, d] = [self.pixel(top + 1.0, left), self.pixel(top + 1.0, left + 1.0)];
        [0, 1, 2].map(|i| {
            let upper = a[i] + (b[i] - a[i]) * right;
            let lower = c[i] + (d[i] - c[i]) * right;
            (upper + (lower - upper) * down).round() as u8
        })
    }
}

/// The part of the picture a view shows.
struct Window {
    top: f64,
    left: f64,
    rows: usize,
    columns: usize,
    /// Around its middle, in radians.
    angle: f64,
    mirrored: bool,
}

impl Window {
    fn cut(&self, source: &Source<'_>) -> Vec<u8> {
        let (sine, cosine) = self.angle.sin_cos();
        let middle = [(self.rows - 1) as f64 / 2.0, (self.columns - 1) as f64 / 2.0];
        let mut pixels = Vec::with_capacity(self.rows * self.columns * 3);
        for row in 0..self.rows {
            for column in 0..self.columns {
                let column = if self.mirrored {
                    self.columns - 1 - column
                } else {
                    column
                };
                let (y, x) = (row as f64 - middle[0], column as f64 - middle[1]);
                let from_y = self.top + middle[0] + y * cosine + x * sine;
                let from_x = self.left + middle[1] + x * cosine - y * sine;
                pixels.extend(source.between(from_y, from_x));
            }
        }
        pixels
    }
}

/// Brightness scales; contrast scales around the mean luminance; saturation scales around each pixel's own.
fn recolour(pixels: &mut [u8], [brightness, contrast, saturation]: [f32; 3]) {
    let luminance = |[red, green, blue]: [f32; 3]| 0.299 * red + 0.587 * green + 0.114 * blue;
    let pixels = pixels.as_chunks_mut::<3>().0;
    let sum: f64 = pixels
        .iter()
        .map(|pixel| f64::from(luminance(pixel.map(f32::from))))
        .sum();
    let mean = brightness * (sum / pixels.len() as f64) as f32;
    for pixel in pixels {
        let lit = pixel.map(|value| mean + (brightness * f32::from(value) - mean) * contrast);
        let grey = luminance(lit);
        // A cast saturates.
        *pixel = lit.map(|value| (grey + (value - grey) * saturation).round() as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture() -> Image {
        Image::new(
            40,
            30,
            Raster::Rgb((0..40 * 30 * 3).map(|value| (value % 251) as u8).collect()),
        )
        .unwrap()
    }

    #[test]
    fn no_bounds_no_change() {
        assert_eq!(Augment::none().apply(&picture(), 3), picture());
    }

    #[test]
    fn a_flip_is_a_mirror() {
        let flip = Augment {
            flip: 1.0,
            ..Augment::none()
        };
        let Raster::Rgb(view) = flip.apply(&picture(), 3).into_raster() else {
            panic!("not RGB")
        };
        let Raster::Rgb(plain) = picture().into_raster() else {
            panic!("not RGB")
        };
        assert_eq!(view[..3], plain[39 * 3..40 * 3]);
        assert_eq!(flip.apply(&flip.apply(&picture(), 1), 2), picture());
    }

    #[test]
    fn a_half_turn_is_both_mirrors() {
        // The angle is drawn: find a seed near enough to a half turn that every pixel lands on its opposite.
        let turn = Window {
            top: 0.0,
            left: 0.0,
            rows: 30,
            columns: 40,
            angle: std::f64::consts::PI,
            mirrored: false,
        };
        let Raster::Rgb(plain) = picture().into_raster() else {
            panic!("not RGB")
        };
        let source = Source {
            data: Cow::Borrowed(&plain),
            height: 30,
            width: 40,
        };
        let view = turn.cut(&source);
        let opposite: Vec<u8> = plain.as_chunks::<3>().0.iter().rev().flatten().copied().collect();
        assert_eq!(view, opposite);
    }

    #[test]
    fn views_differ_by_seed_and_stay_within_the_scale() {
        let augment = Augment {
            scale: [0.5, 0.75],
            ..Augment::default()
        };
        let views: Vec<_> = (0..20).map(|seed| augment.apply(&picture(), seed)).collect();
        assert!(views.windows(2).any(|pair| pair[0] != pair[1]));
        assert!(
            views
                .iter()
                .all(|view| (20..=30).contains(&view.width()) && (15..=23).contains(&view.height()))
        );
    }

    #[test]
    fn large_pictures_are_reduced() {
        let large = Image::new(400, 300, Raster::Grey(vec![9; 400 * 300])).unwrap();
        let view = Augment {
            shortest: 60,
            ..Augment::none()
        }
        .apply(&large, 0);
        assert_eq!((view.width(), view.height()), (80, 60));
        assert!(matches!(view.raster(), Raster::Rgb(data) if data.iter().all(|&value| value == 9)));
    }

    #[test]
    fn bounds_out_of_range_are_named() {
        let error = Augment {
            scale: [0.9, 1.5],
            ..Augment::default()
        }
        .check()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the augmentation's `scale` is 1.5; it must be from 0.9 to 1"
        );
        Augment::default().check().unwrap();
    }

    proptest! {
        #[test]
        fn any_bounds_give_a_view(
            flip in any::<f64>(), rotate in any::<f64>(), scale in any::<[f64; 2]>(), colour in any::<f64>(),
            width in 1_u32..20, height in 1_u32..20, seed in any::<u64>(),
        ) {
            let image = Image::new(width, height, Raster::GreyAlpha(vec![100; (width * height * 2) as usize])).unwrap();
            let augment = Augment { flip, rotate, scale, colour, shortest: 8, alpha: Alpha::OnWhite };
            let view = augment.apply(&image, seed);
            prop_assert!(matches!(view.raster(), Raster::Rgb(_)));
            prop_assert_eq!(view, augment.apply(&image, seed));
        }
    }
}
