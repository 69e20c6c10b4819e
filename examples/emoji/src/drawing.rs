//! SVG to PNG, in parallel.
//!
//! The pictures are drawn on white, without an alpha channel. The reference implementations of CLIP drop alpha when
//! they turn a picture to RGB, and the colour under a transparent pixel is whatever the writer left there (black, from
//! this renderer), so that a transparent background would reach the model as a black one.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg;

use crate::catalogue::Catalogue;
use crate::icons::{IconSet, Svg};

/// The PNG files of one artist by character.
pub(crate) type Pictures = BTreeMap<String, Vec<u8>>;

/// Draws every thing of the catalogue as `vendor` drew it, in squares of `size` pixels.
pub(crate) fn draw_all(vendor: &str, icons: &IconSet, catalogue: &Catalogue, size: u32) -> Result<Pictures> {
    let start = Instant::now();
    let items = catalogue.items();
    let style =
        ProgressStyle::with_template("{msg:>20} {wide_bar} {pos}/{len}").context("the progress bar's template")?;
    let bar = ProgressBar::new(items.len() as u64)
        .with_style(style)
        .with_message(vendor.to_string());
    let pictures: Result<Pictures> = items
        .par_iter()
        .progress_with(bar.clone())
        .map(|item| {
            let what = || {
                format!(
                    "the drawing of {} ({}) by {vendor}",
                    item.label(crate::Language::En),
                    item.hexcode
                )
            };
            let png = draw(&icons.svg(&item.hexcode).with_context(what)?, size).with_context(what)?;
            Ok((item.hexcode.clone(), png))
        })
        .collect();
    bar.finish_and_clear();
    let pictures = pictures?;
    println!(
        "{vendor}: {} pictures of {size} × {size} in {:.1} s",
        pictures.len(),
        start.elapsed().as_secs_f32()
    );
    Ok(pictures)
}

/// Draws one picture, centred and as large as it fits, and encodes it as an RGB PNG.
fn draw(svg: &Svg, size: u32) -> Result<Vec<u8>> {
    let tree = usvg::Tree::from_str(&svg.text, &usvg::Options::default())?;
    let mut canvas = Pixmap::new(size, size).context("no memory for a picture of this size")?;
    canvas.fill(Color::WHITE);
    let side = size as f32;
    let scale = side / svg.width.max(svg.height);
    let transform = Transform::from_scale(scale, scale)
        .post_translate((side - svg.width * scale) / 2.0, (side - svg.height * scale) / 2.0);
    resvg::render(&tree, transform, &mut canvas.as_mut());

    // Every pixel is opaque on a white ground, so the premultiplied values are the colours themselves.
    let rgb: Vec<u8> = canvas
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    if rgb.iter().all(|value| *value == u8::MAX) {
        bail!("nothing was drawn: the picture is all white");
    }
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive).write_image(
        &rgb,
        size,
        size,
        ExtendedColorType::Rgb8,
    )?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(body: &str, width: f32, height: f32) -> Svg {
        let text = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">{body}</svg>"#
        );
        Svg { text, width, height }
    }

    #[test]
    fn a_wide_drawing_is_centred_on_white() {
        let png = draw(&svg(r#"<rect width="40" height="20" fill="red"/>"#, 40.0, 20.0), 16).unwrap();
        let picture = image::load_from_memory(&png).unwrap();
        assert_eq!(picture.color(), image::ColorType::Rgb8);
        let picture = picture.to_rgb8();
        assert_eq!(picture.dimensions(), (16, 16));
        for (x, y, pixel) in picture.enumerate_pixels() {
            let expected = if (4..12).contains(&y) {
                [255, 0, 0]
            } else {
                [255, 255, 255]
            };
            assert_eq!(pixel.0, expected, "at {x}, {y}");
        }
    }

    #[test]
    fn an_empty_drawing_is_refused() {
        assert!(
            draw(&svg("<g/>", 32.0, 32.0), 16)
                .unwrap_err()
                .to_string()
                .contains("all white")
        );
        assert!(draw(&svg("<rect", 32.0, 32.0), 16).is_err());
    }
}
