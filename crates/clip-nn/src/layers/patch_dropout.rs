//! Leaves some of a picture's patches out in training.

use tch::{Kind, Tensor};

use crate::Pass;

/// Patch dropout (Li et al., 2022, FLIP): in training each picture keeps a share of its patch tokens, drawn anew, and the
/// tower works on those alone; `[batch, first + patches, width] -> [batch, first + kept, width]`, where the `first` tokens
/// (the class token) are always kept. Of `n` patches `max(1, ⌊n · (1 − share)⌋)` stay, as in OpenCLIP.
///
/// A backbone calls it behind its position embedding, so that what is kept knows its place, and says so by
/// [`ImageEncoder::drops_patches`](crate::ImageEncoder::drops_patches). The share is the pass's; the draw is from
/// libtorch's generator, which the trainer seeds before each pass.
pub fn drop_patches(x: &Tensor, first: i64, pass: Pass) -> Tensor {
    if !pass.train || pass.patch_dropout <= 0.0 {
        return x.shallow_clone();
    }
    let size = x.size();
    let (batch, patches, width) = (size[0], size[1] - first, size[2]);
    let kept = ((patches as f64 * (1.0 - pass.patch_dropout)) as i64).max(1);
    if kept >= patches {
        return x.shallow_clone();
    }
    // The largest of random numbers are a choice without repeats. The order of tokens means nothing to attention.
    let drawn = Tensor::rand([batch, patches], (Kind::Float, x.device()));
    let (_, chosen) = drawn.topk(kept, 1, true, false);
    let chosen = (chosen + first).unsqueeze(-1).expand([batch, kept, width], false);
    Tensor::cat(&[x.narrow(1, 0, first), x.gather(1, &chosen, false)], 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::wave;

    fn pass(patch_dropout: f64) -> Pass {
        Pass {
            patch_dropout,
            ..Pass::TRAIN
        }
    }

    /// Which tokens of `x` the rows of `y` are.
    fn places(x: &Tensor, y: &Tensor) -> Vec<Vec<i64>> {
        let same = y
            .unsqueeze(2)
            .eq_tensor(&x.unsqueeze(1))
            .all_dim(-1, false)
            .to_kind(Kind::Int64);
        assert_eq!(
            same.sum_dim_intlist(-1, false, Kind::Int64)
                .eq(1)
                .all()
                .int64_value(&[]),
            1
        );
        Vec::try_from(same.argmax(-1, false)).unwrap()
    }

    #[test]
    fn the_class_token_and_a_share_of_the_patches_stay_each_once() {
        let x = wave(0.37, &[3, 11, 4]);
        for (share, kept) in [(0.5, 5), (0.25, 7), (0.99, 1), (0.05, 9)] {
            tch::manual_seed(3);
            let y = drop_patches(&x, 1, pass(share));
            assert_eq!(y.size(), [3, 1 + kept, 4]);
            let mut rows = places(&x, &y);
            for row in &mut rows {
                assert_eq!(row[0], 0);
                row.sort_unstable();
                row.dedup();
                assert_eq!(row.len() as i64, 1 + kept);
            }
            if share == 0.5 {
                assert!(
                    rows[0] != rows[1] || rows[1] != rows[2],
                    "each picture has its own draw"
                );
            }
        }
    }

    #[test]
    fn every_patch_has_its_chance() {
        let x = wave(0.37, &[400, 5, 2]);
        tch::manual_seed(1);
        let rows = places(&x, &drop_patches(&x, 1, pass(0.5)));
        for patch in 1..5 {
            let times = rows.iter().filter(|row| row.contains(&patch)).count();
            assert!((150..250).contains(&times), "{patch}: {times}");
        }
    }

    #[test]
    fn one_seed_one_choice_and_none_outside_of_training() {
        let x = wave(0.37, &[2, 9, 3]);
        let draw = |seed| {
            tch::manual_seed(seed);
            drop_patches(&x, 1, pass(0.5))
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let infer = Pass {
            train: false,
            ..pass(0.5)
        };
        assert_eq!(drop_patches(&x, 1, infer), x);
        assert_eq!(drop_patches(&x, 1, pass(0.0)), x);
    }

    #[test]
    fn the_gradient_reaches_what_was_kept() {
        let x = wave(0.37, &[2, 9, 3]).set_requires_grad(true);
        tch::manual_seed(1);
        drop_patches(&x, 1, pass(0.5)).sum(Kind::Float).backward();
        assert_eq!(x.grad().sum(Kind::Float).double_value(&[]), f64::from(2 * (1 + 4) * 3));
    }
}
