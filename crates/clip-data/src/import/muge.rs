//! MUGE's retrieval set, as Chinese-CLIP and the competition lay it out: queries as JSON lines, pictures as a table of id
//! and base64.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use clip_core::{Error, Id, PairTable, Result};
use serde_json::{Value, json};

use super::Imported;
use super::outputs::{Lines, beside};
use crate::table::{Columns, MAX_ROW_BYTES, Roles, Schema, Table, TableOptions, kind, not_json, utf8};

/// A text and the pictures that are right for it, in either layout: `{"text_id", "text", "image_ids"}` (Chinese-CLIP's) or
/// `{"query_id", "query_text", "item_ids"}` (the competition's). A test set names no pictures.
struct Query {
    id: String,
    text: String,
    images: Vec<String>,
}

/// Rewrites queries `texts` (JSON lines) and pictures `images` (lines of id, tab, base64) as tables with headers:
///
/// - `output`: `text, image, item, text_id`, a row for each text and each of its pictures, to train on. Not written where no
///   text names a picture, as in a test set;
/// - `.texts.tsv`: `text, text_id`, and `.images.tsv`: `image, item`, each once, to embed;
/// - `.relevance.jsonl`: for each text its pictures, by row from 0.
///
/// Pictures are copied as they stand. Memory holds the ids of the pictures, and a row.
///
/// # Errors
/// A file cannot be read or written, a line is of neither layout, two pictures have one id, or a text names a picture that
/// is not there and `skip_missing` does not say to leave it out.
pub fn import_muge(texts: &Path, images: &Path, output: &Path, skip_missing: bool) -> Result<Imported> {
    let gallery = Gallery::open(images)?;
    let mut pairs = Lines::create(output.to_owned())?;
    let mut queries = Lines::create(beside(output, "texts.tsv"))?;
    let mut pictures = Lines::create(beside(output, "images.tsv"))?;
    let mut relevance = Lines::create(beside(output, "relevance.jsonl"))?;
    let mut done = Imported::default();
    pictures.row(&["image", "item"])?;
    for row in 0..gallery.table.rows() {
        let cells = gallery.table.row(row)?;
        pictures.row(&[&cells.cell("image")?, &cells.cell("id")?])?;
        done.images += 1;
    }
    pairs.row(&["text", "image", "item", "text_id"])?;
    queries.row(&["text", "text_id"])?;
    for query in read(texts)? {
        let (row, query) = query?;
        let mut rows = Vec::new();
        for id in &query.images {
            match gallery.rows.get(&Id::of(id)) {
                Some(&at) => {
                    rows.push(at);
                    let cells = gallery.table.row(at)?;
                    pairs.row(&[&query.text, &cells.cell("image")?, id, &query.id])?;
                    done.pairs += 1;
                }
                None if skip_missing => done.missing += 1,
                None => {
                    return Err(Error::invalid(format!("there is no picture `{id}` in {}", images.display()))
                        .file(texts)
                        .row(row)
                        .remedy("check that both files are of one split, or leave such pictures out with --skip-missing"));
                }
            }
        }
        queries.row(&[&query.text, &query.id])?;
        if !rows.is_empty() {
            relevance.json(&json!({ "query": done.texts, "items": rows }))?;
        }
        done.texts += 1;
    }
    if done.texts == 0 {
        return Err(Error::invalid("there is no text").file(texts));
    }
    done.outputs = vec![queries.commit()?, pictures.commit()?];
    if done.pairs > 0 {
        done.outputs.extend([pairs.commit()?, relevance.commit()?]);
    }
    Ok(done)
}

/// The pictures, and where each id stands.
struct Gallery {
    table: Table,
    rows: HashMap<Id, usize>,
}

impl Gallery {
    fn open(path: &Path) -> Result<Self> {
        let options = TableOptions {
            format: Some(crate::table::Format::Tsv),
            schema: Some(Schema::named(vec!["id".into(), "image".into()])?),
            header: Some(false),
            columns: Columns::default(),
            roles: Roles::Images,
        };
        let table = Table::open(path, options)?;
        let mut rows = HashMap::with_capacity(table.rows());
        for row in 0..table.rows() {
            let cells = table.row(row)?;
            let id = cells.cell("id")?;
            // A line of one cell is found here, not when the picture is opened.
            cells.cell("image")?;
            if rows.insert(Id::of(id.trim()), row).is_some() {
                return Err(Error::invalid(format!("a second picture has the id `{}`", id.trim()))
                    .file(path)
                    .row(row as u64 + 1));
            }
        }
        Ok(Self { table, rows })
    }
}

/// The queries, each with its row from 1. Blank lines are passed over.
fn read(path: &Path) -> Result<impl Iterator<Item = Result<(u64, Query)>>> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let mut reader = BufReader::new(file);
    let mut row = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            row += 1;
            let mut line = Vec::new();
            match (&mut reader).take(MAX_ROW_BYTES as u64).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(Error::io("read", path, error))),
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let query = query(line.trim_ascii()).map_err(|error| error.file(path).row(row));
                    return Some(query.map(|query| (row, query)));
                }
            }
        }
    }))
}

fn query(line: &[u8]) -> Result<Query> {
    let value: Value = serde_json::from_str(utf8(line, "row")?).map_err(not_json)?;
    let field = |names: [&str; 2]| names.into_iter().find_map(|name| value.get(name));
    let (Some(id), Some(text)) = (field(["text_id", "query_id"]), field(["text", "query_text"])) else {
        return Err(Error::invalid("the row is neither {\"text_id\", \"text\", \"image_ids\"} nor {\"query_id\", \"query_text\", \"item_ids\"}")
            .remedy("check that this is the file of texts"));
    };
    let images = match field(["image_ids", "item_ids"]) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(ids)) => ids.iter().map(name).collect::<Result<_>>()?,
        Some(other) => return Err(Error::invalid(format!("the pictures are {}, not a list", kind(other)))),
    };
    Ok(Query {
        id: name(id)?,
        text: name(text)?,
        images,
    })
}

/// A name: a string, or a number as it is written.
fn name(value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(Error::invalid(format!("an id or a text is {}", kind(other)))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_layouts_and_a_test_set() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let read = |name: &str| fs::read_to_string(place(name)).unwrap();
        fs::write(place("imgs.tsv"), "1001\tAAAA\n1002\tBBBB\n77\tCCCC\n").unwrap();
        let one = "{\"text_id\": 8428, \"text\": \"高级感托特包\\t斜挎\", \"image_ids\": [1002, 1001]}\n\n{\"text_id\": 9, \"text\": \"鞋\", \"image_ids\": [77]}\n";
        let other = "{\"query_id\": 8428, \"query_text\": \"高级感托特包\\t斜挎\", \"item_ids\": [\"1002\", 1001]}\n{\"query_id\": \"9\", \"query_text\": \"鞋\", \"item_ids\": [77]}\n";
        for texts in [one, other] {
            fs::write(place("texts.jsonl"), texts).unwrap();
            let done = import_muge(&place("texts.jsonl"), &place("imgs.tsv"), &place("valid.tsv"), false).unwrap();
            assert_eq!((done.texts, done.images, done.pairs, done.missing), (2, 3, 3, 0));
            assert_eq!(done.outputs.len(), 4);
            assert_eq!(
                read("valid.tsv"),
                "text\timage\titem\ttext_id\n高级感托特包 斜挎\tBBBB\t1002\t8428\n高级感托特包 斜挎\tAAAA\t1001\t8428\n鞋\tCCCC\t77\t9\n"
            );
            assert_eq!(
                read("valid.texts.tsv"),
                "text\ttext_id\n高级感托特包 斜挎\t8428\n鞋\t9\n"
            );
            assert_eq!(
                read("valid.images.tsv"),
                "image\titem\nAAAA\t1001\nBBBB\t1002\nCCCC\t77\n"
            );
            assert_eq!(
                read("valid.relevance.jsonl"),
                "{\"query\":0,\"items\":[1,0]}\n{\"query\":1,\"items\":[2]}\n"
            );
        }
        fs::write(place("texts.jsonl"), "{\"query_id\": 1, \"query_text\": \"鞋\"}\n").unwrap();
        let done = import_muge(&place("texts.jsonl"), &place("imgs.tsv"), &place("test.tsv"), false).unwrap();
        assert_eq!((done.texts, done.pairs, done.outputs.len()), (1, 0, 2));
        assert!(!place("test.tsv").exists());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let import = |images: &str, texts: &str, skip: bool| {
            fs::write(place("i.tsv"), images).unwrap();
            fs::write(place("t.jsonl"), texts).unwrap();
            let done = import_muge(&place("t.jsonl"), &place("i.tsv"), &place("o.tsv"), skip);
            done.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
        };
        let query = "{\"text_id\": 1, \"text\": \"a\", \"image_ids\": [5, 1]}\n";
        assert_eq!(
            import("1\tAAAA\n", query, false).unwrap_err(),
            "t.jsonl, row 1: there is no picture `5` in i.tsv; check that both files are of one split, or leave such \
             pictures out with --skip-missing"
        );
        assert_eq!(import("1\tAAAA\n", query, true).unwrap().missing, 1);
        assert_eq!(
            import("1\tAAAA\n1\tBBBB\n", query, false).unwrap_err(),
            "i.tsv, row 2: a second picture has the id `1`"
        );
        assert!(
            import("1\n", query, false)
                .unwrap_err()
                .starts_with("i.tsv, row 1, column `image`: the row has 1 cell")
        );
        assert!(
            import("1\tA\n", "{\"id\": 1}\n", false)
                .unwrap_err()
                .starts_with("t.jsonl, row 1: the row is neither")
        );
        assert!(
            import("1\tA\n", "\n[1\n", false)
                .unwrap_err()
                .starts_with("t.jsonl, row 2: the row is not JSON")
        );
        assert!(import("1\tA\n", "\n", false).unwrap_err().contains("there is no text"));
        assert!(!place("o.texts.tsv").exists() || place("o.tsv").exists());
    }
}
