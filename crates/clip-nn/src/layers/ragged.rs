//! Texts of different lengths behind each other, without padding.

use tch::{Device, Kind, Tensor};

/// Where the tokens of a batch's texts lie in rows `[all tokens, width]`: text behind text, the longest first, so that
/// those of equal length stand together and attention works on each such group at once. Linear layers and norms then
/// work for no padding: titles of 8 to 20 tokens take an 8th of the work of rows of 77.
#[derive(Debug)]
pub struct Ragged {
    groups: Vec<Group>,
    causal: bool,
    /// Row after row: which token of the padded batch, flattened, it is, and which of its text. `[rows]`, i64.
    tokens: Tensor,
    positions: Tensor,
    /// The row that is pooled for each text, in their new order, and where the texts of the batch went. `[batch]`, i64.
    pooled: Tensor,
    back: Tensor,
}

/// Texts of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) texts: i64,
    pub(crate) tokens: i64,
}

impl Ragged {
    /// The texts of a batch that see themselves and what is before them and are pooled at their last token: `ends`
    /// `[batch]` (i64) is where that is, and what stands behind it is left out.
    pub fn causal(ends: &Tensor, longest: i64) -> Option<Self> {
        Self::new(&(ends + 1), longest, true)
    }

    /// The texts of a batch that see all of themselves and are pooled at their first token. Their tokens are the first
    /// of each row of `mask` `[batch, tokens]` (bool); where a row has tokens behind padding, or none: `None`.
    pub fn whole(mask: &Tensor) -> Option<Self> {
        if mask.numel() == 0 || mask.device() != Device::Cpu {
            return None;
        }
        let lengths = mask.sum_dim_intlist(1, false, Kind::Int64);
        let longest = mask.size()[1];
        let first = Tensor::arange(longest, (Kind::Int64, Device::Cpu)).lt_tensor(&lengths.unsqueeze(1));
        if !first.equal(mask) {
            return None;
        }
        Self::new(&lengths, longest, false)
    }

    /// `None` where nothing is to be gained: on a GPU, whose kernels would be many and small, and for no texts at all.
    fn new(lengths: &Tensor, longest: i64, causal: bool) -> Option<Self> {
        if lengths.device() != Device::Cpu || lengths.numel() == 0 {
            return None;
        }
        let lengths: Vec<i64> = lengths.try_into().ok()?;
        if lengths.iter().any(|&length| length < 1 || length > longest) {
            return None;
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&text| std::cmp::Reverse(lengths[text]));
        let mut groups: Vec<Group> = Vec::new();
        let (mut tokens, mut positions, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
        let mut back = vec![0i64; order.len()];
        for (place, &text) in order.iter().enumerate() {
            let length = lengths[text];
            match groups.last_mut() {
                Some(group) if group.tokens == length => group.texts += 1,
                _ => groups.push(Group {
                    texts: 1,
                    tokens: length,
                }),
            }
            let row = tokens.len() as i64;
            pooled.push(if causal { row + length - 1 } else { row });
            tokens.extend((0..length).map(|at| text as i64 * longest + at));
            positions.extend(0..length);
            back[text] = place as i64;
        }
        Some(Self {
            groups,
            causal,
            tokens: Tensor::from_slice(&tokens),
            positions: Tensor::from_slice(&positions),
            pooled: Tensor::from_slice(&pooled),
            back: Tensor::from_slice(&back),
        })
    }

    /// The ids of the rows, `[rows]`, out of a padded batch's `[batch, longest]`.
    pub fn pack(&self, ids: &Tensor) -> Tensor {
        ids.flatten(0, -1).index_select(0, &self.tokens)
    }

    /// Which token of its text each row is, `[rows]` (i64).
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// The rows that are pooled, `[batch]` (i64).
    pub fn pooled(&self) -> &Tensor {
        &self.pooled
    }

    /// A feature a text `[batch, ..]`, in the batch's own order again.
    pub fn restore(&self, features: &Tensor) -> Tensor {
        features.index_select(0, &self.back)
    }

    pub(crate) fn is_causal(&self) -> bool {
        self.causal
    }

    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Rows `[rows, ..]` cut into groups.
    pub(crate) fn cut(&self, x: &Tensor) -> Vec<Tensor> {
        let sizes: Vec<i64> = self.groups.iter().map(|group| group.texts * group.tokens).collect();
        x.split_with_sizes(&sizes, 0)
    }

    /// A row a text `[batch, ..]` cut into groups.
    pub(crate) fn cut_texts(&self, x: &Tensor) -> Vec<Tensor> {
        let sizes: Vec<i64> = self.groups.iter().map(|group| group.texts).collect();
        x.split_with_sizes(&sizes, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tensor: &Tensor) -> Vec<i64> {
        tensor.try_into().unwrap()
    }

    #[test]
    fn rows_are_the_tokens_longest_text_first() {
        let ids = Tensor::from_slice(&[1i64, 2, 0, 0, 3, 4, 5, 6, 7, 8, 0, 0]).view([3, 4]);
        let ragged = Ragged::causal(&Tensor::from_slice(&[1i64, 3, 1]), 4).unwrap();
        assert_eq!(list(&ragged.pack(&ids)), [3, 4, 5, 6, 1, 2, 7, 8]);
        assert_eq!(list(ragged.positions()), [0, 1, 2, 3, 0, 1, 0, 1]);
        assert_eq!(list(ragged.pooled()), [3, 5, 7]);
        let ends = ragged.pack(&ids).index_select(0, ragged.pooled());
        assert_eq!(list(&ragged.restore(&ends)), [2, 6, 8]);
        let groups = [Group { texts: 1, tokens: 4 }, Group { texts: 2, tokens: 2 }];
        assert_eq!(ragged.groups(), groups);
    }

    #[test]
    fn a_mask_with_holes_or_without_tokens_is_left_to_padding() {
        let mask = |rows: &[bool]| Tensor::from_slice(rows).view([2, 3]);
        let ragged = Ragged::whole(&mask(&[true, true, false, true, true, true])).unwrap();
        assert_eq!(list(ragged.pooled()), [0, 3]);
        assert_eq!(list(&ragged.restore(&Tensor::from_slice(&[7i64, 9]))), [9, 7]);
        assert!(Ragged::whole(&mask(&[true, false, true, true, true, true])).is_none());
        assert!(Ragged::whole(&mask(&[true, true, true, false, false, false])).is_none());
        assert!(Ragged::causal(&Tensor::from_slice::<i64>(&[]), 4).is_none());
    }
}
