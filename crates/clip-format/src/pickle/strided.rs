//! Views of a storage by shape, strides and offset: checked, and made contiguous where they are not.

use std::ops::Range;

use clip_core::{Error, Result};

/// A checked view: every element lies in the storage, and there are no more elements than the storage holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StridedView {
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    count: usize,
}

impl StridedView {
    /// Checks a view of a storage of `elements` elements.
    ///
    /// A view with more elements than its storage (a broadcast) is refused: weights are never saved so, and a few
    /// bytes could otherwise ask for any amount of memory.
    pub(crate) fn new(shape: Vec<usize>, strides: Vec<usize>, offset: usize, elements: usize) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!(
                "a view of shape {shape:?}, strides {strides:?}, offset {offset} {what}"
            ))
        };
        if shape.len() != strides.len() {
            return Err(wrong("has not one stride a dimension"));
        }
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        let count = count.filter(|&count| count <= elements);
        let count = count.ok_or_else(|| wrong(&format!("is larger than its storage of {elements} elements")))?;
        let reach = shape.iter().zip(&strides).try_fold(offset, |last, (&size, &stride)| {
            size.saturating_sub(1)
                .checked_mul(stride)
                .and_then(|step| last.checked_add(step))
        });
        if count > 0 && reach.is_none_or(|last| last >= elements) {
            return Err(wrong(&format!("reaches past its storage of {elements} elements")));
        }
        Ok(Self {
            shape,
            strides,
            offset,
            count,
        })
    }

    /// Where the elements lie, in bytes of the storage, if they stand in a row.
    pub(crate) fn contiguous_range(&self, size: usize) -> Option<Range<usize>> {
        if self.count == 0 {
            return Some(0..0);
        }
        // No overflow: no dimension is 0, so that no product is more than the whole.
        let mut step = 1;
        for (&dimension, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if dimension > 1 && stride != step {
                return None;
            }
            step *= dimension;
        }
        Some(self.offset * size..(self.offset + self.count) * size)
    }

    /// Copies the elements, each of `size` bytes, into a row.
    pub(crate) fn gather(&self, storage: &[u8], size: usize) -> Vec<u8> {
        match size {
            1 => self.gather_sized::<1>(storage),
            2 => self.gather_sized::<2>(storage),
            4 => self.gather_sized::<4>(storage),
            _ => self.gather_sized::<8>(storage),
        }
    }

    fn gather_sized<const N: usize>(&self, storage: &[u8]) -> Vec<u8> {
        let elements = storage.as_chunks::<N>().0;
        let mut out = Vec::with_capacity(self.count * N);
        let Some((&row, outer)) = self.shape.split_last() else {
            return elements[self.offset].to_vec();
        };
        let row_stride = self.strides[outer.len()];
        let mut place = vec![0; outer.len()];
        let mut at = self.offset;
        while out.len() < self.count * N {
            (0..row).for_each(|column| out.extend_from_slice(&elements[at + column * row_stride]));
            // Step the outer dimensions like an odometer, the last one fastest.
            for dimension in (0..outer.len()).rev() {
                at += self.strides[dimension];
                place[dimension] += 1;
                if place[dimension] < outer[dimension] {
                    break;
                }
                at -= self.strides[dimension] * outer[dimension];
                place[dimension] = 0;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_transposed_view_is_gathered() {
        let storage: Vec<u8> = (0..6u16).flat_map(u16::to_le_bytes).collect();
        let view = StridedView::new(vec![3, 2], vec![1, 3], 0, 6).unwrap();
        assert_eq!(view.contiguous_range(2), None);
        let wanted: Vec<u8> = [0u16, 3, 1, 4, 2, 5]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        assert_eq!(view.gather(&storage, 2), wanted);
    }

    proptest! {
        /// Any order of dimensions in memory, as TensorFlow's kernels come to PyTorch.
        #[test]
        fn any_order_of_dimensions_is_gathered(sizes in proptest::collection::vec(1usize..5, 1..5), order in Just([0usize, 1, 2, 3]).prop_shuffle(), offset in 0usize..3) {
            let rank = sizes.len();
            let mut strides = vec![0; rank];
            let mut step = 1;
            for dimension in order.into_iter().filter(|&dimension| dimension < rank) {
                strides[dimension] = step;
                step *= sizes[dimension];
            }
            let storage: Vec<u8> = (0..(step + offset) as u16).flat_map(u16::to_le_bytes).collect();
            let view = StridedView::new(sizes.clone(), strides.clone(), offset, step + offset).unwrap();
            let element = |flat: usize| {
                let (mut rest, mut at) = (flat, offset);
                for dimension in (0..rank).rev() {
                    at += rest % sizes[dimension] * strides[dimension];
                    rest /= sizes[dimension];
                }
                at as u16
            };
            let wanted: Vec<u8> = (0..step).flat_map(|flat| element(flat).to_le_bytes()).collect();
            prop_assert_eq!(view.gather(&storage, 2), wanted.clone());
            if let Some(range) = view.contiguous_range(2) {
                prop_assert_eq!(&storage[range], &wanted[..]);
            }
        }
    }

    #[test]
    fn dimensions_of_one_do_not_count() {
        let view = StridedView::new(vec![1, 2, 1, 3], vec![99, 3, 7, 1], 1, 7).unwrap();
        assert_eq!(view.contiguous_range(4), Some(4..28));
        assert_eq!(
            StridedView::new(vec![], vec![], 2, 3).unwrap().contiguous_range(8),
            Some(16..24)
        );
        assert_eq!(
            StridedView::new(vec![0, 5], vec![1, 2], 9, 3)
                .unwrap()
                .contiguous_range(8),
            Some(0..0)
        );
        let wide = 1 << 40;
        assert_eq!(
            StridedView::new(vec![0, wide, wide], vec![1, wide, 1], 0, 1)
                .unwrap()
                .contiguous_range(8),
            Some(0..0)
        );
    }

    #[test]
    fn views_outside_the_storage_are_refused() {
        let refused = |shape: &[usize], strides: &[usize], offset| {
            StridedView::new(shape.to_vec(), strides.to_vec(), offset, 6)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[2, 3], &[3, 1], 1).contains("reaches past its storage of 6"));
        assert!(refused(&[usize::MAX, 2], &[0, 0], 0).contains("larger than its storage"));
        assert!(refused(&[7], &[0], 0).contains("larger than its storage"));
        assert!(refused(&[2, 2], &[usize::MAX, 1], 0).contains("reaches past"));
        assert!(refused(&[2], &[], 0).contains("one stride a dimension"));
        assert!(refused(&[], &[], 6).contains("reaches past"));
    }
}
