//! Where things are: the repository, the target folder, the user's cache.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders every task works in.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// Finds the repository from this crate's own place, and the rest from the environment.
    pub(crate) fn find() -> Result<Self> {
        // Set by `cargo run`; the place at compile time serves a binary that is started by hand.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest
            .parent()
            .context("xtask lies in the workspace's folder")?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) if !folder.is_empty() => env::current_dir()?.join(folder),
            _ => root.join("target"),
        };
        Ok(Self {
            root,
            target,
            cache: cache_folder(|name| env::var_os(name).map(PathBuf::from))?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What is fetched once for all clones.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// The place that `.cargo/config.toml` names for libtorch; it does not move with `CARGO_TARGET_DIR`.
    pub(crate) fn libtorch(&self) -> PathBuf {
        self.root.join("target").join("libtorch")
    }

    /// `path` as a reader of our lines would write it: relative to the repository where it lies inside.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Waits until no other set-up works in the cache; the lock ends with the returned file.
    pub(crate) fn lock_cache(&self) -> Result<File> {
        fs::create_dir_all(&self.cache).with_context(|| format!("cannot make the folder {}", self.cache.display()))?;
        let path = self.cache.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            println!("waiting for another set-up to finish with {}", self.cache.display());
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }
}

fn cache_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let variable = |name| variable(name).filter(|path| path.is_absolute());
    if let Some(own) = variable("CLIPZOO_CACHE") {
        return Ok(own);
    }
    if let Some(cache) = variable("XDG_CACHE_HOME") {
        return Ok(cache.join("clipzoo"));
    }
    let home =
        variable("HOME").context("neither CLIPZOO_CACHE nor HOME names a folder; set CLIPZOO_CACHE=/some/folder")?;
    let cache = if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    };
    Ok(home.join(cache).join("clipzoo"))
}

/// Writes a file so that it appears whole or not at all.
pub(crate) fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let folder = path
        .parent()
        .with_context(|| format!("{} lies in no folder", path.display()))?;
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&beside, content))
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Removes what is at `path`, file or folder, if anything is.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_nearest_variable() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            cache_folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(
            with(&[("CLIPZOO_CACHE", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(),
            Path::new("/c")
        );
        assert_eq!(
            with(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]).unwrap(),
            Path::new("/x/clipzoo")
        );
        assert!(
            with(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")])
                .unwrap()
                .starts_with("/h")
        );
        assert!(with(&[("XDG_CACHE_HOME", "relative")]).is_err());
    }
}
