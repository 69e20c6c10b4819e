//! Sizes and offsets: what the picture is resized to, and which part of it is kept.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What the picture is resized to before the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side to this many pixels, the longer one in proportion, truncated.
    Shortest(usize),
    /// In proportion until both sides cover the size, rounded half to even (OpenCLIP's rule for sizes that are not
    /// square).
    Cover,
    /// In proportion until the longer side fits the size, rounded half to even; the rest is padded.
    Longest,
    /// To this height and width, whatever the proportions.
    Squash([usize; 2]),
    /// Not at all.
    Keep,
}

/// Where the middle of an odd rest lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// Half to even: torchvision, hence OpenCLIP.
    #[default]
    HalfToEven,
    /// Down: Hugging Face.
    Floor,
    /// Up: EasyNLP.
    HalfUp,
}

impl Resize {
    /// The height and width that a picture of `from` is resized to.
    ///
    /// # Errors
    /// A side would be 0.
    pub(super) fn target(self, from: [usize; 2], size: [usize; 2]) -> Result<[usize; 2]> {
        let [height, width] = from;
        let to = match self {
            Self::Keep => from,
            Self::Squash(to) => to,
            Self::Shortest(edge) if width <= height => [in_proportion(edge, height, width), edge],
            Self::Shortest(edge) => [edge, in_proportion(edge, width, height)],
            Self::Cover | Self::Longest => {
                let ratios = [0, 1].map(|axis| from[axis] as f64 / size[axis] as f64);
                let ratio = if self == Self::Cover {
                    ratios[0].min(ratios[1])
                } else {
                    ratios[0].max(ratios[1])
                };
                from.map(|side| (side as f64 / ratio).round_ties_even() as usize)
            }
        };
        if to.contains(&0) {
            return Err(Error::invalid(format!(
                "a picture of {width} x {height} pixels is too narrow: resized to fit {} x {}, one side would be 0",
                size[1], size[0]
            ))
            .remedy("leave the picture out, or use the resize mode shortest or squash"));
        }
        Ok(to)
    }
}

/// `edge * long / short`, truncated, as Python computes it: one division of exact integers.
fn in_proportion(edge: usize, long: usize, short: usize) -> usize {
    ((edge as u64 * long as u64) as f64 / short as f64) as usize
}

impl Crop {
    /// Where a crop of `wanted` samples starts in `there`; negative where it is padded.
    pub(super) fn offset(self, there: usize, wanted: usize) -> i64 {
        let (there, wanted) = (there as i64, wanted as i64);
        let rest = there - wanted;
        match self {
            // torchvision pads first, the smaller half before, then rounds the rest.
            Self::HalfToEven if rest < 0 => -(-rest / 2),
            Self::HalfToEven => (rest as f64 / 2.0).round_ties_even() as i64,
            Self::Floor => rest.div_euclid(2),
            Self::HalfUp => (rest + 1).div_euclid(2),
        }
    }
}

/// The part of a resized picture that is kept, and where it lies in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    /// Top and left of the kept part in the resized picture.
    pub(super) origin: [usize; 2],
    /// Height and width of the kept part.
    pub(super) window: [usize; 2],
    /// Top and left of the kept part in the result.
    pub(super) margin: [usize; 2],
}

impl Placement {
    /// Crops or pads `to` to `size`.
    pub(super) fn new(crop: Crop, to: [usize; 2], size: [usize; 2]) -> Self {
        let mut placement = Self {
            origin: [0; 2],
            window: [0; 2],
            margin: [0; 2],
        };
        for axis in 0..2 {
            let offset = crop.offset(to[axis], size[axis]);
            placement.origin[axis] = offset.max(0) as usize;
            placement.margin[axis] = (-offset).max(0) as usize;
            placement.window[axis] = to[axis].min(size[axis]);
        }
        placement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_rests_differ_by_rule() {
        let offsets =
            |rest: usize| [Crop::HalfToEven, Crop::Floor, Crop::HalfUp].map(|crop| crop.offset(32 + rest, 32));
        assert_eq!(offsets(1), [0, 0, 1]);
        assert_eq!(offsets(3), [2, 1, 2]);
        assert_eq!(offsets(4), [2, 2, 2]);
        assert_eq!(Crop::HalfToEven.offset(29, 32), -1);
        assert_eq!(Crop::Floor.offset(29, 32), -2);
    }

    #[test]
    fn targets() {
        let target = |resize: Resize, from| resize.target(from, [32, 32]).unwrap();
        assert_eq!(target(Resize::Shortest(32), [67, 131]), [32, 62]);
        assert_eq!(target(Resize::Shortest(32), [131, 67]), [62, 32]);
        assert_eq!(target(Resize::Longest, [131, 67]), [32, 16]);
        assert_eq!(target(Resize::Squash([5, 6]), [131, 67]), [5, 6]);
        assert_eq!(Resize::Cover.target([100, 100], [30, 20]).unwrap(), [30, 30]);
        assert!(
            Resize::Longest
                .target([3, 420], [32, 32])
                .unwrap_err()
                .to_string()
                .contains("420 x 3")
        );
    }
}
