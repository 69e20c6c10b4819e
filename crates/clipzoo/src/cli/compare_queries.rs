//! The queries of `clipzoo compare`, and which pictures are right for them.

use std::collections::HashMap;
use std::path::Path;

use clip_apps::{Relevance, Side};
use clip_core::{Error, Id, Kind, PairTable, Result};
use clip_data::{Columns, Format, Roles, Table, TableOptions, TextFile};
use clip_index::PositiveLists;

use super::args::{TableArgs, note};
use super::failure::{Outcome, usage};

/// Texts to ask both models.
pub(super) struct Queries {
    texts: Vec<String>,
    source: Source,
}

/// Where they come from, which decides what can be right.
enum Source {
    /// A file of texts.
    Texts,
    /// A file of texts and items.
    Items(Vec<Option<Id>>),
    /// The gallery's own table.
    Table,
}

/// The right rows of the table for each query.
pub(super) struct Right(Vec<Vec<usize>>);

impl Queries {
    /// Reads a file, or the texts of the table where there is none.
    pub(super) fn read(path: Option<&Path>, table: &Table, args: &TableArgs) -> Outcome<Self> {
        let Some(path) = path else {
            let text = |row: usize| {
                Ok(table
                    .get(row)?
                    .texts
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default())
            };
            let texts = (0..table.rows()).map(text).collect::<Result<_>>()?;
            return Ok(Self {
                texts,
                source: Source::Table,
            });
        };
        if Format::of(path).is_ok_and(|format| format == Format::Tsv) {
            return Self::with_items(path, args);
        }
        let mut texts = Vec::new();
        let known = path
            .extension()
            .is_some_and(|extension| extension == "txt" || extension == "jsonl");
        let file = TextFile::open(path).map_err(|error| {
            if known || error.kind() != Kind::Invalid {
                error
            } else {
                error.remedy("name it .txt (one a line), .jsonl (a JSON string a line) or .tsv (query<TAB>item)")
            }
        })?;
        for (row, text) in (1..).zip(file) {
            let text = text?;
            if text.trim().is_empty() {
                let error = Error::invalid("the query is empty").file(path).row(row);
                return Err(error.remedy("leave the line out").into());
            }
            texts.push(text);
        }
        Ok(Self {
            texts,
            source: Source::Texts,
        })
    }

    /// Reads `query<TAB>item`.
    fn with_items(path: &Path, args: &TableArgs) -> Outcome<Self> {
        if args.item_column.is_none() {
            let what = format!(
                "{} names items, and the gallery's column of items is not known",
                path.display()
            );
            return usage(what, "give --item-column, or the queries as .txt");
        }
        let columns = Columns {
            text: "query".into(),
            item: Some("item".into()),
            ..Columns::default()
        };
        let options = TableOptions {
            schema: Some(clip_data::Schema::parse("query:str:1,item:str:1")?),
            header: Some(false),
            columns,
            roles: Roles::Texts,
            ..TableOptions::default()
        };
        let file = Table::open(path, options)?;
        let (mut texts, mut items) = (Vec::new(), Vec::new());
        for row in 0..file.rows() {
            let pair = file.get(row)?;
            texts.push(pair.texts.first().map(ToString::to_string).unwrap_or_default());
            items.push(pair.item);
        }
        Ok(Self {
            texts,
            source: Source::Items(items),
        })
    }

    /// The texts, in order.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Which rows of the table are right; `None` where nothing is known.
    pub(super) fn right(&self, relevance: Option<&Path>, table: &Table, args: &TableArgs) -> Outcome<Option<Right>> {
        if let Some(path) = relevance {
            if matches!(self.source, Source::Items(_)) {
                return usage(
                    "the queries name items, and --relevance names pictures",
                    "give one of the two",
                );
            }
            let ids = args.id_column.as_ref().map(|column| ids(table, column)).transpose()?;
            let texts = Side {
                rows: self.texts.len(),
                ..Side::default()
            };
            let images = Side {
                rows: table.rows(),
                ids: ids.as_deref(),
                ..Side::default()
            };
            // All rows count as there; those that the models cannot take leave in `among`.
            let (relevance, _) = Relevance::read(path, texts, images)?;
            let rows = |query| relevance.positives().rows(query);
            return Ok(Some(Right((0..self.texts.len()).map(rows).collect())));
        }
        match (&self.source, &args.item_column) {
            (Source::Texts, _) => Ok(None),
            (Source::Table, None) => Ok(Some(Right((0..table.rows()).map(|row| vec![row]).collect()))),
            (Source::Table, Some(column)) => {
                let own = (0..table.rows())
                    .map(|row| table.label(row, column))
                    .collect::<Result<Vec<_>>>()?;
                let rows = rows_of(table, column)?;
                let right = |(row, item): (usize, &Option<Id>)| match item {
                    Some(item) => rows.get(item).cloned().unwrap_or_default(),
                    None => vec![row],
                };
                Ok(Some(Right(own.iter().enumerate().map(right).collect())))
            }
            // Reading the file made sure of the column.
            (Source::Items(_), None) => Ok(None),
            (Source::Items(items), Some(column)) => {
                let rows = rows_of(table, column)?;
                let right: Vec<Vec<usize>> = items
                    .iter()
                    .map(|item| item.and_then(|item| rows.get(&item).cloned()).unwrap_or_default())
                    .collect();
                let lost = items
                    .iter()
                    .zip(&right)
                    .filter(|(item, rows)| item.is_some() && rows.is_empty())
                    .count();
                if lost > 0 {
                    note(&format!(
                        "{lost} queries name an item of which the gallery has no picture"
                    ));
                }
                Ok(Some(Right(right)))
            }
        }
    }
}

impl Right {
    /// As the comparison takes it, where the gallery is some rows of the table, ascending.
    pub(super) fn among(self, rows: &[usize]) -> Result<Relevance> {
        let mut lists = PositiveLists::default();
        for right in self.0 {
            lists.push(right.into_iter().filter_map(|row| rows.binary_search(&row).ok()))?;
        }
        Ok(Relevance::lists(lists))
    }
}

fn ids(table: &Table, column: &str) -> Result<Vec<Option<String>>> {
    let id = |row: usize| Ok(Some(table.cell(row, column)?.trim().to_owned()).filter(|id| !id.is_empty()));
    (0..table.rows()).map(id).collect()
}

/// The rows of each item.
fn rows_of(table: &Table, column: &str) -> Result<HashMap<Id, Vec<usize>>> {
    let mut rows: HashMap<Id, Vec<usize>> = HashMap::new();
    for row in 0..table.rows() {
        if let Some(item) = table.label(row, column)? {
            rows.entry(item).or_default().push(row);
        }
    }
    Ok(rows)
}
