//! A folder of pictures as a table: `X.jpg` beside `X.txt`, which holds its captions.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::{Error, Origin, Result};
use serde_json::{Map, Value};

use super::row::utf8;
use super::{Columns, Roles, Row};
use crate::image_paths::pictures_in;

/// The longest caption file that is read, in bytes.
const MAX_CAPTION_BYTES: u64 = 1 << 20;

/// The pictures of a folder and of the folders in it, sorted by path.
#[derive(Debug)]
pub(super) struct PictureFolder {
    root: PathBuf,
    pictures: Vec<PathBuf>,
}

impl PictureFolder {
    pub(super) fn open(root: &Path) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            pictures: pictures_in(root)?,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.pictures.len()
    }

    pub(super) fn picture(&self, index: usize) -> Option<&Path> {
        self.pictures.get(index).map(PathBuf::as_path)
    }

    /// The picture's path from the folder on, with `/` on every system: the same on every machine.
    pub(super) fn name(&self, picture: &Path) -> String {
        let relative = picture.strip_prefix(&self.root).unwrap_or(picture);
        relative
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect::<Vec<_>>()
            .join("/")
    }

    /// The row of a picture: its captions, one a line of its text file, and its name.
    pub(super) fn row(&self, index: usize, columns: &Columns, roles: Roles) -> Result<Row> {
        let picture = self.picture(index).ok_or_else(|| {
            Error::not_found(format!("there are only {} pictures", self.rows()))
                .file(&self.root)
                .row(index as u64 + 1)
        })?;
        let mut cells = Map::new();
        if roles.texts() {
            let row = index as u64 + 1;
            let captions = captions(picture).map_err(|error| error.row(row).column(&columns.text))?;
            cells.insert(columns.text.clone(), captions.into());
        }
        if roles.images() {
            cells.insert(columns.image.clone(), self.name(picture).into());
        }
        Ok(Row::object(
            Origin {
                file: Arc::new(picture.to_owned()),
                row: index as u64 + 1,
            },
            cells,
        ))
    }
}

/// The lines of the text file beside a picture; blank ones do not count.
fn captions(picture: &Path) -> Result<Vec<Value>> {
    let path = picture.with_extension("txt");
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(MAX_CAPTION_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found("the picture has no caption")
            .file(picture)
            .remedy(format!("write one to `{}`", path.display()))
            .source(error),
        _ => Error::io("read", &path, error),
    })?;
    if bytes.len() as u64 > MAX_CAPTION_BYTES {
        return Err(Error::invalid(format!("the captions are longer than {MAX_CAPTION_BYTES} bytes")).file(path));
    }
    let text = utf8(&bytes, "caption").map_err(|error| error.file(&path))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty()).map(Value::from).collect())
}
