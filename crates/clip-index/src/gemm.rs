//! The arithmetic of scores, and its SIMD kernels.
//!
//! A score is **one chain of fused multiply-adds in the order of the dimensions**, `s = fma(a[i], b[i], s)` from
//! `s = 0`, on every machine and at every place of the score matrix. So two pairs of equal rows score alike to the
//! bit, a tie is a tie, and figures made on different machines agree. The kernels are fast because they compute many
//! chains side by side, never because they split one. (General matrix products choose how to split the inner
//! dimension by the shape of the problem, so that a row's score may depend on where it stands.)
#![allow(unsafe_code)] // Vector loads and stores, and calls of functions compiled for more than the baseline CPU.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

/// Query rows of a tile.
pub(crate) const QUERIES: usize = 12;

/// Gallery rows of a tile.
pub(crate) const COLUMNS: usize = 32;

/// Pairs whose scores [`Kernel::pairs`] computes at once: enough independent chains to hide the latency of one.
pub(crate) const PAIRS: usize = 8;

/// Scores of a tile: `[query, gallery row]`.
pub(crate) type Tile = [[f32; COLUMNS]; QUERIES];

/// Which instructions compute the scores. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Any machine; fast where fused multiply-add belongs to the baseline (64-bit ARM).
    Portable,
}

impl Kernel {
    /// The fastest kernel of this machine.
    pub(crate) fn best() -> Self {
        Self::all()[0]
    }

    /// The kernels that this machine can run, fastest first.
    pub(crate) fn all() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
                kernels.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(Self::Avx2);
            }
        }
        kernels.push(Self::Portable);
        kernels
    }

    /// Scores of 12 packed queries with 32 packed gallery rows. Element `i` of a packed slice holds dimension `i` of
    /// each of its rows.
    pub(crate) fn tile(self, queries: &[[f32; QUERIES]], columns: &[[f32; COLUMNS]], tile: &mut Tile) {
        match self {
            // SAFETY: a value of this variant is made by `all` alone, after it has seen that the CPU has AVX-512F.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { tile_avx512(queries, columns, tile) },
            // SAFETY: as above, with AVX2 and FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { tile_avx2(queries, columns, tile) },
            Self::Portable => tile_portable(queries, columns, tile),
        }
    }

    /// Scores of eight pairs of rows of equal length.
    pub(crate) fn pairs(self, left: [&[f32]; PAIRS], right: [&[f32]; PAIRS]) -> [f32; PAIRS] {
        match self {
            // SAFETY: both variants are made by `all` alone, after it has seen that the CPU has FMA.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => unsafe { pairs_fma(left, right) },
            Self::Portable => pairs_portable(left, right),
        }
    }
}

/// 12 x 32 sums in 24 of the 32 registers; each step loads two vectors of gallery rows and spreads 12 query values.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn tile_avx512(queries: &[[f32; QUERIES]], columns: &[[f32; COLUMNS]], tile: &mut Tile) {
    let mut sums = [[_mm512_setzero_ps(); 2]; QUERIES];
    for (queries, columns) in queries.iter().zip(columns) {
        // SAFETY: `columns` holds 32 values, which are two vectors of 16; unaligned loads are meant.
        let (low, high) = unsafe {
            (
                _mm512_loadu_ps(columns.as_ptr()),
                _mm512_loadu_ps(columns.as_ptr().add(16)),
            )
        };
        for (sum, &query) in sums.iter_mut().zip(queries) {
            let query = _mm512_set1_ps(query);
            *sum = [
                _mm512_fmadd_ps(query, low, sum[0]),
                _mm512_fmadd_ps(query, high, sum[1]),
            ];
        }
    }
    for (sum, row) in sums.iter().zip(tile) {
        // SAFETY: `row` holds 32 values, which are two vectors of 16; unaligned stores are meant.
        unsafe {
            _mm512_storeu_ps(row.as_mut_ptr(), sum[0]);
            _mm512_storeu_ps(row.as_mut_ptr().add(16), sum[1]);
        }
    }
}

/// The tile in four parts of 6 x 16 sums, which is what 16 registers hold.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn tile_avx2(queries: &[[f32; QUERIES]], columns: &[[f32; COLUMNS]], tile: &mut Tile) {
    for column in [0, 16] {
        for query in [0, 6] {
            let mut sums = [[_mm256_setzero_ps(); 2]; 6];
            for (queries, columns) in queries.iter().zip(columns) {
                let columns = &columns[column..column + 16];
                // SAFETY: the slice holds 16 values, which are two vectors of 8; unaligned loads are meant.
                let (low, high) = unsafe {
                    (
                        _mm256_loadu_ps(columns.as_ptr()),
                        _mm256_loadu_ps(columns.as_ptr().add(8)),
                    )
                };
                for (sum, &query) in sums.iter_mut().zip(&queries[query..query + 6]) {
                    let query = _mm256_set1_ps(query);
                    *sum = [
                        _mm256_fmadd_ps(query, low, sum[0]),
                        _mm256_fmadd_ps(query, high, sum[1]),
                    ];
                }
            }
            for (sum, row) in sums.iter().zip(&mut tile[query..query + 6]) {
                let row = &mut row[column..column + 16];
                // SAFETY: the slice holds 16 values, which are two vectors of 8; unaligned stores are meant.
                unsafe {
                    _mm256_storeu_ps(row.as_mut_ptr(), sum[0]);
                    _mm256_storeu_ps(row.as_mut_ptr().add(8), sum[1]);
                }
            }
        }
    }
}

/// The same parts in plain Rust: the compiler makes vectors of the inner loop where the CPU has fused multiply-add.
fn tile_portable(queries: &[[f32; QUERIES]], columns: &[[f32; COLUMNS]], tile: &mut Tile) {
    for column in [0, 16] {
        for query in [0, 6] {
            let mut sums = [[0f32; 16]; 6];
            for (queries, columns) in queries.iter().zip(columns) {
                for (sums, &query) in sums.iter_mut().zip(&queries[query..query + 6]) {
                    for (sum, &column) in sums.iter_mut().zip(&columns[column..column + 16]) {
                        *sum = query.mul_add(column, *sum);
                    }
                }
            }
            for (sums, row) in sums.iter().zip(&mut tile[query..query + 6]) {
                row[column..column + 16].copy_from_slice(sums);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "fma")]
fn pairs_fma(left: [&[f32]; PAIRS], right: [&[f32]; PAIRS]) -> [f32; PAIRS] {
    pairs_portable(left, right)
}

#[inline(always)] // So that it is compiled anew for the instructions of its caller.
fn pairs_portable(left: [&[f32]; PAIRS], right: [&[f32]; PAIRS]) -> [f32; PAIRS] {
    let dim = left[0].len();
    // Slices of one known length let the compiler check the bounds once.
    let (left, right) = (left.map(|row| &row[..dim]), right.map(|row| &row[..dim]));
    let mut sums = [0f32; PAIRS];
    for i in 0..dim {
        for pair in 0..PAIRS {
            sums[pair] = left[pair][i].mul_add(right[pair][i], sums[pair]);
        }
    }
    sums
}

/// Packs up to `N` rows side by side: element `i` of `packed` gets dimension `i` of each row, zero where a row is
/// missing.
pub(crate) fn pack<'a, const N: usize>(rows: impl Iterator<Item = &'a [f32]>, packed: &mut [[f32; N]]) {
    let mut filled = 0;
    for (place, row) in rows.take(N).enumerate() {
        for (values, &value) in packed.iter_mut().zip(row) {
            values[place] = value;
        }
        filled = place + 1;
    }
    if filled < N {
        packed.iter_mut().for_each(|values| values[filled..].fill(0.0));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition.
    fn chain(left: &[f32], right: &[f32]) -> f32 {
        left.iter().zip(right).fold(0.0, |sum, (&a, &b)| a.mul_add(b, sum))
    }

    proptest! {
        /// Any values, any number of dimensions: each kernel gives the bits of the definition at each place.
        #[test]
        fn every_kernel_gives_the_bits_of_the_definition(
            rows in (0usize..70).prop_flat_map(|dim| {
                prop::collection::vec(prop::collection::vec(-2f32..2.0, dim), QUERIES + COLUMNS)
            }),
        ) {
            let dim = rows[0].len();
            let (left, right) = rows.split_at(QUERIES);
            let mut queries = vec![[f32::NAN; QUERIES]; dim];
            let mut columns = vec![[f32::NAN; COLUMNS]; dim];
            pack(left.iter().map(Vec::as_slice), &mut queries);
            pack(right.iter().map(Vec::as_slice), &mut columns);
            for kernel in Kernel::all() {
                let mut tile = [[f32::NAN; COLUMNS]; QUERIES];
                kernel.tile(&queries, &columns, &mut tile);
                for (a, scores) in left.iter().zip(&tile) {
                    for (b, score) in right.iter().zip(scores) {
                        prop_assert_eq!(score.to_bits(), chain(a, b).to_bits(), "{:?}", kernel);
                    }
                }
                let pairs = kernel.pairs(
                    std::array::from_fn(|i| left[i].as_slice()),
                    std::array::from_fn(|i| right[i].as_slice()),
                );
                for (pair, score) in pairs.iter().enumerate() {
                    prop_assert_eq!(score.to_bits(), chain(&left[pair], &right[pair]).to_bits(), "{:?}", kernel);
                }
            }
        }
    }

    #[test]
    fn missing_rows_are_packed_as_zeros() {
        let mut packed = [[f32::NAN; 3]; 2];
        pack([[1.0, 2.0].as_slice()].into_iter(), &mut packed);
        assert_eq!(packed, [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]);
    }
}
