//! A pipeline of the `tokenizers` crate, built or read from a `tokenizer.json`, with the special tokens around a text kept
//! apart so that truncation never loses them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use clip_core::{Error, Result, Vocabulary};
use tokenizers::Tokenizer as HfTokenizer;

/// Special tokens around every text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
}

impl Frame {
    /// How many ids of a text fit into the context.
    pub(crate) fn room(&self, context_length: usize) -> Result<usize> {
        let taken = self.before.len() + self.after.len();
        context_length.checked_sub(taken).ok_or_else(|| {
            Error::invalid(format!(
                "a context of {context_length} has no place for the {taken} special tokens"
            ))
            .remedy(format!("set --context-length to {taken} or more"))
        })
    }

    /// Writes the framed ids of one text, cut to the room there is.
    pub(crate) fn write(&self, ids: &[u32], room: usize, out: &mut Vec<u32>) {
        out.extend(&self.before);
        out.extend(&ids[..room.min(ids.len())]);
        out.extend(&self.after);
    }
}

/// A pipeline and its frame.
pub(crate) struct Pipeline {
    tokenizer: HfTokenizer,
    frame: Frame,
    /// One more than the largest id.
    size: usize,
}

impl Pipeline {
    pub(crate) fn new(tokenizer: HfTokenizer, frame: Frame, size: usize) -> Self {
        Self { tokenizer, frame, size }
    }

    /// Reads a `tokenizer.json`. Its own truncation and padding are dropped. The frame is what its post-processor adds, or,
    /// where it adds nothing, the first pair of the given names that it knows.
    pub(crate) fn read(json: &str, names: &[[&str; 2]]) -> Result<Self> {
        let wrong = |what: String| {
            Error::invalid(format!("the tokenizer.json cannot be used: {what}"))
                .remedy("check that the file is whole and was written by the tokenizers library")
        };
        // The library indexes with what it reads, so a malformed file can make it panic.
        let parsed = catch_unwind(AssertUnwindSafe(|| HfTokenizer::from_bytes(json)));
        let mut tokenizer = match parsed {
            Ok(tokenizer) => tokenizer.map_err(|error| wrong(error.to_string()))?,
            Err(_) => return Err(wrong("its merges do not fit its vocabulary".into())),
        };
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| wrong(error.to_string()))?;
        let mut frame = added_frame(&tokenizer).map_err(|error| wrong(error.to_string()))?;
        if frame.before.is_empty() && frame.after.is_empty() {
            let known = names.iter().find_map(|[start, end]| {
                Some(Frame {
                    before: vec![tokenizer.token_to_id(start)?],
                    after: vec![tokenizer.token_to_id(end)?],
                })
            });
            frame = known.ok_or_else(|| wrong("it has no start and end token".into()))?;
        }
        let largest = tokenizer.get_vocab(true).into_values().max();
        let size = largest.map_or(0, |largest| largest as usize + 1);
        Ok(Self { tokenizer, frame, size })
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The ids of a text without its frame.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false);
        Ok(encoding
            .map_err(|error| Error::invalid(format!("the text cannot be tokenized: {error}")))?
            .get_ids()
            .to_vec())
    }

    /// Its pieces and their ids, in no order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (String, u32)> {
        self.tokenizer.get_vocab(true).into_iter()
    }

    /// Its vocabulary; the mask is the first of these names that is a token.
    pub(crate) fn vocabulary(&self) -> Vocabulary {
        let added = self.tokenizer.get_added_tokens_decoder();
        let mut special: Vec<u32> = added
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, _)| id)
            .collect();
        special.extend(self.frame.before.iter().chain(&self.frame.after));
        special.sort_unstable();
        special.dedup();
        let mask = ["[MASK]", "<mask>"]
            .iter()
            .find_map(|name| self.tokenizer.token_to_id(name));
        Vocabulary {
            size: self.size,
            mask,
            special,
        }
    }
}

/// What the post-processor puts around a text, found by trying it on one.
fn added_frame(tokenizer: &HfTokenizer) -> tokenizers::Result<Frame> {
    let bare = tokenizer.encode_fast("a", false)?;
    let framed = tokenizer.encode_fast("a", true)?;
    let (bare, framed) = (bare.get_ids(), framed.get_ids());
    let at = (0..=framed.len().saturating_sub(bare.len()))
        .find(|&at| framed[at..].starts_with(bare))
        .ok_or("its post-processor changes the text's own ids")?;
    Ok(Frame {
        before: framed[..at].to_vec(),
        after: framed[at + bare.len()..].to_vec(),
    })
}
