//! Features as Parquet: a list column for each modality, the columns carried along as text.

use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::basic::{LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, FloatType};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{Type, TypePtr};
use clip_core::{Error, FeatureRows, FeatureSink, Result};
use half::f16;
use serde_json::{Map, Value};

use super::progress::{Lines, is_nothing, something};
use super::{SinkOptions, feature_name};
use crate::pending::PendingFile;
use crate::tensors::Number;

/// Rows of one row group: as many are held in memory at most, and those of one [`FeatureRows`].
const GROUP: usize = 4096;

pub(super) struct ParquetSink {
    path: PathBuf,
    /// The file, until the first group opens a writer on it.
    file: Option<PendingFile>,
    writer: Option<SerializedFileWriter<PendingFile>>,
    options: SinkOptions,
    lines: Lines,
    names: Vec<String>,
    held: Vec<Held>,
}

/// A row that waits for its group.
#[derive(Default)]
struct Held {
    /// By modality, text before image; empty where there are none.
    features: Vec<Vec<f32>>,
    columns: Map<String, Value>,
}

impl ParquetSink {
    pub(super) fn create(path: &Path, options: SinkOptions) -> Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: Some(options.start(path)?),
            writer: None,
            options,
            lines: Lines::default(),
            names: Vec::new(),
            held: Vec::new(),
        })
    }

    fn take(&mut self, rows: FeatureRows) -> Result<()> {
        let first = rows.first;
        let checked = self.lines.take(rows)?;
        for (_, features) in &checked.features {
            self.options
                .number
                .refuse_too_large(features.data(), features.dim(), first)?;
        }
        for _ in 0..checked.gap {
            self.hold(Held::default())?;
        }
        for (row, columns) in checked.columns.into_iter().enumerate() {
            if self.names.is_empty() && self.writer.is_none() {
                self.names = columns.keys().cloned().collect();
            }
            if let Some(name) = columns.keys().find(|name| !self.names.contains(name)) {
                return Err(Error::invalid(format!("the column `{name}` is not in every row")));
            }
            let features = checked
                .features
                .iter()
                .map(|(_, features)| features.row(row))
                .map(|values| {
                    if is_nothing(values) {
                        Vec::new()
                    } else {
                        values.to_vec()
                    }
                })
                .collect();
            self.hold(Held { features, columns })?;
        }
        Ok(())
    }

    fn hold(&mut self, row: Held) -> Result<()> {
        self.held.push(row);
        if self.held.len() < GROUP {
            Ok(())
        } else {
            self.write_group()
        }
    }

    fn write_group(&mut self) -> Result<()> {
        let rows = mem::take(&mut self.held);
        self.group(&rows).map_err(|error| self.error(error))
    }

    fn group(&mut self, rows: &[Held]) -> ParquetResult<()> {
        if let Some(file) = self.file.take() {
            let said = self
                .options
                .metadata
                .iter()
                .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
            let properties = WriterProperties::builder()
                .set_dictionary_enabled(false)
                .set_key_value_metadata(Some(said.collect()))
                .build();
            self.writer = Some(SerializedFileWriter::new(file, self.schema()?, Arc::new(properties))?);
        }
        let Some(writer) = &mut self.writer else {
            return Err(ParquetError::General("the file is closed".into()));
        };
        let mut group = writer.next_row_group()?;
        for at in 0..self.lines.modalities().len() {
            // One level each: 2 a value, 0 a missing list; repetition 0 starts a row and 1 goes on with it.
            let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            for row in rows {
                let features = row.features.get(at).map(Vec::as_slice).unwrap_or_default();
                definitions.extend(vec![2; features.len()]);
                repetitions.extend((0..features.len()).map(|at| i16::from(at > 0)));
                values.extend_from_slice(features);
                if features.is_empty() {
                    definitions.push(0);
                    repetitions.push(0);
                }
            }
            if let Some(mut column) = group.next_column()? {
                let levels = (Some(definitions.as_slice()), Some(repetitions.as_slice()));
                match self.options.number {
                    Number::F32 => column.typed::<FloatType>().write_batch(&values, levels.0, levels.1)?,
                    Number::F16 => {
                        let bytes = |&value: &f32| ByteArray::from(f16::from_f32(value).to_le_bytes().to_vec()).into();
                        let values: Vec<FixedLenByteArray> = values.iter().map(bytes).collect();
                        column
                            .typed::<FixedLenByteArrayType>()
                            .write_batch(&values, levels.0, levels.1)?
                    }
                };
                column.close()?;
            }
        }
        for name in &self.names {
            let cells: Vec<_> = rows.iter().map(|row| row.columns.get(name).and_then(text)).collect();
            let definitions: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let values: Vec<ByteArray> = cells.iter().flatten().map(|cell| cell.as_str().into()).collect();
            if let Some(mut column) = group.next_column()? {
                column
                    .typed::<ByteArrayType>()
                    .write_batch(&values, Some(&definitions), None)?;
                column.close()?;
            }
        }
        group.close().map(drop)
    }

    /// `optional group NAME (LIST) { repeated group list { required float element } }` a modality, as the format's
    /// specification writes lists; optional text a column.
    fn schema(&self) -> ParquetResult<TypePtr> {
        let mut fields = Vec::new();
        for (modality, _) in self.lines.modalities() {
            let element = match self.options.number {
                Number::F32 => Type::primitive_type_builder("element", Physical::FLOAT),
                Number::F16 => Type::primitive_type_builder("element", Physical::FIXED_LEN_BYTE_ARRAY)
                    .with_length(2)
                    .with_logical_type(Some(LogicalType::Float16)),
            };
            let element = element.with_repetition(Repetition::REQUIRED).build()?;
            let list = Type::group_type_builder("list")
                .with_repetition(Repetition::REPEATED)
                .with_fields(vec![Arc::new(element)])
                .build()?;
            let whole = Type::group_type_builder(feature_name(modality))
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::List))
                .with_fields(vec![Arc::new(list)])
                .build()?;
            fields.push(Arc::new(whole));
        }
        for name in &self.names {
            let text = Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::String))
                .build()?;
            fields.push(Arc::new(text));
        }
        Type::group_type_builder("features")
            .with_fields(fields)
            .build()
            .map(Arc::new)
    }

    fn error(&self, error: ParquetError) -> Error {
        match error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => Error::io("write", &self.path, *error),
                Err(error) => Error::unavailable(format!("cannot write: {error}")),
            },
            other => Error::internal(format!("cannot write Parquet: {other}")).source(other),
        }
    }

    fn finish(mut self) -> Result<()> {
        something(self.lines.modalities().len())?;
        if !self.held.is_empty() || self.writer.is_none() {
            self.write_group()?;
        }
        match self.writer.take().map(SerializedFileWriter::into_inner) {
            Some(Ok(file)) => file.commit(),
            Some(Err(error)) => Err(self.error(error)),
            None => Err(Error::internal("the file is closed")),
        }
    }
}

/// A cell as text: what is no string is written as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl FeatureSink for ParquetSink {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        self.take(rows).map_err(|error| error.file(&self.path))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let path = self.path.clone();
        self.finish().map_err(|error| error.file(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use clip_core::Embeddings;
    use serde_json::json;
    use std::fs::File;

    #[test]
    fn rows_come_back_over_several_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.parquet");
        let options = SinkOptions {
            metadata: [("dtype".to_owned(), "f32".to_owned())].into(),
            ..SinkOptions::default()
        };
        let mut sink = ParquetSink::create(&path, options).unwrap();
        let rows = |first: u64, count: usize| FeatureRows {
            first,
            texts: Some(Embeddings::new((0..count * 2).map(|x| x as f32 + 0.5).collect(), 2).unwrap()),
            images: Some(Embeddings::new(vec![1.0; count], 1).unwrap()),
            columns: (0..count)
                .map(|row| json!({ "id": format!("r{row}"), "n": row }))
                .collect(),
        };
        sink.append(rows(1, 2)).unwrap();
        sink.append(rows(3, 5000)).unwrap();
        Box::new(sink).commit().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let metadata = reader.metadata().file_metadata();
        assert_eq!(metadata.num_rows(), 5003);
        let said = metadata.key_value_metadata().unwrap();
        assert!(
            said.iter()
                .any(|pair| pair.key == "dtype" && pair.value.as_deref() == Some("f32"))
        );
        let read: Vec<String> = reader
            .get_row_iter(None)
            .unwrap()
            .take(3)
            .map(|row| row.unwrap().to_string())
            .collect();
        assert_eq!(
            read,
            [
                "{text_features: null, image_features: null, id: null, n: null}",
                "{text_features: [0.5, 1.5], image_features: [1.0], id: \"r0\", n: \"0\"}",
                "{text_features: [2.5, 3.5], image_features: [1.0], id: \"r1\", n: \"1\"}"
            ]
        );
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = ParquetSink::create(&folder.path().join("x.parquet"), SinkOptions::default()).unwrap();
        let texts = Some(Embeddings::new(vec![0.5; 10_000], 1).unwrap());
        sink.append(FeatureRows {
            texts,
            ..FeatureRows::default()
        })
        .unwrap();
        drop(sink);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
