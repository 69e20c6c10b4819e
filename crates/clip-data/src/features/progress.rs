//! What every sink asks of the rows it is given.

use clip_core::{Embeddings, Error, FeatureRows, Modality, Result};
use serde_json::{Map, Value};

use super::feature_name;
use crate::tensors::refuse_non_finite;

/// How far the features of one modality have come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// Rows taken, refused ones included.
    pub(super) rows: u64,
    /// Dimensions; 0 before the first row.
    pub(super) dim: usize,
}

impl Progress {
    /// Takes rows from number `first` on; gives how many refused rows stand before them.
    ///
    /// # Errors
    /// The rows go back, have other dimensions than those before, or hold a value that is not finite.
    pub(super) fn take(&mut self, modality: Modality, first: u64, features: &Embeddings) -> Result<u64> {
        let name = feature_name(modality);
        let Some(gap) = first.checked_sub(self.rows) else {
            return Err(Error::internal(format!(
                "row {first} of {name} came behind row {}",
                self.rows
            )));
        };
        if self.dim == 0 {
            self.dim = features.dim();
        }
        if features.dim() != self.dim && !features.is_empty() {
            let what = format!("{name} of {} dimensions follow ones of {}", features.dim(), self.dim);
            return Err(Error::internal(what));
        }
        // A row number from 1, like every row in a message.
        refuse_non_finite(features.data(), self.dim, first).map_err(|error| error.column(name))?;
        self.rows = first + features.len() as u64;
        Ok(gap)
    }
}

/// For formats of a line a row: which modalities each row has, decided by the first rows.
#[derive(Debug, Default)]
pub(super) struct Lines {
    shape: Option<(bool, bool)>,
    texts: Progress,
    images: Progress,
}

/// The rows of a [`FeatureRows`], checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// Refused rows before them.
    pub(super) gap: u64,
    /// How many there are.
    pub(super) len: usize,
    /// Their features by modality, text before image.
    pub(super) features: Vec<(Modality, Embeddings)>,
    /// Their columns; an empty object where none are carried along.
    pub(super) columns: Vec<Map<String, Value>>,
}

impl Lines {
    /// Checks rows whose modalities must come together.
    pub(super) fn take(&mut self, rows: FeatureRows) -> Result<Checked> {
        let FeatureRows {
            first,
            texts,
            images,
            columns,
        } = rows;
        let shape = (texts.is_some(), images.is_some());
        let features: Vec<_> = [(Modality::Text, texts), (Modality::Image, images)]
            .into_iter()
            .filter_map(|(m, f)| Some((m, f?)))
            .collect();
        let Some(len) = features.first().map(|(_, features)| features.len()) else {
            return Ok(Checked {
                gap: 0,
                len: 0,
                features,
                columns: Vec::new(),
            });
        };
        if *self.shape.get_or_insert(shape) != shape || features.iter().any(|(_, features)| features.len() != len) {
            return Err(Error::invalid(
                "a line holds the text and the image of one row, and they did not come together",
            )
            .remedy("write .safetensors, or one of the two"));
        }
        let mut gap = 0;
        for (modality, features) in &features {
            let progress = match modality {
                Modality::Text => &mut self.texts,
                Modality::Image => &mut self.images,
            };
            gap = progress.take(*modality, first, features)?;
        }
        Ok(Checked {
            gap,
            len,
            features,
            columns: objects(columns, len)?,
        })
    }

    /// The modalities of every row, text before image, with their dimensions.
    pub(super) fn modalities(&self) -> Vec<(Modality, usize)> {
        let (texts, images) = self.shape.unwrap_or_default();
        let all = [
            (texts, Modality::Text, self.texts.dim),
            (images, Modality::Image, self.images.dim),
        ];
        all.into_iter()
            .filter(|(there, ..)| *there)
            .map(|(_, modality, dim)| (modality, dim))
            .collect()
    }
}

/// Columns as one object a row.
pub(super) fn objects(columns: Vec<Value>, rows: usize) -> Result<Vec<Map<String, Value>>> {
    if columns.is_empty() {
        return Ok(vec![Map::new(); rows]);
    }
    if columns.len() != rows {
        return Err(Error::internal(format!(
            "columns of {} rows for {rows} rows of features",
            columns.len()
        )));
    }
    let object = |column| match column {
        Value::Object(object) => Ok(object),
        other => Err(Error::internal(format!("columns of a row are an object, not {other}"))),
    };
    columns.into_iter().map(object).collect()
}

/// Whether a row of features stands for none: the row was refused, or had no text or no picture to embed.
pub(super) fn is_nothing(values: &[f32]) -> bool {
    values.iter().all(|&value| value == 0.0)
}

/// Refuses to finish a file nothing was written to.
pub(super) fn something(modalities: usize) -> Result<()> {
    if modalities > 0 {
        return Ok(());
    }
    Err(Error::invalid("there are no features to write"))
}
