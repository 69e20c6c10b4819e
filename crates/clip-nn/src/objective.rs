//! What training minimises: features in, named loss terms out.

use std::ops::Range;

use clip_core::{Id, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;

use crate::Params;

/// What an objective asks of the trainer. Start from [`Default`]: later needs are added with the answer "not needed".
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Augmented views of each picture.
    pub image_views: usize,
    /// Views of each text.
    pub text_views: usize,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            image_views: 1,
            text_views: 1,
        }
    }
}

/// The features of one view of a batch. All ranks' rows where several machines train.
#[derive(Debug)]
pub struct View {
    /// As the projection gives them, un-normalised: `[batch, dim]`, leaves that collect the gradient.
    pub raw: Tensor,
    /// Unit rows, derived from `raw` in the graph.
    pub unit: Tensor,
}

impl View {
    /// A view of un-normalised features `[batch, dim]`.
    pub fn new(raw: Tensor) -> Self {
        let unit = crate::unit_rows(&raw);
        Self { raw, unit }
    }
}

/// The features of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Features {
    /// One entry a view.
    pub images: Vec<View>,
    /// One entry a view.
    pub texts: Vec<View>,
}

impl Features {
    /// Features of one or more views of pictures and of texts.
    pub fn new(images: Vec<View>, texts: Vec<View>) -> Self {
        Self { images, texts }
    }
}

/// What else is known of a batch.
#[derive(Debug)]
pub struct Context<'a> {
    /// This process's slice of the gathered batch.
    pub rows: Range<i64>,
    /// The pairs' keys.
    pub keys: &'a [Id],
    /// The pairs' products, where known.
    pub items: &'a [Option<Id>],
    /// The pairs' concepts.
    pub concepts: &'a [Vec<Id>],
    /// The pairs' weights, `[batch]`, f32.
    pub weights: &'a Tensor,
    /// The temperature, exponentiated, a scalar in the graph.
    pub scale: &'a Tensor,
    /// The bias, a scalar in the graph, where the model has one.
    pub bias: Option<&'a Tensor>,
    /// Steps done before.
    pub step: u64,
    /// Decides what an objective draws at random, together with `step`.
    pub seed: u64,
}

/// Named terms of a loss, scalars with graph. Their sum is minimised.
#[derive(Debug)]
pub struct Terms(pub Vec<(&'static str, Tensor)>);

/// A loss. Pure on given features: it never gathers, never owns a queue or a rank. Implementers write one method.
pub trait Objective: Send {
    /// What it asks of the trainer.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// The terms of a batch.
    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms>;
}

/// What an objective may know of the model when it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Dimensions of an embedding.
    pub dim: i64,
    /// Width of the image tower.
    pub image_width: i64,
    /// Width of the text tower.
    pub text_width: i64,
    /// Size of the text tower's vocabulary.
    pub vocabulary: i64,
}

/// How an objective is made from its table `[objectives.NAME]` of run.toml; registered by
/// [`Zoo::objective`](crate::Zoo::objective).
pub trait ObjectiveKind: Objective + Sized + 'static {
    /// Its name in run.toml.
    const NAME: &'static str;

    /// Its settings. Defaults for every field; unknown fields are refused.
    type Config: DeserializeOwned + Serialize;

    /// Builds it. Parameters of its own are taken from `params`.
    fn build(config: Self::Config, shape: &ModelShape, params: &Params) -> Result<Self>;
}
