//! What a run leaves that failed before its first step: nothing that would be in the way of the corrected command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use crate::config::HEADER;
use crate::folder;

/// A file or a folder of a run without steps.
enum Remains {
    /// To be removed.
    Old(PathBuf),
    /// Features of locked towers, which the next run takes over.
    Cache,
}

/// What lies in a directory, if all of it is what a run without steps leaves.
fn remains(path: &Path) -> io::Result<Option<Vec<Remains>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        let old = match name.to_string_lossy().as_ref() {
            // A run.toml that a user wrote is no remains.
            "run.toml" => kind.is_file() && fs::read(&path)?.starts_with(HEADER.as_bytes()),
            "metrics.jsonl" => kind.is_file() && fs::metadata(&path)?.len() == 0,
            "tensorboard" => kind.is_dir() && events(&path)?,
            "report.html" | "report.json" => kind.is_file(),
            "cache" if kind.is_dir() => {
                found.push(Remains::Cache);
                continue;
            }
            _ => false,
        };
        if !old {
            return Ok(None);
        }
        found.push(Remains::Old(path));
    }
    // Without a run.toml of ours, files of these names may be anybody's.
    let started = path.join("run.toml").exists();
    let anybodys = found.iter().any(|remains| matches!(remains, Remains::Old(_)));
    Ok((started || !anybodys).then_some(found))
}

/// Whether a folder holds TensorBoard's event files alone.
fn events(path: &Path) -> io::Result<bool> {
    let files = folder::files(path)?;
    Ok(files.iter().all(|(_, name)| name.starts_with("events.out.tfevents.")))
}

/// Whether nothing is in a run's directory, or what a run without steps leaves; such remains are removed, but features
/// of locked towers stay.
pub(crate) fn clear(path: &Path) -> Result<bool> {
    let Some(remains) = remains(path).map_err(|error| Error::io("read", path, error))? else {
        return Ok(false);
    };
    for old in remains {
        if let Remains::Old(path) = old {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|error| Error::io("remove", &path, error))?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remains_of_a_start_are_cleared_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        let start = || {
            fs::write(path.join("run.toml"), format!("{HEADER}1\nepochs = 1\n")).unwrap();
            fs::write(path.join("metrics.jsonl"), "").unwrap();
            fs::create_dir_all(path.join("tensorboard")).unwrap();
            fs::write(path.join("tensorboard/events.out.tfevents.1"), "x").unwrap();
            fs::write(path.join("report.json"), "{}").unwrap();
            fs::create_dir_all(path.join("cache/image")).unwrap();
        };
        let names = || {
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert!(clear(path).unwrap());
        start();
        assert!(clear(path).unwrap());
        assert_eq!(names(), ["cache"]);
        let others = [
            ("run.toml", "epochs = 1\n"),
            ("metrics.jsonl", "{\"step\":1,\"loss\":1}\n"),
            ("tensorboard/mine", ""),
            ("best", ""),
        ];
        for (name, text) in others {
            start();
            let before = names().len();
            fs::write(path.join(name), text).unwrap();
            assert!(!clear(path).unwrap(), "{name}");
            assert!(names().len() >= before, "{name}");
            fs::remove_file(path.join(name)).unwrap();
        }
        clear(path).unwrap();
        fs::write(path.join("report.html"), "").unwrap();
        assert!(!clear(path).unwrap());
    }
}
