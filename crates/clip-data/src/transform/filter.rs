//! Resampling filters and their weights, as Pillow computes them.

use std::f64::consts::PI;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A resampling filter, by Pillow's names. All but `Nearest` widen with the scale (antialiased).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// The mean of the covered pixels.
    Box,
    /// A triangle.
    Bilinear,
    /// A Hamming-windowed sinc of one period.
    Hamming,
    /// The cubic with a = -0.5 (Keys).
    #[default]
    Bicubic,
    /// A Lanczos-windowed sinc of three periods.
    Lanczos,
}

impl Filter {
    /// Half the width of the filter, in samples, at scale 1.
    fn support(self) -> f64 {
        match self {
            Self::Nearest | Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest | Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Hamming => hamming(x.abs()),
            Self::Bicubic => bicubic(x.abs()),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn hamming(x: f64) -> f64 {
    // The two constants are single precision in Pillow.
    if x < 1.0 {
        sinc(x) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (x * PI).cos())
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Bits after the point of a fixed weight.
pub(super) const PRECISION: u32 = 22;
/// Bits of the lower half of a fixed weight split for 16-bit multiplication.
pub(super) const SPLIT: u32 = 12;

/// The weights of the outputs of one axis within a window of the target.
pub(super) struct Weights {
    /// First source sample of each output.
    pub(super) first: Vec<usize>,
    /// Number of source samples of each output.
    pub(super) count: Vec<usize>,
    /// Room for each output in `exact`, a multiple of 4.
    pub(super) taps: usize,
    /// `[outputs, taps]`, each row summing to 1; zero past `count`.
    pub(super) exact: Vec<f64>,
}

impl Weights {
    /// The weights that bring `source` samples to `target`, for the outputs in `window`.
    pub(super) fn new(filter: Filter, source: usize, target: usize, window: Range<usize>) -> Self {
        let scale = source as f64 / target as f64;
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        // The order of operations decides the last bit: the reciprocal is taken once, the sum divides.
        let narrowing = 1.0 / widening;
        let taps = (support.ceil() as usize * 2 + 1).next_multiple_of(4);
        let outputs = window.len();
        let mut weights = Self {
            first: Vec::with_capacity(outputs),
            count: Vec::with_capacity(outputs),
            taps,
            exact: vec![0.0; outputs * taps],
        };
        for (output, row) in window.zip(weights.exact.chunks_exact_mut(taps)) {
            let centre = (output as f64 + 0.5) * scale;
            // A cast truncates towards zero and stops at 0, as Pillow's bounds do.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let count = end - first;
            let mut sum = 0.0;
            for (sample, weight) in row[..count].iter_mut().enumerate() {
                *weight = filter.weight(((sample + first) as f64 - centre + 0.5) * narrowing);
                sum += *weight;
            }
            if sum != 0.0 {
                row[..count].iter_mut().for_each(|weight| *weight /= sum);
            }
            weights.first.push(first);
            weights.count.push(count);
        }
        weights
    }

    /// The source samples that any output needs.
    pub(super) fn span(&self) -> Range<usize> {
        let first = self.first.iter().copied().min().unwrap_or(0);
        let end = self
            .first
            .iter()
            .zip(&self.count)
            .map(|(first, count)| first + count)
            .max()
            .unwrap_or(0);
        first..end
    }

    /// The same weights with 22 bits after the point, counted from source sample `origin`.
    pub(super) fn fixed(&self, origin: usize) -> Fixed {
        let taps: Vec<i32> = self.exact.iter().map(|&weight| fixed(weight)).collect();
        let split = taps.as_chunks::<4>().0.iter().map(|&group| split(group)).collect();
        let first = self.first.iter().map(|first| first - origin).collect();
        Fixed {
            first,
            count: self.count.clone(),
            stride: self.taps,
            taps,
            split,
        }
    }
}

/// A weight in fixed point, rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1_u32 << PRECISION);
    if scaled < 0.0 {
        (scaled - 0.5) as i32
    } else {
        (scaled + 0.5) as i32
    }
}

/// Four weights as their upper and lower halves: `weight = upper * 4096 + lower`, each within 16 bits.
fn split(group: [i32; 4]) -> [i16; 8] {
    let upper = group.map(|weight| ((weight + (1 << (SPLIT - 1))) >> SPLIT) as i16);
    let lower = [0, 1, 2, 3].map(|i: usize| (group[i] - (i32::from(upper[i]) << SPLIT)) as i16);
    let [a, b, c, d] = upper;
    let [e, f, g, h] = lower;
    [a, b, c, d, e, f, g, h]
}

/// Fixed-point weights of one axis.
pub(super) struct Fixed {
    /// First source sample of each output.
    pub(super) first: Vec<usize>,
    /// Number of source samples of each output.
    pub(super) count: Vec<usize>,
    /// Room for each output in `taps`, a multiple of 4.
    pub(super) stride: usize,
    /// `[outputs, stride]`.
    pub(super) taps: Vec<i32>,
    /// `[outputs, stride / 4]`: four upper halves, four lower halves.
    pub(super) split: Vec<[i16; 8]>,
}

impl Fixed {
    /// Number of outputs.
    pub(super) fn len(&self) -> usize {
        self.first.len()
    }

    /// First sample and weights of one output.
    pub(super) fn row(&self, output: usize) -> (usize, &[i32]) {
        let start = output * self.stride;
        (self.first[output], &self.taps[start..start + self.count[output]])
    }

    /// The split weights of one output, in groups of four samples.
    pub(super) fn groups(&self, output: usize) -> &[[i16; 8]] {
        let groups = self.stride / 4;
        &self.split[output * groups..][..self.count[output].div_ceil(4)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [Filter; 5] = [
        Filter::Box,
        Filter::Bilinear,
        Filter::Hamming,
        Filter::Bicubic,
        Filter::Lanczos,
    ];

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for filter in FILTERS {
            for (source, target) in [(1, 7), (7, 1), (800, 224), (224, 800), (5, 5), (333, 2)] {
                let weights = Weights::new(filter, source, target, 0..target);
                for output in 0..target {
                    let row = &weights.exact[output * weights.taps..][..weights.taps];
                    assert!(
                        (row.iter().sum::<f64>() - 1.0).abs() < 1e-12,
                        "{filter:?} {source} {target}"
                    );
                    assert!(weights.first[output] + weights.count[output] <= source);
                }
            }
        }
    }

    #[test]
    fn a_window_has_the_weights_of_the_whole() {
        let whole = Weights::new(Filter::Bicubic, 100, 37, 0..37);
        let part = Weights::new(Filter::Bicubic, 100, 37, 10..20);
        assert_eq!(whole.exact[10 * whole.taps..20 * whole.taps], part.exact[..]);
        assert_eq!(whole.first[10..20], part.first[..]);
    }

    #[test]
    fn halves_make_the_whole() {
        let fixed = Weights::new(Filter::Lanczos, 90, 40, 0..40).fixed(0);
        for (group, halves) in fixed.taps.chunks(4).zip(&fixed.split) {
            for i in 0..4 {
                assert_eq!(group[i], i32::from(halves[i]) * 4096 + i32::from(halves[i + 4]));
            }
        }
    }
}
