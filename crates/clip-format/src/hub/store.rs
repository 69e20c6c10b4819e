//! The cache: whole files by what they hold, snapshots that point at them, and names of commits.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use hf_hub::{Cache, Repo, RepoType};

use super::name::{HubName, can_be_commit};
use crate::locate;
use crate::source::Watch;
use crate::weights::shards;

/// One model's part of the cache.
pub(super) struct Store {
    cache: Cache,
    repo: Repo,
    commit: Option<String>,
}

impl Store {
    pub(super) fn new(folder: &Path, name: &HubName) -> Self {
        Self {
            cache: Cache::new(folder.to_owned()),
            repo: Repo::with_revision(name.id.clone(), RepoType::Model, name.revision.clone()),
            commit: name.is_commit().then(|| name.revision.clone()),
        }
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// What the cache holds of the model, if that can be opened: the snapshot of the revision with its weights whole.
    pub(super) fn kept(&self) -> Result<Option<PathBuf>> {
        let snapshot = match &self.commit {
            Some(commit) => Some(self.snapshot(commit)),
            None => self.kept_by_name(),
        };
        let Some(snapshot) = snapshot.filter(|snapshot| snapshot.is_dir()) else {
            return Ok(None);
        };
        let Ok(weights) = locate::weights(&snapshot) else {
            return Ok(None);
        };
        if weights.extension().is_some_and(|ending| ending == "json") {
            let whole = shards(&weights)?.iter().all(|shard| snapshot.join(shard).is_file());
            return Ok(whole.then_some(snapshot));
        }
        Ok(Some(snapshot))
    }

    /// The snapshot of a branch or a tag: that of the commit that it was when something was fetched last.
    fn kept_by_name(&self) -> Option<PathBuf> {
        let path = self.folder().join("refs").join(self.repo.revision());
        let commit = fs::read_to_string(path).ok()?;
        let commit = commit.trim();
        can_be_commit(commit).then(|| self.snapshot(commit))
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join(self.repo.folder_name())
    }

    /// Where a file lies whole, by the name of what it holds.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Keeps others from fetching the same file at once.
    pub(super) fn lock(&self, etag: &str, file: &str, watch: &mut dyn Watch) -> Result<File> {
        let folder = self.cache.path().join(".locks").join(self.repo.folder_name());
        make(&folder)?;
        let path = folder.join(format!("{etag}.lock"));
        let io = |error| Error::io("lock", &path, error);
        let lock = File::create(&path).map_err(io)?;
        if lock.try_lock().is_err() {
            watch.note(&format!("another process is fetching {file}: waiting for it"));
            lock.lock().map_err(io)?;
        }
        Ok(lock)
    }

    /// Puts a file into the snapshot of a commit: a link to where it lies whole.
    pub(super) fn place(&self, commit: &str, file: &str, blob: &Path) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(file);
        if let Some(folder) = path.parent() {
            make(folder)?;
        }
        if path.exists() {
            return Ok(path);
        }
        // A link that leads nowhere: what it pointed at was removed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("replace", &path, error));
            }
            _ => {}
        }
        // Out of snapshots/COMMIT, and out of as many folders as the file's own name has.
        let up = "../".repeat(2 + file.matches('/').count());
        let name = blob.file_name().unwrap_or_default().to_string_lossy();
        match link(&format!("{up}blobs/{name}"), blob, &path) {
            // Another process was faster.
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("write", &path, error)),
            _ => Ok(path),
        }
    }

    /// Notes which commit the revision is now.
    pub(super) fn note_commit(&self, commit: &str) -> Result<()> {
        if self.commit.is_some() {
            return Ok(());
        }
        let repo = self.cache.repo(self.repo.clone());
        let written = repo.create_ref(commit);
        written.map_err(|error| Error::io("write", self.folder().join("refs"), error))
    }
}

pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| Error::io("make", folder, error))
}

#[cfg(unix)]
fn link(relative: &str, _blob: &Path, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(relative, path)
}

/// Where links are a privilege, a file is copied.
#[cfg(not(unix))]
fn link(_relative: &str, blob: &Path, path: &Path) -> std::io::Result<()> {
    fs::copy(blob, path).map(drop)
}
