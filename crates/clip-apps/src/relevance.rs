//! Which images are right for which text.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use clip_core::{Error, Id, Result};
use clip_index::{PositiveLists, Positives};
use serde::Deserialize;

/// The most bytes that a line of a relevance file may have.
const LINE_LIMIT: u64 = 64 << 20;

/// Which images are right for which text, whence also which texts for which image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relevance {
    positives: Positives,
}

/// What the strings of a relevance file stand for. Without names of a side, its rows are named by number alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sides<'a> {
    /// How many texts.
    pub texts: usize,
    /// How many images.
    pub images: usize,
    /// The id of each text, if texts have ids.
    pub text_ids: Option<&'a [String]>,
    /// The id of each image, if images have ids.
    pub image_ids: Option<&'a [String]>,
}

impl Relevance {
    /// Text `i` belongs to image `i`.
    pub fn diagonal() -> Self {
        Self {
            positives: Positives::Diagonal,
        }
    }

    /// Text and image of each row belong together, and so do all rows of one item. A row without an item stands for
    /// itself.
    pub fn by_items(items: &[Option<Id>]) -> Self {
        let labels: Vec<u64> = (0..)
            .zip(items)
            .map(|(row, item)| item.unwrap_or_else(|| Id::of_row("no item", row)).0)
            .collect();
        Self {
            positives: Positives::Labels {
                queries: labels.clone(),
                gallery: labels,
            },
        }
    }

    /// Text and image of each row belong together, and so do all rows with the same text: several products are often
    /// described alike, and each of their pictures is then right.
    pub fn by_same_text<T: AsRef<str>>(texts: &[T]) -> Self {
        let items: Vec<_> = texts.iter().map(|text| Some(Id::of(text.as_ref()))).collect();
        Self::by_items(&items)
    }

    /// The right images of each text, as rows.
    pub fn lists(lists: PositiveLists) -> Self {
        Self {
            positives: Positives::Lists(lists),
        }
    }

    /// Reads a file of lines `{"query": TEXT, "items": [IMAGE, …]}`. Text and image are named by row (a number, from
    /// 0) or by id (a string). Lines of one query add up; texts that no line names are not evaluated.
    pub fn read(path: &Path, sides: Sides<'_>) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open the relevance file", path, error))?;
        Self::parse(BufReader::new(file), sides).map_err(|error| error.file(path))
    }

    fn parse(mut lines: impl BufRead, sides: Sides<'_>) -> Result<Self> {
        let texts = Names::new("query", sides.texts, sides.text_ids)?;
        let images = Names::new("items", sides.images, sides.image_ids)?;
        let mut found: Vec<Vec<u32>> = vec![Vec::new(); sides.texts];
        let mut line = Vec::new();
        for row in 1.. {
            line.clear();
            let read = (&mut lines).take(LINE_LIMIT).read_until(b'\n', &mut line);
            match read.map_err(|error| {
                Error::unavailable(format!("cannot read: {error}"))
                    .source(error)
                    .row(row)
            })? {
                0 => break,
                _ if line.trim_ascii().is_empty() => {}
                _ => add_line(&line, &texts, &images, &mut found).map_err(|error| error.row(row))?,
            }
        }
        let mut lists = PositiveLists::default();
        for rows in found {
            lists.push(rows.into_iter().map(|row| row as usize))?;
        }
        Ok(Self::lists(lists))
    }

    /// As the ranking takes it: right images of each text.
    pub fn positives(&self) -> &Positives {
        &self.positives
    }
}

/// A line of a relevance file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    query: Name,
    items: Vec<Name>,
}

/// A row by number, or by id.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a row number (from 0) or an id (a string)")]
enum Name {
    Row(u64),
    Id(String),
}

/// Where the rows of one side are found.
struct Names<'a> {
    field: &'static str,
    rows: usize,
    ids: Option<HashMap<&'a str, u32>>,
}

impl<'a> Names<'a> {
    fn new(field: &'static str, rows: usize, ids: Option<&'a [String]>) -> Result<Self> {
        if let Some(ids) = ids
            && ids.len() != rows
        {
            return Err(Error::internal(format!("{} ids for {rows} rows", ids.len())));
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::exhausted(format!("{rows} rows are more than can be ranked")));
        }
        let mut map = HashMap::new();
        for (row, id) in (0..).zip(ids.unwrap_or_default()) {
            if map.insert(id.as_str(), row).is_some() {
                return Err(Error::invalid(format!("the id `{id}` stands for two rows")).column(field));
            }
        }
        Ok(Self {
            field,
            rows,
            ids: ids.map(|_| map),
        })
    }

    fn row(&self, name: &Name) -> Result<u32> {
        let unknown = |what: String, remedy: &str| Error::invalid(what).remedy(remedy).column(self.field);
        match (name, &self.ids) {
            // The number of rows was seen to fit u32.
            (Name::Row(row), _) if *row < self.rows as u64 => Ok(*row as u32),
            (Name::Row(row), _) => Err(unknown(
                format!("there is no row {row} among {}", self.rows),
                "rows are counted from 0",
            )),
            (Name::Id(id), Some(ids)) => ids
                .get(id.as_str())
                .copied()
                .ok_or_else(|| unknown(format!("no row has the id `{id}`"), "check the id")),
            (Name::Id(id), None) => Err(unknown(
                format!("`{id}` is an id, but the rows have none"),
                "name rows by number, from 0",
            )),
        }
    }
}

fn add_line(line: &[u8], texts: &Names<'_>, images: &Names<'_>, found: &mut [Vec<u32>]) -> Result<()> {
    if line.len() as u64 == LINE_LIMIT {
        return Err(Error::invalid(format!("the line is longer than {LINE_LIMIT} bytes"))
            .remedy("spread the items over several lines of the same query"));
    }
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        Error::invalid(format!("the line is no relevance: {error}"))
            .remedy("write lines like {\"query\": 0, \"items\": [4, 7]}")
            .source(error)
    })?;
    if line.items.is_empty() {
        return Err(Error::invalid("a query without a right item cannot be ranked")
            .column("items")
            .remedy("leave the line out"));
    }
    let rows = &mut found[texts.row(&line.query)? as usize];
    for item in &line.items {
        rows.push(images.row(item)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, sides: Sides<'_>) -> Result<Vec<Vec<u32>>> {
        let relevance = Relevance::parse(text.as_bytes(), sides)?;
        let Positives::Lists(lists) = relevance.positives() else {
            panic!("no lists")
        };
        Ok((0..lists.len()).map(|query| lists.of(query).to_vec()).collect())
    }

    #[test]
    fn rows_and_ids_are_read_and_lines_add_up() {
        let ids = ["a", "b", "c"].map(str::to_owned);
        let sides = Sides {
            texts: 2,
            images: 3,
            image_ids: Some(&ids),
            ..Sides::default()
        };
        let text = "{\"query\": 1, \"items\": [\"c\", 0]}\n\n{\"query\":1,\"items\":[2, \"b\"]}";
        assert_eq!(parse(text, sides).unwrap(), [vec![], vec![0, 1, 2]]);
    }

    #[test]
    fn bad_lines_say_where_and_what() {
        let sides = Sides {
            texts: 2,
            images: 3,
            ..Sides::default()
        };
        for (text, message) in [
            (
                "{\"query\":0,\"items\":[1]}\n{\"query\":2,\"items\":[1]}",
                "row 2, column `query`: there is no row 2 among 2",
            ),
            (
                "{\"query\":0,\"items\":[3]}",
                "row 1, column `items`: there is no row 3 among 3",
            ),
            (
                "{\"query\":0,\"items\":[\"x\"]}",
                "row 1, column `items`: `x` is an id, but the rows have none",
            ),
            (
                "{\"query\":0,\"items\":[]}",
                "row 1, column `items`: a query without a right item",
            ),
            (
                "{\"query\":-1,\"items\":[1]}",
                "a row number (from 0) or an id (a string)",
            ),
            ("{\"query\":0,\"items\":[1],\"more\":2}", "unknown field `more`"),
            ("nonsense", "row 1: the line is no relevance"),
        ] {
            let error = parse(text, sides).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let twice = ["a", "a", "b"].map(str::to_owned);
        let error = parse(
            "",
            Sides {
                image_ids: Some(&twice),
                ..sides
            },
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("`a` stands for two rows"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Relevance::read(Path::new("gone.jsonl"), Sides::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("gone.jsonl: cannot open the relevance file"),
            "{error}"
        );
    }

    #[test]
    fn rows_without_an_item_stand_for_themselves() {
        let relevance = Relevance::by_items(&[None, Some(Id(7)), None, Some(Id(7))]);
        let Positives::Labels { queries, gallery } = relevance.positives() else {
            panic!("no labels")
        };
        assert_eq!(queries, gallery);
        assert_eq!((queries[1], queries[0] == queries[2]), (queries[3], false));
    }
}
