//! Files of texts: `.txt` one a line, `.jsonl` one JSON string a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use serde_json::Value;

use crate::table::{MAX_ROW_BYTES, kind, not_json, utf8};

/// The texts of a file, one after the other. Memory holds one line at a time.
///
/// An empty line of a `.txt` file is an empty text: it counts, so that row and line numbers agree. A line that is no
/// text is an error that names file and row; the lines behind it follow.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("titles.txt");
/// # std::fs::write(&path, "red shoe\nblue hat\n")?;
/// let texts = clip_data::TextFile::open(&path)?.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(texts, ["red shoe", "blue hat"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    reader: BufReader<File>,
    json: bool,
    row: u64,
    failed: bool,
}

impl TextFile {
    /// Opens a file of texts. A byte order mark is skipped.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or ends in something else than `.txt` and `.jsonl`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let io = |error| Error::io("read", &path, error);
        let file = File::open(&path).map_err(io)?;
        let json = match path
            .extension()
            .map(|extension| extension.to_string_lossy().to_lowercase())
            .as_deref()
        {
            Some("txt") => false,
            Some("jsonl") => true,
            _ => {
                return Err(Error::invalid("the extension does not say how the texts are written")
                    .file(&path)
                    .remedy("name it .txt (one a line) or .jsonl (a JSON string a line)"));
            }
        };
        let mut reader = BufReader::with_capacity(1 << 16, file);
        if reader.fill_buf().map_err(io)?.starts_with("\u{feff}".as_bytes()) {
            reader.consume('\u{feff}'.len_utf8());
        }
        if reader.fill_buf().map_err(io)?.is_empty() {
            return Err(Error::invalid("the file is empty").file(&path).remedy("check the path"));
        }
        Ok(Self {
            path,
            reader,
            json,
            row: 0,
            failed: false,
        })
    }

    /// How many texts follow, lines that are no texts included: reads to the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn count_rest(mut self) -> Result<u64> {
        let mut rows = 0;
        loop {
            match self.line() {
                Ok(None) => return Ok(rows),
                // A line that is too long counts.
                Err(error) if error.kind() != clip_core::Kind::Invalid => return Err(error.file(&self.path)),
                _ => rows += 1,
            }
        }
    }

    /// The next line without its end, or `None` behind the last.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let io = |error| Error::io("read", &self.path, error);
        let limit = MAX_ROW_BYTES as u64 + 2;
        if self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(io)?
            == 0
        {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() > MAX_ROW_BYTES {
            self.reader.skip_until(b'\n').map_err(io)?;
            return Err(
                Error::invalid(format!("the row has more than {MAX_ROW_BYTES} bytes")).remedy("check the line ends")
            );
        }
        Ok(Some(line))
    }

    fn text(&self, line: Vec<u8>) -> Result<String> {
        if !self.json {
            utf8(&line, "row")?;
            return String::from_utf8(line).map_err(|_| Error::internal("text was checked and is not UTF-8"));
        }
        match serde_json::from_str(utf8(&line, "row")?).map_err(not_json)? {
            Value::String(text) => Ok(text),
            other => Err(
                Error::invalid(format!("the row is {}, not a JSON string", kind(&other)))
                    .remedy("write each text in quotes"),
            ),
        }
    }
}

impl Iterator for TextFile {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        self.row += 1;
        let line = match self.line() {
            Ok(None) => return None,
            Ok(Some(line)) => Ok(line),
            Err(error) => {
                // A disk that fails would fail again for ever; a line that is too long was passed over.
                self.failed = error.kind() != clip_core::Kind::Invalid;
                Err(error)
            }
        };
        let text = line.and_then(|line| self.text(line));
        Some(text.map_err(|error| error.file(&self.path).row(self.row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Vec<Result<String, String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let short = |error: Error| error.to_string().replace(&path.display().to_string(), name);
        match TextFile::open(&path) {
            Ok(texts) => texts.map(|text| text.map_err(short)).collect(),
            Err(error) => vec![Err(short(error))],
        }
    }

    fn good(texts: &[&str]) -> Vec<Result<String, String>> {
        texts.iter().map(|&text| Ok(text.into())).collect()
    }

    #[test]
    fn lines_of_text() {
        assert_eq!(
            read("a.txt", "\u{feff}红鞋\r\n\n\"quoted\"\n".as_bytes()),
            good(&["红鞋", "", "\"quoted\""])
        );
        assert_eq!(read("a.txt", b"last without end"), good(&["last without end"]));
        assert_eq!(read("a.jsonl", b"\"a\\nb\"\n\"c\""), good(&["a\nb", "c"]));
    }

    #[test]
    fn bad_rows_are_named_and_passed() {
        let bad = |message: &str| vec![Ok("one".to_owned()), Err(message.to_owned()), Ok("three".to_owned())];
        assert_eq!(
            read("a.txt", b"one\nx\xff\nthree"),
            bad("a.txt, row 2: the row is not UTF-8 from its byte 2 on; save the file as UTF-8")
        );
        assert_eq!(
            read("a.jsonl", b"\"one\"\n{\"text\": 1}\n\"three\""),
            bad("a.jsonl, row 2: the row is an object, not a JSON string; write each text in quotes")
        );
        assert_eq!(
            read("a.jsonl", b"\"one\"\n\"tw\n\"three\""),
            bad("a.jsonl, row 2: the row is not JSON: EOF while parsing a string, at byte 3")
        );
    }

    #[test]
    fn files_that_are_no_texts() {
        let empty = |name: &str| vec![Err(format!("{name}: the file is empty; check the path"))];
        assert_eq!(read("a.txt", b""), empty("a.txt"));
        assert_eq!(read("a.jsonl", "\u{feff}".as_bytes()), empty("a.jsonl"));
        let unknown = "a.tsv: the extension does not say how the texts are written; \
                       name it .txt (one a line) or .jsonl (a JSON string a line)";
        assert_eq!(read("a.tsv", b"x"), [Err(unknown.to_owned())]);
    }

    #[test]
    fn an_endless_line_is_passed_over() {
        let mut bytes = vec![b'a'; MAX_ROW_BYTES + 10];
        bytes.extend_from_slice(b"\nnext");
        let rows = read("a.txt", &bytes);
        let message = "a.txt, row 1: the row has more than 67108864 bytes; check the line ends";
        assert_eq!(rows, [Err(message.to_owned()), Ok("next".to_owned())]);
    }
}
