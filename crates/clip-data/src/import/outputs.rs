//! The files an import writes: they appear together, at the end.

use std::io::Write;
use std::path::{Path, PathBuf};

use clip_core::Result;

use crate::pending::PendingFile;

/// A file of lines.
pub(super) struct Lines {
    path: PathBuf,
    file: PendingFile,
}

impl Lines {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        Ok(Self {
            file: PendingFile::create(&path)?,
            path,
        })
    }

    /// Writes cells as a row of a TSV file. A cell is one line without tabs there, so every run of white space in it is
    /// one space.
    pub(super) fn row(&mut self, cells: &[&str]) -> Result<()> {
        let mut between = "";
        for cell in cells {
            self.put(between)?;
            between = "\t";
            if cell.contains(['\t', '\n', '\r']) {
                self.put(&cell.split_whitespace().collect::<Vec<_>>().join(" "))?;
            } else {
                self.put(cell)?;
            }
        }
        self.put("\n")
    }

    /// Writes a JSON value as a line.
    pub(super) fn json(&mut self, value: &serde_json::Value) -> Result<()> {
        self.put(&value.to_string())?;
        self.put("\n")
    }

    fn put(&mut self, text: &str) -> Result<()> {
        self.file
            .write_all(text.as_bytes())
            .map_err(|error| self.file.error(error))
    }

    /// Makes the file appear.
    pub(super) fn commit(self) -> Result<PathBuf> {
        self.file.commit()?;
        Ok(self.path)
    }
}

/// `valid.tsv` with another ending: `valid.texts.tsv`.
pub(super) fn beside(output: &Path, ending: &str) -> PathBuf {
    output.with_extension(ending)
}
