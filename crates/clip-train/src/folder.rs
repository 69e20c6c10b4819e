//! Folders that appear whole: written beside under a hidden name, then renamed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

/// What hidden names of folders under way begin with. A killed process leaves one behind; the next one removes it.
const PARTIAL: &str = ".partial-";

/// A folder under way. Dropped without [`publish`](Self::publish) it is removed.
#[derive(Debug)]
pub(crate) struct PendingFolder {
    target: PathBuf,
    beside: PathBuf,
}

impl PendingFolder {
    /// Starts a folder that will be `target`, beside it.
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Error::invalid("this names no folder to write").file(target));
        };
        let beside = parent.join(format!("{PARTIAL}{}", name.to_string_lossy()));
        if beside.exists() {
            fs::remove_dir_all(&beside).map_err(|error| Error::io("remove", &beside, error))?;
        }
        fs::create_dir(&beside).map_err(|error| Error::io("write", target, error))?;
        Ok(Self {
            target: target.to_owned(),
            beside,
        })
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.beside
    }

    /// Makes it appear in place of what stood there, which is never missing in between where the system can exchange two
    /// names (Linux, macOS).
    pub(crate) fn publish(self) -> Result<()> {
        let fault = |error| Error::io("write", &self.target, error);
        sync(&self.beside).map_err(fault)?;
        if self.target.exists() {
            replace(&self.beside, &self.target).map_err(fault)?;
        } else {
            fs::rename(&self.beside, &self.target).map_err(fault)?;
        }
        if let Some(parent) = self.target.parent().and_then(|parent| File::open(parent).ok()) {
            // The renames reach the disk with their folder; not every file system can be asked for that.
            parent.sync_all().ok();
        }
        Ok(())
    }
}

impl Drop for PendingFolder {
    fn drop(&mut self) {
        // After a publish there is nothing of that name, or what stood at the target before.
        fs::remove_dir_all(&self.beside).ok();
    }
}

/// Puts `new` in place of `old`; afterwards `new` is the old one, or gone.
fn replace(new: &Path, old: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    // Some file systems cannot exchange: there the name is missing for a moment.
    let away = old.with_file_name(format!(
        "{PARTIAL}old-{}",
        old.file_name().unwrap_or_default().to_string_lossy()
    ));
    if away.exists() {
        fs::remove_dir_all(&away)?;
    }
    fs::rename(old, &away)?;
    fs::rename(new, old)?;
    fs::remove_dir_all(&away)
}

/// Brings all files of a folder to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for (path, _) in files(folder)? {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

/// All files below a folder with their names relative to it, sorted, `/` between parts.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut open = vec![(folder.to_owned(), String::new())];
    while let Some((folder, prefix)) = open.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                open.push((entry.path(), format!("{name}/")));
            } else {
                found.push((entry.path(), name));
            }
        }
    }
    found.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(found)
}

/// Fills a folder under way with the files of another: as links where the file system can, which costs no space, as
/// copies elsewhere. No file of ours is ever written in place, so a link stays what it was.
pub(crate) fn link_files(from: &Path, to: &Path) -> Result<()> {
    let listed = files(from).map_err(|error| Error::io("read", from, error))?;
    for (path, name) in listed {
        let target = to.join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(|error| Error::io("write", parent, error))?;
        }
        if fs::hard_link(&path, &target).is_err() {
            fs::copy(&path, &target).map_err(|error| Error::io("write", &target, error))?;
        }
    }
    Ok(())
}

/// Removes what a killed process left under way in a folder.
pub(crate) fn clean(folder: &Path) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| Error::io("read", folder, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PARTIAL) else {
            continue;
        };
        // Killed between the two renames of a file system that cannot exchange: the old one goes back to its place.
        let home = rest
            .strip_prefix("old-")
            .map(|home| folder.join(home))
            .filter(|home| !home.exists());
        let done = match home {
            Some(home) => fs::rename(&path, home),
            None => fs::remove_dir_all(&path),
        };
        done.map_err(|error| Error::io("clean up", &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, text: &str) {
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(folder.join("sub/a.txt"), text).unwrap();
    }

    fn read(folder: &Path) -> String {
        fs::read_to_string(folder.join("sub/a.txt")).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_appears_whole_and_replaces() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("best");
        for text in ["one", "two"] {
            let pending = PendingFolder::create(&target).unwrap();
            write(pending.path(), text);
            pending.publish().unwrap();
            assert_eq!(read(&target), text);
            assert_eq!(names(root.path()), ["best"]);
        }
        drop(PendingFolder::create(&target).unwrap());
        assert_eq!(names(root.path()), ["best"]);
    }

    #[test]
    fn where_names_cannot_be_exchanged_the_old_one_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let (old, away) = (root.path().join("best"), root.path().join(".partial-old-best"));
        write(&away, "old");
        write(&root.path().join(".partial-last"), "half");
        clean(root.path()).unwrap();
        assert_eq!(read(&old), "old");
        assert_eq!(names(root.path()), ["best"]);
        write(&away, "older");
        clean(root.path()).unwrap();
        assert_eq!((read(&old), names(root.path())), ("old".into(), vec!["best".into()]));
    }

    #[test]
    fn linked_files_outlive_their_source() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        write(&from, "text");
        fs::create_dir(&to).unwrap();
        link_files(&from, &to).unwrap();
        fs::remove_dir_all(&from).unwrap();
        assert_eq!(read(&to), "text");
        assert_eq!(files(&to).unwrap()[0].1, "sub/a.txt");
    }
}
