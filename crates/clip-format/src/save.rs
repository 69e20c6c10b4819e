//! Saving a checkpoint in a family's own layout.

use std::fs;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::Value;

use crate::families::{Family, Layout};
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::vocabulary::{self, is_vocabulary_name};
use crate::weights::write_weights;
use crate::{locate, preprocess};

/// What goes into a directory beside weights and config.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// The transform, which the layout states in its own way.
    pub transform: Option<&'a TransformConfig>,
    /// Vocabulary files: copied under their names, or rewritten in the form that the layout's readers look for.
    pub vocabulary: &'a [PathBuf],
}

/// Saves a model: the whole directory is written beside and renamed, so that it appears whole or not at all.
///
/// `config` is canonical, `weights` are under canonical names and are asked for one at a time. An error names what the
/// family cannot express. A directory that is there already is replaced if it holds a checkpoint's files alone.
pub fn save(
    directory: &Path,
    family: &dyn Family,
    config: &Value,
    weights: &dyn Weights,
    extras: Extras<'_>,
) -> Result<()> {
    refuse_foreign(directory)?;
    let staged = StagedDirectory::beside(directory)?;
    write_model(staged.path(), family, config, weights, extras)?;
    staged.commit()
}

/// Writes a model's files into a directory that is there, for callers that put more beside them before they rename.
pub fn write_model(
    directory: &Path,
    family: &dyn Family,
    config: &Value,
    weights: &dyn Weights,
    extras: Extras<'_>,
) -> Result<()> {
    let Layout {
        weights: weights_name,
        files,
    } = family.restore(config, extras.transform)?;
    let mapping = family.mapping(config)?;
    let renamed = Remapped::save(&mapping, weights).map_err(|error| {
        Error::new(
            error.kind(),
            format!("the layout `{}`: {}", family.name(), error.what()),
        )
    })?;
    vocabulary::write(family.vocabulary(), extras.vocabulary, config, directory)?;
    for (name, value) in files {
        write_json(&directory.join(name), &value)?;
    }
    write_weights(&directory.join(weights_name), &renamed)
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let io = |error| Error::io("write", path, error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(io)?;
    }
    fs::write(path, format!("{value:#}\n")).map_err(io)
}

/// A directory that is written beside its place and takes it when it is whole. Dropped before, it vanishes.
#[derive(Debug)]
pub struct StagedDirectory {
    target: PathBuf,
    beside: PathBuf,
    committed: bool,
}

impl StagedDirectory {
    /// Makes an empty directory beside `target`.
    pub fn beside(target: &Path) -> Result<Self> {
        let beside = sibling(target, "partial")?;
        clear(&beside)?;
        fs::create_dir_all(&beside).map_err(|error| Error::io("make", &beside, error))?;
        Ok(Self {
            target: target.to_owned(),
            beside,
            committed: false,
        })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.beside
    }

    /// Takes the place of the target; what was there is removed.
    ///
    /// Where the file system can swap two names in one step (Linux), the target is whole at every moment. Elsewhere it
    /// is gone for the time between two renames.
    pub fn commit(mut self) -> Result<()> {
        let write = |error| Error::io("write", &self.target, error);
        if !self.target.exists() {
            fs::rename(&self.beside, &self.target).map_err(write)?;
            self.committed = true;
            return Ok(());
        }
        if swap(&self.beside, &self.target).is_err() {
            let old = sibling(&self.target, "old")?;
            clear(&old)?;
            fs::rename(&self.target, &old).map_err(write)?;
            if let Err(error) = fs::rename(&self.beside, &self.target) {
                // The first error is the one to tell.
                let _ = fs::rename(&old, &self.target);
                return Err(write(error));
            }
            fs::rename(&old, &self.beside).map_err(write)?;
        }
        // What was there now stands beside.
        self.committed = true;
        clear(&self.beside)
    }
}

#[cfg(target_os = "linux")]
fn swap(one: &Path, other: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn swap(_one: &Path, _other: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn clear(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("clear", directory, error)),
        _ => Ok(()),
    }
}

impl Drop for StagedDirectory {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done here; the next save clears what stays.
            let _ = fs::remove_dir_all(&self.beside);
        }
    }
}

/// A hidden name beside a path, always the same, so that the next save clears what a killed one left.
fn sibling(target: &Path, kind: &str) -> Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| Error::invalid("names no directory").file(target))?;
    Ok(target.with_file_name(format!(".{}.{kind}", name.to_string_lossy())))
}

/// Whether some layout has a file or a folder of this name, apart from vocabularies.
fn is_own(name: &str) -> bool {
    let others = ["1_Pooling", "vision.json", "text.json"];
    others.contains(&name) || preprocess::NAMES.contains(&name) || locate::is_known(name)
}

/// Refuses to replace a directory that holds anything but a checkpoint's files.
fn refuse_foreign(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(directory).map_err(|error| Error::io("list", directory, error))? {
        let name = entry.map_err(|error| Error::io("list", directory, error))?.file_name();
        let name = name.to_string_lossy();
        if !is_own(&name) && !is_vocabulary_name(&name) {
            return Err(
                Error::invalid(format!("the directory holds {name}, which is no file of a checkpoint"))
                    .file(directory)
                    .remedy("name an empty or a new directory"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_directory_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("m");
        let names = || {
            let mut names: Vec<_> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        let staged = StagedDirectory::beside(&target).unwrap();
        fs::write(staged.path().join("a"), "1").unwrap();
        assert!(!target.exists());
        drop(staged);
        assert!(names().is_empty());
        for content in ["1", "2"] {
            let staged = StagedDirectory::beside(&target).unwrap();
            fs::write(staged.path().join("a"), content).unwrap();
            staged.commit().unwrap();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), content);
            assert_eq!(names(), ["m"]);
        }
    }

    #[test]
    fn a_directory_with_other_files_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("holiday.jpg"), "x").unwrap();
        let error = refuse_foreign(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds holiday.jpg"), "{error}");
        fs::remove_file(folder.path().join("holiday.jpg")).unwrap();
        for name in ["config.json", "preprocessor_config.json", "processor_config.json"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        refuse_foreign(folder.path()).unwrap();
    }
}
