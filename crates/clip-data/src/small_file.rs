//! Lists that a person writes: read whole, within a bound, a line a row.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clip_core::{Error, Result};

use crate::table::utf8;

/// The most bytes of such a list. A million short lines fit; a table named by mistake does not fill the memory.
pub(crate) const MAX_LIST_BYTES: usize = 16 << 20;

/// The text of a list, without its byte order mark.
///
/// # Errors
/// The file cannot be read, has more than [`MAX_LIST_BYTES`], or is not UTF-8 (the row is named).
pub(crate) fn read_list(path: &Path) -> Result<String> {
    let io = |error| Error::io("read", path, error);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(io)?
        .take(MAX_LIST_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() > MAX_LIST_BYTES {
        return Err(
            Error::invalid(format!("the list has more than {} MiB", MAX_LIST_BYTES >> 20))
                .file(path)
                .remedy("check that this is the list, or shorten it"),
        );
    }
    String::from_utf8(bytes)
        .map(|text| text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
        .map_err(|error| {
            // Read again by rows, so that the message names the one that is wrong.
            let bytes = error.as_bytes();
            let bad = (1..)
                .zip(bytes.split(|&byte| byte == b'\n'))
                .find_map(|(row, line)| utf8(line, "row").err().map(|error| error.row(row)));
            bad.unwrap_or_else(|| Error::internal("a list is not UTF-8, and each of its rows is"))
                .file(path)
        })
}

/// The rows of a list with their numbers, from 1; blank rows are left out.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_numbers() {
        assert_eq!(rows("a\r\n\n  \nb").collect::<Vec<_>>(), [(1, "a"), (4, "b")]);
    }

    #[test]
    fn a_bad_list_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l.tsv");
        std::fs::write(&path, b"\xef\xbb\xbffine\nbad \xff\n").unwrap();
        let said = read_list(&path).unwrap_err().to_string();
        assert!(
            said.contains("row 2: the row is not UTF-8 from its byte 5 on"),
            "{said}"
        );
        std::fs::write(&path, b"\xef\xbb\xbffine\n").unwrap();
        assert_eq!(read_list(&path).unwrap(), "fine\n");
        std::fs::write(&path, vec![b'x'; MAX_LIST_BYTES + 1]).unwrap();
        assert!(read_list(&path).unwrap_err().what().contains("more than 16 MiB"));
    }
}
