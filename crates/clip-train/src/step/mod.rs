//! The one path of a gradient: towers, detached features, loss, towers again.
//!
//! **encode → un-normalised features as detached leaves → the objectives' loss and, by one `backward()`, its gradient with
//! respect to the leaves, the temperature, the bias and the objectives' own parameters → each micro-batch through its tower
//! with that gradient**, by `(features · gradient).sum()`, which is exact. One micro-batch keeps its towers' graph and needs
//! no second forward pass; several hold one micro-batch's graph at a time (GradCache, Gao et al. 2021). The temperature's
//! gradient comes from the loss alone, so it is counted once, whatever the number of micro-batches. Pictures, texts, names
//! of concepts and masked texts all take this path, as blocks of it.

mod block;

use clip_core::{Error, Id, Result};
use clip_nn::tch::Tensor;
use clip_nn::{
    Compute, ConceptBank, ConceptTexts, Context, DualEncoder, FeatureQueue, Features, MaskedText, TeacherFeatures,
    TextInput, View, door,
};

use self::block::{Block, Encoder, Input};
use crate::batch::{Batch, text_rows};
use crate::objectives::Objectives;
use crate::seeds::Draw;

/// How a step is made.
#[derive(Debug, Clone, Copy)]
pub struct StepOptions {
    /// Pairs that go through a tower at once; 0 for the whole batch.
    pub micro_batch: usize,
    /// The run's seed.
    pub seed: u64,
    /// Steps done before.
    pub step: u64,
    /// The type that linear layers compute in.
    pub compute: Compute,
    /// The share of a picture's patches that is left out.
    pub patch_dropout: f64,
}

/// What a run holds beside a batch, as it was before the batch. The default is nothing.
#[derive(Default)]
pub struct Beside<'a> {
    /// The feature queue.
    pub queue: Option<&'a dyn FeatureQueue>,
    /// The bank of concept names.
    pub bank: Option<&'a ConceptBank>,
    /// Live concepts drawn for this step, and their names as the text tower takes them, a row each.
    pub concepts: Option<(&'a [Id], &'a TextInput)>,
}

/// What a step's loss was.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLoss {
    /// The weighted sum that was minimised.
    pub total: f64,
    /// Each term before it was weighted.
    pub terms: Vec<(&'static str, f64)>,
}

/// What came of a step.
#[derive(Debug)]
pub struct Stepped {
    /// Its loss.
    pub loss: StepLoss,
    /// Un-normalised features of the pictures' first view, `[batch, dim]`, without graph.
    pub images: Tensor,
    /// Un-normalised features of the texts' first view, `[batch, dim]`, without graph.
    pub texts: Tensor,
}

/// The blocks of a step.
struct Blocks<'a> {
    images: Vec<Block<'a>>,
    texts: Vec<Block<'a>>,
    concepts: Option<Block<'a>>,
    masked: Option<Block<'a>>,
}

/// Adds the gradient of a batch's loss to the gradients of every trained parameter of the model and of the objectives.
/// A loss that is not finite is returned before it reaches the towers: the caller leaves the step out.
///
/// # Errors
/// Inputs that the towers refuse, an objective's error, or libtorch's (out of memory is
/// [`Kind::Exhausted`](clip_core::Kind::Exhausted)).
pub fn back_propagate(
    model: &DualEncoder,
    objectives: &Objectives,
    batch: &Batch,
    beside: &Beside<'_>,
    options: StepOptions,
) -> Result<Stepped> {
    batch.check()?;
    let encoder = Encoder { model, options };
    let rows = batch.len() as i64;
    let mut blocks = Blocks {
        images: Vec::new(),
        texts: Vec::new(),
        concepts: None,
        masked: None,
    };
    for (view, input) in batch.images.iter().enumerate() {
        blocks
            .images
            .push(encoder.encode(Input::Image(input), Draw::Image(view), rows)?);
    }
    for (view, input) in batch.texts.iter().enumerate() {
        blocks
            .texts
            .push(encoder.encode(Input::Text(input), Draw::Text(view), rows)?);
    }
    if let Some((_, names)) = beside.concepts {
        blocks.concepts = Some(encoder.encode(Input::Text(names), Draw::Names, text_rows(names))?);
    }
    if let Some(masked) = batch.masked.as_ref().filter(|masked| !masked.is_empty()) {
        blocks.masked = Some(encoder.encode(Input::Masked(masked), Draw::Masked, rows)?);
    }
    let loss = loss(&encoder, objectives, batch, beside, &blocks)?;
    let Blocks {
        images,
        texts,
        concepts,
        masked,
    } = blocks;
    let first = |blocks: &[Block<'_>]| blocks.first().map_or_else(Tensor::new, |block| block.leaf.detach());
    let (image_leaf, text_leaf) = (first(&images), first(&texts));
    if loss.total.is_finite() {
        let all: Vec<Block<'_>> = images.into_iter().chain(texts).chain(concepts).chain(masked).collect();
        encoder.back(&all)?;
    }
    Ok(Stepped {
        loss,
        images: image_leaf,
        texts: text_leaf,
    })
}

/// The loss, and its gradient in the leaves, the temperature, the bias and the objectives' parameters.
fn loss(
    encoder: &Encoder<'_>,
    objectives: &Objectives,
    batch: &Batch,
    beside: &Beside<'_>,
    blocks: &Blocks<'_>,
) -> Result<StepLoss> {
    let (model, options) = (encoder.model, encoder.options);
    door(|| -> Result<StepLoss> {
        let features = features(batch, beside, blocks);
        let scale = model.logit_scale().exp();
        let weights = Tensor::from_slice(&batch.weights).to_device(scale.device());
        let context = Context {
            rows: 0..batch.len() as i64,
            keys: &batch.keys,
            items: &batch.items,
            concepts: &batch.concepts,
            captions: &batch.captions,
            weights: &weights,
            scale: &scale,
            bias: model.logit_bias(),
            queue: beside.queue,
            bank: beside.bank,
            step: options.step,
            seed: options.seed,
        };
        let (total, terms) = objectives.loss(&features, &context)?;
        let Some(total) = total else {
            // No objective has anything to say of this batch: a queue that only fills, pairs without concepts.
            return Ok(StepLoss { total: 0.0, terms });
        };
        let loss = StepLoss {
            total: total.double_value(&[]),
            terms,
        };
        if loss.total.is_finite() {
            if !total.requires_grad() {
                return Err(
                    Error::invalid("nothing of what the loss depends on is trained").remedy("lock less of the model")
                );
            }
            total.backward();
        }
        Ok(loss)
    })?
}

/// The leaves as objectives take them.
fn features(batch: &Batch, beside: &Beside<'_>, blocks: &Blocks<'_>) -> Features {
    let view = |block: &Block<'_>| View::new(block.leaf.shallow_clone());
    let mut features = Features::new(
        blocks.images.iter().map(view).collect(),
        blocks.texts.iter().map(view).collect(),
    );
    if let (Some((ids, _)), Some(block)) = (beside.concepts, &blocks.concepts) {
        features.concept_texts = Some(ConceptTexts {
            ids: ids.to_vec(),
            view: view(block),
        });
    }
    if let (Some(masked), Some(block)) = (&batch.masked, &blocks.masked) {
        features.masked_text = Some(MaskedText {
            features: block.leaf.shallow_clone(),
            targets: masked.targets.shallow_clone(),
        });
    }
    features.teacher = batch.teacher.as_ref().map(|teacher| TeacherFeatures {
        images: teacher.images.shallow_clone(),
        texts: teacher.texts.shallow_clone(),
        scale: teacher.scale,
    });
    features
}
