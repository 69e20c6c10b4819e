//! Files of labels: what a picture may be called, and other words for the same.

use std::path::Path;

use clip_core::{Error, Result};
use serde::Deserialize;

use crate::small_file::{read_list, rows};
use crate::table::{csv_record, not_json};

/// A label and its synonyms, as a file gives them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelRow {
    /// What it is called.
    pub label: String,
    /// Other words for it.
    #[serde(default)]
    pub synonyms: Vec<String>,
}

/// Reads a file of labels, at most 16 MiB: `label<TAB>synonym<TAB>…` a row, where the synonyms may be missing; the same as CSV
/// (`.csv`); or `{"label": "…", "synonyms": ["…"]}` a row (`.jsonl`). There is no header. Blank rows and empty cells behind the
/// label are left out, as spreadsheets write them.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("labels.tsv");
/// std::fs::write(&path, "trainers\tsneakers\trunning shoes\nbag\n")?;
/// let labels = clip_data::read_labels(&path)?;
/// assert_eq!((labels[0].synonyms.len(), labels[1].label.as_str()), (2, "bag"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The file cannot be read or names no label, a row is not of its format or has no label. File and row are named.
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<LabelRow>> {
    let path = path.as_ref();
    let form = match path.extension().map(|extension| extension.to_ascii_lowercase()) {
        Some(extension) if extension == "jsonl" => Form::Json,
        Some(extension) if extension == "csv" => Form::Commas,
        _ => Form::Tabs,
    };
    parse(&read_list(path)?, form).map_err(|error| error.file(path))
}

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Tabs,
    Commas,
    Json,
}

fn parse(text: &str, form: Form) -> Result<Vec<LabelRow>> {
    let mut labels = Vec::new();
    for (number, row) in rows(text) {
        let label = match form {
            Form::Json => from_json(row),
            Form::Tabs => from_cells(row.split('\t')),
            // A label does not go over several lines, so that each is a record by itself.
            Form::Commas => csv_record(row.as_bytes())
                .and_then(|record| from_cells(record.iter().map(|cell| std::str::from_utf8(cell).unwrap_or_default()))),
        };
        labels.push(label.map_err(|error| error.row(number))?);
    }
    if labels.is_empty() {
        return Err(Error::invalid("the file names no label").remedy("write label<TAB>synonym<TAB>…, one a row"));
    }
    Ok(labels)
}

fn from_cells<'a>(cells: impl Iterator<Item = &'a str>) -> Result<LabelRow> {
    let mut cells = cells.map(|cell| cell.trim().to_owned());
    let label = cells.next().filter(|label| !label.is_empty());
    Ok(LabelRow {
        label: label.ok_or_else(|| Error::invalid("the label is empty").remedy("write label<TAB>synonym<TAB>…"))?,
        synonyms: cells.filter(|cell| !cell.is_empty()).collect(),
    })
}

fn from_json(row: &str) -> Result<LabelRow> {
    const REMEDY: &str = "write a row like {\"label\": \"…\", \"synonyms\": [\"…\"]}";
    let label: LabelRow = serde_json::from_str(row).map_err(|error| {
        if error.is_data() {
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
            Error::invalid(format!("the row is no label: {reason}"))
                .source(error)
                .remedy(REMEDY)
        } else {
            not_json(error).remedy(REMEDY)
        }
    })?;
    if label.label.trim().is_empty() {
        return Err(Error::invalid("the label is empty").remedy(REMEDY));
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn label(label: &str, synonyms: &[&str]) -> LabelRow {
        LabelRow {
            label: label.into(),
            synonyms: synonyms.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn cells_and_json_say_the_same() {
        let wanted = [label("运动鞋", &["跑鞋", "trainers"]), label("bag", &[])];
        assert_eq!(
            parse("运动鞋\t跑鞋\ttrainers\r\n\n bag \t\t\n", Form::Tabs).unwrap(),
            wanted
        );
        let json = "{\"label\": \"运动鞋\", \"synonyms\": [\"跑鞋\", \"trainers\"]}\n{\"label\": \"bag\"}";
        assert_eq!(parse(json, Form::Json).unwrap(), wanted);
        assert_eq!(parse("运动鞋,\"跑鞋\",trainers\nbag,,", Form::Commas).unwrap(), wanted);
        assert!(parse("\"a", Form::Commas).unwrap_err().to_string().starts_with("row 1"));
    }

    #[test]
    fn bad_rows_are_named() {
        for (text, form, said) in [
            (
                "a\n\tb",
                Form::Tabs,
                "row 2: the label is empty; write label<TAB>synonym<TAB>…",
            ),
            (
                "\n \n",
                Form::Tabs,
                "the file names no label; write label<TAB>synonym<TAB>…, one a row",
            ),
            (
                "a",
                Form::Json,
                "row 1: the row is not JSON: expected value, at byte 1; write a row like {\"label\": \"…\", \"synonyms\": [\"…\"]}",
            ),
            (
                "{\"label\": \"a\"}\n{\"name\": \"a\"}",
                Form::Json,
                "row 2: the row is no label: unknown field `name`, expected `label` or `synonyms`; write a row like {\"label\": \"…\", \"synonyms\": [\"…\"]}",
            ),
            (
                "{\"label\": \" \"}",
                Form::Json,
                "row 1: the label is empty; write a row like {\"label\": \"…\", \"synonyms\": [\"…\"]}",
            ),
        ] {
            assert_eq!(parse(text, form).unwrap_err().to_string(), said);
        }
    }

    proptest! {
        /// What is written in either form is read again.
        #[test]
        fn what_is_written_is_read(
            labels in prop::collection::vec(prop::collection::vec("[a-z一-龥\"\\\\{}<>&]{1,8}", 1..4), 1..8),
        ) {
            let cells: String = labels.iter().map(|names| names.join("\t") + "\n").collect();
            let json: String = labels
                .iter()
                .map(|names| serde_json::json!({ "label": names[0], "synonyms": names[1..] }).to_string() + "\n")
                .collect();
            let wanted: Vec<LabelRow> = labels
                .iter()
                .map(|names| LabelRow { label: names[0].clone(), synonyms: names[1..].to_vec() })
                .collect();
            prop_assert_eq!(parse(&cells, Form::Tabs).unwrap(), wanted.clone());
            prop_assert_eq!(parse(&json, Form::Json).unwrap(), wanted);
        }

        #[test]
        fn rubbish_is_refused_or_read_and_never_a_panic(text in "\\PC{0,60}(\n\\PC{0,20})?", form in prop::sample::select(vec![Form::Tabs, Form::Commas, Form::Json])) {
            let _ = parse(&text, form);
        }
    }
}
