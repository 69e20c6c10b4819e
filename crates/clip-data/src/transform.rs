//! From a decoded picture to the model's pixels, to the bit as the references compute them.

mod alpha;
mod config;
pub(crate) mod convert;
mod filter;
mod geometry;
mod grey16;
mod hugging_face;
mod json;
mod nearest;
mod open_clip;
mod resize;
mod simd;

use std::borrow::Cow;

use clip_core::{Error, Image, ImageTransform, Raster, Result};

pub use self::config::{Alpha, ConfigForm, Order, Rescale, TransformConfig};
pub use self::filter::Filter;
use self::geometry::Placement;
pub use self::geometry::{Crop, Resize};
pub use self::resize::Passes;
use self::resize::{Request, Strip};
use self::simd::Level;

/// The arithmetic's version: raised when the same picture under the same configuration gives other bits.
const VERSION: u32 = 1;

/// Resizes, crops or pads, converts and normalises a picture as its configuration says.
///
/// Lossless pictures come out as with Pillow, to the bit; a JPEG differs from the reference by what the decoders
/// differ (see [`crate::Decoder`]).
///
/// ```
/// use clip_core::{Image, ImageTransform, Raster};
/// use clip_data::{ClipTransform, TransformConfig};
/// # fn main() -> clip_core::Result<()> {
/// let transform = ClipTransform::new(TransformConfig::open_clip(4))?;
/// let white = Image::new(8, 6, Raster::Rgb(vec![255; 8 * 6 * 3]))?;
/// let mut pixels = [0.0; 3 * 4 * 4];
/// transform.apply(&white, &mut pixels)?;
/// assert!(pixels.iter().all(|&value| value > 1.9));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClipTransform {
    config: TransformConfig,
    /// The normalised value of each byte, by channel.
    levels: Box<[[f32; 256]; 3]>,
}

impl ClipTransform {
    /// A transform by its configuration.
    ///
    /// # Errors
    /// A number of the configuration is out of range.
    pub fn new(config: TransformConfig) -> Result<Self> {
        config.check()?;
        let mut levels = Box::new([[0.0; 256]; 3]);
        for (channel, levels) in levels.iter_mut().enumerate() {
            // The reference normalises in f32, with constants rounded to it.
            let (mean, std) = (config.mean[channel] as f32, config.std[channel] as f32);
            for (byte, level) in levels.iter_mut().enumerate() {
                let fraction = match config.rescale {
                    Rescale::By255 => byte as f32 / 255.0,
                    Rescale::Factor(factor) => (byte as f64 * factor) as f32,
                };
                *level = (fraction - mean) / std;
            }
        }
        Ok(Self { config, levels })
    }

    /// What it does.
    pub fn config(&self) -> &TransformConfig {
        &self.config
    }

    /// Writes RGB rows into the planes from `margin` (top, left) on.
    fn normalise<'a>(&self, rows: impl Iterator<Item = &'a [u8]>, margin: [usize; 2], pixels: &mut [f32]) {
        let [height, width] = self.config.size;
        let (red, rest) = pixels.split_at_mut(height * width);
        let (green, blue) = rest.split_at_mut(height * width);
        let [reds, greens, blues] = &*self.levels;
        for (y, row) in rows.enumerate() {
            let start = (margin[0] + y) * width + margin[1];
            let row = row.as_chunks::<3>().0;
            let [red, green, blue] =
                [&mut *red, &mut *green, &mut *blue].map(|plane| &mut plane[start..start + row.len()]);
            for (x, &[r, g, b]) in row.iter().enumerate() {
                red[x] = reds[usize::from(r)];
                green[x] = greens[usize::from(g)];
                blue[x] = blues[usize::from(b)];
            }
        }
    }

    /// Fills the planes with the colour of the padding.
    fn pad(&self, raster: &Raster, pixels: &mut [f32]) -> Result<()> {
        let pixel = pixel_of(raster, self.config.fill);
        let colour = convert::to_rgb(&pixel, self.config.alpha)?;
        let [height, width] = self.config.size;
        for ((plane, levels), &byte) in pixels.chunks_exact_mut(height * width).zip(&*self.levels).zip(&*colour) {
            plane.fill(levels[usize::from(byte)]);
        }
        Ok(())
    }
}

impl ImageTransform for ClipTransform {
    fn size(&self) -> [usize; 2] {
        self.config.size
    }

    fn describe(&self) -> String {
        let TransformConfig {
            size: [height, width],
            resize,
            filter,
            crop,
            fill,
            order,
            alpha,
            rescale,
            mean,
            std,
            passes,
        } = &self.config;
        format!(
            "clip-data transform {VERSION}: {order:?}; resize {resize:?} by {filter:?} ({passes:?}, antialiased, \
             palette and 1-bit by nearest); crop {height} x {width} {crop:?}, padded with {fill}; RGB, alpha {alpha:?}; \
             rescale {rescale:?}; mean {mean:?}; std {std:?}; no EXIF orientation"
        )
    }

    fn apply(&self, image: &Image, pixels: &mut [f32]) -> Result<()> {
        let config = &self.config;
        let [height, width] = config.size;
        if pixels.len() != 3 * height * width {
            return Err(Error::internal(format!(
                "{} values given for pixels [3, {height}, {width}]",
                pixels.len()
            )));
        }
        let from = [image.height() as usize, image.width() as usize];
        let to = config.resize.target(from, config.size)?;
        let placement = Placement::new(config.crop, to, config.size);
        let request = Request {
            from,
            to,
            origin: placement.origin,
            window: placement.window,
            filter: config.filter,
            passes: config.passes,
        };
        let raster = match (config.order, image.raster()) {
            (Order::ResizeFirst, raster) | (Order::RgbFirst, raster @ Raster::Rgb(_)) => Cow::Borrowed(raster),
            (Order::RgbFirst, raster) => Cow::Owned(Raster::Rgb(convert::to_rgb(raster, config.alpha)?.into_owned())),
        };
        if placement.window != config.size {
            self.pad(&raster, pixels)?;
        }
        match &*raster {
            Raster::Rgb(data) if config.filter != Filter::Nearest => {
                let strip: Strip = resize::strip(data, 3, &request, Level::detect());
                self.normalise(strip.rows(), placement.margin, pixels);
            }
            other => {
                let resized = resize::resize(other, &request);
                let rgb = convert::to_rgb(&resized, config.alpha)?;
                self.normalise(rgb.chunks_exact(3 * placement.window[1]), placement.margin, pixels);
            }
        }
        Ok(())
    }
}

/// The picture in RGB, and its height and width; reduced in its own mode if its shorter side is longer than
/// `shortest`, unless that is 0.
pub(crate) fn reduce_to_rgb(
    image: &Image,
    shortest: usize,
    filter: Filter,
    alpha: Alpha,
) -> Result<(Cow<'_, [u8]>, [usize; 2])> {
    let from = [image.height() as usize, image.width() as usize];
    if shortest == 0 || from[0].min(from[1]) <= shortest {
        return Ok((convert::to_rgb(image.raster(), alpha)?, from));
    }
    let to = Resize::Shortest(shortest).target(from, from)?;
    let request = Request {
        from,
        to,
        origin: [0, 0],
        window: to,
        filter,
        passes: Passes::default(),
    };
    let resized = resize::resize(image.raster(), &request);
    Ok((Cow::Owned(convert::to_rgb(&resized, alpha)?.into_owned()), to))
}

/// One pixel of a picture's mode with every channel at `level`.
fn pixel_of(raster: &Raster, level: u8) -> Raster {
    match raster {
        Raster::Palette { colours, .. } => Raster::Palette {
            indices: vec![level],
            colours: colours.clone(),
        },
        Raster::GreyAlpha(_) => Raster::GreyAlpha(vec![level; 2]),
        Raster::Grey16(_) => Raster::Grey16(vec![level.into()]),
        Raster::Rgb(_) => Raster::Rgb(vec![level; 3]),
        Raster::Rgba(_) => Raster::Rgba(vec![level; 4]),
        Raster::Cmyk(_) => Raster::Cmyk(vec![level; 4]),
        Raster::Bilevel(_) => Raster::Bilevel(vec![if level == 0 { 0 } else { 255 }]),
        _ => Raster::Grey(vec![level]),
    }
}
