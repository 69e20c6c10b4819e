//! A tokenizer as its `tokenizer.json` says, whatever it is.

use std::path::Path;

use clip_core::{Error, Result, TokenBatch, Tokenizer, Vocabulary};

use crate::pipeline::Pipeline;
use crate::vocabulary_file::{VocabularyKind, read, text};

/// A pipeline of the `tokenizers` library, read from its file: SentencePiece models (SigLIP's), RoBERTa's byte pairs and
/// all else that has no other form here.
///
/// Normaliser, splits, model and special tokens are the file's; its truncation and padding are not. A text that is too
/// long keeps its first ids and the special tokens around them. Encoding takes `&self`, is the same on every thread, and
/// starts no threads.
pub struct JsonTokenizer {
    pipeline: Pipeline,
    context_length: usize,
    /// How many ids of a text fit between the special tokens.
    room: usize,
}

impl JsonTokenizer {
    /// A tokenizer of a file. A text has at most `context_length` ids, special tokens included.
    ///
    /// # Errors
    /// The file cannot be read, is no `tokenizer.json` or is malformed; it puts no special token around a text, which a
    /// model needs to know where a text ends; the context is too short for the special tokens.
    pub fn open(path: impl AsRef<Path>, context_length: usize) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::of_bytes(&bytes, context_length).map_err(|error| error.file(path))
    }

    fn of_bytes(bytes: &[u8], context_length: usize) -> Result<Self> {
        if VocabularyKind::of_bytes(bytes)? != VocabularyKind::TokenizerJson {
            return Err(Error::invalid("a list of tokens, where a tokenizer.json is needed"));
        }
        let pipeline = Pipeline::read(&text(bytes)?, &[])?;
        Ok(Self {
            room: pipeline.frame().room(context_length)?,
            pipeline,
            context_length,
        })
    }
}

impl Tokenizer for JsonTokenizer {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let mut batch = TokenBatch::new();
        let mut row = Vec::new();
        for text in texts {
            row.clear();
            let ids = self.pipeline.ids(text)?;
            self.pipeline.frame().write(&ids, self.room, &mut row);
            batch.push(&row);
        }
        Ok(batch)
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn vocabulary(&self) -> Vocabulary {
        self.pipeline.vocabulary()
    }
}
