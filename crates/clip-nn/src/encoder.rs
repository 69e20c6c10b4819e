//! What a tower does, and apart from it, how one is made.

use clip_core::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;

use crate::layers::Pooled;
use crate::{Compute, Params};

/// How a tower is run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pass {
    /// Dropout on, and whatever else only training does.
    pub train: bool,
    /// What linear layers multiply in; norms, softmax and sums stay in f32.
    pub compute: Compute,
    /// Whether [`TowerOutput::tokens`] is wanted: without it the last block works for the pooled token alone.
    pub tokens: bool,
    /// The share of a picture's patches that training leaves out (Li et al., 2022), 0 to below 1;
    /// [`drop_patches`](crate::layers::drop_patches) honours it.
    pub patch_dropout: f64,
}

impl Pass {
    /// Inference in f32, pooled features only.
    pub const INFER: Self = Self {
        train: false,
        compute: Compute::F32,
        tokens: false,
        patch_dropout: 0.0,
    };

    /// Training in f32, pooled features only.
    pub const TRAIN: Self = Self {
        train: true,
        ..Self::INFER
    };
}

/// What a tower gives.
#[derive(Debug)]
pub struct TowerOutput {
    /// One feature a row, before projection: `[batch, width]`, f32.
    pub pooled: Tensor,
    /// A feature a token, `[batch, tokens, width]`, where [`Pass::tokens`] asked for it and the tower has tokens.
    pub tokens: Option<Tensor>,
}

impl TowerOutput {
    /// Of what a stack of blocks gave: every token, `[batch, tokens, width]`, where the pass asks for tokens, else the
    /// pooled one alone, `[batch, 1, width]`.
    pub fn from_stack(x: Tensor, pooled: Pooled<'_>, pass: Pass) -> Self {
        if pass.tokens {
            return Self {
                pooled: pooled.pick(&x).squeeze_dim(1),
                tokens: Some(x),
            };
        }
        Self {
            pooled: x.squeeze_dim(1),
            tokens: None,
        }
    }
}

/// Token ids of a batch, padded to its longest text.
#[derive(Debug)]
pub struct Tokens {
    /// Ids, `[batch, tokens]`, i64.
    pub ids: Tensor,
    /// True where there is a token, `[batch, tokens]`, bool.
    pub mask: Tensor,
}

/// An image tower in use. Implementers write three methods; [`DualEncoder`](crate::DualEncoder) calls them and has
/// checked shapes before.
pub trait ImageEncoder: Send {
    /// Width of the pooled features.
    fn width(&self) -> i64;

    /// Height and width of the pixels.
    fn image_size(&self) -> [i64; 2];

    /// Whether it has batch statistics (BatchNorm). They are frozen in training.
    fn has_batch_statistics(&self) -> bool {
        false
    }

    /// Whether it honours [`Pass::patch_dropout`].
    fn drops_patches(&self) -> bool {
        false
    }

    /// Pixels `[batch, 3, height, width]`, f32, to features.
    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput;
}

/// A text tower in use. Implementers write five methods; [`DualEncoder`](crate::DualEncoder) calls them and has checked
/// shapes before.
pub trait TextEncoder: Send {
    /// Width of the pooled features.
    fn width(&self) -> i64;

    /// The most tokens a text may have.
    fn context_length(&self) -> i64;

    /// Token ids are below this.
    fn vocabulary(&self) -> i64;

    /// What shorter texts of a batch are padded with.
    fn pad_id(&self) -> i64;

    /// Tokens to features.
    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput;
}

/// How an image tower is made. What a backbone's file implements beside [`ImageEncoder`]; registered by
/// [`Zoo::image`](crate::Zoo::image).
pub trait ImageBackbone: ImageEncoder + Sized + 'static {
    /// The `model_type`s of a config that name it.
    const MODEL_TYPES: &'static [&'static str];

    /// Its own fields of the config; missing ones take the reference's defaults, unknown ones are ignored.
    type Config: DeserializeOwned + Serialize;

    /// Builds it, taking every weight from `params`. Settings that make no sense are errors.
    fn build(config: Self::Config, params: &Params) -> Result<Self>;
}

/// How a text tower is made. What a backbone's file implements beside [`TextEncoder`]; registered by
/// [`Zoo::text`](crate::Zoo::text).
pub trait TextBackbone: TextEncoder + Sized + 'static {
    /// The `model_type`s of a config that name it.
    const MODEL_TYPES: &'static [&'static str];

    /// Its own fields of the config; missing ones take the reference's defaults, unknown ones are ignored.
    type Config: DeserializeOwned + Serialize;

    /// Builds it, taking every weight from `params`. Settings that make no sense are errors.
    fn build(config: Self::Config, params: &Params) -> Result<Self>;
}
