//! What the names of a relevance file stand for.

use std::collections::HashMap;

use clip_core::{Error, Result};
use serde_json::Value;

/// The texts or the images that a relevance file speaks of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Side<'a> {
    /// How many rows there are to name.
    pub rows: usize,
    /// The id of each row, if rows have ids: then they are named by id alone. `None` for a row whose id is not known,
    /// which is not evaluated.
    pub ids: Option<&'a [Option<String>]>,
    /// The rows that are evaluated, ascending, if not all are; the others may be named and are left out.
    pub kept: Option<&'a [usize]>,
}

/// Where the rows of one side are found.
pub(super) struct Names<'a> {
    side: Side<'a>,
    /// Rows by id, as they are numbered among those that are evaluated.
    ids: Option<HashMap<&'a str, Vec<u32>>>,
}

/// What a name stands for.
pub(super) enum Rows {
    /// Rows that are evaluated, by their numbers among these.
    There(Vec<u32>),
    /// Rows that are not.
    LeftOut,
}

impl<'a> Names<'a> {
    pub(super) fn new(side: Side<'a>, once: bool) -> Result<Self> {
        if u32::try_from(side.rows).is_err() {
            return Err(Error::exhausted(format!(
                "{} rows are more than can be ranked",
                side.rows
            )));
        }
        let mut names = Self { side, ids: None };
        let Some(ids) = side.ids else { return Ok(names) };
        if ids.len() != side.rows {
            return Err(Error::internal(format!("{} ids for {} rows", ids.len(), side.rows)));
        }
        let mut map: HashMap<&str, Vec<u32>> = HashMap::new();
        for (row, id) in ids.iter().enumerate() {
            let Some(id) = id.as_deref() else { continue };
            let rows = map.entry(id).or_default();
            rows.extend(names.kept(row));
            if once && rows.len() > 1 {
                return Err(Error::invalid(format!("the id `{id}` stands for two texts"))
                    .remedy("keep each query once, and name all its pictures"));
            }
        }
        names.ids = Some(map);
        Ok(names)
    }

    /// The number of a row among those that are evaluated.
    fn kept(&self, row: usize) -> Option<u32> {
        // The number of rows was seen to fit u32.
        match self.side.kept {
            None => Some(row as u32),
            Some(kept) => kept.binary_search(&row).ok().map(|number| number as u32),
        }
    }

    pub(super) fn rows(&self, name: &Value) -> Result<Rows> {
        let (text, number) = match name {
            Value::String(text) => (text.trim().to_owned(), None),
            Value::Number(number) => (number.to_string(), number.as_u64()),
            _ => return Err(Error::invalid(format!("{name} is no row number (from 0) and no id"))),
        };
        if let Some(ids) = &self.ids {
            return match ids.get(text.as_str()) {
                Some(rows) if rows.is_empty() => Ok(Rows::LeftOut),
                Some(rows) => Ok(Rows::There(rows.clone())),
                None => Err(Error::invalid(format!("no row has the id `{text}`"))
                    .remedy("check the id; rows that have ids are named by these alone")),
            };
        }
        let Some(number) = number else {
            let remedy = "say which column holds the ids, or name rows by number, from 0";
            return Err(Error::invalid(format!("`{text}` is an id, but the rows have none")).remedy(remedy));
        };
        match usize::try_from(number) {
            Ok(row) if row < self.side.rows => Ok(self.kept(row).map_or(Rows::LeftOut, |row| Rows::There(vec![row]))),
            _ => Err(
                Error::invalid(format!("there is no row {number} among {}", self.side.rows))
                    .remedy("rows are counted from 0; name them by id where they have ids"),
            ),
        }
    }
}
