//! Pairs from tables and folders; pictures as the model sees them; features in and out.
//!
//! From a file to batches: [`Table`] (TSV, CSV, JSONL, a folder of pictures) is a [`PairTable`](clip_core::PairTable);
//! in an order it is a [`PairSource`](clip_core::PairSource), whose rows a [`Loader`] makes ready on several threads,
//! opening pictures with [`Decoder`] and [`ClipTransform`]. [`TextFile`] and [`image_paths`] give texts and pictures
//! alone, [`read_labels`] labels to choose from. [`PhraseConcepts`] and [`ColumnConcepts`] say which concepts a pair carries. [`open_sink`] and [`read_features`] write and read features, [`TensorWriter`] and [`TensorFile`] other arrays.
//! Whatever is written appears whole or not at all: [`PendingFile`]. Rows that were refused are listed by [`Rejects`].

mod augment;
mod chance;
mod chinese;
mod concepts;
mod decode;
mod features;
mod fingerprint;
mod image_cell;
mod image_paths;
mod import;
mod labels;
mod loader;
mod ordered;
mod pending;
mod positioned;
mod rejects;
mod small_file;
mod split;
mod table;
mod tensors;
mod text_augment;
mod text_file;
mod thumbnail;
mod transform;

pub use augment::Augment;
pub use concepts::{
    ColumnConcepts, ConceptNames, NoConcepts, PhraseConcepts, PhraseCounts, ProposedPhrase, TitleLanguage,
    TitlePhrases, read_phrases,
};
pub use decode::{Decoder, Limits};
pub use features::{Part, Parts, PythonNumber, SinkOptions, feature_name, open_sink, read_features, write_behind};
pub use fingerprint::pixel_fingerprint;
pub use image_cell::{PICTURE_EXTENSIONS, decode_base64, is_picture_name, parse_image_cell};
pub use image_paths::image_paths;
#[cfg(feature = "hdf5")]
pub use import::import_fashion_gen;
pub use import::{Imported, import_muge};
pub use labels::{LabelRow, read_labels};
pub use loader::{BadRows, Batch, LastBatch, Loader, LoaderOptions, Prepare, Prepared, at_row};
pub use ordered::{Ordered, ordered};
pub use pending::{PendingFile, discard_pending};
pub use rejects::Rejects;
pub use split::{Share, split_groups};
pub use table::{Columns, Format, MAX_ROW_BYTES, Roles, Row, Schema, Table, TableOptions};
pub use tensors::{Number, TensorFile, TensorWriter};
pub use text_augment::{Synonyms, TextAugment};
pub use text_file::TextFile;
pub use thumbnail::thumbnail;
pub use transform::{Alpha, ClipTransform, ConfigForm, Crop, Filter, Order, Passes, Rescale, Resize, TransformConfig};
