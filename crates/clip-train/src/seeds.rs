//! Seeds of what is drawn at random in a run.
//!
//! libtorch has one generator whose state cannot be read, so none is kept: it is seeded before every use from what the
//! use is. A resumed run, and the second forward pass of a micro-batch, then draw the same numbers again.

/// What the generator is seeded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    /// The forward pass of one view of pictures.
    Image(usize),
    /// The forward pass of one view of texts.
    Text(usize),
    /// The forward pass of concept names.
    Names,
    /// The forward pass of masked texts.
    Masked,
    /// Which concepts are drawn for a step.
    Concepts,
    /// Which text, which picture and which view of a pair an epoch sees.
    Choice,
    /// How a view of a picture is changed.
    Augment,
    /// Whether, and which, concept's name stands in for a pair's text.
    Caption,
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input moves every bit of the output.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A seed from the run's seed, a use and two numbers: step and micro-batch, or epoch and key.
pub(crate) fn seed(run: u64, draw: Draw, first: u64, second: u64) -> u64 {
    let draw = match draw {
        Draw::Image(view) => 2 * view as u64,
        Draw::Text(view) => 2 * view as u64 + 1,
        Draw::Choice => u64::MAX,
        Draw::Augment => u64::MAX - 1,
        Draw::Caption => u64::MAX - 2,
        Draw::Names => u64::MAX - 3,
        Draw::Masked => u64::MAX - 4,
        Draw::Concepts => u64::MAX - 5,
    };
    [draw, first, second]
        .into_iter()
        .fold(mix(run), |hash, value| mix(hash ^ value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_use_has_its_own_seed() {
        let mut seen = HashSet::new();
        for draw in [
            Draw::Image(0),
            Draw::Image(1),
            Draw::Text(0),
            Draw::Text(1),
            Draw::Choice,
            Draw::Augment,
            Draw::Caption,
            Draw::Names,
            Draw::Masked,
            Draw::Concepts,
        ] {
            for (run, first, second) in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)] {
                assert!(seen.insert(seed(run, draw, first, second)));
            }
        }
    }
}
