//! Features as one NumPy array `[N, D]` (the format's version 1.0).

use std::io::{Seek, SeekFrom, Write};
use std::mem;
use std::path::Path;

use clip_core::{Error, FeatureRows, FeatureSink, Result};

use super::SinkOptions;
use super::columns::ColumnsBeside;
use super::progress::{Lines, something};
use crate::pending::PendingFile;
use crate::tensors::{Number, write_numbers};

/// How an array file begins.
pub(super) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Bytes of the header: room for any shape, and a multiple of 64, as the format asks for.
const HEADER: usize = 128;

#[derive(Debug)]
pub(super) struct NpySink {
    file: PendingFile,
    lines: Lines,
    rows: u64,
    columns: ColumnsBeside,
    number: Number,
}

impl NpySink {
    pub(super) fn create(path: &Path, options: SinkOptions) -> Result<Self> {
        let mut file = options.start(path)?;
        file.write_all(&[b' '; HEADER]).map_err(|error| file.error(error))?;
        Ok(Self {
            file,
            lines: Lines::default(),
            rows: 0,
            columns: ColumnsBeside::new(path, &options),
            number: options.number,
        })
    }

    fn write(&mut self, mut rows: FeatureRows) -> Result<()> {
        if rows.texts.is_some() && rows.images.is_some() {
            return Err(Error::invalid("a .npy file holds one array, texts or images")
                .remedy("write .safetensors, or one of the two"));
        }
        let (first, columns) = (rows.first, mem::take(&mut rows.columns));
        let checked = self.lines.take(rows)?;
        let number = self.number;
        for (_, features) in &checked.features {
            number.refuse_too_large(features.data(), features.dim(), first)?;
        }
        self.columns.take(first, columns, checked.len)?;
        for (_, features) in &checked.features {
            let zeros = vec![0.0; self.lines.modalities().first().map_or(0, |(_, dim)| *dim)];
            let file = &mut self.file;
            let written = (0..checked.gap).try_for_each(|_| write_numbers(file, &zeros, number));
            written
                .and_then(|()| write_numbers(file, features.data(), number))
                .map_err(|error| file.error(error))?;
        }
        self.rows += checked.gap + checked.len as u64;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        let modalities = self.lines.modalities();
        something(modalities.len())?;
        let dim = modalities.first().map_or(0, |(_, dim)| *dim);
        let shape = format!(
            "{{'descr': '<f{}', 'fortran_order': False, 'shape': ({}, {dim}), }}",
            self.number.size(),
            self.rows
        );
        let mut header = MAGIC.to_vec();
        header.extend([1, 0]);
        header.extend(((HEADER - 10) as u16).to_le_bytes());
        header.extend(shape.as_bytes());
        header.resize(HEADER - 1, b' ');
        header.push(b'\n');
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(&header));
        written.map_err(|error| self.file.error(error))?;
        self.columns.finish()?;
        self.file.commit()
    }
}

impl FeatureSink for NpySink {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        self.write(rows).map_err(|error| error.file(self.file.path()))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let path = self.file.path().to_owned();
        self.finish().map_err(|error| error.file(path))
    }
}
