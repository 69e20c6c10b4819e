//! Features as safetensors: `text_features` and `image_features`, in memory a row at a time.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use clip_core::{Embeddings, Error, FeatureRows, FeatureSink, Modality, Result};

use super::columns::ColumnsBeside;
use super::progress::{Progress, something};
use super::{SinkOptions, feature_name};
use crate::pending::{PendingFile, folder_of};
use crate::tensors::{Entry, file_start, write_numbers};

/// How many rows there are is known at the end, and so is the header: its place is kept free at the start. The modality
/// that comes first goes straight behind it, the other to a nameless file, to be copied behind the first at the end.
#[derive(Debug)]
pub(super) struct SafetensorsSink {
    file: PendingFile,
    options: SinkOptions,
    header: usize,
    parts: Vec<Part>,
    columns: ColumnsBeside,
}

#[derive(Debug)]
struct Part {
    modality: Modality,
    progress: Progress,
    /// Where its values go until the end, if not behind the header.
    aside: Option<BufWriter<File>>,
}

impl SafetensorsSink {
    pub(super) fn create(path: &Path, options: SinkOptions) -> Result<Self> {
        let mut file = options.start(path)?;
        let most = |modality| Entry {
            name: feature_name(modality),
            number: options.number,
            shape: vec![u64::MAX; 2],
            bytes: [u64::MAX; 2],
        };
        let header = file_start(&[most(Modality::Text), most(Modality::Image)], &options.metadata, 0).len();
        file.write_all(&vec![b' '; header]).map_err(|error| file.error(error))?;
        Ok(Self {
            columns: ColumnsBeside::new(path, &options),
            file,
            options,
            header,
            parts: Vec::new(),
        })
    }

    fn write(&mut self, modality: Modality, first: u64, features: &Embeddings) -> Result<()> {
        let at = match self.parts.iter().position(|part| part.modality == modality) {
            Some(at) => at,
            None => {
                let aside = if self.parts.is_empty() {
                    None
                } else {
                    Some(self.aside()?)
                };
                self.parts.push(Part {
                    modality,
                    progress: Progress::default(),
                    aside,
                });
                self.parts.len() - 1
            }
        };
        let part = &mut self.parts[at];
        let gap = part.progress.take(modality, first, features)?;
        let number = self.options.number;
        number.refuse_too_large(features.data(), features.dim(), first)?;
        let zeros = vec![0.0; part.progress.dim];
        let mut write = |values: &[f32]| match &mut part.aside {
            Some(aside) => write_numbers(aside, values, number),
            None => write_numbers(&mut self.file, values, number),
        };
        let written = (0..gap)
            .try_for_each(|_| write(&zeros))
            .and_then(|()| write(features.data()));
        written.map_err(|error| self.file.error(error))
    }

    fn aside(&self) -> Result<BufWriter<File>> {
        let file = tempfile::tempfile_in(folder_of(self.file.path()));
        file.map(BufWriter::new).map_err(|error| self.file.error(error))
    }

    fn finish(mut self) -> Result<()> {
        something(self.parts.len())?;
        let mut entries = Vec::new();
        let (mut end, number) = (0, self.options.number);
        for part in &mut self.parts {
            let Progress { rows, dim } = part.progress;
            let bytes = [end, end + rows * (dim * number.size()) as u64];
            entries.push(Entry {
                name: feature_name(part.modality),
                number,
                shape: vec![rows, dim as u64],
                bytes,
            });
            end = bytes[1];
            if let Some(aside) = part.aside.take() {
                copy(aside, &mut self.file).map_err(|error| self.file.error(error))?;
            }
        }
        let start = file_start(&entries, &self.options.metadata, self.header);
        if start.len() != self.header {
            return Err(Error::internal("the header does not fit the place kept for it").file(self.file.path()));
        }
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&start));
        written.map_err(|error| self.file.error(error))?;
        self.columns.finish()?;
        self.file.commit()
    }
}

fn copy(aside: BufWriter<File>, to: &mut impl Write) -> io::Result<()> {
    let mut file = aside.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    io::copy(&mut file, to).map(drop)
}

impl FeatureSink for SafetensorsSink {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        let FeatureRows {
            first,
            texts,
            images,
            columns,
        } = rows;
        let rows = texts.as_ref().or(images.as_ref()).map_or(0, Embeddings::len);
        self.columns
            .take(first, columns, rows)
            .map_err(|error| error.file(self.file.path()))?;
        for (modality, features) in [(Modality::Text, texts), (Modality::Image, images)] {
            if let Some(features) = features {
                self.write(modality, first, &features)
                    .map_err(|error| error.file(self.file.path()))?;
            }
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let path = self.file.path().to_owned();
        self.finish().map_err(|error| error.file(path))
    }
}
