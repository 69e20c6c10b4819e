//! Resizing a picture in its own mode, as Pillow does, and only the window of the result that is wanted.

use std::borrow::Cow;

use clip_core::Raster;
use serde::{Deserialize, Serialize};

use super::alpha;
use super::filter::{Filter, Weights};
use super::grey16;
use super::nearest;
use super::simd::{self, Level, Rows, SPARE};

/// In which order the two passes run; the picture between them is rounded to whole levels, so the order shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passes {
    /// Pillow 13.0.0: vertical first where the height shrinks by more than twice what the width does.
    #[default]
    Pillow13,
    /// Pillow before 13.0.0: horizontal first, always.
    HorizontalFirst,
}

impl Passes {
    /// Whether the horizontal pass of `from` to `to` (height, width) comes first.
    pub(super) fn horizontal_first(self, from: [usize; 2], to: [usize; 2]) -> bool {
        let lost = |axis: usize| from[axis] as i128 - to[axis] as i128;
        self == Self::HorizontalFirst || !(lost(0) > 0 && lost(0) > 2 * lost(1))
    }
}

/// What is wanted of a resize: the whole target's size, and the window of it to compute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// Height and width of the source.
    pub(super) from: [usize; 2],
    /// Height and width of the whole target.
    pub(super) to: [usize; 2],
    /// Top and left of the window in the target.
    pub(super) origin: [usize; 2],
    /// Height and width of the window, at least 1 each.
    pub(super) window: [usize; 2],
    /// The filter.
    pub(super) filter: Filter,
    /// The order of the passes.
    pub(super) passes: Passes,
}

impl Request {
    /// Whether the target is the source.
    fn is_identity(&self) -> bool {
        self.from == self.to
    }

    /// The weights of one axis (0 vertical, 1 horizontal), unless its size stays.
    pub(super) fn weights(&self, axis: usize) -> Option<Weights> {
        let window = self.origin[axis]..self.origin[axis] + self.window[axis];
        (self.from[axis] != self.to[axis]).then(|| Weights::new(self.filter, self.from[axis], self.to[axis], window))
    }
}

/// Resizes samples of one mode; the window of the result, in the same mode, rows packed.
pub(super) fn resize<'a>(raster: &'a Raster, request: &Request) -> Cow<'a, Raster> {
    if request.is_identity() && request.origin == [0, 0] && request.window == request.from {
        return Cow::Borrowed(raster);
    }
    // Pillow cannot mix the indices of a palette nor single bits.
    let nearest = request.filter == Filter::Nearest;
    Cow::Owned(match raster {
        Raster::Bilevel(data) => Raster::Bilevel(nearest::stepped(data, 1, request)),
        Raster::Palette { indices, colours } => Raster::Palette {
            indices: nearest::stepped(indices, 1, request),
            colours: colours.clone(),
        },
        Raster::Grey16(data) if nearest => Raster::Grey16(nearest::multiplied(data, request)),
        Raster::Grey16(data) => Raster::Grey16(grey16::resize(data, request)),
        Raster::Grey(data) => Raster::Grey(samples(data, 1, request)),
        Raster::Rgb(data) => Raster::Rgb(samples(data, 3, request)),
        Raster::Cmyk(data) => Raster::Cmyk(samples(data, 4, request)),
        Raster::GreyAlpha(data) => Raster::GreyAlpha(with_alpha::<2>(data, request)),
        Raster::Rgba(data) => Raster::Rgba(with_alpha::<4>(data, request)),
        // The enum may grow; a mode without a rule here is kept as it is and refused by the conversion to RGB.
        other => other.clone(),
    })
}

/// Alpha is multiplied in before, so that the colour of invisible pixels does not bleed, and divided out after.
fn with_alpha<const CHANNELS: usize>(data: &[u8], request: &Request) -> Vec<u8> {
    if request.filter == Filter::Nearest || request.is_identity() {
        return samples(data, CHANNELS, request);
    }
    let mut out = samples(&alpha::multiply::<CHANNELS>(data), CHANNELS, request);
    alpha::divide::<CHANNELS>(&mut out);
    out
}

/// 8-bit samples, packed.
fn samples(data: &[u8], channels: usize, request: &Request) -> Vec<u8> {
    if request.filter == Filter::Nearest {
        return nearest::stepped(data, channels, request);
    }
    strip(data, channels, request, Level::detect()).packed()
}

/// Rows of 8-bit pixels, with spare bytes behind each.
pub(super) struct Strip {
    data: Vec<u8>,
    stride: usize,
    bytes: usize,
}

impl Strip {
    /// The pixels of each row.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.data.chunks_exact(self.stride).map(|row| &row[..self.bytes])
    }

    fn packed(mut self) -> Vec<u8> {
        if self.stride != self.bytes {
            let rows = self.data.len() / self.stride;
            for row in 1..rows {
                self.data
                    .copy_within(row * self.stride..row * self.stride + self.bytes, row * self.bytes);
            }
            self.data.truncate(rows * self.bytes);
        }
        self.data
    }
}

/// The window of a resize of 8-bit samples by a filter with weights.
pub(super) fn strip(data: &[u8], channels: usize, request: &Request, level: Level) -> Strip {
    let source = Source {
        data,
        channels,
        width: request.from[1],
    };
    let [vertical, horizontal] = [request.weights(0), request.weights(1)];
    let [rows, columns] = [0, 1].map(|axis| request.origin[axis]..request.origin[axis] + request.window[axis]);
    match (vertical, horizontal) {
        (None, None) => source.cut(rows, columns),
        (None, Some(horizontal)) => source.across(rows, &horizontal, level),
        (Some(vertical), None) => source.down(columns, &vertical, level),
        (Some(vertical), Some(horizontal)) if request.passes.horizontal_first(request.from, request.to) => {
            let span = vertical.span();
            let between = source.across(span.clone(), &horizontal, level);
            let height = span.len();
            let view = Rows {
                data: &between.data,
                stride: between.stride,
                bytes: between.bytes,
                height,
            };
            down(view, &vertical.fixed(span.start), level)
        }
        (Some(vertical), Some(horizontal)) => {
            let span = horizontal.span();
            let between = source.down(span.clone(), &vertical, level);
            let height = request.window[0];
            let view = Rows {
                data: &between.data,
                stride: between.stride,
                bytes: between.bytes,
                height,
            };
            across(view, channels, &horizontal.fixed(span.start), level)
        }
    }
}

/// A whole picture of 8-bit samples.
struct Source<'a> {
    data: &'a [u8],
    channels: usize,
    width: usize,
}

impl<'a> Source<'a> {
    fn view(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Rows<'a> {
        let stride = self.width * self.channels;
        let start = rows.start * stride + columns.start * self.channels;
        Rows {
            data: &self.data[start..],
            stride,
            bytes: columns.len() * self.channels,
            height: rows.len(),
        }
    }

    fn cut(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Strip {
        let view = self.view(rows, columns);
        let data = (0..view.height).flat_map(|row| view.row(row)).copied().collect();
        Strip {
            data,
            stride: view.bytes,
            bytes: view.bytes,
        }
    }

    fn across(&self, rows: std::ops::Range<usize>, weights: &Weights, level: Level) -> Strip {
        let span = weights.span();
        across(
            self.view(rows, span.clone()),
            self.channels,
            &weights.fixed(span.start),
            level,
        )
    }

    fn down(&self, columns: std::ops::Range<usize>, weights: &Weights, level: Level) -> Strip {
        let span = weights.span();
        down(self.view(span.clone(), columns), &weights.fixed(span.start), level)
    }
}

fn across(view: Rows<'_>, channels: usize, weights: &super::filter::Fixed, level: Level) -> Strip {
    let bytes = weights.len() * channels;
    let stride = (bytes + SPARE).next_multiple_of(32);
    let mut data = vec![0; stride * view.height];
    simd::horizontal(level, view, channels, weights, &mut data, stride);
    Strip { data, stride, bytes }
}

fn down(view: Rows<'_>, weights: &super::filter::Fixed, level: Level) -> Strip {
    let mut data = vec![0; view.bytes * weights.len()];
    simd::vertical(level, view, weights, &mut data, view.bytes);
    Strip {
        data,
        stride: view.bytes,
        bytes: view.bytes,
    }
}
