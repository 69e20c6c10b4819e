//! A file that appears whole or not at all: written beside its place, then renamed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clip_core::{Error, Result};

/// The hidden files of this process that are under way.
static UNDER_WAY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// How the name of a hidden file ends.
const HIDDEN: &str = ".partial";

/// How the name of a hidden file begins, by the name that its file will have.
fn begins(name: &OsStr) -> String {
    format!(".{}.", name.to_string_lossy())
}

fn under_way() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set of paths is whole whatever happened to another holder.
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the hidden files of this process's [`PendingFile`]s that are not committed: for a process that is about to end
/// without dropping them, at Ctrl-C for example. Their commits fail afterwards.
pub fn discard_pending() {
    for beside in std::mem::take(&mut *under_way()) {
        // What cannot be removed stays hidden; a process that ends can do no more.
        fs::remove_file(beside).ok();
    }
}

/// A file being written. Its path shows nothing new before [`commit`](Self::commit), which brings the bytes to the
/// disk and renames; dropped before, it leaves nothing behind.
///
/// The bytes go to a hidden file in the same folder, since a rename is whole only within one file system.
///
/// ```
/// use std::io::Write;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("result.json");
/// let mut file = clip_data::PendingFile::create(&path)?;
/// file.write_all(b"{}")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PendingFile {
    path: PathBuf,
    /// Where the rename goes: the path, or what it links to.
    target: PathBuf,
    beside: PathBuf,
    writer: Option<BufWriter<File>>,
}

impl PendingFile {
    /// Starts a file at `path`. What stands there now stays until the commit.
    ///
    /// # Errors
    /// The folder is missing or not writable, or `path` is something else than a file.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::within(path, None)
    }

    /// As [`create`](Self::create), with the unfinished bytes in the folder `within`, which must lie in the same file system: there they
    /// are found and removed if the process is ended.
    pub(crate) fn within(path: impl AsRef<Path>, within: Option<&Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        // A link stays a link: the file it leads to is replaced.
        let target = if path.is_symlink() {
            fs::canonicalize(&path).unwrap_or_else(|_| path.clone())
        } else {
            path.clone()
        };
        if let Ok(there) = fs::metadata(&target)
            && !there.is_file()
        {
            let what = if there.is_dir() {
                "is a folder, not a file"
            } else {
                "is no regular file"
            };
            return Err(Error::invalid(format!("cannot write here: this {what}"))
                .file(path)
                .remedy("name a file"));
        }
        let Some(name) = target.file_name() else {
            return Err(Error::invalid("cannot write here: the path names no file")
                .file(path)
                .remedy("name a file"));
        };
        let folder = folder_of(&target);
        if !folder.is_dir() {
            return Err(
                Error::not_found(format!("there is no folder `{}` to write it in", folder.display()))
                    .file(path)
                    .remedy("create the folder first"),
            );
        }
        let unfinished = within.unwrap_or(&folder);
        loop {
            let beside = unfinished.join(format!("{}{}{HIDDEN}", begins(name), unique()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&beside) {
                Ok(file) => {
                    under_way().insert(beside.clone());
                    let writer = Some(BufWriter::with_capacity(1 << 16, file));
                    return Ok(Self {
                        path,
                        target,
                        beside,
                        writer,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("write", path, error)),
            }
        }
    }

    /// Where the file will appear.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An I/O error on this file, naming the place it will have and not the hidden one.
    pub fn error(&self, error: io::Error) -> Error {
        Error::io("write", &self.path, error)
    }

    /// Makes the file appear.
    ///
    /// # Errors
    /// The disk is full or gone; the path then shows what it showed before.
    pub fn commit(mut self) -> Result<()> {
        self.publish().map_err(|error| self.error(error))
    }

    fn publish(&mut self) -> io::Result<()> {
        self.buffer()?.flush()?;
        let Some(writer) = self.writer.take() else {
            return Err(closed());
        };
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&self.beside, &self.target)?;
        under_way().remove(&self.beside);
        self.beside.clear();
        // The rename itself reaches the disk with its folder; not every file system can be asked for that.
        if let Ok(folder) = File::open(folder_of(&self.target)) {
            folder.sync_all().ok();
        }
        Ok(())
    }

    fn buffer(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.writer.as_mut().ok_or_else(closed)
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer()?.flush()
    }
}

impl Seek for PendingFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.buffer()?.seek(to)
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        // Taken apart first, so that a buffer that cannot be flushed is not tried again, and closed before removal.
        drop(self.writer.take().map(BufWriter::into_parts));
        if !self.beside.as_os_str().is_empty() {
            fs::remove_file(&self.beside).ok();
            under_way().remove(&self.beside);
        }
    }
}

fn closed() -> io::Error {
    io::Error::other("the file was closed before")
}

/// What killed processes left of a file at `path`: hidden files beside it, or in the folder `within`.
pub(crate) fn left_behind(path: &Path, within: Option<&Path>) -> Result<Vec<PathBuf>> {
    let folder = within.map_or_else(|| folder_of(path), Path::to_owned);
    let begins = begins(path.file_name().unwrap_or_default());
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| Error::io("read", &folder, error))?,
    };
    let mut left = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("read", &folder, error))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&begins) && name.ends_with(HIDDEN) && !under_way().contains(&entry.path()) {
            left.push(entry.path());
        }
    }
    left.sort();
    Ok(left)
}

/// The folder a path lies in; a bare name lies in the current one.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A name part that no other writer uses: process, count and time, since processes on two machines may share a folder.
fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    format!("{}-{}-{now:x}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_core::Kind;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn it_appears_at_the_commit_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let mut file = PendingFile::create(&path).unwrap();
        file.write_all(b"nEw").unwrap();
        file.seek(SeekFrom::Start(1)).unwrap();
        file.write_all(b"e").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = PendingFile::create(folder.path().join("a.txt")).unwrap();
        file.write_all(&[1; 200_000]).unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn two_writers_do_not_meet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let (mut one, mut two) = (PendingFile::create(&path).unwrap(), PendingFile::create(&path).unwrap());
        one.write_all(b"one").unwrap();
        two.write_all(b"two").unwrap();
        two.commit().unwrap();
        one.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    }

    #[test]
    fn unwritable_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no").join("a.txt");
        let error = PendingFile::create(&missing).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let expected = format!(
            "{}: there is no folder `{}` to write it in; create the folder first",
            missing.display(),
            folder.path().join("no").display()
        );
        assert_eq!(error.to_string(), expected);
        let error = PendingFile::create(folder.path()).unwrap_err();
        assert_eq!(error.what(), "cannot write here: this is a folder, not a file");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_takes_no_files_is_an_error() {
        // The kernel's own folder refuses files for every user, the superuser included.
        let error = PendingFile::create("/proc/self/a.txt").unwrap_err();
        assert!(
            error.to_string().starts_with("/proc/self/a.txt: cannot write: "),
            "{error}"
        );
        let error = PendingFile::create("/dev/null").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/dev/null: cannot write here: this is no regular file; name a file"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut file = PendingFile::create(&link).unwrap();
        file.write_all(b"new").unwrap();
        file.commit().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }
}
