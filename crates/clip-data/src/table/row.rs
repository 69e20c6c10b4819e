//! One row of a table, taken apart into cells.

use std::borrow::Cow;
use std::ops::Range;
use std::str;
use std::sync::Arc;

use clip_core::{Error, Origin, Result};
use serde_json::{Map, Value};

use super::quotes::ends_inside;

/// One row: its cells, by column.
#[derive(Debug, Clone)]
pub struct Row {
    origin: Origin,
    cells: Cells,
}

#[derive(Debug, Clone)]
enum Cells {
    /// The row's bytes and where each cell lies in them.
    Tsv {
        names: Arc<[String]>,
        bytes: Vec<u8>,
        bounds: Vec<Range<usize>>,
    },
    /// The cells, unquoted.
    Csv {
        names: Arc<[String]>,
        record: csv::ByteRecord,
    },
    /// A JSON object.
    Object(Map<String, Value>),
}

impl Row {
    /// Takes a TSV row apart at its tabs. Cells are raw: a quote is a character.
    pub(super) fn tsv(origin: Origin, names: &Arc<[String]>, bytes: Vec<u8>) -> Self {
        let mut bounds = Vec::with_capacity(names.len());
        let mut from = 0;
        // Surplus columns are ignored, as EasyNLP does, so their cells are not even looked for.
        for tab in memchr::memchr_iter(b'\t', &bytes)
            .chain([bytes.len()])
            .take(names.len())
        {
            bounds.push(from..tab);
            from = tab + 1;
        }
        Self {
            origin,
            cells: Cells::Tsv {
                names: Arc::clone(names),
                bytes,
                bounds,
            },
        }
    }

    /// Takes a CSV row apart by RFC 4180.
    ///
    /// # Errors
    /// A quote stays open, or there are more cells than columns: usually a comma that should be quoted.
    pub(super) fn csv(origin: Origin, names: &Arc<[String]>, bytes: &[u8]) -> Result<Self> {
        let record = csv_record(bytes).map_err(|error| error.file(&*origin.file).row(origin.row))?;
        if record.len() > names.len() {
            let what = format!(
                "the row has {} cells for {}",
                record.len(),
                count(names.len(), "column")
            );
            return Err(Error::invalid(what)
                .file(&*origin.file)
                .row(origin.row)
                .remedy("quote cells that hold a comma, or name all columns"));
        }
        Ok(Self {
            origin,
            cells: Cells::Csv {
                names: Arc::clone(names),
                record,
            },
        })
    }

    /// Reads a JSON object.
    ///
    /// # Errors
    /// The row is not UTF-8, not JSON, or no object.
    pub(super) fn json(origin: Origin, bytes: &[u8]) -> Result<Self> {
        let place = |error: Error| error.file(&*origin.file).row(origin.row);
        let text = utf8(bytes, "row").map_err(place)?;
        let value: Value = serde_json::from_str(text).map_err(|error| place(not_json(error)))?;
        match value {
            Value::Object(object) => Ok(Self {
                origin,
                cells: Cells::Object(object),
            }),
            other => Err(place(
                Error::invalid(format!("the row is {}, not a JSON object", kind(&other)))
                    .remedy("write a line like {\"text\": \"…\", \"image\": \"…\"}"),
            )),
        }
    }

    /// A row of columns that are known already.
    pub(super) fn object(origin: Origin, cells: Map<String, Value>) -> Self {
        Self {
            origin,
            cells: Cells::Object(cells),
        }
    }

    /// File and row (from 1, header included).
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The names of the columns, in order.
    pub fn columns(&self) -> Vec<&str> {
        match &self.cells {
            Cells::Tsv { names, .. } | Cells::Csv { names, .. } => names.iter().map(String::as_str).collect(),
            Cells::Object(object) => object.keys().map(String::as_str).collect(),
        }
    }

    /// Whether the row may have this column: in JSONL, whether it has the key.
    pub(super) fn has(&self, column: &str) -> bool {
        match &self.cells {
            Cells::Object(object) => object.contains_key(column),
            Cells::Tsv { .. } | Cells::Csv { .. } => true,
        }
    }

    /// A cell as text. In JSONL, numbers are written out and `null` is empty.
    ///
    /// # Errors
    /// There is no such column, the row is too short, or the cell is not UTF-8 or (JSONL) a list or an object.
    pub fn cell(&self, column: &str) -> Result<Cow<'_, str>> {
        let cell = match &self.cells {
            Cells::Object(_) => self.value(column).and_then(scalar),
            Cells::Tsv { .. } | Cells::Csv { .. } => self
                .bytes(column)
                .and_then(|bytes| utf8(bytes, "cell"))
                .map(Cow::Borrowed),
        };
        cell.map_err(|error| self.place(error, column))
    }

    /// A cell that may be a list in JSONL: its texts, in order. Every other cell gives one text; `null` gives none.
    ///
    /// # Errors
    /// As for [`cell`](Self::cell).
    pub fn texts(&self, column: &str) -> Result<Vec<Cow<'_, str>>> {
        if let Cells::Object(_) = self.cells {
            let texts = match self.value(column) {
                Ok(Value::Array(items)) => items.iter().map(scalar).collect(),
                Ok(Value::Null) => Ok(Vec::new()),
                Ok(other) => scalar(other).map(|text| vec![text]),
                Err(error) => Err(error),
            };
            return texts.map_err(|error| self.place(error, column));
        }
        self.cell(column).map(|cell| vec![cell])
    }

    /// The cells of some columns as the file has them, in the order asked for: text, or in JSONL whatever value is there.
    ///
    /// # Errors
    /// As for [`cell`](Self::cell), lists and objects excepted.
    pub fn cells<'a>(&self, columns: impl IntoIterator<Item = &'a str>) -> Result<Map<String, Value>> {
        let raw = |column: &'a str| {
            let value = match &self.cells {
                Cells::Object(_) => self.value(column).map_err(|error| self.place(error, column))?.clone(),
                Cells::Tsv { .. } | Cells::Csv { .. } => Value::from(self.cell(column)?.into_owned()),
            };
            Ok((column.to_owned(), value))
        };
        columns.into_iter().map(raw).collect()
    }

    /// Names file, row and column, unless they are known.
    pub(super) fn place(&self, error: Error, column: &str) -> Error {
        error.file(&*self.origin.file).row(self.origin.row).column(column)
    }

    fn bytes(&self, column: &str) -> Result<&[u8]> {
        let (names, cells, cell) = match &self.cells {
            Cells::Tsv { names, bytes, bounds } => {
                let at = position(names, column)?;
                (names, bounds.len(), bounds.get(at).map(|range| &bytes[range.clone()]))
            }
            Cells::Csv { names, record } => (names, record.len(), record.get(position(names, column)?)),
            Cells::Object(_) => return Err(Error::internal("a JSON row has no bytes")),
        };
        cell.ok_or_else(|| {
            Error::invalid(format!(
                "the row has {} and needs {}",
                count(cells, "cell"),
                names.len()
            ))
            .remedy("check the row, or name the columns there are with --schema")
        })
    }

    fn value(&self, column: &str) -> Result<&Value> {
        let Cells::Object(object) = &self.cells else {
            return Err(Error::internal("only a JSON row has values"));
        };
        object.get(column).ok_or_else(|| {
            Error::invalid(format!("the row has no `{column}`; it has: {}", list(object.keys())))
                .remedy("write null for an empty cell")
        })
    }
}

/// The cells of one CSV row, given without its line end.
pub(crate) fn csv_record(bytes: &[u8]) -> Result<csv::ByteRecord> {
    // An empty row is one empty cell here; the reader by itself would skip it.
    if bytes.is_empty() {
        return Ok(csv::ByteRecord::from(vec![""]));
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    reader
        .read_byte_record(&mut record)
        .map_err(|error| Error::invalid(format!("the row is not CSV: {error}")).source(error))?;
    if ends_inside(bytes) {
        return Err(
            Error::invalid("a quote is opened and never closed, so the row runs to the end of the file")
                .remedy("close it, and write a quote inside of a cell as two"),
        );
    }
    Ok(record)
}

fn position(names: &[String], column: &str) -> Result<usize> {
    names.iter().position(|name| name == column).ok_or_else(|| {
        Error::invalid(format!("there is no column `{column}`; there are: {}", list(names)))
            .remedy("name the column to use, or the columns there are with --schema")
    })
}

/// Refuses a column that a table does not have, listing those it has.
pub(super) fn require(names: &[String], column: &str) -> Result<()> {
    position(names, column).map(drop)
}

fn scalar(value: &Value) -> Result<Cow<'_, str>> {
    match value {
        Value::String(text) => Ok(Cow::Borrowed(text)),
        Value::Null => Ok(Cow::Borrowed("")),
        Value::Number(_) | Value::Bool(_) => Ok(Cow::Owned(value.to_string())),
        Value::Array(_) | Value::Object(_) => Err(Error::invalid(format!("the cell is {}, not a string", kind(value)))),
    }
}

/// Reads bytes as UTF-8; an error says where they stop being so.
pub(crate) fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    str::from_utf8(bytes).map_err(|error| {
        Error::invalid(format!(
            "the {what} is not UTF-8 from its byte {} on",
            error.valid_up_to() + 1
        ))
        .remedy("save the file as UTF-8")
        .source(error)
    })
}

/// A JSON error without the line it counts, which is always the first of the one row it was given.
pub(crate) fn not_json(error: serde_json::Error) -> Error {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    Error::invalid(format!("the row is not JSON: {reason}, at byte {}", error.column())).source(error)
}

/// What a JSON value is, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Names in the order they stand, at most 20 of them.
pub(super) fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let mut shown: Vec<&str> = names.iter().take(20).map(AsRef::as_ref).collect();
    if names.len() > shown.len() {
        shown.push("…");
    }
    if shown.is_empty() {
        "none".into()
    } else {
        shown.join(", ")
    }
}

/// `1 cell`, `2 cells`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
