//! A teacher's features of the training pairs, read a row at a time.

use std::path::{Path, PathBuf};

use clip_core::{Error, Pair, PairTable, Result};
use clip_data::TensorFile;

use crate::config::TeacherConfig;

const IMAGES: &str = "image_features";
const TEXTS: &str = "text_features";

/// What `clipzoo predict` says of the model's temperature, exponentiated.
const SCALE: &str = "logit_scale";

/// A file of features with a row for each row of the training table, in the table's order. Nothing of it is held.
#[derive(Debug)]
pub(crate) struct Teacher {
    file: TensorFile,
    path: PathBuf,
    /// What the table calls its first row: behind a header it is row 2.
    first: u64,
    rows: usize,
    scale: f64,
}

/// A teacher's features of one pair.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TeacherRow {
    /// Unit length.
    pub(crate) image: Vec<f32>,
    /// Unit length.
    pub(crate) text: Vec<f32>,
    /// What the teacher multiplies cosines by.
    pub(crate) scale: f64,
}

/// What a table calls its first row.
fn first(table: &dyn PairTable) -> Result<u64> {
    let mut refused = None;
    for index in 0..table.rows() {
        match table.get(index) {
            Ok(pair) => return Ok(pair.origin.row.saturating_sub(index as u64)),
            // A bad row is the loader's business: the next one says as much.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| Error::invalid("the training table has no row")))
}

impl Teacher {
    /// Opens the file that the settings name.
    ///
    /// # Errors
    /// No file is named, or it does not fit the table.
    pub(crate) fn open(config: &TeacherConfig, table: &dyn PairTable) -> Result<Self> {
        let path = config.features.as_deref().ok_or_else(|| {
            Error::invalid("an objective learns from a teacher, and none is named").remedy(
                "write its features by `clipzoo predict --table` of the training table, and name the file under \
                 `features` in [teacher] of run.toml",
            )
        })?;
        let file = TensorFile::open(path)?;
        let rows = rows(&file, path)?;
        if rows != table.rows() {
            return Err(Error::invalid(format!(
                "the teacher has features of {rows} rows, and the training table has {}",
                table.rows()
            ))
            .file(path)
            .remedy("write them by `clipzoo predict --table` of the training table itself"));
        }
        let said = file.metadata(SCALE).and_then(|scale| scale.parse().ok());
        let scale = config.scale.or(said).filter(|scale: &f64| scale.is_finite());
        let scale = scale.ok_or_else(|| {
            Error::invalid("the file does not say what the teacher multiplies cosines by")
                .file(path)
                .remedy("set `scale` in [teacher], 100 for most CLIP models")
        })?;
        Ok(Self {
            path: path.to_owned(),
            first: first(table)?,
            rows,
            scale,
            file,
        })
    }

    /// The features of a pair.
    pub(crate) fn row(&self, pair: &Pair) -> Result<TeacherRow> {
        let row = pair.origin.row.checked_sub(self.first);
        let row = row
            .and_then(|row| usize::try_from(row).ok())
            .filter(|row| *row < self.rows);
        let row = row.ok_or_else(|| Error::internal("a pair of a row that the table does not have"))?;
        Ok(TeacherRow {
            image: self.unit(IMAGES, row)?,
            text: self.unit(TEXTS, row)?,
            scale: self.scale,
        })
    }

    fn unit(&self, name: &str, row: usize) -> Result<Vec<f32>> {
        let mut values = self.file.floats(name, row..row + 1)?;
        let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        if square == 0.0 {
            // `predict` leaves the place of a refused row empty.
            return Err(Error::invalid("the teacher has no features of this row")
                .file(&self.path)
                .row(row as u64 + 1)
                .column(name)
                .remedy("correct the row and write the features again, or leave it out of the table"));
        }
        let length = square.sqrt();
        for value in &mut values {
            *value = (f64::from(*value) / length) as f32;
        }
        Ok(values)
    }
}

/// How many rows both arrays of features have.
fn rows(file: &TensorFile, path: &Path) -> Result<usize> {
    let (images, texts) = (file.shape(IMAGES)?, file.shape(TEXTS)?);
    match (images, texts) {
        ([rows, dim], [others, other_dim]) if rows == others && dim == other_dim && *dim > 0 => Ok(*rows),
        _ => Err(Error::invalid(format!(
            "`{IMAGES}` of shape {images:?} and `{TEXTS}` of shape {texts:?} are no features of the same pairs"
        ))
        .file(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_data::{Columns, Table, TableOptions};
    use safetensors::{Dtype, tensor::TensorView};
    use std::collections::HashMap;
    use std::fs;

    const DIM: usize = 3;

    fn feature(row: usize, at: usize, modality: usize) -> f32 {
        if row == 4 {
            0.0
        } else {
            (1 + row * DIM + at) as f32 * if modality == 0 { 1.0 } else { -0.5 }
        }
    }

    /// A file of so many rows whose row 4 is empty.
    fn file(folder: &Path, rows: usize, metadata: &[(&str, &str)]) -> TeacherConfig {
        let bytes = |modality| -> Vec<u8> {
            let values = (0..rows * DIM).map(|place| feature(place / DIM, place % DIM, modality));
            values.flat_map(f32::to_le_bytes).collect()
        };
        let arrays = [(IMAGES, bytes(0)), (TEXTS, bytes(1))];
        let views = arrays
            .iter()
            .map(|(name, bytes)| (name, TensorView::new(Dtype::F32, vec![rows, DIM], bytes).unwrap()));
        let metadata: HashMap<String, String> = metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let path = folder.join("teacher.safetensors");
        fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
        TeacherConfig {
            features: Some(path),
            scale: None,
        }
    }

    fn table(folder: &Path, header: bool, rows: usize) -> Table {
        let mut text = if header {
            "text\timage\n".to_owned()
        } else {
            String::new()
        };
        (0..rows).for_each(|row| text += &format!("{}\ta.png\n", if row == 0 { "" } else { "words" }));
        let path = folder.join("table.tsv");
        fs::write(&path, text).unwrap();
        let options = TableOptions {
            header: Some(header),
            schema: None,
            columns: Columns::default(),
            ..TableOptions::default()
        };
        Table::open(&path, options).unwrap()
    }

    #[test]
    fn each_pair_gets_its_own_row() {
        let folder = tempfile::tempdir().unwrap();
        let config = file(folder.path(), 6, &[(SCALE, "31.5")]);
        for header in [true, false] {
            let table = table(folder.path(), header, 6);
            assert!(table.get(0).is_err(), "the first row is a bad one");
            let teacher = Teacher::open(&config, &table).unwrap();
            for index in [1, 2, 5] {
                let row = teacher.row(&table.get(index).unwrap()).unwrap();
                assert_eq!(row.scale, 31.5);
                for (modality, got) in [row.image, row.text].iter().enumerate() {
                    let wanted: Vec<f32> = (0..DIM).map(|at| feature(index, at, modality)).collect();
                    let length = wanted.iter().map(|x| x * x).sum::<f32>().sqrt();
                    assert!(
                        got.iter().zip(&wanted).all(|(a, b)| (a - b / length).abs() < 1e-6),
                        "{index}: {got:?}"
                    );
                }
            }
            let empty = teacher.row(&table.get(4).unwrap()).unwrap_err().to_string();
            assert!(
                empty.contains("teacher.safetensors, row 5") && empty.contains("no features of this row"),
                "{empty}"
            );
        }
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path(), true, 6);
        let message = |config: &TeacherConfig| Teacher::open(config, &table).unwrap_err().to_string();
        assert!(message(&TeacherConfig::default()).contains("clipzoo predict --table"));
        let few = message(&file(folder.path(), 5, &[(SCALE, "9")]));
        assert!(few.contains("features of 5 rows") && few.contains("has 6"), "{few}");
        let config = file(folder.path(), 6, &[]);
        assert!(message(&config).contains("set `scale` in [teacher]"));
        let config = TeacherConfig {
            scale: Some(7.0),
            ..config
        };
        assert_eq!(Teacher::open(&config, &table).unwrap().scale, 7.0);
    }
}
