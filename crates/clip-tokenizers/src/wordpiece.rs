//! BERT's WordPiece, in the two flavours that Chinese CLIP models were trained with.

use std::path::Path;

use clip_core::{Error, Result, TokenBatch, Tokenizer, Vocabulary};
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Model, Tokenizer as HfTokenizer};

use crate::basic::basic_words;
use crate::pipeline::{Frame, Pipeline};
use crate::repair::is_space;
use crate::vocabulary_file::{VocabularyKind, read, text};

/// The vocabulary of BERT-base Chinese, which Chinese-CLIP and EasyNLP's Chinese models use.
pub(crate) const BUNDLED: &[u8] = include_bytes!("../data/bert-base-chinese-vocab.txt.gz");

const UNKNOWN: &str = "[UNK]";
const START: &str = "[CLS]";
const END: &str = "[SEP]";
const MASK: &str = "[MASK]";
const SPECIAL: [&str; 5] = ["[PAD]", UNKNOWN, START, END, MASK];

/// Longer words are unknown.
const LONGEST_WORD: usize = 100;
/// Longer words are unknown to Chinese-CLIP.
const LONGEST_WORD_CHINESE_CLIP: usize = 200;

/// Whose rules a [`ChineseWordPiece`] follows. They differ in rare texts only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flavour {
    /// Hugging Face's `BertTokenizer`, which EasyNLP uses too: `[MASK]` and its like in a text are special tokens, words of
    /// more than 100 letters are unknown, private-use characters are dropped.
    #[default]
    Bert,
    /// Chinese-CLIP's own: `[MASK]` in a text is three words, words of up to 200 letters are split, private-use characters
    /// stay.
    ChineseClip,
}

/// How a [`ChineseWordPiece`] encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WordPieceOptions {
    /// The most ids a text may have, special tokens included; Chinese-CLIP's models have 52.
    pub context_length: usize,
    /// Whose rules count.
    pub flavour: Flavour,
    /// Whether case and accents are dropped, as for every uncased vocabulary.
    pub lower_case: bool,
}

impl Default for WordPieceOptions {
    fn default() -> Self {
        Self {
            context_length: 52,
            flavour: Flavour::default(),
            lower_case: true,
        }
    }
}

/// BERT's tokenizer, for Chinese and for any other vocabulary of its kind: words split into the longest known pieces,
/// each Chinese character a word, between `[CLS]` and `[SEP]`.
///
/// A text that is too long keeps its first ids and its `[SEP]`. Encoding takes `&self`, is the same on every thread, and
/// starts no threads.
///
/// ```
/// use clip_core::Tokenizer;
/// use clip_tokenizers::{ChineseWordPiece, WordPieceOptions};
///
/// let tokenizer = ChineseWordPiece::bundled(WordPieceOptions::default())?;
/// let batch = tokenizer.encode(&["红色连衣裙"])?;
/// assert_eq!(batch.rows().next(), Some(&[101, 5273, 5682, 6825, 6132, 6170, 102][..]));
/// # Ok::<(), clip_core::Error>(())
/// ```
pub struct ChineseWordPiece {
    body: Body,
    context_length: usize,
    /// How many ids of a text fit between the special tokens.
    room: usize,
    vocabulary: Vocabulary,
}

enum Body {
    Pipeline(Box<Pipeline>),
    ChineseClip {
        model: Box<WordPiece>,
        lower_case: bool,
        frame: Frame,
    },
}

impl ChineseWordPiece {
    /// The tokenizer of the vocabulary that comes with this crate: BERT-base Chinese, 21,128 ids.
    ///
    /// # Errors
    /// The context is too short for the two special tokens.
    pub fn bundled(options: WordPieceOptions) -> Result<Self> {
        Self::of_pieces(&text(BUNDLED)?, &options)
    }

    /// A tokenizer of a file: a list with one piece a line, whose id is its line, or a `tokenizer.json`, told apart by
    /// content. A `tokenizer.json` says itself how text is normalised; [`Flavour::ChineseClip`] takes only its pieces.
    ///
    /// # Errors
    /// The file cannot be read or is something else; `[CLS]`, `[SEP]` or `[UNK]` is missing; the context is too short for the
    /// special tokens.
    pub fn open(path: impl AsRef<Path>, options: WordPieceOptions) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path)?;
        Self::of_bytes(&bytes, &options).map_err(|error| error.file(path))
    }

    fn of_bytes(bytes: &[u8], options: &WordPieceOptions) -> Result<Self> {
        match VocabularyKind::of_bytes(bytes)? {
            VocabularyKind::WordPiece => Self::of_pieces(&text(bytes)?, options),
            VocabularyKind::TokenizerJson if options.flavour == Flavour::ChineseClip => {
                let pipeline = Pipeline::read(&text(bytes)?, &[[START, END]])?;
                Self::chinese_clip(pipeline.pieces(), options)
            }
            VocabularyKind::TokenizerJson => {
                Self::of_pipeline(Pipeline::read(&text(bytes)?, &[[START, END]])?, options)
            }
            VocabularyKind::GzipMerges | VocabularyKind::Merges => Err(Error::invalid(
                "byte-pair merges, where a WordPiece vocabulary is needed",
            )
            .remedy("check that the model's text tower is BERT and not CLIP's")),
        }
    }

    fn of_pieces(text: &str, options: &WordPieceOptions) -> Result<Self> {
        let lines = lines(text);
        match options.flavour {
            // Chinese-CLIP strips the pieces, Hugging Face only their line breaks.
            Flavour::ChineseClip => Self::chinese_clip(
                lines.map(|line| line.trim_matches(is_space).to_owned()).zip(0..),
                options,
            ),
            Flavour::Bert => {
                let size = lines.clone().count();
                let model = model(lines.map(str::to_owned).zip(0..), LONGEST_WORD)?;
                let frame = frame(&model)?;
                let tokenizer = hugging_face(model, options.lower_case);
                let tokenizer = tokenizer.map_err(|error| Error::internal(error.to_string()))?;
                Self::of_pipeline(Pipeline::new(tokenizer, frame, size), options)
            }
        }
    }

    fn chinese_clip(pieces: impl IntoIterator<Item = (String, u32)>, options: &WordPieceOptions) -> Result<Self> {
        let mut size = 0;
        let pieces = pieces.into_iter().inspect(|&(_, id)| size = size.max(id as usize + 1));
        let model = model(pieces, LONGEST_WORD_CHINESE_CLIP)?;
        let frame = frame(&model)?;
        let room = frame.room(options.context_length)?;
        let mut special: Vec<u32> = SPECIAL.iter().filter_map(|name| model.token_to_id(name)).collect();
        special.sort_unstable();
        let vocabulary = Vocabulary {
            size,
            mask: model.token_to_id(MASK),
            special,
        };
        let body = Body::ChineseClip {
            model: Box::new(model),
            lower_case: options.lower_case,
            frame,
        };
        Ok(Self {
            body,
            context_length: options.context_length,
            room,
            vocabulary,
        })
    }

    fn of_pipeline(pipeline: Pipeline, options: &WordPieceOptions) -> Result<Self> {
        let room = pipeline.frame().room(options.context_length)?;
        let vocabulary = pipeline.vocabulary();
        let body = Body::Pipeline(Box::new(pipeline));
        Ok(Self {
            body,
            context_length: options.context_length,
            room,
            vocabulary,
        })
    }
}

impl Tokenizer for ChineseWordPiece {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let mut batch = TokenBatch::new();
        let mut row = Vec::new();
        for text in texts {
            row.clear();
            match &self.body {
                Body::Pipeline(pipeline) => pipeline.frame().write(&pipeline.ids(text)?, self.room, &mut row),
                Body::ChineseClip {
                    model,
                    lower_case,
                    frame,
                } => {
                    frame.write(
                        &piece_ids(model, &basic_words(text, *lower_case), self.room)?,
                        self.room,
                        &mut row,
                    );
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

/// The pieces of a list, whose ids are their lines.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> + Clone {
    let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    lines.map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// The ids of words, no more than just enough to fill the room.
fn piece_ids(model: &WordPiece, words: &[String], room: usize) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    for word in words {
        let tokens = model
            .tokenize(word)
            .map_err(|error| Error::internal(error.to_string()))?;
        ids.extend(tokens.iter().map(|token| token.id));
        if ids.len() >= room {
            break;
        }
    }
    Ok(ids)
}

fn model(pieces: impl IntoIterator<Item = (String, u32)>, longest_word: usize) -> Result<WordPiece> {
    WordPiece::builder()
        .vocab(pieces.into_iter().collect::<Vocab>())
        .unk_token(UNKNOWN.into())
        .max_input_chars_per_word(longest_word)
        .build()
        .map_err(|error| Error::invalid(format!("the pieces are no WordPiece vocabulary: {error}")))
}

fn frame(model: &WordPiece) -> Result<Frame> {
    let id = |name: &str| {
        model.token_to_id(name).ok_or_else(|| {
            Error::invalid(format!("the vocabulary has no {name}")).remedy("give the model's own vocab.txt")
        })
    };
    id(UNKNOWN)?;
    Ok(Frame {
        before: vec![id(START)?],
        after: vec![id(END)?],
    })
}

/// The pipeline of transformers 5's `BertTokenizer`.
fn hugging_face(model: WordPiece, lower_case: bool) -> tokenizers::Result<HfTokenizer> {
    let special: Vec<_> = SPECIAL
        .into_iter()
        .filter(|name| model.token_to_id(name).is_some())
        .collect();
    let mut tokenizer = HfTokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lower_case)))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.add_special_tokens(special.into_iter().map(|name| AddedToken::from(name, true)))?;
    Ok(tokenizer)
}
