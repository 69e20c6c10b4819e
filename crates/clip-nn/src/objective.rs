//! What training minimises: features in, named loss terms out.

use std::ops::Range;

use clip_core::{Id, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tch::Tensor;

use crate::{FeatureQueue, Params};

/// What an objective asks of the trainer. Start from [`Default`]: later needs are added with the answer "not needed".
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Needs {
    /// Augmented views of each picture.
    pub image_views: usize,
    /// Views of each text.
    pub text_views: usize,
    /// Whether it looks at the pairs' concepts: a run that names no source of concepts is then refused.
    pub concepts: bool,
    /// Whether it looks things up in the feature queue.
    pub queue: bool,
    /// Names of live concepts that the text tower encodes in each step, with gradient; 0 for none.
    pub concept_texts: usize,
    /// A bank of encoded names, where it wants one.
    pub concept_bank: Option<BankNeeds>,
    /// The share of a text's tokens that are masked in a further view, where it wants one.
    pub masked_text: Option<f64>,
    /// Whether it wants a teacher's features.
    pub teacher: bool,
}

/// How a bank of concept names is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BankNeeds {
    /// Steps between refreshes, from 1.
    pub every: u64,
    /// Names encoded in a refresh: those not in the bank first, then those encoded longest ago.
    pub names: usize,
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            image_views: 1,
            text_views: 1,
            concepts: false,
            queue: false,
            concept_texts: 0,
            concept_bank: None,
            masked_text: None,
            teacher: false,
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

/// Names of concepts, encoded by the text tower in this step.
#[derive(Debug)]
pub struct ConceptTexts {
    /// The concepts, a row each, all of them live in the queue.
    pub ids: Vec<Id>,
    /// Their names' features `[concepts, dim]`, collecting the gradient.
    pub view: View,
}

/// What the text tower makes of the masked places of a batch's texts.
#[derive(Debug)]
pub struct MaskedText {
    /// The tower's features of the masked tokens, before projection: `[places, text width]`, a leaf that collects the
    /// gradient.
    pub features: Tensor,
    /// The ids that stood there, `[places]`, i64.
    pub targets: Tensor,
}

/// What a teacher makes of the batch's pairs: constants.
#[derive(Debug)]
pub struct TeacherFeatures {
    /// Unit rows `[batch, teacher dim]` of the pictures, unchanged by augmentation.
    pub images: Tensor,
    /// Unit rows `[batch, teacher dim]` of the texts.
    pub texts: Tensor,
    /// What the teacher multiplies cosines by.
    pub scale: f64,
}

/// The features of a batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Features {
    /// One entry a view.
    pub images: Vec<View>,
    /// One entry a view.
    pub texts: Vec<View>,
    /// Encoded names, where [`Needs::concept_texts`] asked and the queue has live concepts.
    pub concept_texts: Option<ConceptTexts>,
    /// Masked texts, where [`Needs::masked_text`] asked and a token was masked.
    pub masked_text: Option<MaskedText>,
    /// The teacher's, where [`Needs::teacher`] asked.
    pub teacher: Option<TeacherFeatures>,
}

impl Features {
    /// Features of one or more views of pictures and of texts.
    pub fn new(images: Vec<View>, texts: Vec<View>) -> Self {
        Self {
            images,
            texts,
            concept_texts: None,
            masked_text: None,
            teacher: None,
        }
    }
}

/// Encoded names of the live concepts: constants, each as old as its last refresh.
#[derive(Debug)]
pub struct ConceptBank {
    /// The concepts, ascending, a row each.
    pub ids: Vec<Id>,
    /// Unit rows `[concepts, dim]`.
    pub texts: Tensor,
}

/// What else is known of a batch.
pub struct Context<'a> {
    /// This process's slice of the gathered batch.
    pub rows: Range<i64>,
    /// The pairs' keys.
    pub keys: &'a [Id],
    /// The pairs' products, where known.
    pub items: &'a [Option<Id>],
    /// The pairs' concepts.
    pub concepts: &'a [Vec<Id>],
    /// The concept whose name stands in for a pair's text, where one does. Its picture and all others that carry the
    /// concept fit such a text.
    pub captions: &'a [Option<Id>],
    /// The pairs' weights, `[batch]`, f32.
    pub weights: &'a Tensor,
    /// The temperature, exponentiated, a scalar in the graph.
    pub scale: &'a Tensor,
    /// The bias, a scalar in the graph, where the model has one.
    pub bias: Option<&'a Tensor>,
    /// The feature queue as it was before this batch, where an objective asked for it.
    pub queue: Option<&'a dyn FeatureQueue>,
    /// The bank of concept names, where an objective asked for it and it holds a name.
    pub bank: Option<&'a ConceptBank>,
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
