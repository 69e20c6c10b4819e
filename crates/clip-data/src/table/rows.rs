//! Where each row of a file starts, found once; any row read from there at any time, by any thread.
//!
//! Rows are read with positioned reads and not through a memory map: pages of a map count as the process's memory, so
//! a 2 GB table would show as 2 GB, and a file cut by another program would end the process (SIGBUS) where a read
//! gives an error. One read a row costs little beside opening its picture.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use super::quotes::Quote;
use crate::positioned::read_exact_at;

/// The longest row that is read, in bytes. A longer one is a bad row: usually a file without line ends.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// How a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowEnd {
    /// At every line feed.
    Line,
    /// At every line feed outside of CSV quotes.
    Quoted,
}

/// A file and the start of each of its rows: 8 bytes a row.
#[derive(Debug)]
pub(crate) struct RowFile {
    file: File,
    path: PathBuf,
    /// Starts of the rows, and behind them the end of the last.
    bounds: Vec<u64>,
}

impl RowFile {
    /// Reads through the file once. A byte order mark is skipped; blank lines at the end are no rows.
    pub(crate) fn open(path: &Path, end: RowEnd) -> Result<Self> {
        let io = |error| Error::io("read", path, error);
        let mut file = File::open(path).map_err(io)?;
        let mut finder = RowFinder::new(end);
        let mut chunk = vec![0; 1 << 20];
        loop {
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => finder.feed(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            bounds: finder.finish(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many rows, a header included.
    pub(crate) fn rows(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// The bytes of a row (from 0), without its line end. An error names file and row.
    pub(crate) fn read(&self, row: usize) -> Result<Vec<u8>> {
        let mut bytes = self.raw(row)?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(bytes)
    }

    /// The bytes of a row with the line end it has in the file, which the last may lack.
    pub(crate) fn raw(&self, row: usize) -> Result<Vec<u8>> {
        let place = |error: Error| error.file(&self.path).row(row as u64 + 1);
        let Some(&[start, end]) = self.bounds.get(row..).and_then(|rest| rest.get(..2)) else {
            return Err(place(Error::not_found(format!("there are only {} rows", self.rows()))));
        };
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        if length > MAX_ROW_BYTES {
            return Err(place(
                Error::invalid(format!(
                    "the row has {length} bytes, more than the {MAX_ROW_BYTES} a row may have"
                ))
                .remedy("check the line ends, and in a CSV file that every quote is closed"),
            ));
        }
        let mut bytes = vec![0; length];
        read_exact_at(&self.file, &mut bytes, start).map_err(|error| {
            place(match error.kind() {
                io::ErrorKind::UnexpectedEof => Error::invalid("the file became shorter while it was being read"),
                _ => Error::io("read", &self.path, error),
            })
        })?;
        Ok(bytes)
    }
}

/// Finds the rows of a file that is fed to it piece by piece, and holds nothing but their bounds.
struct RowFinder {
    end: RowEnd,
    bounds: Vec<u64>,
    /// Bytes fed so far.
    at: u64,
    quote: Quote,
    /// The end of the last row with something in it, as a count of bounds.
    filled: usize,
    mark: Mark,
}

/// How much of a byte order mark was seen at the start of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Seen(usize),
    Done,
}

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

impl RowFinder {
    fn new(end: RowEnd) -> Self {
        Self {
            end,
            bounds: vec![0],
            at: 0,
            quote: Quote::Start,
            filled: 0,
            mark: Mark::Seen(0),
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while let Mark::Seen(seen) = self.mark {
            let Some((&first, rest)) = bytes.split_first() else {
                return;
            };
            if first != BYTE_ORDER_MARK[seen] {
                // No mark: what looked like one is text, which can neither end a row nor open a quote.
                self.mark = Mark::Done;
                if seen > 0 {
                    self.quote = Quote::Plain;
                    self.filled = self.bounds.len();
                }
                break;
            }
            bytes = rest;
            self.at += 1;
            self.mark = Mark::Seen(seen + 1);
            if seen + 1 == BYTE_ORDER_MARK.len() {
                self.bounds[0] = self.at;
                self.mark = Mark::Done;
            }
        }
        match self.end {
            RowEnd::Line => self.lines(bytes),
            RowEnd::Quoted => self.records(bytes),
        }
        self.at += bytes.len() as u64;
    }

    fn lines(&mut self, bytes: &[u8]) {
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.fill(&bytes[from..end]);
            self.bounds.push(self.at + end as u64 + 1);
            from = end + 1;
        }
        self.fill(&bytes[from..]);
    }

    fn records(&mut self, bytes: &[u8]) {
        let mut from = 0;
        let mut at = 0;
        while at < bytes.len() {
            at += self.quote.stays(&bytes[at..]);
            let Some(&byte) = bytes.get(at) else { break };
            if byte == b'\n' && self.quote != Quote::Inside {
                self.fill(&bytes[from..at]);
                self.bounds.push(self.at + at as u64 + 1);
                from = at + 1;
            }
            self.quote = self.quote.behind(byte);
            at += 1;
        }
        self.fill(&bytes[from..]);
    }

    /// Notes that the current row has these bytes; blank ones do not make a row at the end of the file.
    fn fill(&mut self, bytes: &[u8]) {
        if bytes.iter().any(|&byte| byte != b'\r') {
            self.filled = self.bounds.len();
        }
    }

    fn finish(mut self) -> Vec<u64> {
        if let Mark::Seen(1..) = self.mark {
            self.filled = self.bounds.len();
        }
        if self.bounds.last().is_some_and(|&last| last < self.at) {
            self.bounds.push(self.at);
        }
        self.bounds.truncate(self.filled + 1);
        self.bounds.shrink_to_fit();
        self.bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &[u8], end: RowEnd, piece: usize) -> Vec<Vec<u8>> {
        let mut finder = RowFinder::new(end);
        text.chunks(piece).for_each(|chunk| finder.feed(chunk));
        let bounds = finder.finish();
        bounds
            .windows(2)
            .map(|pair| text[pair[0] as usize..pair[1] as usize].to_vec())
            .collect()
    }

    #[test]
    fn lines_and_records() {
        let lines = |text: &str| rows(text.as_bytes(), RowEnd::Line, 2);
        assert_eq!(lines("a\nb"), [b"a\n".to_vec(), b"b".to_vec()]);
        assert_eq!(
            lines("\u{feff}a\r\n\nb\n\n\r\n"),
            [b"a\r\n".to_vec(), b"\n".to_vec(), b"b\n".to_vec()]
        );
        assert!(lines("").is_empty() && lines("\n\r\n").is_empty() && lines("\u{feff}").is_empty());
        let records = |text: &str| rows(text.as_bytes(), RowEnd::Quoted, 3);
        assert_eq!(
            records("a,\"b\nc\"\"\n\"\nd"),
            [b"a,\"b\nc\"\"\n\"\n".to_vec(), b"d".to_vec()]
        );
        assert_eq!(records("a \"quote\nb"), [b"a \"quote\n".to_vec(), b"b".to_vec()]);
        assert_eq!(records("\"open\n"), [b"\"open\n".to_vec()]);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let file = RowFile::open(&path, RowEnd::Line).unwrap();
        assert_eq!(file.read(1).unwrap(), b"two");
        std::fs::write(&path, "one\n").unwrap();
        let expected = format!(
            "{}, row 2: the file became shorter while it was being read",
            path.display()
        );
        assert_eq!(file.read(1).unwrap_err().to_string(), expected);
    }

    #[test]
    fn an_endless_row_is_refused_without_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_ROW_BYTES as u64 + 1).unwrap();
        let file = RowFile::open(&path, RowEnd::Line).unwrap();
        let expected = "the row has 67108865 bytes, more than the 67108864 a row may have";
        assert_eq!(file.read(0).unwrap_err().what(), expected);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in prop::collection::vec(prop::sample::select(b"a,\"\n\r\xef\xbb\xbf".to_vec()), 0..40)) {
            for end in [RowEnd::Line, RowEnd::Quoted] {
                let whole = rows(&text, end, 1 << 20);
                for piece in 1..5 {
                    prop_assert_eq!(&rows(&text, end, piece), &whole);
                }
            }
        }
    }
}
