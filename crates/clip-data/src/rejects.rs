//! The list of refused rows beside an output.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clip_core::{Error, Id, Result};
use serde_json::{Value, json};

use crate::pending::{PendingFile, left_behind};

/// Writes refused rows to `<output>.rejects.jsonl`, an object a row: `{"row": 7, "reason": "…", "column": "image",
/// "file": "pairs.tsv"}`, what is not known being left out. The file appears when [`finish`](Self::finish) is called,
/// whole, and only if a row was refused.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    unfinished: Option<PathBuf>,
    file: Option<PendingFile>,
    seen: HashSet<(Id, u64)>,
    count: u64,
}

impl Rejects {
    /// A list beside `output`, a file or a folder.
    pub fn beside(output: impl AsRef<Path>) -> Self {
        let output = output.as_ref();
        // A folder may be written with a slash at its end, behind which the name would lie in the folder.
        let mut name: OsString = output.components().as_path().into();
        name.push(".rejects.jsonl");
        Self {
            path: name.into(),
            unfinished: None,
            file: None,
            seen: HashSet::new(),
            count: 0,
        }
    }

    /// Keeps the unfinished list in `folder`, in the same file system, where the next run finds and removes it if this one is
    /// killed. It must be there until [`finish`](Self::finish).
    #[must_use]
    pub fn unfinished_in(mut self, folder: &Path) -> Self {
        self.unfinished = Some(folder.to_owned());
        self
    }

    /// Takes over the list that an earlier run left at the same place, and the unfinished one of a process that was killed,
    /// for a run that goes on where that one stopped.
    ///
    /// # Errors
    /// The earlier list cannot be read, or this one not written.
    pub fn going_on(mut self) -> Result<Self> {
        let killed = left_behind(&self.path, self.unfinished.as_deref())?;
        for path in std::iter::once(&self.path.clone()).chain(&killed) {
            for line in lines(path)? {
                // What somebody else wrote into it is no refused row.
                if let Some(error) = refusal(&line?) {
                    self.push(&error)?;
                }
            }
        }
        for path in killed {
            fs::remove_file(&path).map_err(|error| Error::io("remove", path, error))?;
        }
        Ok(self)
    }

    /// Adds a refused row. A row that was added before (training meets it in each epoch) counts once.
    ///
    /// # Errors
    /// The list cannot be written.
    pub fn push(&mut self, error: &Error) -> Result<()> {
        let place = error.place();
        if let Some(row) = place.row {
            let file = place
                .file
                .as_ref()
                .map_or_else(String::new, |file| file.to_string_lossy().into_owned());
            if !self.seen.insert((Id::of(&file), row)) {
                return Ok(());
            }
        }
        let mut line = json!({ "row": place.row, "reason": error.what() });
        if let Some(line) = line.as_object_mut() {
            line.extend(place.column.as_ref().map(|column| ("column".into(), json!(column))));
            line.extend(
                place
                    .file
                    .as_ref()
                    .map(|file| ("file".into(), json!(file.to_string_lossy()))),
            );
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self
                .file
                .insert(PendingFile::within(&self.path, self.unfinished.as_deref())?),
        };
        // At once, for the process that goes on if this one is killed.
        let written = writeln!(file, "{line}").and_then(|()| file.flush());
        written.map_err(|error| file.error(error))?;
        self.count += 1;
        Ok(())
    }

    /// How many rows were refused.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Makes the list appear and gives its path; without a refused row there is none, and one of an earlier run is
    /// removed.
    ///
    /// # Errors
    /// The list cannot be written.
    pub fn finish(self) -> Result<Option<PathBuf>> {
        if let Some(file) = self.file {
            file.commit()?;
            return Ok(Some(self.path));
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", self.path, error)),
            _ => Ok(None),
        }
    }
}

/// The lines of a list as JSON, one at a time; null for one that is none, as the last of a process that was ended may be. No
/// file is no line.
pub(crate) fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Value>>> {
    let io = move |error| Error::io("read", path, error);
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => Some(opened.map_err(io)?),
    };
    let lines = file.map(|file| BufReader::new(file).lines()).into_iter().flatten();
    Ok(lines.map(move |line| Ok(serde_json::from_str(&line.map_err(io)?).unwrap_or_default())))
}

/// The error that a line of a list tells of: `{"reason": "…", "row": 7, "column": "image", "file": "pairs.tsv"}`, of which
/// only the reason must be there.
pub(crate) fn refusal(line: &Value) -> Option<Error> {
    let mut error = Error::invalid(line["reason"].as_str()?);
    if let Some(file) = line["file"].as_str() {
        error = error.file(file);
    }
    if let Some(row) = line["row"].as_u64() {
        error = error.row(row);
    }
    if let Some(column) = line["column"].as_str() {
        error = error.column(column);
    }
    Some(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_listed_once_and_the_file_comes_last() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.safetensors");
        let list = folder.path().join("out.safetensors.rejects.jsonl");
        let mut rejects = Rejects::beside(&output);
        let error = Error::invalid("no \"base64\"")
            .file("a.tsv")
            .row(7)
            .column("image")
            .remedy("look");
        rejects.push(&error).unwrap();
        rejects.push(&error).unwrap();
        rejects.push(&Error::invalid("cut").row(9)).unwrap();
        assert!(!list.exists());
        assert_eq!(rejects.count(), 2);
        assert_eq!(rejects.finish().unwrap().as_ref(), Some(&list));
        let expected = concat!(
            r#"{"row":7,"reason":"no \"base64\"","column":"image","file":"a.tsv"}"#,
            "\n",
            r#"{"row":9,"reason":"cut"}"#,
            "\n"
        );
        assert_eq!(fs::read_to_string(&list).unwrap(), expected);
        assert_eq!(Rejects::beside(&output).finish().unwrap(), None);
        assert!(!list.exists());
    }

    #[test]
    fn a_dropped_list_leaves_nothing_and_a_folder_is_no_parent() {
        let folder = tempfile::tempdir().unwrap();
        let mut rejects = Rejects::beside(format!("{}/run/", folder.path().display()));
        rejects.push(&Error::invalid("cut").row(1)).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(rejects);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_run_that_goes_on_adds_to_the_list() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("run");
        let error = |row| Error::invalid("cut").file("a.tsv").row(row).column("image");
        let listed = |rejects: Rejects| {
            let list = rejects.finish().unwrap().unwrap();
            fs::read_to_string(list).unwrap()
        };
        let mut first = Rejects::beside(&output).going_on().unwrap();
        first.push(&error(7)).unwrap();
        let before = listed(first);
        let list = folder.path().join("run.rejects.jsonl");
        fs::write(&list, format!("{before}no line of ours\n{{\"row\": 3}}\n")).unwrap();
        let mut second = Rejects::beside(&output).going_on().unwrap();
        second.push(&error(7)).unwrap();
        second.push(&error(9)).unwrap();
        assert_eq!(second.count(), 2);
        assert_eq!(listed(second), format!("{before}{}", before.replace('7', "9")));
        // A process that is killed leaves its list hidden, with half a line at its end perhaps.
        let killed = folder.path().join(".run.rejects.jsonl.1-0-a.partial");
        fs::write(&killed, format!("{}{{\"row\": 1", before.replace('7', "8"))).unwrap();
        let third = Rejects::beside(&output).going_on().unwrap();
        assert_eq!(third.count(), 3);
        drop(third.finish().unwrap());
        assert!(!killed.exists());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
