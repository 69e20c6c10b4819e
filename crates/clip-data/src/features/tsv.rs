//! Features in EasyNLP's format: a line a row, D numbers between tabs, and behind them the columns carried along.

use std::fmt::{Display, LowerExp};
use std::io::{self, Write};
use std::path::Path;

use clip_core::{Error, FeatureRows, FeatureSink, Result};
use serde_json::{Map, Value};

use super::SinkOptions;
use super::progress::{Lines, something};
use crate::pending::PendingFile;

#[derive(Debug)]
pub(super) struct TsvSink {
    file: PendingFile,
    lines: Lines,
}

impl TsvSink {
    pub(super) fn create(path: &Path, options: &SinkOptions) -> Result<Self> {
        Ok(Self {
            file: options.start(path)?,
            lines: Lines::default(),
        })
    }

    fn write(&mut self, rows: FeatureRows) -> Result<()> {
        if rows.texts.is_some() && rows.images.is_some() {
            return Err(
                Error::invalid("EasyNLP's format holds one kind of features, texts or images")
                    .remedy("write .safetensors or .jsonl"),
            );
        }
        let checked = self.lines.take(rows)?;
        let cells = checked.columns.iter().map(cells).collect::<Result<Vec<_>>>()?;
        let zeros = vec![0.0; self.lines.modalities().first().map_or(0, |(_, dim)| *dim)];
        let empty = vec![String::new(); cells.first().map_or(0, Vec::len)];
        let file = &mut self.file;
        let mut written = (0..checked.gap).try_for_each(|_| line(file, &zeros, &empty));
        for (_, features) in &checked.features {
            for (values, cells) in features.rows().zip(&cells) {
                written = written.and_then(|()| line(file, values, cells));
            }
        }
        written.map_err(|error| file.error(error))
    }
}

/// The columns of a row as cells. Cells are raw in this format, so a tab or a line end has no place in one.
fn cells(columns: &Map<String, Value>) -> Result<Vec<String>> {
    let cell = |(name, value): (&String, &Value)| {
        let cell = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        if cell.contains(['\t', '\n', '\r']) {
            return Err(
                Error::invalid("the cell holds a tab or a line end, which a TSV file cannot")
                    .column(name)
                    .remedy("write .jsonl"),
            );
        }
        Ok(cell)
    };
    columns.iter().map(cell).collect()
}

fn line(to: &mut impl Write, values: &[f32], cells: &[String]) -> io::Result<()> {
    let mut between = "";
    for &value in values {
        write!(to, "{between}{}", PythonNumber(value))?;
        between = "\t";
    }
    for cell in cells {
        write!(to, "{between}{cell}")?;
        between = "\t";
    }
    to.write_all(b"\n")
}

/// A finite number as Python's `str` writes it, an f32 as that of `numpy.float32`: the shortest digits that read back as
/// the same number, with an exponent of two digits below 1e-4 and from 1e16 on.
///
/// ```
/// use clip_data::PythonNumber;
/// let shown = [0.56 * 100.0, 25.0, 1e-5].map(|value: f64| PythonNumber(value).to_string());
/// assert_eq!(shown, ["56.00000000000001", "25.0", "1e-05"]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PythonNumber<T>(pub T);

impl<T: Copy + Into<f64> + Display + LowerExp> Display for PythonNumber<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let size: f64 = self.0.into().abs();
        if size == 0.0 || (1e-4..1e16).contains(&size) {
            // Rust leaves out the `.0` of whole numbers.
            let text = self.0.to_string();
            let point = if text.contains('.') { "" } else { ".0" };
            return write!(f, "{text}{point}");
        }
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent
            .strip_prefix('-')
            .map_or(('+', exponent), |exponent| ('-', exponent));
        write!(f, "{digits}e{sign}{exponent:0>2}")
    }
}

impl FeatureSink for TsvSink {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        self.write(rows).map_err(|error| error.file(self.file.path()))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        something(self.lines.modalities().len()).map_err(|error| error.file(self.file.path()))?;
        self.file.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_numpy_writes_them() {
        let cases = [
            (0.059_167_35f32, "0.05916735"),
            (-1.5e-5, "-1.5e-05"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e-4, "1e-04"),
            (0.000_100_01, "0.00010001"),
            (9.999e-5, "9.999e-05"),
            (1e-45, "1e-45"),
            (3.4e38, "3.4e+38"),
            (0.7, "0.7"),
        ];
        for (value, text) in cases {
            assert_eq!(PythonNumber(value).to_string(), text);
        }
    }
}
