//! What turns tokens and pixels into embeddings.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Image, ImageTransform, PixelBatch, Result, TokenBatch, Tokenizer};

/// Embeddings of several texts or pictures: f32 unit rows `[rows, dim]`, contiguous.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embeddings {
    data: Vec<f32>,
    dim: usize,
}

impl Embeddings {
    /// Embeddings of given values; an error if they are no whole number of rows.
    pub fn new(data: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(Error::invalid(format!(
                "{} values are no rows of {dim} dimensions",
                data.len()
            )));
        }
        Ok(Self { data, dim })
    }

    /// Brings every row to unit length. A row of zeros stays as it is.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        for row in self.data.chunks_exact_mut(self.dim.max(1)) {
            let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if norm > 0.0 {
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        self
    }

    /// The first `dims` dimensions of every row, as they are: what is left of a model trained to be cut (Matryoshka) is
    /// brought back to unit length by [`normalised`](Self::normalised). An error if rows have fewer.
    pub fn first_dims(mut self, dims: usize) -> Result<Self> {
        if dims == 0 || dims > self.dim {
            return Err(Error::invalid(format!(
                "rows of {} dimensions have no first {dims}",
                self.dim
            )));
        }
        if dims < self.dim {
            self.data = self.rows().flat_map(|row| &row[..dims]).copied().collect();
            self.dim = dims;
        }
        Ok(self)
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.data.len().checked_div(self.dim).unwrap_or(0)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Dimensions of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// The rows, in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.dim.max(1))
    }

    /// All values, `[rows, dim]`.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The values, taken out.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// Appends the rows of `other`; an error if the dimensions differ.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        if self.is_empty() {
            self.dim = other.dim;
        }
        if !other.is_empty() && self.dim != other.dim {
            return Err(Error::invalid(format!(
                "cannot join rows of {} and {} dimensions",
                self.dim, other.dim
            )));
        }
        self.data.extend_from_slice(&other.data);
        Ok(())
    }
}

/// How a model turns similarities into probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probability {
    /// Softmax over the candidates (CLIP).
    Softmax,
    /// Each pair by itself (SigLIP).
    Sigmoid,
}

/// What there is to know about a model without running it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Dimensions of an embedding.
    pub dim: usize,
    /// The temperature: cosines are multiplied by this (already exponentiated).
    pub logit_scale: f32,
    /// Added to scaled cosines, where the model has one (SigLIP).
    pub logit_bias: Option<f32>,
    /// How similarities become probabilities.
    pub probability: Probability,
    /// The most ids a text may have.
    pub context_length: usize,
    /// Height and width of the pixels.
    pub image_size: [usize; 2],
}

/// An engine that embeds texts and pictures. `Send` and no more, since a libtorch tensor is not `Sync`:
/// [`EmbedWorker`](crate::EmbedWorker) makes one shareable. Implementers write six methods.
pub trait Embedder: Send {
    /// What there is to know without running it.
    fn info(&self) -> &ModelInfo;

    /// A hash of weights and transform, made when asked for: features are comparable only within one id.
    fn id(&self) -> Result<String>;

    /// The tokenizer, resolved on first use; any thread may run it.
    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>>;

    /// The picture transform, resolved on first use; any thread may run it.
    fn transform(&self) -> Result<Arc<dyn ImageTransform>>;

    /// Embeds tokens, in order.
    fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings>;

    /// Embeds pixels, in order.
    fn embed_pixels(&self, pixels: &PixelBatch) -> Result<Embeddings>;

    /// Embeds texts, in order.
    fn embed_texts(&self, texts: &[&str]) -> Result<Embeddings> {
        self.embed_tokens(&self.tokenizer()?.encode(texts)?)
    }

    /// Embeds pictures, in order.
    fn embed_images(&self, images: &[Image]) -> Result<Embeddings> {
        self.embed_pixels(&self.transform()?.batch(images)?)
    }
}
