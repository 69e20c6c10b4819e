//! Pictures: as they arrive, decoded, and as the model sees them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Error, Result};

/// A picture as it arrives: the bytes of a file, or a file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodedImage {
    /// The bytes of a JPEG, PNG, WebP, GIF or BMP file.
    Bytes(Arc<[u8]>),
    /// The path of such a file.
    File(PathBuf),
}

/// Opens a picture. Implementers write one method; callers are loaders, apps and servers.
pub trait ImageDecoder: Send + Sync {
    /// Decodes, within the decoder's limits. A truncated picture is an error.
    fn decode(&self, image: &EncodedImage) -> Result<Image>;
}

/// A decoded picture in the mode of its file, since references resize palettes, alpha and 16-bit pictures before
/// they convert to RGB, and the result depends on it. Rows from the top, pixels from the left, channels interleaved.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    width: u32,
    height: u32,
    raster: Raster,
}

/// The samples of an [`Image`], by mode. Names follow Pillow's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Raster {
    /// `1`: one byte a pixel, 0 or 255.
    Bilevel(Vec<u8>),
    /// `P`: one index a pixel, and the palette's RGBA colours.
    Palette {
        /// Index of each pixel.
        indices: Vec<u8>,
        /// Colours, at most 256.
        colours: Vec<[u8; 4]>,
    },
    /// `L`: one grey byte a pixel.
    Grey(Vec<u8>),
    /// `LA`: grey and alpha.
    GreyAlpha(Vec<u8>),
    /// `I;16`: one 16-bit grey value a pixel.
    Grey16(Vec<u16>),
    /// `RGB`.
    Rgb(Vec<u8>),
    /// `RGBA`, alpha not premultiplied.
    Rgba(Vec<u8>),
    /// `CMYK`, as Pillow holds it: 0 is no ink.
    Cmyk(Vec<u8>),
}

impl Image {
    /// A picture; an error if the samples do not fill `width x height` or a palette index is out of range.
    pub fn new(width: u32, height: u32, raster: Raster) -> Result<Self> {
        let pixels = u64::from(width) * u64::from(height);
        let (samples, channels) = match &raster {
            Raster::Bilevel(v) | Raster::Grey(v) | Raster::Palette { indices: v, .. } => (v.len(), 1),
            Raster::Grey16(v) => (v.len(), 1),
            Raster::GreyAlpha(v) => (v.len(), 2),
            Raster::Rgb(v) => (v.len(), 3),
            Raster::Rgba(v) | Raster::Cmyk(v) => (v.len(), 4),
        };
        if pixels == 0 || samples as u64 != pixels * channels {
            return Err(Error::invalid(format!(
                "a picture of {width} x {height} pixels with {channels} channels cannot hold {samples} samples"
            )));
        }
        if let Raster::Palette { indices, colours } = &raster
            && indices.iter().any(|&index| usize::from(index) >= colours.len())
        {
            return Err(Error::invalid(format!(
                "a pixel points past the palette of {} colours",
                colours.len()
            )));
        }
        Ok(Self { width, height, raster })
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples.
    pub fn raster(&self) -> &Raster {
        &self.raster
    }

    /// Takes the samples out.
    pub fn into_raster(self) -> Raster {
        self.raster
    }
}

/// Makes the model's pixels of a decoded picture. Implementers write three methods; callers are pipelines and loaders.
pub trait ImageTransform: Send + Sync {
    /// Height and width of the pixels.
    fn size(&self) -> [usize; 2];

    /// Says exactly what is done, for metadata and for the identity of features made with it.
    fn describe(&self) -> String;

    /// Writes the pixels `[3, height, width]`, normalised, into `pixels`.
    fn apply(&self, image: &Image, pixels: &mut [f32]) -> Result<()>;

    /// The pixels of several pictures.
    fn batch(&self, images: &[Image]) -> Result<PixelBatch> {
        let mut batch = PixelBatch::zeros(images.len(), self.size());
        for (image, row) in images.iter().zip(batch.rows_mut()) {
            self.apply(image, row)?;
        }
        Ok(batch)
    }
}

/// Pixels of several pictures: f32 `[batch, 3, height, width]`, contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelBatch {
    data: Vec<f32>,
    size: [usize; 2],
}

impl PixelBatch {
    /// A batch of zeros.
    pub fn zeros(batch: usize, size: [usize; 2]) -> Self {
        Self {
            data: vec![0.0; batch * 3 * size[0] * size[1]],
            size,
        }
    }

    /// A batch of given pixels; an error if they are no whole number of pictures.
    pub fn new(data: Vec<f32>, size: [usize; 2]) -> Result<Self> {
        let row = 3 * size[0] * size[1];
        if row == 0 || !data.len().is_multiple_of(row) {
            let [height, width] = size;
            return Err(Error::invalid(format!(
                "{} values are no pictures of [3, {height}, {width}]",
                data.len()
            )));
        }
        Ok(Self { data, size })
    }

    /// How many pictures.
    pub fn len(&self) -> usize {
        self.data.len() / (3 * self.size[0] * self.size[1]).max(1)
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// All values, `[batch, 3, height, width]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The pixels of each picture, `[3, height, width]`.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let row = (3 * self.size[0] * self.size[1]).max(1);
        self.data.chunks_exact_mut(row)
    }

    /// The pixels of each picture, `[3, height, width]`.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact((3 * self.size[0] * self.size[1]).max(1))
    }

    /// The values, taken out.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }
}
