//! The pictures of `clipzoo classify`: files or rows of a table, and their true labels where a column has them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_apps::{Classes, PreparedRow};
use clip_core::{EncodedImage, Error, PairTable, Result};
use clip_data::{BadRows, ConceptNames, Roles, Table, at_row, image_paths};
use clip_page::Picture;

use super::args::TableArgs;
use super::failure::Outcome;
use super::pictures::small;
use super::rows::Preparer;

/// What is classified.
pub(super) enum Pictures {
    /// Files, by path.
    Files(Vec<PathBuf>),
    /// Rows of a table.
    Table {
        table: Arc<Table>,
        id_column: Option<String>,
        truths: Option<Truths>,
    },
}

/// Where the true labels stand.
pub(super) struct Column {
    pub(super) name: String,
    /// What its codes stand for, if it holds codes.
    pub(super) names: Option<ConceptNames>,
}

/// The true label of each row, 4 bytes a row.
pub(super) struct Truths {
    column: Column,
    classes: Classes,
    rows: Vec<u32>,
}

/// Stands for a row whose cell is empty.
const NONE: u32 = u32::MAX;
/// Stands for a row whose cell is no label.
const BAD: u32 = u32::MAX - 1;

impl Truths {
    /// Reads a column; by the policy for bad rows a cell that is no label is an error, or marks its row.
    fn read(table: &Table, column: Column, classes: &Classes, policy: BadRows) -> Result<Self> {
        let mut truths = Self {
            column,
            classes: classes.clone(),
            rows: Vec::with_capacity(table.rows()),
        };
        for row in 0..table.rows() {
            let truth = match truths.of_cell(table, row) {
                Ok(truth) => truth.and_then(|class| u32::try_from(class).ok()).unwrap_or(NONE),
                Err(_) if policy == BadRows::Skip => BAD,
                Err(error) => return Err(error),
            };
            truths.rows.push(truth);
        }
        if truths.rows.iter().all(|&truth| truth >= BAD) {
            let error = Error::invalid("no row has a label")
                .file(table.path())
                .column(&truths.column.name);
            return Err(error.remedy("check --label-column, or leave it out"));
        }
        Ok(truths)
    }

    fn of_cell(&self, table: &Table, row: usize) -> Result<Option<usize>> {
        let (row, column) = (table.row(row)?, &self.column.name);
        let cell = row.cell(column)?;
        let cell = cell.trim();
        if cell.is_empty() {
            return Ok(None);
        }
        let name = self
            .column
            .names
            .as_ref()
            .and_then(|names| names.name(cell))
            .unwrap_or(cell);
        let class = self.classes.find(name).ok_or_else(|| {
            let short: String = name.chars().take(40).collect();
            let error = Error::invalid(format!("`{short}` is none of the labels")).column(column);
            at_row(error, row.origin()).remedy("add it to the labels file, as a label or as a synonym")
        })?;
        Ok(Some(class))
    }
}

impl Pictures {
    /// Files and folders of pictures.
    pub(super) fn files(paths: &[PathBuf]) -> Result<Self> {
        Ok(Self::Files(image_paths(paths)?))
    }

    /// Rows of a table; a true label that is none of `classes` is an error, by the policy for bad rows.
    pub(super) fn table(path: &Path, args: &TableArgs, column: Option<Column>, classes: &Classes) -> Outcome<Self> {
        let table = args.open(path, Roles::Images)?;
        let policy = args.bad_rows.into();
        let truths = column.map(|column| Truths::read(&table, column, classes, policy));
        Ok(Self::Table {
            truths: truths.transpose()?,
            table: Arc::new(table),
            id_column: args.id_column.clone(),
        })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Files(paths) => paths.len(),
            Self::Table { table, .. } => table.rows(),
        }
    }

    /// Whether true labels are known.
    pub(super) fn has_truths(&self) -> bool {
        matches!(self, Self::Table { truths: Some(_), .. })
    }

    /// What a picture is called in the output, and under which heading; rows of a table without ids are called nothing.
    pub(super) fn name(&self, row: u64) -> Option<String> {
        let row = usize::try_from(row).ok()?;
        match self {
            Self::Files(paths) => paths.get(row).map(|path| path.display().to_string()),
            // A row whose id cannot be read was refused.
            Self::Table { table, id_column, .. } => table.cell(row, id_column.as_deref()?).ok(),
        }
    }

    /// The heading of the names.
    pub(super) fn name_heading(&self) -> Option<&'static str> {
        match self {
            Self::Files(_) => Some("image"),
            Self::Table { id_column, .. } => id_column.as_ref().map(|_| "id"),
        }
    }

    /// The true class, where it is known.
    pub(super) fn truth(&self, row: u64) -> Option<usize> {
        let Self::Table {
            truths: Some(truths), ..
        } = self
        else {
            return None;
        };
        let truth = truths.rows.get(usize::try_from(row).ok()?)?;
        (*truth < BAD).then_some(*truth as usize)
    }

    /// All pictures, ready for the model.
    pub(super) fn rows<'a>(
        &'a self,
        preparer: &Preparer,
        args: &TableArgs,
    ) -> Result<Box<dyn Iterator<Item = Result<PreparedRow>> + 'a>> {
        match self {
            Self::Files(paths) => Ok(Box::new(preparer.images(paths.clone())?)),
            Self::Table { table, truths, .. } => {
                let rows = preparer.table(Arc::clone(table), Roles::Images, args)?;
                let Some(truths) = truths else {
                    return Ok(Box::new(rows));
                };
                Ok(Box::new(rows.zip(&truths.rows).enumerate().map(
                    move |(number, (row, &truth))| {
                        if truth == BAD {
                            truths.of_cell(table, number)?;
                        }
                        row
                    },
                )))
            }
        }
    }

    /// A picture for people to look at.
    pub(super) fn picture(&self, row: u64) -> Result<Picture> {
        let row = usize::try_from(row).unwrap_or(usize::MAX);
        let words = self.name(row as u64).unwrap_or_default();
        match self {
            Self::Files(paths) => {
                let path = paths
                    .get(row)
                    .ok_or_else(|| Error::internal("there is no such picture"))?;
                small(&EncodedImage::File(path.clone()), words)
            }
            Self::Table { table, .. } => super::pictures::of_row(table, row, words),
        }
    }
}
