//! One view on its way through a tower: encoded in micro-batches, and sent back through it with a gradient.

use std::ops::Range;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{DualEncoder, ImageInput, Pass, TextInput, door};

use super::StepOptions;
use crate::batch::{MaskedTokens, joined, narrow_images, narrow_texts};
use crate::groups::locked;
use crate::seeds::{Draw, seed};

/// What a tower is given in a step.
pub(super) enum Input<'a> {
    Image(&'a ImageInput),
    Text(&'a TextInput),
    /// Texts of which the features of masked tokens are wanted.
    Masked(&'a MaskedTokens),
    /// Pooled features of a locked tower, and whether they are of pictures.
    Pooled(Tensor, bool),
}

impl Input<'_> {
    fn is_image(&self) -> bool {
        match self {
            Self::Image(_) => true,
            Self::Text(_) | Self::Masked(_) => false,
            Self::Pooled(_, image) => *image,
        }
    }

    /// Rows of the block's features that rows `start..start + length` of the input give.
    fn span(&self, start: i64, length: i64) -> Range<usize> {
        match self {
            Self::Masked(masked) => masked.places_of(start, length),
            _ => start as usize..(start + length) as usize,
        }
    }
}

/// One view on its way through a step.
pub(super) struct Block<'a> {
    input: Input<'a>,
    draw: Draw,
    /// Whether any parameter between input and features is trained.
    trained: bool,
    /// Start and length of each micro-batch.
    slices: Vec<(i64, i64)>,
    /// The features of each micro-batch, with their graph where it was kept.
    parts: Vec<Tensor>,
    /// All of them, `[rows, dim]`, collecting the gradient.
    pub(super) leaf: Tensor,
}

/// Micro-batches of `size` rows (0: one of all rows), the last one maybe shorter.
fn slices(rows: i64, size: i64) -> Vec<(i64, i64)> {
    let size = if size == 0 { rows } else { size.min(rows) }.max(1);
    (0..rows)
        .step_by(size as usize)
        .map(|start| (start, size.min(rows - start)))
        .collect()
}

/// Encodes views for a step.
pub(super) struct Encoder<'a> {
    pub(super) model: &'a DualEncoder,
    pub(super) options: StepOptions,
}

impl Encoder<'_> {
    fn pass(&self) -> Pass {
        Pass {
            compute: self.options.compute,
            patch_dropout: self.options.patch_dropout,
            ..Pass::TRAIN
        }
    }

    /// Encodes `rows` rows.
    pub(super) fn encode<'b>(&self, input: Input<'b>, draw: Draw, rows: i64) -> Result<Block<'b>> {
        let parameters = self.model.parameters();
        let (tower, projection) = if input.is_image() {
            ("image", "image_projection")
        } else {
            ("text", "text_projection")
        };
        let slices = slices(rows, self.options.micro_batch as i64);
        let tower_locked = locked(parameters, tower);
        if tower_locked && matches!(input, Input::Masked(_)) {
            return Err(
                Error::invalid("masked texts train the text tower, and all of it is locked")
                    .remedy("lock less of it, or leave masked_language out"),
            );
        }
        let input = if tower_locked {
            self.pooled(input, &slices)?
        } else {
            input
        };
        let trained = !(tower_locked && locked(parameters, projection));
        let keep = trained && slices.len() == 1;
        let mut block = Block {
            input,
            draw,
            trained,
            slices,
            parts: Vec::new(),
            leaf: Tensor::new(),
        };
        for at in 0..block.slices.len() {
            let part = self.forward(&block, at, keep)?;
            block.parts.push(part);
        }
        block.leaf = door(|| -> Result<Tensor> {
            let detached: Vec<Tensor> = block.parts.iter().map(Tensor::detach).collect();
            Ok(joined(&detached)?.set_requires_grad(trained))
        })??;
        if !keep {
            block.parts.clear();
        }
        Ok(block)
    }

    /// What a locked tower gives: once, without dropout, without a graph. Cached features pass through.
    fn pooled<'b>(&self, input: Input<'b>, slices: &[(i64, i64)]) -> Result<Input<'b>> {
        if let Input::Image(ImageInput::Pooled(_)) | Input::Text(TextInput::Pooled(_)) = input {
            return Ok(input);
        }
        let _guard = tch::no_grad_guard();
        let pass = Pass {
            train: false,
            ..self.pass()
        };
        let mut parts = Vec::new();
        for &(start, length) in slices {
            parts.push(match &input {
                Input::Image(input) => {
                    let rows = narrow_images(input, start, length);
                    self.model.encode_images(&rows, pass)?.pooled
                }
                Input::Text(input) => {
                    let rows = narrow_texts(input, start, length);
                    self.model.encode_texts(&rows, pass)?.pooled
                }
                Input::Masked(_) | Input::Pooled(..) => return Ok(input),
            });
        }
        Ok(Input::Pooled(joined(&parts)?, input.is_image()))
    }

    /// Features of one micro-batch. The generator is seeded by what is drawn, so that a second pass draws the same.
    fn forward(&self, block: &Block<'_>, at: usize, graph: bool) -> Result<Tensor> {
        let (start, length) = block.slices[at];
        let _guard = (!graph).then(tch::no_grad_guard);
        door(|| tch::manual_seed(seed(self.options.seed, block.draw, self.options.step, at as u64) as i64))?;
        let pass = self.pass();
        let encoded = match &block.input {
            Input::Image(input) => self.model.encode_images(&narrow_images(input, start, length), pass)?,
            Input::Text(input) => self.model.encode_texts(&narrow_texts(input, start, length), pass)?,
            Input::Masked(masked) => return self.masked(masked, start, length, pass),
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

    /// The tower's features of the masked tokens of some rows: `[places, width]`.
    fn masked(&self, masked: &MaskedTokens, start: i64, length: i64, pass: Pass) -> Result<Tensor> {
        let (tokens, places) = masked.narrow(start, length)?;
        let pass = Pass { tokens: true, ..pass };
        let encoded = self.model.encode_texts(&TextInput::Tokens(tokens), pass)?;
        let features = encoded.tokens.ok_or_else(|| {
            Error::invalid("the text tower gives no features of single tokens, which masked texts need")
                .remedy("leave masked_language out")
        })?;
        door(|| features.flatten(0, 1).index_select(0, &places))
    }

    /// Sends the leaves' gradients through the towers. With one micro-batch all views go back in one pass.
    pub(super) fn back(&self, blocks: &[Block<'_>]) -> Result<()> {
        let reached = |block: &&Block<'_>| block.trained && block.leaf.grad().defined();
        let (kept, again): (Vec<_>, Vec<_>) = blocks.iter().filter(reached).partition(|block| !block.parts.is_empty());
        door(|| {
            let terms = kept.iter().map(|block| surrogate(&block.parts[0], &block.leaf.grad()));
            if let Some(sum) = terms.reduce(|sum, term| sum + term) {
                sum.backward();
            }
        })?;
        for block in again {
            let gradient = block.leaf.grad();
            for (at, &(start, length)) in block.slices.iter().enumerate() {
                let span = block.input.span(start, length);
                if span.is_empty() {
                    continue;
                }
                let raw = self.forward(block, at, true)?;
                let (from, rows) = (span.start as i64, span.len() as i64);
                door(|| surrogate(&raw, &gradient.narrow(0, from, rows)).backward())?;
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
