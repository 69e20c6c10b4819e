//! The resize of 16-bit grey: weights in f64, each pass rounded to whole levels.

use super::filter::Weights;
use super::resize::Request;

/// The window of a resized 16-bit picture.
pub(super) fn resize(data: &[u16], request: &Request) -> Vec<u16> {
    let [rows, columns] = [0, 1].map(|axis| request.origin[axis]..request.origin[axis] + request.window[axis]);
    let source = Grid {
        data,
        width: request.from[1],
    };
    let [vertical, horizontal] = [request.weights(0), request.weights(1)];
    match (vertical, horizontal) {
        (None, None) => rows
            .flat_map(|y| &data[y * source.width..][columns.clone()])
            .copied()
            .collect(),
        (None, Some(horizontal)) => source.across(rows, &horizontal),
        (Some(vertical), None) => source.down(columns, &vertical, 0),
        (Some(vertical), Some(horizontal)) if request.passes.horizontal_first(request.from, request.to) => {
            let span = vertical.span();
            let between = source.across(span.clone(), &horizontal);
            let width = request.window[1];
            Grid { data: &between, width }.down(0..width, &vertical, span.start)
        }
        (Some(vertical), Some(horizontal)) => {
            // All columns are kept between the passes: 16-bit pictures are rare, and the bits are the same.
            let between = source.down(0..source.width, &vertical, 0);
            Grid {
                data: &between,
                width: source.width,
            }
            .across(0..request.window[0], &horizontal)
        }
    }
}

struct Grid<'a> {
    data: &'a [u16],
    width: usize,
}

impl Grid<'_> {
    fn across(&self, rows: std::ops::Range<usize>, weights: &Weights) -> Vec<u16> {
        let outputs = weights.first.len();
        let mut out = Vec::with_capacity(rows.len() * outputs);
        for row in self.data.chunks_exact(self.width).skip(rows.start).take(rows.len()) {
            for x in 0..outputs {
                let samples = &row[weights.first[x]..][..weights.count[x]];
                let products = samples.iter().zip(&weights.exact[x * weights.taps..]);
                out.push(level(
                    products.fold(0.0, |sum, (&value, weight)| sum + f64::from(value) * weight),
                ));
            }
        }
        out
    }

    fn down(&self, columns: std::ops::Range<usize>, weights: &Weights, origin: usize) -> Vec<u16> {
        let mut out = Vec::with_capacity(columns.len() * weights.first.len());
        for y in 0..weights.first.len() {
            let taps = &weights.exact[y * weights.taps..][..weights.count[y]];
            let mut sums = vec![0.0; columns.len()];
            for (row, weight) in self
                .data
                .chunks_exact(self.width)
                .skip(weights.first[y] - origin)
                .zip(taps)
            {
                for (sum, &value) in sums.iter_mut().zip(&row[columns.clone()]) {
                    *sum += f64::from(value) * weight;
                }
            }
            out.extend(sums.into_iter().map(level));
        }
        out
    }
}

/// Rounds half away from zero and clamps; a cast truncates and saturates.
fn level(sum: f64) -> u16 {
    (sum + 0.5) as u16
}
