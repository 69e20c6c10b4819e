//! Features into files and out of them.

mod behind;
mod columns;
mod jsonl;
mod npy;
#[cfg(feature = "parquet")]
mod parquet;
mod parts;
mod progress;
mod read;
mod safetensors;
mod tsv;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clip_core::{Error, FeatureSink, Modality, Result};

use crate::pending::PendingFile;
use crate::tensors::Number;

pub use behind::write_behind;
pub use parts::{Part, Parts};
pub use read::read_features;
pub use tsv::PythonNumber;

/// What features are called in every format with names.
pub const fn feature_name(modality: Modality) -> &'static str {
    match modality {
        Modality::Text => "text_features",
        Modality::Image => "image_features",
    }
}

/// How a feature file is written.
#[derive(Debug, Clone, Default)]
pub struct SinkOptions {
    /// How the features were made: the type used, the model's id, the transform. Kept by formats that have a place for
    /// it (safetensors, Parquet).
    pub metadata: BTreeMap<String, String>,
    /// What the numbers are written as, by the formats that have types.
    pub number: Number,
    /// Where the unfinished file lies until it is whole, in the same file system; beside its place if not said.
    pub unfinished: Option<PathBuf>,
    /// The format, named by its extension without the dot; by the file's own if not given.
    pub format: Option<String>,
}

impl SinkOptions {
    /// Starts a file.
    fn start(&self, path: &Path) -> Result<PendingFile> {
        PendingFile::within(path, self.unfinished.as_deref())
    }
}

/// Starts a feature file, in the format its extension names if `options` do not.
///
/// | extension | holds | rows of text and image |
/// |---|---|---|
/// | `.safetensors` | `text_features` and/or `image_features`, `[N, D]` | together or one after the other |
/// | `.npy` | one array `[N, D]` | one of the two |
/// | `.jsonl` | an object a row | together, or one of the two |
/// | `.tsv` | EasyNLP's format: D numbers between tabs a row, columns carried along behind them | one of the two |
/// | `.parquet` | a list column for each (cargo feature `parquet`) | together, or one of the two |
///
/// Rows come in order. A gap before [`FeatureRows::first`](clip_core::FeatureRows::first) stands for refused rows, so
/// that no other row is shifted: they are rows of zeros, or `null` where the format has it. To close a gap at the end,
/// append no rows with `first` the number of all rows. A row of zeros that is given stands for nothing too, and is `null`
/// where the format has it: unit rows are never zero.
///
/// Sinks refuse values that are not finite. Columns carried along go into `.jsonl`, `.tsv` and `.parquet`. The array formats
/// have no place for them: they go to `<path>.columns.jsonl`, an object a row, which appears just before the features do.
///
/// # Errors
/// The extension is none of these, its format does not hold numbers of that type, or the file cannot be written.
pub fn open_sink(path: impl AsRef<Path>, options: SinkOptions) -> Result<Box<dyn FeatureSink>> {
    let path = path.as_ref();
    let own = || {
        path.extension()
            .map(|extension| extension.to_string_lossy().to_lowercase())
    };
    let extension = options.format.clone().or_else(own);
    match extension.as_deref() {
        Some("safetensors") => Ok(Box::new(safetensors::SafetensorsSink::create(path, options)?)),
        Some("npy") => Ok(Box::new(npy::NpySink::create(path, options)?)),
        Some("jsonl" | "tsv") if options.number != Number::F32 => Err(Error::invalid(
            "numbers written as text have no type: they are the shortest that read back as f32",
        )
        .file(path)
        .remedy("write .safetensors, .npy or .parquet")),
        Some("jsonl") => Ok(Box::new(jsonl::JsonlSink::create(path, &options)?)),
        Some("tsv") => Ok(Box::new(tsv::TsvSink::create(path, &options)?)),
        #[cfg(feature = "parquet")]
        Some("parquet") => Ok(Box::new(parquet::ParquetSink::create(path, options)?)),
        #[cfg(not(feature = "parquet"))]
        Some("parquet") => Err(Error::invalid("this build writes no Parquet")
            .file(path)
            .remedy("build with the cargo feature `parquet`, or name it .safetensors")),
        _ => Err(Error::invalid("the extension does not say how to write features")
            .file(path)
            .remedy("name it .safetensors, .npy, .jsonl, .tsv or .parquet")),
    }
}

#[cfg(test)]
mod tests;
