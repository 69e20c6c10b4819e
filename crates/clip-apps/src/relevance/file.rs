//! Relevance files: lines of JSON in our layout, in Chinese-CLIP's and in MUGE's.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use clip_core::{Error, Result};
use clip_index::PositiveLists;
use serde_json::{Map, Value};

use super::Relevance;
use super::names::{Names, Rows, Side};

/// The most bytes that a line of a relevance file may have.
const LINE_LIMIT: u64 = 64 << 20;

/// What a query is called: ours, MUGE's and FashionKLIP's, Chinese-CLIP's.
const QUERY: [&str; 3] = ["query", "query_id", "text_id"];

/// What its right images are called, likewise.
const ITEMS: [&str; 3] = ["items", "item_ids", "image_ids"];

/// What to do about a line that is none, or a file without one.
const REMEDY: &str = "write lines like {\"query\": 0, \"items\": [4, 7]}";

/// What a relevance file names and is not evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmet {
    /// Lines whose query is left out.
    pub queries: usize,
    /// Right items that are left out.
    pub items: usize,
}

impl Relevance {
    /// Reads a file of lines `{"query": TEXT, "items": [IMAGE, …]}`, with `"grades": [NUMBER, …]` if some images are more
    /// right than others; or of lines as Chinese-CLIP (`text_id`, `image_ids`) and MUGE (`query_id`, `item_ids`) write
    /// them, whose further keys do not matter.
    ///
    /// Rows with ids are named by these: an id that is a number may be written as a number or as a string. An id that
    /// several images share names all of them. Rows without ids are named by number, from 0. Lines of one query add up;
    /// texts that no line names are not evaluated.
    ///
    /// # Errors
    /// The file cannot be read; a line is of no such layout or names a row that is not there; two texts share an id.
    pub fn read(path: &Path, texts: Side<'_>, images: Side<'_>) -> Result<(Self, Unmet)> {
        let file = File::open(path).map_err(|error| Error::io("open the relevance file", path, error))?;
        parse(BufReader::new(file), texts, images).map_err(|error| error.file(path))
    }
}

fn parse(mut lines: impl BufRead, texts: Side<'_>, images: Side<'_>) -> Result<(Relevance, Unmet)> {
    let sides = [Names::new(texts, true)?, Names::new(images, false)?];
    let mut found = Found {
        right: vec![Vec::new(); texts.kept.map_or(texts.rows, <[usize]>::len)],
        unmet: Unmet::default(),
    };
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
            _ => found.add(&line, &sides).map_err(|error| error.row(row))?,
        }
    }
    if found.right.iter().all(Vec::is_empty) {
        return Err(Error::invalid("no line names a query and a right image that are evaluated").remedy(REMEDY));
    }
    let mut lists = PositiveLists::default();
    for rows in found.right {
        lists.push_graded(rows.into_iter().map(|(row, grade)| (row as usize, grade)))?;
    }
    Ok((Relevance::lists(lists), found.unmet))
}

/// What was read so far.
struct Found {
    /// Right images of each text that is evaluated, and how right.
    right: Vec<Vec<(u32, f32)>>,
    unmet: Unmet,
}

impl Found {
    fn add(&mut self, line: &[u8], [texts, images]: &[Names<'_>; 2]) -> Result<()> {
        let line = Line::parse(line)?;
        let place = |error: Error, key: &str| error.column(key);
        let query = match texts.rows(&line.query).map_err(|error| place(error, line.query_key))? {
            Rows::LeftOut => {
                self.unmet.queries += 1;
                None
            }
            // Two texts of one id are refused before.
            Rows::There(rows) => rows.first().copied(),
        };
        for (item, &grade) in line.items.iter().zip(&line.grades) {
            match images.rows(item).map_err(|error| place(error, line.items_key))? {
                Rows::LeftOut => self.unmet.items += 1,
                Rows::There(rows) => {
                    if let Some(right) = query.and_then(|query| self.right.get_mut(query as usize)) {
                        right.extend(rows.iter().map(|&row| (row, grade)));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A line of a relevance file.
struct Line {
    query_key: &'static str,
    query: Value,
    items_key: &'static str,
    items: Vec<Value>,
    grades: Vec<f32>,
}

impl Line {
    fn parse(line: &[u8]) -> Result<Self> {
        if line.len() as u64 == LINE_LIMIT {
            return Err(Error::invalid(format!("the line is longer than {LINE_LIMIT} bytes"))
                .remedy("spread the items over several lines of the same query"));
        }
        let mut object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
            Error::invalid(format!("the line is no relevance: {error}"))
                .remedy(REMEDY)
                .source(error)
        })?;
        let key = |known: [&'static str; 3]| known.into_iter().find(|key| object.contains_key(*key));
        let (Some(query_key), Some(items_key)) = (key(QUERY), key(ITEMS)) else {
            let (queries, items) = (QUERY.join(", "), ITEMS.join(", "));
            let what = format!("the line is no relevance: it needs a query ({queries}) and items ({items})");
            return Err(Error::invalid(what).remedy(REMEDY));
        };
        let query = object.remove(query_key).unwrap_or_default();
        let items = match object.remove(items_key) {
            Some(Value::Array(items)) => items,
            _ => return Err(Error::invalid("the items are no list").column(items_key).remedy(REMEDY)),
        };
        if items.is_empty() {
            return Err(Error::invalid("a query without a right item cannot be ranked")
                .column(items_key)
                .remedy("leave the line out"));
        }
        let grades = match object.remove("grades") {
            Some(grades) => grades_of(&grades, items.len())?,
            None => vec![1.0; items.len()],
        };
        // Our own layout says all that it may; a key that is not known is a slip.
        if let (true, Some(key)) = (query_key == QUERY[0] || items_key == ITEMS[0], object.keys().next()) {
            return Err(Error::invalid(format!("there is an unknown key `{key}`"))
                .remedy("the keys are query, items and grades"));
        }
        Ok(Self {
            query_key,
            query,
            items_key,
            items,
            grades,
        })
    }
}

fn grades_of(grades: &Value, items: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| {
        Error::invalid(what)
            .column("grades")
            .remedy("give each item a number from 0 (wrong) up")
    };
    let Value::Array(grades) = grades else {
        return Err(wrong("the grades are no list".into()));
    };
    if grades.len() != items {
        return Err(wrong(format!("{} grades for {items} items", grades.len())));
    }
    let grade = |grade: &Value| {
        let number = grade.as_f64().map(|grade| grade as f32);
        let number = number.filter(|number| number.is_finite() && *number >= 0.0);
        number.ok_or_else(|| wrong(format!("{grade} is no grade")))
    };
    grades.iter().map(grade).collect()
}

#[cfg(test)]
mod tests {
    use clip_index::Positives;

    use super::*;

    fn ids(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| Some((*name).to_owned())).collect()
    }

    fn side(rows: usize) -> Side<'static> {
        Side {
            rows,
            ..Side::default()
        }
    }

    fn named(ids: &[Option<String>]) -> Side<'_> {
        Side {
            rows: ids.len(),
            ids: Some(ids),
            kept: None,
        }
    }

    /// Rows and grades of each text.
    type Graded = Vec<Vec<(u32, f32)>>;

    fn read(text: &str, texts: Side<'_>, images: Side<'_>) -> Result<(Graded, Unmet)> {
        let (relevance, unmet) = parse(text.as_bytes(), texts, images)?;
        let Positives::Lists(lists) = relevance.positives() else {
            panic!("no lists")
        };
        let of = |query| lists.of(query).iter().map(|right| (right.row, right.gain)).collect();
        Ok(((0..lists.len()).map(of).collect(), unmet))
    }

    fn rows(text: &str, texts: Side<'_>, images: Side<'_>) -> Vec<Vec<u32>> {
        let (found, unmet) = read(text, texts, images).unwrap();
        assert_eq!(unmet, Unmet::default());
        let rows = |right: Vec<(u32, f32)>| right.into_iter().map(|(row, _)| row).collect();
        found.into_iter().map(rows).collect()
    }

    #[test]
    fn rows_and_ids_are_read_and_lines_add_up() {
        let images = ids(&["a", "b", "c"]);
        let text = "{\"query\": 1, \"items\": [\"c\", \"a\"]}\n\n{\"query\":1,\"items\":[\"c\", \"b\"]}";
        assert_eq!(rows(text, side(2), named(&images)), [vec![], vec![0, 1, 2]]);
    }

    #[test]
    fn an_id_may_be_a_number_or_a_string_in_every_layout() {
        let (texts, images) = (ids(&["54372", "8428"]), ids(&["517602", "7", "1076345"]));
        for text in [
            "{\"query\": 8428, \"items\": [1076345, \"517602\"]}",
            "{\"text_id\": 8428, \"text\": \"高级感托特包斜挎\", \"image_ids\": [1076345, 517602]}",
            "{\"query_id\": \"8428\", \"query_text\": \"高级感托特包斜挎\", \"item_ids\": [\"1076345\", 517602], \"phrases\": []}",
        ] {
            assert_eq!(
                rows(text, named(&texts), named(&images)),
                [vec![], vec![0, 2]],
                "{text}"
            );
        }
        // An id that several pictures share names all of them.
        let images = ids(&["7", "9", "7"]);
        assert_eq!(
            rows("{\"query_id\": 8428, \"item_ids\": [7]}", named(&texts), named(&images)),
            [vec![], vec![0, 2]]
        );
    }

    #[test]
    fn grades_are_kept_and_0_is_wrong() {
        let text = "{\"query\": 0, \"items\": [0, 1, 2], \"grades\": [0, 2.5, 1]}";
        let (found, _) = read(text, side(1), side(3)).unwrap();
        assert_eq!(found, [vec![(1, 2.5), (2, 1.0)]]);
    }

    #[test]
    fn rows_that_are_not_evaluated_are_left_out_and_shift_nothing() {
        let (texts, images) = (ids(&["a", "b", "c"]), ids(&["x", "y", "z"]));
        let kept = |side: Side<'static>, kept: &'static [usize]| Side {
            kept: Some(kept),
            ..side
        };
        let by_number =
            "{\"query\": 0, \"items\": [0, 2]}\n{\"query\": 1, \"items\": [2]}\n{\"query\": 2, \"items\": [1, 2]}";
        let unmet = Unmet { queries: 1, items: 1 };
        let (found, left_out) = read(by_number, kept(side(3), &[0, 2]), kept(side(3), &[0, 2])).unwrap();
        assert_eq!(found, [vec![(0, 1.0), (1, 1.0)], vec![(1, 1.0)]]);
        assert_eq!(left_out, unmet);
        let by_id = "{\"query\": \"b\", \"items\": [\"z\"]}\n{\"query\": \"c\", \"items\": [\"y\", \"z\"]}";
        let [left, right] = [&texts, &images].map(|ids| Side {
            kept: Some(&[0, 2]),
            ..named(ids)
        });
        let (found, left_out) = read(by_id, left, right).unwrap();
        assert_eq!((found, left_out), (vec![vec![], vec![(1, 1.0)]], unmet));
    }

    #[test]
    fn bad_lines_say_where_and_what() {
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
                "{\"query_id\":0,\"item_ids\":[\"x\"]}",
                "row 1, column `item_ids`: `x` is an id, but the rows have none; say which column holds the ids",
            ),
            (
                "{\"query\":0,\"items\":[]}",
                "row 1, column `items`: a query without a right item",
            ),
            (
                "{\"query\":-1,\"items\":[1]}",
                "row 1, column `query`: `-1` is an id, but the rows have none",
            ),
            (
                "{\"query\":null,\"items\":[1]}",
                "null is no row number (from 0) and no id",
            ),
            (
                "{\"query\":0,\"items\":7}",
                "row 1, column `items`: the items are no list",
            ),
            (
                "{\"query\":0,\"items\":[1],\"more\":2}",
                "unknown key `more`; the keys are query, items and grades",
            ),
            ("\n\n", "no line names a query and a right image that are evaluated"),
            ("{\"query\":0,\"items\":[1],\"grades\":[1,2]}", "2 grades for 1 items"),
            ("{\"query\":0,\"items\":[1],\"grades\":[-1]}", "-1 is no grade"),
            ("{\"query\":0,\"items\":[1],\"grades\":[1e99]}", "1e+99 is no grade"),
            (
                "{\"query\":0}",
                "it needs a query (query, query_id, text_id) and items (items, item_ids, image_ids)",
            ),
            ("[0]", "row 1: the line is no relevance"),
            ("nonsense", "row 1: the line is no relevance"),
        ] {
            let error = read(text, side(2), side(3)).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let twice = ids(&["a", "a", "b"]);
        let error = read("", named(&twice), side(3)).unwrap_err().to_string();
        assert!(error.contains("`a` stands for two texts"), "{error}");
        let error = read("{\"query\":0,\"items\":[0]}", side(1), named(&twice)).unwrap_err();
        assert!(error.to_string().contains("no row has the id `0`"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Relevance::read(Path::new("gone.jsonl"), side(0), side(0)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("gone.jsonl: cannot open the relevance file"),
            "{error}"
        );
    }
}
