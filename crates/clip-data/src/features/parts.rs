//! Finished parts of a long run, kept beside its output until that is whole, so that a run which was ended can go on.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clip_core::{Embeddings, Error, FeatureRows, FeatureSink, Modality, Result};
use serde_json::{Map, Value, json};

use super::columns::ENDING;
use super::{SinkOptions, feature_name, open_sink};
use crate::pending::PendingFile;
use crate::rejects;
use crate::small_file::read_list;
use crate::tensors::TensorFile;

/// What says how the parts were made.
const RUN: &str = "run.json";
/// Rows that were refused, written as they are met.
const REFUSED: &str = "refused.jsonl";
/// Held by the process that writes.
const LOCK: &str = "lock";
/// Rows read back at once.
const PIECE: usize = 1024;

/// The parts of one output: a folder `OUTPUT.parts` of feature files, each of some consecutive rows and each whole or not
/// there, with the settings of the run that made them. Parts of texts, of pictures and of rows of both are counted apart.
///
/// The order of things: [`open`](Self::open), [`replay`](Self::replay) into the output's sink, [`keep`](Self::keep) around
/// it, the rows from [`rows`](Self::rows) on, commit, [`remove`](Self::remove).
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    done: BTreeMap<Part, Vec<PathBuf>>,
    rows: BTreeMap<Part, u64>,
    refused: Vec<Refusal>,
    journal: File,
    // Given back by the system when the process ends, however it does.
    _lock: File,
}

/// What a row of a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A text alone.
    Texts,
    /// A picture alone.
    Images,
    /// Both.
    Rows,
}

impl Part {
    const ALL: [Self; 3] = [Self::Texts, Self::Images, Self::Rows];

    fn name(self) -> &'static str {
        match self {
            Self::Texts => "texts",
            Self::Images => "images",
            Self::Rows => "rows",
        }
    }

    fn modalities(self) -> &'static [Modality] {
        match self {
            Self::Texts => &[Modality::Text],
            Self::Images => &[Modality::Image],
            Self::Rows => &[Modality::Text, Modality::Image],
        }
    }

    /// The file of rows from `first` on.
    fn file(self, folder: &Path, first: u64) -> PathBuf {
        folder.join(format!("{}-{first:012}.safetensors", self.name()))
    }

    fn of(rows: &FeatureRows) -> Option<Self> {
        match (&rows.texts, &rows.images) {
            (Some(_), Some(_)) => Some(Self::Rows),
            (Some(_), None) => Some(Self::Texts),
            (None, Some(_)) => Some(Self::Images),
            (None, None) => None,
        }
    }
}

/// A row that was refused by an earlier run.
#[derive(Debug, Clone)]
struct Refusal {
    part: Part,
    row: u64,
    error: Error,
}

impl Parts {
    /// Where the parts of an output lie.
    pub fn beside(output: &Path) -> PathBuf {
        // A link stays a link: its parts lie beside what it leads to, in the same file system.
        let target = Some(output)
            .filter(|output| output.is_symlink())
            .and_then(|link| fs::canonicalize(link).ok());
        let target = target.unwrap_or_else(|| output.to_owned());
        let mut name = target.into_os_string();
        name.push(".parts");
        name.into()
    }

    /// Opens or makes the folder beside `output`. `run` says how the rows are made, by flag: an earlier run's parts are gone
    /// on with if they were made the same way. `columns` says whether columns go along.
    ///
    /// # Errors
    /// Another process writes there; there are finished parts, and `resume` does not ask for them; they were made another
    /// way, and the message says by which flag; or the folder cannot be written.
    pub fn open(output: &Path, run: &Map<String, Value>, columns: bool, resume: bool) -> Result<Self> {
        let folder = Self::beside(output);
        let io = |doing: &str, error| Error::io(doing, &folder, error);
        fs::create_dir_all(&folder).map_err(|error| io("create", error))?;
        let lock = File::create(folder.join(LOCK)).map_err(|error| io("write", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::unavailable("another process is writing this output")
                    .file(output)
                    .remedy("wait for it, or name another --output (each --shard needs its own)"));
            }
            // A file system without locks: then the user has to know.
            Err(TryLockError::Error(_)) => {}
        }
        let (mut done, mut rows) = (BTreeMap::new(), BTreeMap::new());
        // The note comes before the first part and goes before the last one: parts without it are of a run that was done.
        for part in Part::ALL.into_iter().filter(|_| folder.join(RUN).is_file()) {
            let (files, length) = finished(&folder, part, columns);
            rows.insert(part, length);
            done.insert(part, files);
        }
        let any = done.values().any(|files| !files.is_empty());
        if any && !resume {
            let total: u64 = rows.values().sum();
            return Err(
                Error::invalid(format!("{total} rows of an earlier run are finished and kept here"))
                    .file(&folder)
                    .remedy("go on with --resume, or remove the folder to start anew"),
            );
        }
        if any {
            same_run(&folder, run)?;
        }
        let refused = if any {
            earlier_refusals(&folder, &rows)?
        } else {
            Vec::new()
        };
        tidy(&folder, &done).map_err(|error| io("write", error))?;
        let mut file = PendingFile::create(folder.join(RUN))?;
        write!(file, "{:#}", Value::Object(run.clone())).map_err(|error| file.error(error))?;
        file.commit()?;
        let mut journal = PendingFile::create(folder.join(REFUSED))?;
        for refusal in &refused {
            writeln!(journal, "{}", refusal.line()).map_err(|error| journal.error(error))?;
        }
        journal.commit()?;
        let journal = OpenOptions::new().append(true).open(folder.join(REFUSED));
        Ok(Self {
            journal: journal.map_err(|error| io("write", error))?,
            folder,
            done,
            rows,
            refused,
            _lock: lock,
        })
    }

    /// Rows that are finished, from the first on.
    pub fn rows(&self, part: Part) -> u64 {
        self.rows.get(&part).copied().unwrap_or(0)
    }

    /// Rows that are finished, of all kinds.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Where unfinished files of this output may lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Rows that earlier runs refused, for the list of this one.
    pub fn refused(&self) -> impl Iterator<Item = &Error> {
        self.refused.iter().map(|refusal| &refusal.error)
    }

    /// Notes that a row is refused, before its part is finished.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn refuse(&mut self, part: Part, row: u64, error: &Error) -> Result<()> {
        let refusal = Refusal {
            part,
            row,
            error: error.clone(),
        };
        // One write a line: what a process had written when it was ended is there.
        let line = format!("{}\n", refusal.line());
        self.journal
            .write_all(line.as_bytes())
            .map_err(|error| Error::io("write", self.folder.join(REFUSED), error))
    }

    /// Appends the finished rows to `sink`.
    ///
    /// # Errors
    /// A part cannot be read, or the sink takes no more.
    pub fn replay(&self, sink: &mut dyn FeatureSink) -> Result<()> {
        for (&part, files) in &self.done {
            let mut first = 0;
            for path in files {
                first = replay(part, path, first, sink)?;
            }
        }
        Ok(())
    }

    /// A sink that writes into `sink` and keeps parts of at least `rows` rows of what it is given.
    pub fn keep(&self, sink: Box<dyn FeatureSink>, rows: usize) -> Box<dyn FeatureSink> {
        Box::new(Keeper {
            sink,
            folder: self.folder.clone(),
            rows: rows as u64,
            open: None,
        })
    }

    /// Removes the folder, once the output is whole.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(self) -> Result<()> {
        fs::remove_file(self.folder.join(RUN))
            .and_then(|()| fs::remove_dir_all(&self.folder))
            .map_err(|error| Error::io("remove", &self.folder, error))
    }

    /// Ends a run that failed: the folder goes if it holds no finished row. Says how many it holds.
    pub fn leave(self) -> u64 {
        let rows = Part::ALL.map(|part| finished(&self.folder, part, false).1);
        let kept = rows.iter().sum();
        if kept == 0 {
            fs::remove_dir_all(&self.folder).ok();
        }
        kept
    }
}

impl Refusal {
    fn line(&self) -> Value {
        let place = self.error.place();
        json!({
            "part": self.part.name(), "number": self.row, "reason": self.error.what(), "row": place.row,
            "column": place.column, "file": place.file.as_ref().map(|file| file.to_string_lossy()),
        })
    }

    fn of(line: &Value) -> Option<Self> {
        let part = Part::ALL.into_iter().find(|part| line["part"] == part.name())?;
        Some(Self {
            part,
            row: line["number"].as_u64()?,
            error: rejects::refusal(line)?,
        })
    }
}

/// The files of a kind that follow each other from row 0 on, and the rows in them. Behind a gap, or a file that was cut
/// when the machine went down, nothing counts.
fn finished(folder: &Path, part: Part, columns: bool) -> (Vec<PathBuf>, u64) {
    let (mut files, mut rows) = (Vec::new(), 0);
    loop {
        let path = part.file(folder, rows);
        let length = TensorFile::open(&path).ok().and_then(|file| length(&file, part));
        match length {
            Some(length) if length > 0 && (!columns || beside(&path).is_file()) => {
                rows += length;
                files.push(path);
            }
            _ => return (files, rows),
        }
    }
}

/// The columns of a part.
fn beside(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(ENDING);
    name.into()
}

/// Rows of a part; `None` if it is not one.
fn length(file: &TensorFile, part: Part) -> Option<u64> {
    let mut lengths = part
        .modalities()
        .iter()
        .map(|&modality| match file.shape(feature_name(modality)) {
            Ok(&[rows, dim]) if dim > 0 => Some(rows as u64),
            _ => None,
        });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// Refuses parts that were made another way.
fn same_run(folder: &Path, run: &Map<String, Value>) -> Result<()> {
    let text = read_list(&folder.join(RUN))?;
    let before: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let names = run.keys().chain(before.keys().filter(|name| !run.contains_key(*name)));
    let said = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "not given".to_owned(),
        Some(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
    };
    let nothing = Value::Null;
    let changes = names.filter_map(|name| {
        let (was, is) = (before.get(name).unwrap_or(&nothing), run.get(name).unwrap_or(&nothing));
        match (was, is) {
            _ if was == is => None,
            (Value::Object(_), Value::Object(_)) => Some(format!("{name} is not what it was")),
            _ => Some(format!("{name} was {}, and is {}", said(Some(was)), said(Some(is)))),
        }
    });
    let changes: Vec<String> = changes.collect();
    if changes.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the rows kept here were made otherwise: {}",
        changes.join("; ")
    ))
    .file(folder)
    .remedy("run it as before, or remove the folder to start anew"))
}

/// Refused rows of the parts that are finished. A last line that was cut was about a row of a part that is not.
fn earlier_refusals(folder: &Path, rows: &BTreeMap<Part, u64>) -> Result<Vec<Refusal>> {
    let mut refused = Vec::new();
    for line in rejects::lines(&folder.join(REFUSED))? {
        let refusal = Refusal::of(&line?);
        refused.extend(refusal.filter(|refusal| rows.get(&refusal.part).is_some_and(|&rows| refusal.row < rows)));
    }
    Ok(refused)
}

/// Removes all but the finished parts, the lock and the notes: what an ended run left half done.
fn tidy(folder: &Path, done: &BTreeMap<Part, Vec<PathBuf>>) -> std::io::Result<()> {
    let files = done.values().flatten();
    let kept: HashSet<PathBuf> = files.flat_map(|path| [path.clone(), beside(path)]).collect();
    let notes = [LOCK, RUN, REFUSED].map(|name| folder.join(name));
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !kept.contains(&path) && !notes.contains(&path) && path.is_file() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Appends one part's rows, numbered from `first` on, and says which number comes next.
fn replay(part: Part, path: &Path, first: u64, sink: &mut dyn FeatureSink) -> Result<u64> {
    let file = TensorFile::open(path)?;
    let rows = length(&file, part).ok_or_else(|| changed(path))? as usize;
    let mut columns = match File::open(beside(path)) {
        Ok(file) => Some(BufReader::new(file).lines()),
        Err(_) => None,
    };
    let read = |modality: Modality, range: std::ops::Range<usize>| {
        if !part.modalities().contains(&modality) {
            return Ok(None);
        }
        let name = feature_name(modality);
        let dim = file.shape(name)?.last().copied().unwrap_or(0);
        Embeddings::new(file.floats(name, range)?, dim).map(Some)
    };
    for start in (0..rows).step_by(PIECE) {
        let range = start..rows.min(start + PIECE);
        let lines = columns.as_mut().map(|lines| lines.take(range.len()));
        let lines = lines.into_iter().flatten().map(|line| {
            let line = line.map_err(|error| Error::io("read", path, error))?;
            serde_json::from_str(&line).map_err(|_| changed(path))
        });
        sink.append(FeatureRows {
            first: first + start as u64,
            texts: read(Modality::Text, range.clone())?,
            images: read(Modality::Image, range)?,
            columns: lines.collect::<Result<_>>()?,
        })?;
    }
    Ok(first + rows as u64)
}

fn changed(path: &Path) -> Error {
    Error::invalid("the part changed while it was being read")
        .file(path)
        .remedy("remove the folder to start anew")
}

/// Writes into the output, and parts beside it.
struct Keeper {
    sink: Box<dyn FeatureSink>,
    folder: PathBuf,
    rows: u64,
    open: Option<OpenPart>,
}

struct OpenPart {
    part: Part,
    first: u64,
    rows: u64,
    sink: Box<dyn FeatureSink>,
}

impl Keeper {
    fn keep(&mut self, part: Part, mut rows: FeatureRows) -> Result<()> {
        let length = rows.texts.as_ref().or(rows.images.as_ref()).map_or(0, Embeddings::len) as u64;
        let mut open = match self.open.take() {
            Some(open) if open.part == part && open.first + open.rows == rows.first => open,
            before => {
                before.map_or(Ok(()), |open| open.sink.commit())?;
                OpenPart {
                    part,
                    first: rows.first,
                    rows: 0,
                    sink: open_sink(part.file(&self.folder, rows.first), SinkOptions::default())?,
                }
            }
        };
        rows.first -= open.first;
        open.sink.append(rows)?;
        open.rows += length;
        if open.rows < self.rows {
            self.open = Some(open);
            return Ok(());
        }
        open.sink.commit()
    }
}

impl FeatureSink for Keeper {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        // The output first: what it refuses is in no part, which a resumed run would only give it again.
        self.sink.append(rows.clone())?;
        Part::of(&rows).map_or(Ok(()), |part| self.keep(part, rows))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        // The part that is not full is of no use any more.
        self.sink.commit()
    }
}

#[cfg(test)]
mod tests;
