//! How a table is to be read: its format, its columns, and what they mean.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How [`Table::open`](super::Table::open) reads a file. The default suits `text<TAB>image` without a header.
#[derive(Debug, Clone, Default)]
pub struct TableOptions {
    /// The format; by the file's extension if not given.
    pub format: Option<Format>,
    /// The names of the columns, in order. Without a schema and a header, [`Schema::default`].
    pub schema: Option<Schema>,
    /// Whether the first line is a header. If not said: CSV has one, unless a schema is given; TSV has none.
    /// With a schema as well, the line is skipped and the schema's names count.
    pub header: Option<bool>,
    /// Which column plays which part.
    pub columns: Columns,
    /// What a row must have.
    pub roles: Roles,
}

/// What a table file looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Cells between tabs, rows between line ends; cells are raw: a quote is a character.
    Tsv,
    /// RFC 4180: cells between commas; a quoted cell may hold commas, line ends and doubled quotes.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// A folder of pictures, each with its captions in a `.txt` file of the same name.
    Folder,
}

impl Format {
    /// The format of a file or folder: by its extension, or because it is a folder.
    ///
    /// # Errors
    /// The path does not exist, or its extension is unknown.
    pub fn of(path: &Path) -> Result<Self> {
        let there = path.metadata().map_err(|error| Error::io("read", path, error))?;
        if there.is_dir() {
            return Ok(Self::Folder);
        }
        let extension = path
            .extension()
            .map(|extension| extension.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("tsv") => Ok(Self::Tsv),
            Some("csv") => Ok(Self::Csv),
            Some("jsonl" | "ndjson") => Ok(Self::Jsonl),
            _ => Err(Error::invalid("the extension does not say what table this is")
                .file(path)
                .remedy("name it .tsv, .csv or .jsonl, or give a folder of pictures")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tsv => "TSV",
            Self::Csv => "CSV",
            Self::Jsonl => "JSONL",
            Self::Folder => "folder",
        })
    }
}

/// Which column plays which part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// The captions.
    pub text: String,
    /// The pictures.
    pub image: String,
    /// The product: rows of one product are never each other's negatives.
    pub item: Option<String>,
    /// The concepts, several parted by `|`; in JSONL a list of strings as well.
    pub concept: Option<String>,
    /// The weight in the loss, finite and not negative; an empty cell is 1.
    pub weight: Option<String>,
    /// The key of a row. Without it, the key is made of file name and row.
    pub id: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            text: "text".into(),
            image: "image".into(),
            item: None,
            concept: None,
            weight: None,
            id: None,
        }
    }
}

/// What a row must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Roles {
    /// A text and a picture.
    #[default]
    Pairs,
    /// A text; pictures are left alone.
    Texts,
    /// A picture; texts are left alone.
    Images,
}

impl Roles {
    /// Whether texts are read.
    pub fn texts(self) -> bool {
        self != Self::Images
    }

    /// Whether pictures are read.
    pub fn images(self) -> bool {
        self != Self::Texts
    }
}

/// The names of a table's columns, written as EasyNLP does: `text:str:1,image:str:1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    names: Vec<String>,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            names: vec!["text".into(), "image".into()],
        }
    }
}

impl Schema {
    /// Reads `name:type:length,…`; types are `str`, `int` and `float`. Type and length are checked and not used
    /// further: cells stay text until a role reads them.
    ///
    /// # Errors
    /// A part is not of that form, or a name comes twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut names = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            let wrong = |what: &str| {
                Err(Error::invalid(format!("the schema's part `{part}` {what}"))
                    .remedy("write it like text:str:1,image:str:1"))
            };
            let mut fields = part.split(':').map(str::trim);
            let (Some(name), Some(kind), Some(length), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                return wrong("is not name:type:length");
            };
            if name.is_empty() {
                return wrong("has no name");
            }
            if !["str", "int", "float"].contains(&kind) {
                return wrong("has a type other than str, int and float");
            }
            if length.parse().is_ok_and(|length: u32| length > 0) {
                names.push(name.to_owned());
            } else {
                return wrong("has a length that is no whole number above 0");
            }
        }
        Self::named(names)
    }

    /// A schema of given names; an error if one comes twice.
    pub fn named(names: Vec<String>) -> Result<Self> {
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, name)) => Err(Error::invalid(format!("two columns are named `{name}`")).remedy("rename one")),
            None => Ok(Self { names }),
        }
    }

    /// The names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

impl FromStr for Schema {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas() {
        let schema = Schema::parse("text:str:1, image:str:1,score:float:3").unwrap();
        assert_eq!(schema.names(), ["text", "image", "score"]);
        let wrong = [
            (
                "",
                "the schema's part `` is not name:type:length; write it like text:str:1,image:str:1",
            ),
            (
                "text",
                "the schema's part `text` is not name:type:length; write it like text:str:1,image:str:1",
            ),
            (
                ":str:1",
                "the schema's part `:str:1` has no name; write it like text:str:1,image:str:1",
            ),
            (
                "a:bool:1",
                "the schema's part `a:bool:1` has a type other than str, int and float; \
                 write it like text:str:1,image:str:1",
            ),
            (
                "a:str:0",
                "the schema's part `a:str:0` has a length that is no whole number above 0; \
                 write it like text:str:1,image:str:1",
            ),
            ("a:str:1,a:int:1", "two columns are named `a`; rename one"),
        ];
        for (text, message) in wrong {
            assert_eq!(Schema::parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn formats_by_extension() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Format::of(folder.path()).unwrap(), Format::Folder);
        for (name, format) in [
            ("a.TSV", Format::Tsv),
            ("b.csv", Format::Csv),
            ("c.jsonl", Format::Jsonl),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            assert_eq!(Format::of(&path).unwrap(), format);
        }
        let path = folder.path().join("d.xlsx");
        std::fs::write(&path, "x").unwrap();
        let expected = format!(
            "{}: the extension does not say what table this is; \
             name it .tsv, .csv or .jsonl, or give a folder of pictures",
            path.display()
        );
        assert_eq!(Format::of(&path).unwrap_err().to_string(), expected);
        assert_eq!(
            Format::of(&folder.path().join("no.tsv")).unwrap_err().kind(),
            clip_core::Kind::NotFound
        );
    }
}
