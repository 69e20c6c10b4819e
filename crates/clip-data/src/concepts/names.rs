//! What codes stand for: a table of names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use clip_core::{Error, Result};

use crate::small_file::{read_list, rows};

/// The names of concepts that a table gives as codes, one file a language: the ids are those of the codes, so that
/// runs in several languages share them.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("categories.zh.tsv");
/// std::fs::write(&path, "c17\t运动鞋\tany further columns\nc18\t连衣裙\n")?;
/// let names = clip_data::ConceptNames::read(&path)?;
/// assert_eq!((names.name("c17"), names.name("c99")), (Some("运动鞋"), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConceptNames {
    names: HashMap<Box<str>, Arc<str>>,
}

impl ConceptNames {
    /// Reads a TSV file of at most 16 MiB: `code<TAB>name`, further columns are ignored, and so are blank rows. Several
    /// codes may have one name.
    ///
    /// # Errors
    /// The file cannot be read, is too large or holds no code; a row lacks a name or a code, or a code comes twice. File
    /// and row are named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_list(path)?).map_err(|error| error.file(path))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut names: HashMap<Box<str>, (Arc<str>, u64)> = HashMap::new();
        for (row, line) in rows(text) {
            let mut cells = line.split('\t').map(str::trim);
            let (Some(code), Some(name)) = (cells.next(), cells.next()) else {
                return Err(Error::invalid("the row has no tab")
                    .row(row)
                    .remedy("write code<TAB>name"));
            };
            if code.is_empty() || name.is_empty() {
                let what = if code.is_empty() { "code" } else { "name" };
                return Err(Error::invalid(format!("the {what} is empty"))
                    .row(row)
                    .remedy("write code<TAB>name"));
            }
            if let Some((_, before)) = names.get(code) {
                return Err(
                    Error::invalid(format!("the code `{code}` stands in row {before} already"))
                        .row(row)
                        .remedy("keep one of the two"),
                );
            }
            names.insert(code.into(), (name.into(), row));
        }
        if names.is_empty() {
            return Err(Error::invalid("the file names no code").remedy("write code<TAB>name, one a row"));
        }
        let names = names.into_iter().map(|(code, (name, _))| (code, name)).collect();
        Ok(Self { names })
    }

    /// The name of a code.
    pub fn name(&self, code: &str) -> Option<&str> {
        self.names.get(code).map(|name| &**name)
    }

    /// How many codes have a name.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether no code has a name.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn shared(&self, code: &str) -> Option<&Arc<str>> {
        self.names.get(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_rows_are_named() {
        for (text, said) in [
            ("a\tred\n\nb\n", "row 3: the row has no tab; write code<TAB>name"),
            ("a\t \n", "row 1: the name is empty; write code<TAB>name"),
            ("\tred\n", "row 1: the code is empty; write code<TAB>name"),
            (
                "a\tred\nb\tred\na\tblue\n",
                "row 3: the code `a` stands in row 1 already; keep one of the two",
            ),
            ("\n", "the file names no code; write code<TAB>name, one a row"),
        ] {
            assert_eq!(ConceptNames::parse(text).unwrap_err().to_string(), said);
        }
        let names = ConceptNames::parse("a\tred\nb\tred\tmore\r\n").unwrap();
        assert_eq!((names.len(), names.name("b")), (2, Some("red")));
    }
}
