//! CLIP's byte-pair encoding.

use std::path::Path;

use clip_core::{Error, Result, TokenBatch, Tokenizer, Truncation, Vocabulary};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, Model, SplitDelimiterBehavior, Tokenizer as HfTokenizer};

use crate::clean::{canonical, clean};
use crate::merges::{MOST_LINES, Merges, byte_characters};
use crate::pipeline::{Frame, Pipeline};
use crate::vocabulary_file::{VocabularyKind, first_lines, read, text};
use crate::words::{END, START, words};

/// OpenAI's merges, as every CLIP of OpenAI and OpenCLIP uses them.
pub(crate) const BUNDLED: &[u8] = include_bytes!("../data/bpe_simple_vocab_16e6.txt.gz");

/// The special tokens under Hugging Face's names.
pub(crate) const HF_SPECIAL: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

/// How Hugging Face's `CLIPTokenizer` splits text.
const HF_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// What is done to a text before it is split into words. A model expects the one it was trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cleaning {
    /// As OpenAI, OpenCLIP and EasyNLP do: ftfy's repairs, HTML references twice, whitespace, lower case.
    #[default]
    OpenClip,
    /// As Hugging Face's `CLIPTokenizer` does: NFC, whitespace, lower case.
    HuggingFace,
    /// As OpenCLIP does for SigLIP (`canonicalize`): its repairs and HTML references, then no ASCII punctuation, lower case.
    Canonical,
}

/// How a [`ClipBpe`] encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpeOptions {
    /// The most ids a text may have, special tokens included; CLIP's own models have 77.
    pub context_length: usize,
    /// What is done to a text first.
    pub cleaning: Cleaning,
    /// What becomes of a text that is too long.
    pub truncation: Truncation,
}

impl Default for BpeOptions {
    fn default() -> Self {
        Self {
            context_length: 77,
            cleaning: Cleaning::default(),
            truncation: Truncation::default(),
        }
    }
}

/// CLIP's tokenizer: byte-pair encoding between a start and an end token.
///
/// A text that is too long keeps its first ids and its end token, unless [`Truncation`] says otherwise. Encoding takes `&self`, is the same on every thread, and
/// starts no threads.
///
/// ```
/// use clip_core::Tokenizer;
/// use clip_tokenizers::{BpeOptions, ClipBpe};
///
/// let tokenizer = ClipBpe::bundled(BpeOptions::default())?;
/// let batch = tokenizer.encode(&["a photo of a cat"])?;
/// assert_eq!(batch.rows().next(), Some(&[49406, 320, 1125, 539, 320, 2368, 49407][..]));
/// # Ok::<(), clip_core::Error>(())
/// ```
pub struct ClipBpe {
    body: Body,
    cleaning: Cleaning,
    truncation: Truncation,
    context_length: usize,
    /// How many ids of a text fit between the special tokens.
    room: usize,
    vocabulary: Vocabulary,
}

enum Body {
    /// OpenCLIP's own way: words found by hand.
    Words {
        model: Box<BPE>,
        characters: Box<[char; 256]>,
        frame: Frame,
    },
    /// Hugging Face's way, which cleans by itself, or a `tokenizer.json`.
    Pipeline(Box<Pipeline>),
}

impl ClipBpe {
    /// The tokenizer of OpenAI's CLIP, of the vocabulary that comes with this crate: 49,408 ids.
    ///
    /// # Errors
    /// The context is too short for the two special tokens.
    pub fn bundled(options: BpeOptions) -> Result<Self> {
        Self::of_merges(&first_lines(BUNDLED, MOST_LINES)?, &options)
    }

    /// A tokenizer of a file: merges, plain or packed with gzip, or a `tokenizer.json`, told apart by content.
    ///
    /// The ids of merges are 256 bytes, 256 bytes at a word's end, one a merge, start, end, so a file that is cut short makes
    /// a smaller vocabulary. A `tokenizer.json` says itself how text is normalised and split; with [`Cleaning::OpenClip`]
    /// texts are cleaned before that, but case is left to the file, as OpenCLIP does with such files.
    ///
    /// # Errors
    /// The file cannot be read, is something else or is malformed; the context is too short for the special tokens.
    pub fn open(path: impl AsRef<Path>, options: BpeOptions) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::of_bytes(&bytes, &options).map_err(|error| error.file(path))
    }

    fn of_bytes(bytes: &[u8], options: &BpeOptions) -> Result<Self> {
        match VocabularyKind::of_bytes(bytes)? {
            // All of the file is unpacked, so that damage shows.
            VocabularyKind::GzipMerges | VocabularyKind::Merges => Self::of_merges(&text(bytes)?, options),
            VocabularyKind::TokenizerJson => {
                let pipeline = Pipeline::read(&text(bytes)?, &[HF_SPECIAL, [START, END]])?;
                Self::of_pipeline(pipeline, options)
            }
            VocabularyKind::WordPiece => Err(Error::invalid(
                "a WordPiece vocabulary, where byte-pair merges are needed",
            )
            .remedy("check that the model's text tower is CLIP's and not BERT")),
        }
    }

    fn of_merges(text: &str, options: &BpeOptions) -> Result<Self> {
        match options.cleaning {
            Cleaning::OpenClip | Cleaning::Canonical => {
                let Merges { model, start, end } = Merges::read(text, [START, END])?;
                let frame = Frame {
                    before: vec![start],
                    after: vec![end],
                };
                let room = frame.room(options.context_length)?;
                let vocabulary = Vocabulary {
                    size: end as usize + 1,
                    mask: None,
                    special: vec![start, end],
                };
                let body = Body::Words {
                    model: Box::new(model),
                    characters: Box::new(byte_characters()),
                    frame,
                };
                Ok(Self::of_body(body, room, vocabulary, options))
            }
            Cleaning::HuggingFace => {
                let Merges { model, start, end } = Merges::read(text, HF_SPECIAL)?;
                let tokenizer = hugging_face(model).map_err(|error| Error::internal(error.to_string()))?;
                let frame = Frame {
                    before: vec![start],
                    after: vec![end],
                };
                Self::of_pipeline(Pipeline::new(tokenizer, frame, end as usize + 1), options)
            }
        }
    }

    fn of_pipeline(pipeline: Pipeline, options: &BpeOptions) -> Result<Self> {
        let room = pipeline.frame().room(options.context_length)?;
        let vocabulary = pipeline.vocabulary();
        Ok(Self::of_body(
            Body::Pipeline(Box::new(pipeline)),
            room,
            vocabulary,
            options,
        ))
    }

    fn of_body(body: Body, room: usize, vocabulary: Vocabulary, options: &BpeOptions) -> Self {
        Self {
            body,
            cleaning: options.cleaning,
            truncation: options.truncation,
            context_length: options.context_length,
            room,
            vocabulary,
        }
    }

    /// The framed ids of a text, no more than the context has.
    fn write(&self, frame: &Frame, ids: &[u32], row: &mut Vec<u32>) {
        match self.truncation {
            Truncation::KeepEnd => frame.write(ids, self.room, row),
            Truncation::EasyNlp => {
                frame.write(ids, ids.len(), row);
                row.truncate(self.context_length);
            }
        }
    }
}

impl Tokenizer for ClipBpe {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let mut batch = TokenBatch::new();
        let mut row = Vec::new();
        for text in texts {
            row.clear();
            match &self.body {
                Body::Words {
                    model,
                    characters,
                    frame,
                } => {
                    let cleaned = match self.cleaning {
                        Cleaning::Canonical => canonical(text),
                        _ => clean(text).to_lowercase(),
                    };
                    // As many as may be left, whatever becomes of the end token.
                    let ids = word_ids(model, characters, &cleaned, frame, self.context_length)?;
                    self.write(frame, &ids, &mut row);
                }
                Body::Pipeline(pipeline) => {
                    let ids = match self.cleaning {
                        Cleaning::OpenClip => pipeline.ids(&clean(text))?,
                        Cleaning::Canonical => pipeline.ids(&canonical(text))?,
                        Cleaning::HuggingFace => pipeline.ids(text)?,
                    };
                    self.write(pipeline.frame(), &ids, &mut row);
                }
            }
            batch.push(&row);
        }
        Ok(batch)
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn vocabulary(&self) -> Vocabulary {
        self.vocabulary.clone()
    }
}

/// The ids of a clean text, no more than just enough to fill the context.
fn word_ids(model: &BPE, characters: &[char; 256], text: &str, frame: &Frame, context: usize) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(context.min(text.len()));
    let mut word = String::new();
    for found in words(text) {
        match found {
            START => ids.extend(&frame.before),
            END => ids.extend(&frame.after),
            _ => {
                word.clear();
                word.extend(found.bytes().map(|byte| characters[usize::from(byte)]));
                let tokens = model
                    .tokenize(&word)
                    .map_err(|error| Error::internal(error.to_string()))?;
                ids.extend(tokens.iter().map(|token| token.id));
            }
        }
        if ids.len() >= context {
            break;
        }
    }
    Ok(ids)
}

/// The pipeline of transformers 5's `CLIPTokenizer`.
fn hugging_face(model: BPE) -> tokenizers::Result<HfTokenizer> {
    let mut tokenizer = HfTokenizer::new(model);
    let whitespace = Replace::new(
        tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()),
        " ",
    )?;
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NFC.into(),
        whitespace.into(),
        Lowercase.into(),
    ])))?;
    let split = Split::new(
        SplitPattern::Regex(HF_WORDS.into()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    let bytes = ByteLevel::default().add_prefix_space(false);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![split.into(), bytes.into()])));
    tokenizer.add_special_tokens(HF_SPECIAL.map(|name| AddedToken::from(name, true)))?;
    Ok(tokenizer)
}
