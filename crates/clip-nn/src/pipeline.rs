//! A model with its tokenizer and transform: texts and pictures in, embeddings out.

use std::sync::Arc;

use clip_core::{Embedder, Embeddings, ImageTransform, ModelInfo, PixelBatch, Result, TokenBatch, Tokenizer};
use tch::{Device, Kind, Tensor};

use crate::{Compute, DualEncoder, ImageInput, Pass, TextInput, Tokens, door, unit_rows};

/// What belongs to a model beside its weights, resolved on first use. `clip-models` implements it over a checkpoint.
pub trait Preparation: Send {
    /// A hash of weights and transform.
    fn id(&self) -> Result<String>;

    /// The tokenizer; an error if its vocabulary does not fit the weights.
    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>>;

    /// The picture transform.
    fn transform(&self) -> Result<Arc<dyn ImageTransform>>;
}

/// A [`DualEncoder`] ready for use: the [`Embedder`] of libtorch.
pub struct Pipeline {
    model: DualEncoder,
    preparation: Box<dyn Preparation>,
    info: ModelInfo,
    device: Device,
    pass: Pass,
    unit: bool,
}

impl Pipeline {
    /// Joins a model and what belongs to it. Linear layers multiply in `compute`.
    pub fn new(model: DualEncoder, preparation: Box<dyn Preparation>, device: Device, compute: Compute) -> Self {
        let info = model.info();
        Self {
            model,
            preparation,
            info,
            device,
            pass: Pass { compute, ..Pass::INFER },
            unit: true,
        }
    }

    /// Gives features as the projections make them, of any length, instead of the unit rows that the contract of
    /// [`Embedder`] names: for a caller who asked for them, and not for ranking.
    #[must_use]
    pub fn unnormalised(mut self) -> Self {
        self.unit = false;
        self
    }

    /// The model.
    pub fn model(&self) -> &DualEncoder {
        &self.model
    }

    /// What its linear layers multiply in.
    pub fn compute(&self) -> Compute {
        self.pass.compute
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Embeds prepared ids `[batch, tokens]` (i64) under a mask `[batch, tokens]` (bool).
    pub fn embed_ids(&self, tokens: Tokens) -> Result<Embeddings> {
        let _guard = tch::no_grad_guard();
        let encoded = self.model.encode_texts(&TextInput::Tokens(tokens), self.pass)?;
        self.embeddings(&encoded.raw)
    }

    fn embeddings(&self, raw: &Tensor) -> Result<Embeddings> {
        let values = door(|| {
            let rows = if self.unit { unit_rows(raw) } else { raw.shallow_clone() };
            let rows = rows.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
            let mut values = vec![0f32; rows.numel()];
            let length = values.len();
            rows.copy_data(&mut values, length);
            values
        })?;
        Embeddings::new(values, self.info.dim)
    }
}

/// Ids padded to the longest text with `pad`, and the mask of what is not padding.
pub fn pad(batch: &TokenBatch, pad: i64, device: Device) -> Result<Tokens> {
    let (rows, longest) = (batch.len(), batch.longest().max(1));
    let mut ids = vec![pad; rows * longest];
    let mut mask = vec![false; rows * longest];
    for (row, tokens) in batch.rows().enumerate() {
        for (at, &id) in tokens.iter().enumerate() {
            ids[row * longest + at] = i64::from(id);
            mask[row * longest + at] = true;
        }
    }
    let shape = [rows as i64, longest as i64];
    door(|| Tokens {
        ids: Tensor::from_slice(&ids).view(shape).to_device(device),
        mask: Tensor::from_slice(&mask).view(shape).to_device(device),
    })
}

/// Pixels as a tensor `[batch, 3, height, width]`.
pub fn pixels(batch: &PixelBatch, device: Device) -> Result<Tensor> {
    let [height, width] = batch.size();
    let shape = [batch.len() as i64, 3, height as i64, width as i64];
    door(|| Tensor::from_slice(batch.data()).view(shape).to_device(device))
}

impl Embedder for Pipeline {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn id(&self) -> Result<String> {
        self.preparation.id()
    }

    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        self.preparation.tokenizer()
    }

    fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        self.preparation.transform()
    }

    fn embed_tokens(&self, tokens: &TokenBatch) -> Result<Embeddings> {
        if tokens.is_empty() {
            return Ok(Embeddings::default());
        }
        self.embed_ids(pad(tokens, self.model.text().pad_id(), self.device)?)
    }

    fn embed_pixels(&self, batch: &PixelBatch) -> Result<Embeddings> {
        if batch.is_empty() {
            return Ok(Embeddings::default());
        }
        let _guard = tch::no_grad_guard();
        let input = ImageInput::Pixels(pixels(batch, self.device)?);
        let encoded = self.model.encode_images(&input, self.pass)?;
        self.embeddings(&encoded.raw)
    }
}
