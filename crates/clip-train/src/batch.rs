//! Batches as a step takes them, and where they come from.

use std::ops::Range;

use clip_core::{Concept, Error, Id, Origin, Position, Result};
use clip_nn::tch::Tensor;
use clip_nn::{ImageInput, TeacherFeatures, TextInput, Tokens, door};

/// Pairs ready for the towers: every list and every input has a row a pair. The default is no pairs; start from it, since
/// later needs add fields.
#[derive(Debug, Default)]
pub struct Batch {
    /// Pictures, one entry a view.
    pub images: Vec<ImageInput>,
    /// Texts, one entry a view.
    pub texts: Vec<TextInput>,
    /// The pairs' keys.
    pub keys: Vec<Id>,
    /// The pairs' products, where known.
    pub items: Vec<Option<Id>>,
    /// The pairs' concepts.
    pub concepts: Vec<Vec<Id>>,
    /// The concept whose name stands in for a pair's text, where one does.
    pub captions: Vec<Option<Id>>,
    /// The pairs' weights in the loss.
    pub weights: Vec<f32>,
    /// The texts with tokens masked, where an objective asks for it.
    pub masked: Option<MaskedTokens>,
    /// What a teacher makes of the pairs, where an objective asks for it.
    pub teacher: Option<TeacherFeatures>,
    /// Names of the concepts in `concepts`, each once, ascending by id.
    pub names: Vec<Concept>,
    /// Where each pair came from, for messages.
    pub origins: Vec<Origin>,
    /// Where the source stands behind this batch.
    pub position: Position,
    /// Rows refused on the way to this batch.
    pub refused: u64,
}

/// Texts of a batch with tokens masked.
#[derive(Debug)]
pub struct MaskedTokens {
    /// The texts, masked: `[batch, tokens]`.
    pub tokens: Tokens,
    /// The masked places, `row · tokens + token`, ascending.
    pub places: Vec<i64>,
    /// The ids that stood there, `[places]`, i64.
    pub targets: Tensor,
}

impl MaskedTokens {
    /// Whether no token is masked.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn width(&self) -> i64 {
        self.tokens.ids.size().get(1).copied().unwrap_or(0)
    }

    /// Which of the places lie in rows `start..start + length`.
    pub(crate) fn places_of(&self, start: i64, length: i64) -> Range<usize> {
        let width = self.width();
        let before = |row: i64| self.places.partition_point(|&place| place < row * width);
        before(start)..before(start + length)
    }

    /// Rows `start..start + length`, and the places in them counted from their first token.
    pub(crate) fn narrow(&self, start: i64, length: i64) -> Result<(Tokens, Tensor)> {
        let width = self.width();
        let places: Vec<i64> = self.places[self.places_of(start, length)]
            .iter()
            .map(|place| place - start * width)
            .collect();
        let Tokens { ids, mask } = &self.tokens;
        door(|| {
            let tokens = Tokens {
                ids: ids.narrow(0, start, length),
                mask: mask.narrow(0, start, length),
            };
            (tokens, Tensor::from_slice(&places).to_device(ids.device()))
        })
    }
}

/// Gives the batches of an epoch. Implemented over a loader, and by tests in memory.
pub trait BatchSource {
    /// Pairs of an epoch, where known: schedules need it.
    fn pairs(&self) -> Option<u64>;

    /// The batches of an epoch, from a position on. A batch of no pairs is passed over by the trainer.
    fn start(&mut self, epoch: u64, from: &Position) -> Result<Box<dyn BatchStream + '_>>;
}

/// The batches of one epoch, in order.
pub trait BatchStream {
    /// The next batch; `None` where the epoch ends.
    fn next(&mut self) -> Result<Option<Batch>>;
}

impl Batch {
    /// How many pairs.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks that every list and every input has a row a pair.
    pub(crate) fn check(&self) -> Result<()> {
        let pairs = self.len();
        let lists = [
            self.items.len(),
            self.concepts.len(),
            self.captions.len(),
            self.weights.len(),
        ];
        let images = self.images.iter().map(image_rows);
        let texts = self.texts.iter().map(text_rows);
        if lists.iter().any(|&n| n != pairs) || images.chain(texts).any(|n| n != pairs as i64) {
            return Err(Error::internal(format!(
                "a batch of {pairs} pairs has parts of other lengths"
            )));
        }
        if self.images.is_empty() || self.texts.is_empty() {
            return Err(Error::internal("a batch has no pictures or no texts"));
        }
        Ok(())
    }
}

fn image_rows(input: &ImageInput) -> i64 {
    match input {
        ImageInput::Pixels(rows) | ImageInput::Pooled(rows) => rows.size().first().copied().unwrap_or(0),
    }
}

pub(crate) fn text_rows(input: &TextInput) -> i64 {
    match input {
        TextInput::Tokens(tokens) => tokens.ids.size().first().copied().unwrap_or(0),
        TextInput::Pooled(rows) => rows.size().first().copied().unwrap_or(0),
    }
}

/// Rows `start..start + length` of a picture input; they share its memory.
pub(crate) fn narrow_images(input: &ImageInput, start: i64, length: i64) -> ImageInput {
    match input {
        ImageInput::Pixels(rows) => ImageInput::Pixels(rows.narrow(0, start, length)),
        ImageInput::Pooled(rows) => ImageInput::Pooled(rows.narrow(0, start, length)),
    }
}

/// Rows `start..start + length` of a text input; they share its memory.
pub(crate) fn narrow_texts(input: &TextInput, start: i64, length: i64) -> TextInput {
    match input {
        TextInput::Pooled(rows) => TextInput::Pooled(rows.narrow(0, start, length)),
        TextInput::Tokens(Tokens { ids, mask }) => TextInput::Tokens(Tokens {
            ids: ids.narrow(0, start, length),
            mask: mask.narrow(0, start, length),
        }),
    }
}

/// One tensor of several, by rows.
pub(crate) fn joined(rows: &[Tensor]) -> Result<Tensor> {
    door(|| match rows {
        [one] => one.shallow_clone(),
        several => Tensor::cat(several, 0),
    })
}
