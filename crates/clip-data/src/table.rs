//! Tables of pairs: TSV, CSV, JSONL, and folders of captioned pictures.

mod folder;
mod options;
mod quotes;
mod row;
mod rows;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clip_core::{Concept, EncodedImage, Error, Id, Origin, Pair, PairTable, Result};

pub use options::{Columns, Format, Roles, Schema, TableOptions};
pub use row::Row;
pub(crate) use row::{csv_record, kind, not_json, utf8};
pub use rows::MAX_ROW_BYTES;

use crate::image_cell::parse_image_cell;
use crate::pending::folder_of;
use folder::PictureFolder;
use rows::{RowEnd, RowFile};

/// A table of pairs, any row of which can be read at any time by any thread. In memory it takes 8 bytes a row.
///
/// Rows are read when asked for: a bad row is an error of that row alone, naming file, row and column, and the other
/// rows keep their numbers. Blank lines at the end of a file are no rows.
///
/// ```no_run
/// use clip_core::PairTable;
/// use clip_data::{Table, TableOptions};
/// let table = Table::open("pairs.tsv", TableOptions::default())?;
/// let pair = table.get(0)?;
/// println!("{} rows, the first is {:?}", table.rows(), pair.texts);
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Table {
    path: Arc<PathBuf>,
    /// What paths in image cells are relative to.
    folder: PathBuf,
    /// What row keys are made of: the file's name without its folder, so that they hold on every machine.
    name: String,
    kind: Kind,
    names: Arc<[String]>,
    columns: Columns,
    roles: Roles,
    labels: Mutex<HashMap<String, Arc<[Option<Id>]>>>,
    /// Whether an empty cell is a part that the row does not have.
    partial: bool,
}

#[derive(Debug)]
enum Kind {
    Tsv { file: RowFile, header: usize },
    Csv { file: RowFile, header: usize },
    Json(RowFile),
    Folder(PictureFolder),
}

impl Table {
    /// Opens a table: reads through the file once to find its rows, and checks that the columns of its roles exist.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or lacks a column (JSONL: a row that lacks one is a bad row).
    pub fn open(path: impl AsRef<Path>, options: TableOptions) -> Result<Self> {
        let path = path.as_ref();
        let TableOptions {
            format,
            schema,
            header,
            columns,
            roles,
        } = options;
        let format = format.map_or_else(|| Format::of(path), Ok)?;
        let (kind, names) = match format {
            Format::Tsv => {
                let file = RowFile::open(path, RowEnd::Line)?;
                let (header, names) = delimited(&file, header.unwrap_or(false), schema, |bytes| {
                    Ok(bytes.split(|&byte| byte == b'\t').map(<[u8]>::to_vec).collect())
                })?;
                (Kind::Tsv { file, header }, names)
            }
            Format::Csv => {
                let file = RowFile::open(path, RowEnd::Quoted)?;
                let (header, names) = delimited(&file, header.unwrap_or(schema.is_none()), schema, |bytes| {
                    Ok(row::csv_record(bytes)?.iter().map(<[u8]>::to_vec).collect())
                })?;
                (Kind::Csv { file, header }, names)
            }
            Format::Jsonl => {
                let file = RowFile::open(path, RowEnd::Line)?;
                not_empty(&file)?;
                let origin = Origin {
                    file: Arc::new(path.to_owned()),
                    row: 1,
                };
                // A bad first row is reported when it is read; the names are only for show and for `label`.
                let first = file.read(0).and_then(|bytes| Row::json(origin, &bytes));
                let names = first.map_or_else(
                    |_| Vec::new(),
                    |row| row.columns().into_iter().map(Into::into).collect(),
                );
                (Kind::Json(file), names)
            }
            Format::Folder => {
                let names = [(roles.texts(), &columns.text), (roles.images(), &columns.image)];
                let names = names
                    .into_iter()
                    .filter(|(used, _)| *used)
                    .map(|(_, name)| name.clone())
                    .collect();
                (Kind::Folder(PictureFolder::open(path)?), names)
            }
        };
        let table = Self {
            path: Arc::new(path.to_owned()),
            folder: folder_of(path),
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind,
            names: names.into(),
            columns,
            roles,
            labels: Mutex::default(),
            partial: false,
        };
        table.check_columns()?;
        Ok(table)
    }

    /// Lets rows lack a part: an empty cell (in JSONL `null`, or no such key) gives a pair without a text, or without a
    /// picture, and is no error.
    #[must_use]
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }

    /// The names of the columns, in order. In JSONL, those of the first row.
    pub fn columns(&self) -> &[String] {
        &self.names
    }

    /// The file or folder, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cells of row `index` (from 0, header not counted), taken apart and not yet read as text or picture.
    ///
    /// # Errors
    /// There is no such row, it is too long, or it is not of the table's format.
    pub fn row(&self, index: usize) -> Result<Row> {
        match &self.kind {
            Kind::Tsv { file, header } => Ok(Row::tsv(
                self.origin(index + header),
                &self.names,
                file.read(index + header)?,
            )),
            Kind::Csv { file, header } => {
                Row::csv(self.origin(index + header), &self.names, &file.read(index + header)?)
            }
            Kind::Json(file) => Row::json(self.origin(index), &file.read(index)?),
            Kind::Folder(folder) => folder.row(index, &self.columns, self.roles),
        }
    }

    /// The bytes of row `index` as the file has them, line end included (the last row may lack one); `None` for the header.
    /// Nothing where there is no header.
    ///
    /// # Errors
    /// There is no such row, it is too long, or this is a folder of pictures.
    pub fn bytes(&self, index: Option<usize>) -> Result<Vec<u8>> {
        let (file, header) = match &self.kind {
            Kind::Tsv { file, header } | Kind::Csv { file, header } => (file, *header),
            Kind::Json(file) => (file, 0),
            Kind::Folder(_) => {
                return Err(Error::invalid("a folder of pictures has no rows of bytes").file(&*self.path));
            }
        };
        match index {
            Some(index) => file.raw(index + header),
            None if header > 0 => file.raw(0),
            None => Ok(Vec::new()),
        }
    }

    /// A cell as text: see [`Row::cell`].
    pub fn cell(&self, index: usize, column: &str) -> Result<String> {
        self.row(index)?.cell(column).map(Into::into)
    }

    /// Row `index` as a pair, out of its cells: what [`get`](PairTable::get) gives, where the cells are wanted as well.
    ///
    /// # Errors
    /// A cell is not what its column should hold.
    pub fn pair(&self, index: usize, row: &Row) -> Result<Pair> {
        Ok(Pair {
            key: self.key(row, index)?,
            item: self.item(row)?,
            texts: if self.roles.texts() {
                self.texts(row)?
            } else {
                Vec::new()
            },
            images: if self.roles.images() {
                self.images(row, index)?
            } else {
                Vec::new()
            },
            concepts: self.concepts(row)?,
            weight: self.weight(row)?,
            origin: row.origin().clone(),
        })
    }

    fn origin(&self, row: usize) -> Origin {
        Origin {
            file: Arc::clone(&self.path),
            row: row as u64 + 1,
        }
    }

    fn check_columns(&self) -> Result<()> {
        let Columns {
            text,
            image,
            item,
            concept,
            weight,
            id,
        } = &self.columns;
        let needed = [
            (self.roles.texts(), text, "text"),
            (self.roles.images(), image, "image"),
        ];
        let needed = needed
            .into_iter()
            .filter(|(used, ..)| *used)
            .map(|(_, name, role)| (name, role));
        let given = [(item, "item"), (concept, "concept"), (weight, "weight"), (id, "id")];
        let given = given
            .into_iter()
            .filter_map(|(name, role)| Some((name.as_ref()?, role)));
        if matches!(self.kind, Kind::Json(_)) {
            return Ok(());
        }
        for (name, role) in needed.chain(given) {
            row::require(&self.names, name).map_err(|error| {
                error
                    .file(&*self.path)
                    .remedy(format!("name the one to use with --{role}-column"))
            })?;
        }
        Ok(())
    }

    fn texts(&self, row: &Row) -> Result<Vec<Arc<str>>> {
        let column = &self.columns.text;
        let texts = self.parts(row, column)?;
        if self.partial && texts.is_empty() {
            return Ok(Vec::new());
        }
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(row.place(Error::invalid("the text is empty"), column));
        }
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Err(row.place(Error::invalid("one of the texts is empty"), column));
        }
        Ok(texts.into_iter().map(Arc::from).collect())
    }

    /// The texts of a cell; where rows may lack a part, those that are not empty.
    fn parts<'a>(&self, row: &'a Row, column: &str) -> Result<Vec<Cow<'a, str>>> {
        if !self.partial {
            return row.texts(column);
        }
        if !row.has(column) {
            return Ok(Vec::new());
        }
        let mut texts = row.texts(column)?;
        texts.retain(|text| !text.trim().is_empty());
        Ok(texts)
    }

    fn images(&self, row: &Row, index: usize) -> Result<Vec<EncodedImage>> {
        if let Kind::Folder(folder) = &self.kind {
            return Ok(folder
                .picture(index)
                .map(|path| EncodedImage::File(path.to_owned()))
                .into_iter()
                .collect());
        }
        let column = &self.columns.image;
        let cells = self.parts(row, column)?;
        if cells.is_empty() && !self.partial {
            return Err(row.place(Error::invalid("the image cell is empty"), column));
        }
        let images = cells
            .iter()
            .map(|cell| parse_image_cell(cell, &self.folder))
            .collect::<Result<_>>();
        images.map_err(|error| row.place(error, column))
    }

    fn key(&self, row: &Row, index: usize) -> Result<Id> {
        match (&self.columns.id, &self.kind) {
            (Some(column), _) => {
                let cell = row.cell(column)?;
                match cell.trim() {
                    "" => Err(row.place(Error::invalid("the id is empty"), column)),
                    id => Ok(Id::of(id)),
                }
            }
            (None, Kind::Folder(folder)) => Ok(Id::of(
                &folder.picture(index).map_or_else(String::new, |p| folder.name(p)),
            )),
            (None, _) => Ok(Id::of_row(&self.name, row.origin().row)),
        }
    }

    fn item(&self, row: &Row) -> Result<Option<Id>> {
        self.columns
            .item
            .as_ref()
            .map_or(Ok(None), |column| row.cell(column).map(|cell| label_of(&cell)))
    }

    /// The concepts of a row, each once: `|` parts several in one cell, since commas and slashes stand in names.
    fn concepts(&self, row: &Row) -> Result<Vec<Concept>> {
        let Some(column) = &self.columns.concept else {
            return Ok(Vec::new());
        };
        let mut concepts: Vec<Concept> = Vec::new();
        for cell in row.texts(column)? {
            for name in cell.split('|').map(str::trim).filter(|name| !name.is_empty()) {
                if concepts.iter().all(|concept| &*concept.name != name) {
                    concepts.push(Concept {
                        id: Id::of(name),
                        name: name.into(),
                    });
                }
            }
        }
        Ok(concepts)
    }

    fn weight(&self, row: &Row) -> Result<f32> {
        let Some(column) = &self.columns.weight else {
            return Ok(1.0);
        };
        let cell = row.cell(column)?;
        let cell = cell.trim();
        if cell.is_empty() {
            return Ok(1.0);
        }
        cell.parse()
            .ok()
            .filter(|weight: &f32| weight.is_finite() && *weight >= 0.0)
            .ok_or_else(|| {
                let what = format!("the weight `{}` is no finite number of at least 0", shortened(cell));
                row.place(Error::invalid(what), column)
            })
    }

    /// The labels of a column, read through the table once and then kept: orders ask for every row in every epoch.
    fn labels(&self, column: &str) -> Result<Arc<[Option<Id>]>> {
        let mut cache = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labels) = cache.get(column) {
            return Ok(Arc::clone(labels));
        }
        if !matches!(self.kind, Kind::Json(_)) {
            row::require(&self.names, column).map_err(|error| error.file(&*self.path))?;
        }
        // A row that cannot be read has no label here; it is reported when the pair is read.
        let cells = (0..self.rows()).map(|index| self.cell(index, column).ok());
        let mut known = false;
        let labels = cells.map(|cell| {
            cell.and_then(|cell| {
                known = true;
                label_of(&cell)
            })
        });
        let labels: Arc<[Option<Id>]> = labels.collect();
        if !known && matches!(self.kind, Kind::Json(_)) {
            row::require(&self.names, column).map_err(|error| error.file(&*self.path))?;
        }
        cache.insert(column.to_owned(), Arc::clone(&labels));
        Ok(labels)
    }
}

impl PairTable for Table {
    fn rows(&self) -> usize {
        match &self.kind {
            Kind::Tsv { file, header } | Kind::Csv { file, header } => file.rows() - header,
            Kind::Json(file) => file.rows(),
            Kind::Folder(folder) => folder.rows(),
        }
    }

    /// Row `index` as a pair. With [`Roles::Texts`] it has no picture, with [`Roles::Images`] no text.
    fn get(&self, index: usize) -> Result<Pair> {
        self.pair(index, &self.row(index)?)
    }

    fn label(&self, index: usize, column: &str) -> Result<Option<Id>> {
        let labels = self.labels(column)?;
        labels.get(index).copied().ok_or_else(|| {
            Error::not_found(format!("there are only {} rows", labels.len()))
                .file(&*self.path)
                .row(index as u64 + 1)
        })
    }
}

fn label_of(cell: &str) -> Option<Id> {
    Some(cell.trim()).filter(|cell| !cell.is_empty()).map(Id::of)
}

/// How many lines are header (0 or 1), and the names of the columns, by schema, header or default.
fn delimited(
    file: &RowFile,
    header: bool,
    schema: Option<Schema>,
    split: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>>,
) -> Result<(usize, Vec<String>)> {
    not_empty(file)?;
    if header && file.rows() == 1 {
        return Err(Error::invalid("the table has a header and no rows").file(file.path()));
    }
    let names = match schema {
        Some(schema) => schema.names().to_vec(),
        None if header => {
            let place = |error: Error| error.file(file.path()).row(1);
            let cells = split(&file.read(0)?).map_err(place)?;
            let names = cells
                .iter()
                .map(|cell| utf8(cell, "header").map(|name| name.trim().to_owned()));
            Schema::named(names.collect::<Result<_>>().map_err(place)?)
                .map_err(place)?
                .names()
                .to_vec()
        }
        None => Schema::default().names().to_vec(),
    };
    Ok((usize::from(header), names))
}

fn not_empty(file: &RowFile) -> Result<()> {
    if file.rows() == 0 {
        return Err(Error::invalid("the table is empty")
            .file(file.path())
            .remedy("check the path"));
    }
    Ok(())
}

/// A cell's start, for messages.
fn shortened(cell: &str) -> String {
    match cell.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &cell[..end]),
        None => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests;
