//! Features as JSON lines: an object a row, the columns carried along before the features.

use std::io::{self, Write};
use std::path::Path;

use clip_core::{Error, FeatureRows, FeatureSink, Result};
use serde_json::{Map, Value};

use super::progress::{Lines, is_nothing, something};
use super::{SinkOptions, feature_name};
use crate::pending::PendingFile;

#[derive(Debug)]
pub(super) struct JsonlSink {
    file: PendingFile,
    lines: Lines,
}

impl JsonlSink {
    pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Self> {
        Ok(Self {
            file: options.start(path)?,
            lines: Lines::default(),
        })
    }

    fn write(&mut self, rows: FeatureRows) -> Result<()> {
        let checked = self.lines.take(rows)?;
        let names: Vec<_> = checked
            .features
            .iter()
            .map(|(modality, _)| feature_name(*modality))
            .collect();
        if let Some(name) = checked
            .columns
            .iter()
            .find_map(|row| names.iter().find(|name| row.contains_key(**name)))
        {
            return Err(Error::invalid(format!("a column is named `{name}`, as the features are")).remedy("rename it"));
        }
        let file = &mut self.file;
        let mut written = Ok(());
        for _ in 0..checked.gap {
            // The row was refused: its line stands, so that the others keep their numbers.
            let nothing = names.iter().map(|&name| (name.to_owned(), Value::Null)).collect();
            written = written.and_then(|()| line(file, &nothing, &[]));
        }
        for (row, columns) in checked.columns.iter().enumerate() {
            let features: Vec<_> = checked
                .features
                .iter()
                .map(|(modality, rows)| (feature_name(*modality), rows.row(row)))
                .collect();
            written = written.and_then(|()| line(file, columns, &features));
        }
        written.map_err(|error| file.error(error))
    }
}

/// Writes a row. The numbers are the shortest that read back as the same f32.
fn line(to: &mut impl Write, columns: &Map<String, Value>, features: &[(&str, &[f32])]) -> io::Result<()> {
    let mut between = "{";
    for (name, value) in columns {
        to.write_all(between.as_bytes())?;
        serde_json::to_writer(&mut *to, name)?;
        to.write_all(b":")?;
        serde_json::to_writer(&mut *to, value)?;
        between = ",";
    }
    for (name, values) in features {
        write!(to, "{between}\"{name}\":")?;
        if is_nothing(values) {
            to.write_all(b"null")?;
        } else {
            serde_json::to_writer(&mut *to, values)?;
        }
        between = ",";
    }
    to.write_all(b"}\n")
}

impl FeatureSink for JsonlSink {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        self.write(rows).map_err(|error| error.file(self.file.path()))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        something(self.lines.modalities().len()).map_err(|error| error.file(self.file.path()))?;
        self.file.commit()
    }
}
