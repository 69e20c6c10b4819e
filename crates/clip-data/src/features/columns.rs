//! Columns carried along, for formats of numbers alone: a file beside the features.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use serde_json::Value;

use super::SinkOptions;
use super::progress::objects;
use crate::pending::PendingFile;

/// What stands behind the output's name.
pub(super) const ENDING: &str = ".columns.jsonl";

/// Writes columns to `<output>.columns.jsonl`: a JSON object a row, line `i` for row `i`. Without columns there is no such
/// file, and one of an earlier run is removed, since it would speak of other rows.
#[derive(Debug)]
pub(super) struct ColumnsBeside {
    path: PathBuf,
    unfinished: Option<PathBuf>,
    file: Option<PendingFile>,
    lines: u64,
}

impl ColumnsBeside {
    /// A file beside `output`.
    pub(super) fn new(output: &Path, options: &SinkOptions) -> Self {
        let mut name: OsString = output.into();
        name.push(ENDING);
        Self {
            path: name.into(),
            unfinished: options.unfinished.clone(),
            file: None,
            lines: 0,
        }
    }

    /// Takes the columns of `rows` rows from number `first` on. Rows that have none get an empty object, so that lines and
    /// rows keep one number.
    pub(super) fn take(&mut self, first: u64, columns: Vec<Value>, rows: usize) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(PendingFile::within(&self.path, self.unfinished.as_deref())?),
        };
        let columns = objects(columns, rows)?;
        let gap = (self.lines..first).try_for_each(|_| writeln!(file, "{{}}"));
        let written = gap.and_then(|()| {
            columns.into_iter().try_for_each(|row| {
                serde_json::to_writer(&mut *file, &row)?;
                file.write_all(b"\n")
            })
        });
        self.lines = first + rows as u64;
        written.map_err(|error| file.error(error))
    }

    /// Makes the file appear, or removes an old one.
    pub(super) fn finish(self) -> Result<()> {
        match self.file {
            Some(file) => file.commit(),
            None => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", self.path, error)),
                _ => Ok(()),
            },
        }
    }
}
