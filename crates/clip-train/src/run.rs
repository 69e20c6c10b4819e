//! The directory of a run, opened anew or to go on.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};

use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::config::RunConfig;
use crate::folder;
use crate::start;

/// What may stand in a run's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing: a run starts anew.
    Refuse,
    /// A run, which goes on from its newest good checkpoint; without one it starts anew.
    Resume,
}

/// Says that an error is one of usage: the command was called in a way that cannot work. Found as an error's source by
/// [`is_usage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("wrong usage")]
#[non_exhaustive]
pub struct Usage;

/// Whether an error is one of usage (exit status 2) and not of what was given (exit status 1).
pub fn is_usage(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Usage>())
}

/// A run's directory, ready to be written.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    checkpoint: Option<Checkpoint>,
    notes: Vec<String>,
}

impl RunDir {
    /// Opens the directory of a run and creates it where there is none.
    ///
    /// # Errors
    /// It is not empty (what a run leaves that failed before its first step does not count, and is removed) and
    /// [`Existing::Refuse`] was said ([`is_usage`]); it cannot be read or written.
    pub fn open(path: impl AsRef<Path>, existing: Existing) -> Result<Self> {
        let path = path.as_ref();
        fs::create_dir_all(path).map_err(|error| Error::io("create the output directory", path, error))?;
        let mut run = Self {
            path: path.to_owned(),
            checkpoint: None,
            notes: Vec::new(),
        };
        match existing {
            Existing::Refuse if !start::clear(path)? => Err(Error::invalid("the output directory is not empty")
                .file(path)
                .remedy("name another --output, or pass --resume to go on with the run in it")
                .source(Usage)),
            Existing::Refuse => Ok(run),
            Existing::Resume => {
                run.find()?;
                Ok(run)
            }
        }
    }

    fn find(&mut self) -> Result<()> {
        folder::clean(&self.path)?;
        let (checkpoint, faults) = Checkpoints::of(&self.path).newest()?;
        if let (None, Some(fault)) = (&checkpoint, faults.first()) {
            return Err(
                Error::invalid(format!("every checkpoint of the run is broken: {fault}"))
                    .file(&self.path)
                    .remedy("restore one of them, or start anew in another --output"),
            );
        }
        let broken = faults
            .iter()
            .map(|error| format!("a checkpoint is broken and left out: {error}"));
        self.notes.extend(broken);
        self.notes.push(match &checkpoint {
            Some(checkpoint) => format!("the run goes on after step {}", checkpoint.state().step),
            None => "there is no checkpoint to go on from, so the run starts anew".into(),
        });
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the run goes on from; `None` where it starts anew. The model to train is then
    /// [`Checkpoint::model`], and no longer the one the run began with.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// What the user should know: broken checkpoints, where the run goes on.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The settings of the run in it, where it holds any: what `--resume` without further flags goes on with.
    pub fn config(&self) -> Result<Option<RunConfig>> {
        let file = self.path.join("run.toml");
        match fs::metadata(&file) {
            Ok(_) => RunConfig::load(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", file, error)),
        }
    }

    /// Whether the run has done all that `config` asks, and what is due at the end as well.
    pub fn finished(&self, config: &RunConfig) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|checkpoint| checkpoint.state().ended(config) && checkpoint.is_end())
    }

    pub(crate) fn checkpoints(&self) -> Checkpoints {
        Checkpoints::of(&self.path)
    }

    pub(crate) fn into_checkpoint(self) -> Option<Checkpoint> {
        self.checkpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_wrong_usage() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        RunDir::open(&path, Existing::Refuse).unwrap();
        fs::write(path.join("a"), "").unwrap();
        let error = RunDir::open(&path, Existing::Refuse).unwrap_err();
        assert!(is_usage(&error) && error.kind() == clip_core::Kind::Invalid, "{error}");
        assert!(error.to_string().contains("--resume"), "{error}");
        let run = RunDir::open(&path, Existing::Resume).unwrap();
        assert!(run.checkpoint().is_none() && run.notes()[0].contains("starts anew"));
        assert!(!run.finished(&RunConfig::default()) && run.config().unwrap().is_none());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_usage() {
        let error = RunDir::open("/proc/self/run", Existing::Refuse).unwrap_err();
        assert!(
            !is_usage(&error) && error.to_string().starts_with("/proc/self/run: cannot create"),
            "{error}"
        );
    }
}
