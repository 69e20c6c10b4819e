//! A picture as tokens: its patches, each knowing its place, behind a class token where the tower pools one.

use tch::Tensor;

use super::{Patches, drop_patches};
use crate::{Init, Params, Pass, Role};

/// `[class; patches] + positions` (Dosovitskiy et al., 2021), or `patches + positions` without a class token:
/// `[batch, 3, image_size, image_size] -> [batch, tokens, width]`.
#[derive(Debug)]
pub struct PatchTokens {
    patches: Patches,
    class: Option<Tensor>,
    positions: Tensor,
    image_size: i64,
}

impl PatchTokens {
    /// Takes `position_embedding` `[patches, width]` from `params`, for square pictures of `image_size` pixels a side.
    pub fn new(params: &Params, patches: Patches, image_size: i64, init: Init) -> Self {
        Self::over(params, patches, None, image_size, init)
    }

    /// Takes `class_embedding` `[width]` and `position_embedding` `[1 + patches, width]`, the class token's first.
    pub fn with_class(params: &Params, patches: Patches, image_size: i64, init: Init) -> Self {
        let class = params.tensor("class_embedding", &[patches.width()], Role::Embedding, init);
        Self::over(params, patches, Some(class), image_size, init)
    }

    fn over(params: &Params, patches: Patches, class: Option<Tensor>, image_size: i64, init: Init) -> Self {
        let tokens = patches.count([image_size; 2]) + i64::from(class.is_some());
        let positions = [tokens, patches.width()];
        Self {
            positions: params.tensor("position_embedding", &positions, Role::Embedding, init),
            patches,
            class,
            image_size,
        }
    }

    /// Width of a token.
    pub fn width(&self) -> i64 {
        self.patches.width()
    }

    /// Height and width of the pixels.
    pub fn image_size(&self) -> [i64; 2] {
        [self.image_size; 2]
    }

    /// Pixels to tokens, f32. Training leaves out the pass's share of the patches ([`drop_patches`]).
    pub fn forward(&self, pixels: &Tensor, pass: Pass) -> Tensor {
        let patches = self.patches.forward(pixels, pass);
        let (tokens, first) = match &self.class {
            Some(class) => {
                let class = class.expand([pixels.size()[0], 1, self.width()], false);
                (Tensor::cat(&[class, patches], 1), 1)
            }
            None => (patches, 0),
        };
        drop_patches(&(tokens + &self.positions), first, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{built, wave};

    fn patches(params: &Params) -> Patches {
        Patches::new(&params.at("patch_embedding"), 2, 3)
    }

    #[test]
    fn patches_get_their_places_behind_the_class_token_if_there_is_one() {
        let pixels = wave(0.3, &[2, 3, 5, 5]);
        for class in [false, true] {
            let make = if class {
                PatchTokens::with_class
            } else {
                PatchTokens::new
            };
            let (tokens, parameters) = built(|params| make(params, patches(params), 5, Init::Normal(0.02)));
            let of = |name: &str| parameters.iter().find(|p| p.name == name).map(|p| &p.tensor);
            let positions = of("position_embedding").unwrap();
            let x = tokens.forward(&pixels, Pass::INFER);
            let first = i64::from(class);
            assert_eq!(x.size(), [2, first + 4, 3]);
            assert_eq!((tokens.width(), tokens.image_size()), (3, [5, 5]));
            let plain = tokens.patches.forward(&pixels, Pass::INFER);
            assert_eq!(x.narrow(1, first, 4), plain + positions.narrow(0, first, 4));
            assert_eq!(of("class_embedding").is_some(), class);
            if let Some(class) = of("class_embedding") {
                assert_eq!(x.get(1).get(0), class + positions.get(0));
            }
        }
    }

    #[test]
    fn training_keeps_the_class_token_and_a_share_of_the_patches() {
        let (tokens, _) = built(|params| PatchTokens::with_class(params, patches(params), 4, Init::Normal(0.02)));
        let pixels = wave(0.3, &[2, 3, 4, 4]);
        let pass = Pass {
            patch_dropout: 0.5,
            ..Pass::TRAIN
        };
        tch::manual_seed(1);
        let kept = tokens.forward(&pixels, pass);
        assert_eq!(kept.size(), [2, 3, 3]);
        assert_eq!(kept.select(1, 0), tokens.forward(&pixels, Pass::TRAIN).select(1, 0));
    }
}
