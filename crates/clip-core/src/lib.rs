//! The vocabulary of clipzoo: plain data and the contracts between its parts.
//!
//! No tensor and no file format: whoever writes a tokenizer, a data source, an index, an engine or an app depends on
//! this crate alone, builds in seconds and needs no libtorch. Encoders, objectives and queues, which hold tensors,
//! are in `clip-nn`.
//!
//! | contract | who implements it | who calls it |
//! |---|---|---|
//! | [`Tokenizer`], [`ImageDecoder`], [`ImageTransform`] | clip-tokenizers, clip-data, you | pipelines, loaders |
//! | [`PairSource`], [`PairTable`], [`Order`], [`ConceptSource`] | clip-data, you | the trainer |
//! | [`Embedder`] | `clip-nn::Pipeline`, your engine | [`EmbedWorker`], which apps hold |
//! | [`VectorIndex`], [`IndexWriter`] | index engines, database clients | apps |
//! | [`App`] | clip-apps, you | the command, the server |
//! | [`FeatureSink`], [`Observer`], [`Metric`] | clip-data, clip-train, you | predict, the trainer |
//!
//! Every contract answers with [`Error`], whose [`Kind`] decides the HTTP status. Index, filter and concept contracts are
//! here so that later parts fit; nothing bundled implements them yet.

mod app;
mod embed;
mod error;
mod features;
mod id;
mod image;
mod index;
mod observe;
mod order;
mod pair;
mod registry;
mod text;
mod worker;

pub use app::{App, Endpoint};
pub use embed::{Embedder, Embeddings, ModelInfo, Probability};
pub use error::{Error, Kind, Place, Result, visible};
pub use features::{FeatureRows, FeatureSink, Modality};
pub use id::Id;
pub use image::{EncodedImage, Image, ImageDecoder, ImageTransform, PixelBatch, Raster};
pub use index::{Filter, Hit, IndexEngine, IndexInfo, IndexWriter, Record, VectorIndex};
pub use observe::{Event, Metric, Observer};
pub use order::{BatchBy, InOrder, Order, Shuffle, Shuffled, UniqueBy};
pub use pair::{Concept, ConceptSource, Origin, Pair, PairSource, PairStream, PairTable, Plan, Position};
pub use registry::Registry;
pub use text::{TokenBatch, Tokenizer, Truncation, Vocabulary};
pub use worker::{EmbedWorker, WorkerOptions};

pub use schemars;
pub use serde;
pub use serde_json;
