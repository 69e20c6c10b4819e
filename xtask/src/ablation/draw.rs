//! Chance without a state that outlives its use: what is drawn is named by a text and a number.

/// A sequence of random numbers (SplitMix64: Steele, Lea and Flood 2014).
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    /// The sequence of a name: what is drawn for one thing does not depend on what else is drawn.
    pub(super) fn of(name: &str, number: u64) -> Self {
        // FNV-1a, then a step of the generator itself, so that names that differ little start far apart.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut draw = Self {
            state: hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        draw.state = draw.next();
        draw
    }

    /// Any number of 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below 1.
    pub(super) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 to below `count`, which is not 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// Puts a slice into another order, each as likely (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, slice: &mut [T]) {
        for last in (1..slice.len()).rev() {
            slice.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_even_and_names_differ() {
        let mut draw = Draw::of("even", 1);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[draw.below(7)] += 1);
        // Five standard deviations of a count are 460.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 460), "{counts:?}");
        let mean = (0..10_000).map(|_| draw.share()).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
        assert_ne!(Draw::of("a", 1).next(), Draw::of("a", 2).next());
        assert_ne!(Draw::of("a", 1).next(), Draw::of("b", 1).next());
    }

    #[test]
    fn a_shuffle_holds_everything_once() {
        let mut order: Vec<u32> = (0..50).collect();
        Draw::of("order", 0).shuffle(&mut order);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
    }
}
