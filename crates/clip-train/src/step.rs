//! The one path of a gradient: towers, detached features, loss, towers again.
//!
//! **encode → un-normalised features as detached leaves → the objectives' loss and, by one `backward()`, its gradient with
//! respect to the leaves, the temperature, the bias and the objectives' own parameters → each micro-batch through its tower
//! with that gradient**, by `(features · gradient).sum()`, which is exact. One micro-batch keeps its towers' graph and needs
//! no second forward pass; several hold one micro-batch's graph at a time (GradCache, Gao et al. 2021). The temperature's
//! gradient comes from the loss alone, so it is counted once, whatever the number of micro-batches.

use clip_core::{Error, Result};
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{Context, DualEncoder, Features, ImageInput, Pass, TextInput, View, door};

use crate::batch::{Batch, joined, narrow_images, narrow_texts};
use crate::groups::locked;
use crate::objectives::Objectives;
use crate::seeds::{Draw, seed};

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
    pub compute: Kind,
}

/// What a step's loss was.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLoss {
    /// The weighted sum that was minimised.
    pub total: f64,
    /// Each term before it was weighted.
    pub terms: Vec<(&'static str, f64)>,
}

/// One view of one modality.
enum Input<'a> {
    Image(&'a ImageInput),
    Text(&'a TextInput),
    /// Pooled features of a locked tower, and whether they are of pictures.
    Pooled(Tensor, bool),
}

/// One view on its way through a step.
struct Block<'a> {
    input: Input<'a>,
    draw: Draw,
    /// Whether any parameter between input and features is trained.
    trained: bool,
    /// The features of each micro-batch, with their graph where it was kept.
    parts: Vec<Tensor>,
    /// All of them, `[batch, dim]`, collecting the gradient.
    leaf: Tensor,
}

struct Step<'a> {
    model: &'a DualEncoder,
    options: StepOptions,
    /// Start and length of each micro-batch.
    slices: Vec<(i64, i64)>,
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
    options: StepOptions,
) -> Result<StepLoss> {
    batch.check()?;
    let step = Step {
        model,
        options,
        slices: slices(batch.len() as i64, options.micro_batch as i64),
    };
    let mut blocks = Vec::new();
    for (view, input) in batch.images.iter().enumerate() {
        blocks.push(step.encode(Input::Image(input), Draw::Image(view))?);
    }
    for (view, input) in batch.texts.iter().enumerate() {
        blocks.push(step.encode(Input::Text(input), Draw::Text(view))?);
    }
    let loss = step.loss(objectives, batch, &blocks)?;
    if loss.total.is_finite() {
        step.towers(&blocks)?;
    }
    Ok(loss)
}

/// Micro-batches of `size` rows (0: one of all rows), the last one maybe shorter.
fn slices(rows: i64, size: i64) -> Vec<(i64, i64)> {
    let size = if size == 0 { rows } else { size.min(rows) }.max(1);
    (0..rows)
        .step_by(size as usize)
        .map(|start| (start, size.min(rows - start)))
        .collect()
}

impl Input<'_> {
    fn is_image(&self) -> bool {
        match self {
            Self::Image(_) => true,
            Self::Text(_) => false,
            Self::Pooled(_, image) => *image,
        }
    }
}

impl<'a> Step<'a> {
    fn pass(&self) -> Pass {
        Pass {
            compute: self.options.compute,
            ..Pass::TRAIN
        }
    }

    fn encode(&self, input: Input<'a>, draw: Draw) -> Result<Block<'a>> {
        let parameters = self.model.parameters();
        let (tower, projection) = if input.is_image() {
            ("image", "image_projection")
        } else {
            ("text", "text_projection")
        };
        let input = if locked(parameters, tower) {
            self.pooled(input)?
        } else {
            input
        };
        let trained = !(locked(parameters, tower) && locked(parameters, projection));
        let keep = trained && self.slices.len() == 1;
        let mut parts = Vec::new();
        for at in 0..self.slices.len() {
            parts.push(self.forward(&input, draw, at, keep)?);
        }
        let leaf = door(|| -> Result<Tensor> {
            let detached: Vec<Tensor> = parts.iter().map(Tensor::detach).collect();
            Ok(joined(&detached)?.set_requires_grad(trained))
        })??;
        Ok(Block {
            input,
            draw,
            trained,
            parts,
            leaf,
        })
    }

    /// What a locked tower gives: once, without dropout, without a graph. Cached features pass through.
    fn pooled(&self, input: Input<'a>) -> Result<Input<'a>> {
        if let Input::Image(ImageInput::Pooled(_)) | Input::Text(TextInput::Pooled(_)) = input {
            return Ok(input);
        }
        let _guard = tch::no_grad_guard();
        let pass = Pass {
            train: false,
            ..self.pass()
        };
        let mut parts = Vec::new();
        for &(start, length) in &self.slices {
            parts.push(match &input {
                Input::Image(input) => {
                    self.model
                        .encode_images(&narrow_images(input, start, length), pass)?
                        .pooled
                }
                Input::Text(input) => {
                    self.model
                        .encode_texts(&narrow_texts(input, start, length), pass)?
                        .pooled
                }
                Input::Pooled(..) => return Ok(input),
            });
        }
        Ok(Input::Pooled(joined(&parts)?, input.is_image()))
    }

    /// Features of one micro-batch. The generator is seeded by what is drawn, so that a second pass draws the same.
    fn forward(&self, input: &Input<'_>, draw: Draw, at: usize, graph: bool) -> Result<Tensor> {
        let (start, length) = self.slices[at];
        let _guard = (!graph).then(tch::no_grad_guard);
        door(|| tch::manual_seed(seed(self.options.seed, draw, self.options.step, at as u64) as i64))?;
        let pass = self.pass();
        let encoded = match input {
            Input::Image(input) => self.model.encode_images(&narrow_images(input, start, length), pass)?,
            Input::Text(input) => self.model.encode_texts(&narrow_texts(input, start, length), pass)?,
            Input::Pooled(rows, image) => {
                let rows = rows.narrow(0, start, length);
                if *image {
                    self.model.encode_images(&ImageInput::Pooled(rows), pass)?
                } else {
                    self.model.encode_texts(&TextInput::Pooled(rows), pass)?
                }
            }
        };
        Ok(encoded.raw)
    }

    /// The loss, and its gradient in the leaves, the temperature, the bias and the objectives' parameters.
    fn loss(&self, objectives: &Objectives, batch: &Batch, blocks: &[Block<'_>]) -> Result<StepLoss> {
        let (images, texts) = blocks.split_at(batch.images.len());
        let views = |blocks: &[Block<'_>]| {
            blocks
                .iter()
                .map(|block| View::new(block.leaf.shallow_clone()))
                .collect()
        };
        door(|| -> Result<StepLoss> {
            let features = Features::new(views(images), views(texts));
            let scale = self.model.logit_scale().exp();
            let weights = Tensor::from_slice(&batch.weights).to_device(scale.device());
            let context = Context {
                rows: 0..batch.len() as i64,
                keys: &batch.keys,
                items: &batch.items,
                concepts: &batch.concepts,
                captions: &batch.captions,
                weights: &weights,
                scale: &scale,
                bias: self.model.logit_bias(),
                queue: None,
                bank: None,
                step: self.options.step,
                seed: self.options.seed,
            };
            let (total, terms) = objectives.loss(&features, &context)?;
            let loss = StepLoss {
                total: total.double_value(&[]),
                terms,
            };
            if loss.total.is_finite() {
                if !total.requires_grad() {
                    return Err(Error::invalid("nothing of what the loss depends on is trained")
                        .remedy("lock less of the model"));
                }
                total.backward();
            }
            Ok(loss)
        })?
    }

    /// Sends the leaves' gradients through the towers.
    fn towers(&self, blocks: &[Block<'_>]) -> Result<()> {
        let reached = |block: &&Block<'_>| block.trained && block.leaf.grad().defined();
        if self.slices.len() == 1 {
            return door(|| {
                let terms = blocks
                    .iter()
                    .filter(reached)
                    .map(|block| surrogate(&block.parts[0], &block.leaf.grad()));
                if let Some(sum) = terms.reduce(|sum, term| sum + term) {
                    sum.backward();
                }
            });
        }
        for block in blocks.iter().filter(reached) {
            let gradient = block.leaf.grad();
            for (at, &(start, length)) in self.slices.iter().enumerate() {
                let raw = self.forward(&block.input, block.draw, at, true)?;
                door(|| surrogate(&raw, &gradient.narrow(0, start, length)).backward())?;
            }
        }
        Ok(())
    }
}

/// A scalar whose gradient with respect to `raw` is `gradient`.
fn surrogate(raw: &Tensor, gradient: &Tensor) -> Tensor {
    (raw * gradient).sum(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_batches_cover_every_row_once() {
        assert_eq!(slices(8, 0), [(0, 8)]);
        assert_eq!(slices(8, 4), [(0, 4), (4, 4)]);
        assert_eq!(slices(7, 3), [(0, 3), (3, 3), (6, 1)]);
        assert_eq!(slices(3, 9), [(0, 3)]);
    }
}
