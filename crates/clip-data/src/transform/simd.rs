//! The two passes of the 8-bit resize, with AVX2 where the machine has it; every path gives the same bits.
//!
//! A fixed weight has 23 bits, too many for the 16-bit multiply-add. Split as `upper * 4096 + lower` it takes two
//! of them, and `upper * 4096 + lower` of the sums is the sum of the products to the bit.
#![allow(unsafe_code)] // Reason: vector loads and stores, and calls of functions that need AVX2.

use super::filter::{Fixed, PRECISION};

/// Spare bytes behind each row that [`horizontal`] writes: a pixel is stored as four bytes.
pub(super) const SPARE: usize = 4;

/// Rows of pixels with interleaved channels.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The bytes, `height` rows of `stride`; the last may be shorter.
    pub(super) data: &'a [u8],
    /// Bytes from row to row.
    pub(super) stride: usize,
    /// Bytes of a row that hold pixels.
    pub(super) bytes: usize,
    /// Number of rows.
    pub(super) height: usize,
}

impl<'a> Rows<'a> {
    /// The pixels of one row.
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        &self.data[row * self.stride..][..self.bytes]
    }
}

/// Which instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Plain arithmetic.
    Scalar,
    /// 256-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Level {
    /// The best this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            return Self::Avx2;
        }
        Self::Scalar
    }
}

/// Resamples each row of `source` into a row of `output`, `output_stride` bytes apart, `SPARE` of them spare.
pub(super) fn horizontal(
    level: Level,
    source: Rows<'_>,
    channels: usize,
    weights: &Fixed,
    output: &mut [u8],
    output_stride: usize,
) {
    assert!(output.len() >= source.height * output_stride && output_stride >= weights.len() * channels + SPARE);
    assert!((0..weights.len()).all(|x| (weights.first[x] + weights.count[x]) * channels <= source.bytes));
    match (level, channels) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Avx2` is only made where the machine has it; the bounds were asserted above.
        (Level::Avx2, 3) => unsafe { avx2::horizontal::<3>(source, weights, output, output_stride) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        (Level::Avx2, 4) => unsafe { avx2::horizontal::<4>(source, weights, output, output_stride) },
        (_, 1) => scalar_horizontal::<1>(source, weights, output, output_stride),
        (_, 2) => scalar_horizontal::<2>(source, weights, output, output_stride),
        (_, 3) => scalar_horizontal::<3>(source, weights, output, output_stride),
        _ => scalar_horizontal::<4>(source, weights, output, output_stride),
    }
}

/// Resamples the columns of `source`: one output row of `source.bytes` a weight row, `output_stride` bytes apart.
pub(super) fn vertical(level: Level, source: Rows<'_>, weights: &Fixed, output: &mut [u8], output_stride: usize) {
    assert!(output_stride >= source.bytes && output.len() >= weights.len() * output_stride);
    assert!((0..weights.len()).all(|y| weights.first[y] + weights.count[y] <= source.height));
    for (y, row) in output.chunks_exact_mut(output_stride).take(weights.len()).enumerate() {
        let row = &mut row[..source.bytes];
        let done = match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Avx2` is only made where the machine has it; the rows were asserted to exist.
            Level::Avx2 => unsafe { avx2::vertical(source, weights, y, row) },
            Level::Scalar => 0,
        };
        scalar_vertical(source, weights, y, done, row);
    }
}

/// The sum of products, rounded, as a byte.
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION - 1);

fn scalar_horizontal<const CHANNELS: usize>(source: Rows<'_>, weights: &Fixed, output: &mut [u8], stride: usize) {
    for (y, out) in output.chunks_exact_mut(stride).take(source.height).enumerate() {
        let row = source.row(y);
        for (x, pixel) in out.chunks_exact_mut(CHANNELS).take(weights.len()).enumerate() {
            let (first, taps) = weights.row(x);
            let mut sums = [HALF; CHANNELS];
            for (sample, &weight) in row[first * CHANNELS..].chunks_exact(CHANNELS).zip(taps) {
                for (sum, &value) in sums.iter_mut().zip(sample) {
                    *sum = sum.wrapping_add(i32::from(value) * weight);
                }
            }
            for (value, sum) in pixel.iter_mut().zip(sums) {
                *value = byte(sum);
            }
        }
    }
}

/// One output row from byte `start` on; in blocks, so that the sums stay in registers.
fn scalar_vertical(source: Rows<'_>, weights: &Fixed, y: usize, start: usize, output: &mut [u8]) {
    const BLOCK: usize = 32;
    let (first, taps) = weights.row(y);
    for (block, out) in output[start..].chunks_mut(BLOCK).enumerate() {
        let mut sums = [HALF; BLOCK];
        for (offset, &weight) in taps.iter().enumerate() {
            let row = &source.row(first + offset)[start + block * BLOCK..][..out.len()];
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(value) * weight);
            }
        }
        for (value, sum) in out.iter_mut().zip(sums) {
            *value = byte(sum);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! Both passes in 256-bit vectors.

    use std::arch::x86_64::*;

    use super::{Fixed, HALF, PRECISION, Rows};
    use crate::transform::filter::SPLIT;

    /// Rows that share the weights they load.
    const TOGETHER: usize = 4;
    /// Bytes one load of four pixels reads.
    const LOAD: usize = 16;

    /// Brings four pixels to `[r0 r1, r2 r3, g0 g1, g2 g3 | b0 b1, b2 b3, a0 a1, a2 a3]`, 16 bits each.
    #[target_feature(enable = "avx2")]
    fn spread<const CHANNELS: usize>() -> __m256i {
        let mut mask = [-1_i8; 32];
        for channel in 0..CHANNELS {
            for sample in 0..4 {
                mask[channel * 8 + sample * 2] = (sample * CHANNELS + channel) as i8;
            }
        }
        // SAFETY: `mask` has 32 bytes, and the load asks for no alignment.
        unsafe { _mm256_loadu_si256(mask.as_ptr().cast()) }
    }

    /// `upper * 4096 + lower`.
    #[target_feature(enable = "avx2")]
    fn join(upper: __m256i, lower: __m256i) -> __m256i {
        _mm256_add_epi32(_mm256_slli_epi32::<{ SPLIT as i32 }>(upper), lower)
    }

    /// Rounds and drops the bits after the point.
    #[target_feature(enable = "avx2")]
    fn round(sums: __m256i) -> __m256i {
        _mm256_srai_epi32::<{ PRECISION as i32 }>(_mm256_add_epi32(sums, _mm256_set1_epi32(HALF)))
    }

    /// SAFETY: the machine has AVX2; every weight's samples lie within `source.bytes`; `output` has `source.height`
    /// rows of `stride` bytes, each with four spare behind its pixels.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn horizontal<const CHANNELS: usize>(
        source: Rows<'_>,
        weights: &Fixed,
        output: &mut [u8],
        stride: usize,
    ) {
        // Groups are filled up to four samples of weight 0, and a load is 16 bytes, so loads run past a row's end by
        // less than this; rows near the end of the data are read from a copy with room behind.
        let past = 3 * CHANNELS + LOAD;
        let mut copy = vec![0_u8; TOGETHER * (source.bytes + past)];
        let base = output.as_mut_ptr();
        let mut start = 0;
        while start < source.height {
            // The last rows are done with some rows before them once more.
            let rows = [0, 1, 2, 3].map(|i: usize| (start + i).min(source.height - 1));
            let mut inputs = rows.map(|row| source.data[row * source.stride..].as_ptr());
            if rows[TOGETHER - 1] * source.stride + source.bytes + past > source.data.len() {
                for (i, room) in copy.chunks_exact_mut(source.bytes + past).enumerate() {
                    room[..source.bytes].copy_from_slice(source.row(rows[i]));
                    inputs[i] = room.as_ptr();
                }
            }
            // SAFETY: the output has `source.height` rows.
            let outputs = rows.map(|row| unsafe { base.add(row * stride) });
            // SAFETY: each input has its row and `past` bytes more; each output has its pixels and four bytes more.
            unsafe { four_rows::<CHANNELS>(inputs, weights, outputs) };
            start += TOGETHER;
        }
    }

    /// SAFETY: the machine has AVX2; inputs and outputs are as `horizontal` says.
    #[target_feature(enable = "avx2")]
    unsafe fn four_rows<const CHANNELS: usize>(
        inputs: [*const u8; TOGETHER],
        weights: &Fixed,
        outputs: [*mut u8; TOGETHER],
    ) {
        let spread = spread::<CHANNELS>();
        for x in 0..weights.len() {
            let mut offset = weights.first[x] * CHANNELS;
            let mut upper = [_mm256_setzero_si256(); TOGETHER];
            let mut lower = [_mm256_setzero_si256(); TOGETHER];
            for group in weights.groups(x) {
                // SAFETY: a group is 16 bytes: four upper halves, four lower halves.
                let both = unsafe { _mm_loadu_si128(group.as_ptr().cast()) };
                let group_upper = _mm256_broadcastq_epi64(both);
                let group_lower = _mm256_broadcastq_epi64(_mm_unpackhi_epi64(both, both));
                for i in 0..TOGETHER {
                    // SAFETY: the load starts within the row's samples (or their filling) and the caller left room.
                    let four = unsafe { _mm_loadu_si128(inputs[i].add(offset).cast()) };
                    let samples = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), spread);
                    upper[i] = _mm256_add_epi32(upper[i], _mm256_madd_epi16(samples, group_upper));
                    lower[i] = _mm256_add_epi32(lower[i], _mm256_madd_epi16(samples, group_lower));
                }
                offset += 4 * CHANNELS;
            }
            let pixels = pack(upper, lower);
            for (i, output) in outputs.into_iter().enumerate() {
                // SAFETY: pixel x of an output row and four bytes from its start on are within the row and its spare.
                unsafe { output.add(x * CHANNELS).cast::<u32>().write_unaligned(pixels[i]) };
            }
        }
    }

    /// The pixel of each of four rows, as four bytes.
    #[target_feature(enable = "avx2")]
    fn pack(upper: [__m256i; TOGETHER], lower: [__m256i; TOGETHER]) -> [u32; TOGETHER] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i: usize| join(upper[i], lower[i]));
        // Two sums a channel stand side by side: [r g of row 0, r g of row 1 | b a of row 0, b a of row 1].
        let first = round(_mm256_hadd_epi32(a, b));
        let second = round(_mm256_hadd_epi32(c, d));
        let words = _mm256_packs_epi32(first, second);
        let bytes = _mm256_packus_epi16(words, words);
        let joined = _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
        [
            _mm_extract_epi32::<0>(joined) as u32,
            _mm_extract_epi32::<1>(joined) as u32,
            _mm_extract_epi32::<2>(joined) as u32,
            _mm_extract_epi32::<3>(joined) as u32,
        ]
    }

    /// One output row in blocks of 16 bytes; says how many bytes it did.
    ///
    /// SAFETY: the machine has AVX2; the weights' rows are within `source`; `output` is no longer than its rows.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn vertical(source: Rows<'_>, weights: &Fixed, y: usize, output: &mut [u8]) -> usize {
        let first = weights.first[y];
        let last = first + weights.count[y] - 1;
        let groups = weights.groups(y);
        let blocks = output.len() / 16;
        for block in 0..blocks {
            let column = block * 16;
            let mut sums = [_mm256_setzero_si256(); 4];
            for (index, group) in groups.iter().enumerate() {
                for pair in 0..2 {
                    let row = first + index * 4 + pair * 2;
                    if row > last {
                        break;
                    }
                    let upper = _mm256_set1_epi32(two(group[pair * 2], group[pair * 2 + 1]));
                    let lower = _mm256_set1_epi32(two(group[4 + pair * 2], group[5 + pair * 2]));
                    let near = source.data[row * source.stride + column..][..16].as_ptr();
                    // Past the last row the weight is 0: any row will do.
                    let next = source.data[(row + 1).min(last) * source.stride + column..][..16].as_ptr();
                    // SAFETY: both slices have 16 bytes.
                    let (near, next) = unsafe { (_mm_loadu_si128(near.cast()), _mm_loadu_si128(next.cast())) };
                    let left = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(near, next));
                    let right = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(near, next));
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(left, upper));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(left, lower));
                    sums[2] = _mm256_add_epi32(sums[2], _mm256_madd_epi16(right, upper));
                    sums[3] = _mm256_add_epi32(sums[3], _mm256_madd_epi16(right, lower));
                }
            }
            let words = _mm256_packs_epi32(round(join(sums[0], sums[1])), round(join(sums[2], sums[3])));
            // Packing works within 128-bit halves: put the quarters back in order, then pack to bytes.
            let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256::<1>(ordered));
            let target = output[column..][..16].as_mut_ptr();
            // SAFETY: the slice has 16 bytes.
            unsafe { _mm_storeu_si128(target.cast(), bytes) };
        }
        blocks * 16
    }

    /// Two 16-bit weights as one 32-bit lane, the first one low.
    fn two(first: i16, second: i16) -> i32 {
        i32::from(first as u16) | (i32::from(second) << 16)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transform::filter::{Filter, Weights};

    fn both(width: usize, height: usize, target: usize, channels: usize, data: &[u8], filter: Filter) {
        let rows = Rows {
            data,
            stride: width * channels,
            bytes: width * channels,
            height,
        };
        let weights = Weights::new(filter, width, target, 0..target).fixed(0);
        let stride = target * channels + SPARE;
        let run = |level| {
            let mut output = vec![0; height * stride];
            horizontal(level, rows, channels, &weights, &mut output, stride);
            output
                .chunks(stride)
                .flat_map(|row| row[..target * channels].to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(Level::Scalar), run(Level::detect()));
        let weights = Weights::new(filter, height, target, 0..target).fixed(0);
        let run = |level| {
            let mut output = vec![0; target * rows.bytes];
            vertical(level, rows, &weights, &mut output, rows.bytes);
            output
        };
        assert_eq!(run(Level::Scalar), run(Level::detect()));
    }

    proptest! {
        #[test]
        fn vectors_give_the_bits_of_scalars(
            width in 1_usize..90, height in 1_usize..40, target in 1_usize..50, channels in 1_usize..=4,
            filter in prop::sample::select(vec![Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos]),
            seed in any::<u64>(), hard in any::<bool>(),
        ) {
            let mut state = seed | 1;
            let data: Vec<u8> = (0..width * height * channels)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let value = (state >> 56) as u8;
                    if hard { if value < 128 { 0 } else { 255 } } else { value }
                })
                .collect();
            both(width, height, target, channels, &data, filter);
        }
    }
}
