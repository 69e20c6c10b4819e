//! CLIP's byte-pair encoding and BERT's WordPiece, as the models were trained with them, to the id.
//!
//! | type | reads | is the tokenizer of |
//! |---|---|---|
//! | [`ClipBpe`] | merges (plain or gzip), `tokenizer.json` | OpenAI's CLIP, OpenCLIP, Hugging Face's CLIP, EasyNLP's `open_clip` |
//! | [`ChineseWordPiece`] | `vocab.txt`, `tokenizer.json` | Chinese-CLIP, EasyNLP's Chinese models, any BERT text tower |
//! | [`JsonTokenizer`] | `tokenizer.json` | SigLIP, RoBERTa, and what else says itself all that it does |
//!
//! The first two come with the vocabulary of their models ([`ClipBpe::bundled`], [`ChineseWordPiece::bundled`]); all implement
//! [`clip_core::Tokenizer`]. [`VocabularyKind`] tells what a vocabulary file is, whatever its name; [`VocabularyContents`]
//! writes what it holds in another form.
//!
//! Text that breaks tokenizers (misread encodings, HTML references, full-width letters, private-use characters) is treated
//! as the references treat it, since another id is another model input: open_clip 3.3.0 with ftfy 6.3.1, transformers
//! 5.23.0, cn_clip 1.6.0.

mod basic;
mod bpe;
mod clean;
mod contents;
mod html;
mod json;
mod merges;
mod pipeline;
mod repair;
mod vocabulary_file;
mod wordpiece;
mod words;

pub use bpe::{BpeOptions, Cleaning, ClipBpe};
pub use contents::VocabularyContents;
pub use json::JsonTokenizer;
pub use vocabulary_file::VocabularyKind;
pub use wordpiece::{ChineseWordPiece, Flavour, WordPieceOptions};
