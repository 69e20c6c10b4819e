//! The chance of views: a row of numbers that a seed decides.

/// The nearest value in range; the least for what is no number.
pub(crate) fn bound(value: f64, least: f64, most: f64) -> f64 {
    if value.is_nan() {
        least
    } else {
        value.clamp(least, most)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): its numbers never change, so cached views stay valid.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// From 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, least: f64, most: f64) -> f64 {
        least + self.unit() * (most - least)
    }

    /// A whole number below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count - 1)
    }
}
