//! What belongs to a model beside its weights, out of the checkpoints it was opened from.

use std::sync::Arc;

use clip_format::{Checkpoint, TextOptions};
use clip_nn::Preparation;
use clip_nn::clip_core::{Error, ImageTransform, Result, Tokenizer, Truncation};

/// Tokenizer and transform of a checkpoint, or of the two that were joined; each resolved when it is asked for.
#[derive(Debug, Clone)]
pub struct CheckpointPreparation {
    pub(crate) image: Arc<Checkpoint>,
    pub(crate) text: Arc<Checkpoint>,
    pub(crate) options: TextOptions,
}

impl CheckpointPreparation {
    /// Of a whole model; texts are cut at `context_length` tokens where given.
    pub(crate) fn of(checkpoint: Arc<Checkpoint>, context_length: Option<usize>) -> Self {
        Self {
            image: checkpoint.clone(),
            text: checkpoint,
            options: TextOptions {
                context_length,
                ..TextOptions::default()
            },
        }
    }

    /// The same, and texts that are too long become what is told.
    pub fn with_truncation(mut self, truncation: Truncation) -> Self {
        self.options.truncation = truncation;
        self
    }

    /// The checkpoint that the image tower is from.
    pub fn image(&self) -> &Checkpoint {
        &self.image
    }

    /// The checkpoint that the text tower is from; the same one, unless two were joined.
    pub fn text(&self) -> &Checkpoint {
        &self.text
    }
}

impl Preparation for CheckpointPreparation {
    fn id(&self) -> Result<String> {
        if Arc::ptr_eq(&self.image, &self.text) {
            return self.image.id();
        }
        Err(Error::invalid("a model that was just joined from two towers has no identity").remedy("save and open it"))
    }

    fn tokenizer(&self) -> Result<Arc<dyn Tokenizer>> {
        self.text.tokenizer_with(self.options)
    }

    fn transform(&self) -> Result<Arc<dyn ImageTransform>> {
        self.image.transform()
    }
}
