//! Small pictures for pages.

use clip_core::{EncodedImage, Error, ImageDecoder, PairTable, Result};
use clip_data::{Decoder, Table, thumbnail};
use clip_page::Picture;

/// Pixels on the shorter side of a page's pictures.
const SHORTEST: usize = 96;

/// A picture, small, with words for those who do not see it.
pub(super) fn small(image: &EncodedImage, words: impl Into<String>) -> Result<Picture> {
    Picture::new(thumbnail(&Decoder::default().decode(image)?, SHORTEST)?, words)
}

/// The picture of a table's row.
pub(super) fn of_row(table: &Table, row: usize, words: impl Into<String>) -> Result<Picture> {
    let pair = table.get(row)?;
    let image = pair.images.first();
    small(image.ok_or_else(|| Error::invalid("the row has no picture"))?, words)
}
