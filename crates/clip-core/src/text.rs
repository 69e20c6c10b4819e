//! Texts as the model sees them.

use serde::{Deserialize, Serialize};

use crate::Result;

/// Turns texts into token ids. Implementers write three methods; callers are pipelines and loaders.
pub trait Tokenizer: Send + Sync {
    /// Encodes texts: special tokens in, truncated to [`context_length`](Self::context_length) so that the end token
    /// stays. Never pads: padding is the encoder's business.
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch>;

    /// The most ids a text may have, special tokens included.
    fn context_length(&self) -> usize;

    /// What the ids mean.
    fn vocabulary(&self) -> Vocabulary;
}

/// What becomes of a text of more ids than the context has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Truncation {
    /// Its last ids give way, and the end token stays.
    #[default]
    #[serde(rename = "keep-end")]
    KeepEnd,
    /// As EasyNLP does to byte pairs: the end token is cut off with the rest. A CLIP then pools the largest id that is left,
    /// mostly the start token, which has seen nothing of the text. For numbers that were made so, and nothing else.
    #[serde(rename = "easynlp")]
    EasyNlp,
}

/// What a tokenizer's ids mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Ids are below this.
    pub size: usize,
    /// The mask token, where there is one.
    pub mask: Option<u32>,
    /// The special tokens, ascending.
    pub special: Vec<u32>,
}

/// Token ids of several texts, ragged: one flat list and the length of each text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    lengths: Vec<usize>,
}

impl TokenBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the ids of one text.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.lengths.push(ids.len());
    }

    /// How many texts.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The ids of each text, in order.
    pub fn rows(&self) -> impl Iterator<Item = &[u32]> {
        let mut rest = self.ids.as_slice();
        self.lengths.iter().map(move |&length| {
            let (row, tail) = rest.split_at(length);
            rest = tail;
            row
        })
    }

    /// The length of each text, in order.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The longest text of the batch; 0 if it is empty.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }
}

impl<'a> FromIterator<&'a [u32]> for TokenBatch {
    fn from_iter<T: IntoIterator<Item = &'a [u32]>>(rows: T) -> Self {
        let mut batch = Self::new();
        rows.into_iter().for_each(|row| batch.push(row));
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_pushed() {
        let rows: [&[u32]; 3] = [&[1, 2, 3], &[], &[4]];
        let batch: TokenBatch = rows.into_iter().collect();
        assert_eq!(batch.rows().collect::<Vec<_>>(), rows);
        assert_eq!((batch.len(), batch.longest()), (3, 3));
    }
}
