//! GIF: the first frame on its screen, as indices or, with a palette that is the grey ramp, as grey.

use std::io::Cursor;

use clip_core::{Image, Raster, Result};
use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Decoded, Limits, broken, grey_ramp, truncated};

/// Decodes the first frame.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    // The size is checked here, before the buffer is made.
    options.set_memory_limit(MemoryLimit::Unlimited);
    options.allow_unknown_blocks(true);
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(unreadable)?;
    let screen = [decoder.width(), decoder.height()].map(u32::from);
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder
        .next_frame_info()
        .map_err(unreadable)?
        .ok_or_else(|| broken("the GIF picture has no frame".to_owned()))?;
    let [left, top, columns, rows] = [frame.left, frame.top, frame.width, frame.height].map(u32::from);
    let (transparent, local) = (frame.transparent, frame.palette.clone());
    // A frame that reaches past the screen widens it.
    let [width, height] = [screen[0].max(left + columns), screen[1].max(top + rows)];
    limits.check(columns.into(), rows.into())?;
    limits.check(width.into(), height.into())?;
    let mut frame = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut frame).map_err(unreadable)?;
    let [left, top, columns, width, height] = [left, top, columns, width, height].map(|side| side as usize);
    let mut indices = vec![transparent.unwrap_or(0); width * height];
    for (y, row) in frame.chunks_exact(columns).enumerate() {
        indices[(top + y) * width + left..][..columns].copy_from_slice(row);
    }
    let palette = local.or(global).unwrap_or_default();
    let raster = if is_grey_ramp(&palette) {
        Raster::Grey(indices)
    } else {
        let colours = palette.as_chunks::<3>().0.iter().take(256);
        let mut colours: Vec<_> = colours.map(|&[red, green, blue]| [red, green, blue, 255]).collect();
        if let Some(colour) = transparent.and_then(|index| colours.get_mut(usize::from(index))) {
            colour[3] = 0;
        }
        grey_ramp(&mut colours, &indices);
        Raster::Palette { indices, colours }
    };
    Ok(Decoded {
        image: Image::new(width as u32, height as u32, raster)?,
        orientation: None,
    })
}

/// Whether each colour is the grey of its index: then Pillow opens the indices as grey.
fn is_grey_ramp(palette: &[u8]) -> bool {
    palette
        .as_chunks::<3>()
        .0
        .iter()
        .enumerate()
        .all(|(index, colour)| *colour == [index as u8; 3])
}

fn unreadable(error: DecodingError) -> clip_core::Error {
    match error {
        DecodingError::UnexpectedEof => truncated("GIF"),
        DecodingError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => truncated("GIF"),
        other => broken(format!("the GIF picture is broken: {other}")),
    }
}
