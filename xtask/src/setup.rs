//! Puts libtorch where compiler and loader look for it.
//!
//! `.cargo/config.toml` names `target/libtorch` to every cargo command, and every binary's run path leads there. This
//! links that place to the user's own libtorch, or to a copy in the cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::prerequisites::{self, Need};
use crate::process;
use crate::stage;
use crate::wheels::{Flavour, Layout, VERSION};
use crate::workspace::{Workspace, remove, write_whole};

/// How to set up.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take the CUDA build with its NVIDIA libraries: several GB. This way has not been run on a GPU yet.
    #[arg(long)]
    cuda: bool,
}

/// Set-up as the user asked for it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let flavour = if options.cuda { Flavour::Cuda } else { Flavour::Cpu };
    let own = own_folder(workspace)?;
    prerequisites::check(&needs(own.is_none() && !is_staged(workspace, flavour)))?;
    let folder = match own {
        Some(_) if options.cuda => {
            bail!(
                "--cuda stages a libtorch, and LIBTORCH or LIBTORCH_USE_PYTORCH names your own: leave one of them out"
            )
        }
        Some(own) => {
            println!("your own libtorch in {} is used", own.display());
            own
        }
        None => stage::stage(workspace, &Layout::here(flavour)?)?,
    };
    if options.cuda {
        println!("note: the CUDA build is staged and checked, and has not been run on a GPU from here yet");
    }
    link_everywhere(workspace, &folder)
}

/// Set-up before another task: what `target/libtorch` already leads to is kept if it is usable.
///
/// So a libtorch that was linked once by `cargo xtask setup` (one's own, or the CUDA build) stays.
pub(crate) fn ensure(workspace: &Workspace, more: &[Need]) -> Result<()> {
    let linked = workspace.libtorch();
    let usable =
        own_folder(workspace)?.is_none() && fs::canonicalize(&linked).is_ok_and(|folder| is_usable(workspace, &folder));
    let mut needs = needs(!usable && own_folder(workspace)?.is_none() && !is_staged(workspace, Flavour::Cpu));
    needs.extend(more);
    prerequisites::check(&needs)?;
    if usable {
        return link_everywhere(workspace, &fs::canonicalize(&linked)?);
    }
    run(workspace, &Options { cuda: false })
}

fn needs(fetches: bool) -> Vec<Need> {
    let mut needs = vec![Need::Rust, Need::Cpp];
    if fetches {
        needs.push(Need::Pip);
    }
    needs
}

fn is_staged(workspace: &Workspace, flavour: Flavour) -> bool {
    Layout::here(flavour)
        .is_ok_and(|layout| stage::is_whole(&layout.linked(&workspace.cache().join(layout.name)), &layout))
}

/// A folder in our cache must carry its stamp; one elsewhere is the user's, who linked it on purpose.
fn is_usable(workspace: &Workspace, folder: &Path) -> bool {
    let ours = fs::canonicalize(workspace.cache()).is_ok_and(|cache| folder.starts_with(cache));
    if ours {
        let layouts = [Flavour::Cpu, Flavour::Cuda]
            .into_iter()
            .filter_map(|flavour| Layout::here(flavour).ok());
        return layouts.into_iter().any(|layout| stage::is_whole(folder, &layout));
    }
    check(folder).is_ok()
}

/// The user's own libtorch, from the two variables that torch-sys reads too.
fn own_folder(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let folder = if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        let script = "import os, torch; print(os.path.dirname(torch.__file__))";
        // torch-sys asks the same interpreter.
        let python = if env::var_os("VIRTUAL_ENV").is_some() {
            "python"
        } else {
            "python3"
        };
        let folder = process::probe(python, &["-c", script]).with_context(|| {
            format!("LIBTORCH_USE_PYTORCH is set and {python} cannot import torch: install torch {VERSION} for it, or unset the variable")
        })?;
        PathBuf::from(folder.trim())
    } else if let Some(folder) = process::own_libtorch(workspace) {
        folder
    } else {
        return Ok(None);
    };
    check(&folder)?;
    let folder = fs::canonicalize(&folder).with_context(|| format!("cannot find {}", folder.display()))?;
    Ok(Some(folder))
}

/// Whether a folder holds a libtorch that torch-sys will take.
fn check(folder: &Path) -> Result<()> {
    let library = if cfg!(target_os = "macos") {
        "libtorch_cpu.dylib"
    } else {
        "libtorch_cpu.so"
    };
    for needed in [
        Path::new("lib").join(library),
        PathBuf::from("include/torch/csrc/api/include/torch/torch.h"),
    ] {
        if !folder.join(&needed).exists() {
            bail!("{} is no libtorch: it has no {}", folder.display(), needed.display());
        }
    }
    let version = version(folder);
    if version.as_deref().is_some_and(|version| version != VERSION)
        && env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_none()
    {
        bail!(
            "{} holds libtorch {}, and {VERSION} is needed: take that version, or set LIBTORCH_BYPASS_VERSION_CHECK=1 at your own risk",
            folder.display(),
            version.unwrap_or_default()
        );
    }
    Ok(())
}

/// The version of a libtorch, without its build tag, from the two files that may name it.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().split('+').next()?.to_string());
    }
    let header = fs::read_to_string(folder.join("include/torch/headeronly/version.h"))
        .or_else(|_| fs::read_to_string(folder.join("include/torch/csrc/api/include/torch/version.h")))
        .ok()?;
    let number = |part| -> Option<u32> {
        let name = format!("#define TORCH_VERSION_{part} ");
        header
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.trim().parse().ok())
    };
    Some(format!(
        "{}.{}.{}",
        number("MAJOR")?,
        number("MINOR")?,
        number("PATCH")?
    ))
}

/// Links `target/libtorch`, and the same name in the target folder in use, where the binaries' run paths lead.
fn link_everywhere(workspace: &Workspace, folder: &Path) -> Result<()> {
    let mut changed = link(&workspace.libtorch(), folder)?;
    let beside = workspace.target().join("libtorch");
    if beside != workspace.libtorch() {
        changed |= link(&beside, folder)?;
    }
    if changed {
        // The path that torch-sys knows stayed the same, so cargo would not link it anew by itself.
        println!("libtorch changed, so its bindings are built again");
        for profile in ["dev", "release"] {
            process::run(process::cargo(workspace).args([
                "clean",
                "--quiet",
                "--package",
                "torch-sys",
                "--profile",
                profile,
            ]))?;
        }
    }
    let libraries = workspace.libtorch().join("lib");
    let path = workspace.root().join(".cargo").join("local.toml");
    let local = rustdoc_flags(&libraries)?;
    if fs::read_to_string(&path).is_ok_and(|text| text == local) {
        return Ok(());
    }
    write_whole(&path, local)
}

/// Links `at` to `folder`; says whether it led to another libtorch before.
fn link(at: &Path, folder: &Path) -> Result<bool> {
    let before = fs::canonicalize(at).ok();
    if before.is_some() && before == fs::canonicalize(folder).ok() {
        return Ok(false);
    }
    if fs::symlink_metadata(at).is_ok_and(|data| data.is_dir()) {
        // Somebody put a real folder there, which `is_usable` did not take.
        bail!(
            "{} is a folder and not a usable libtorch {VERSION}; move it away",
            at.display()
        );
    }
    // Made beside and renamed, so that a build that runs now always finds one of the two.
    let beside = at.with_extension("new");
    remove(&beside)?;
    if let Some(parent) = at.parent() {
        fs::create_dir_all(parent)?;
    }
    symlink(folder, &beside)
        .and_then(|()| fs::rename(&beside, at))
        .with_context(|| format!("cannot link {} to {}", at.display(), folder.display()))?;
    println!("{} -> {}", at.display(), folder.display());
    Ok(before.is_some())
}

#[cfg(unix)]
fn symlink(folder: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(folder, at)
}

#[cfg(not(unix))]
fn symlink(_folder: &Path, _at: &Path) -> std::io::Result<()> {
    Err(std::io::Error::other("only Linux and macOS are supported"))
}

/// Documentation tests run from a folder of their own, where no relative run path leads to libtorch.
fn rustdoc_flags(libraries: &Path) -> Result<String> {
    let libraries = libraries.to_str().context("the repository's path is not UTF-8")?;
    let flags = toml::Value::from(vec!["-C".to_string(), format!("link-arg=-Wl,-rpath,{libraries}")]);
    Ok(format!(
        "# Written by `cargo xtask setup`.\n[build]\nrustdocflags = {flags}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(folder: &Path, version: &str) {
        for file in [
            "lib/libtorch_cpu.so",
            "lib/libtorch_cpu.dylib",
            "include/torch/csrc/api/include/torch/torch.h",
        ] {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(folder.join("build-version"), version).unwrap();
    }

    #[test]
    fn a_foreign_libtorch_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("is no libtorch"));
        libtorch(folder.path(), "2.13.0+cu130\n");
        check(folder.path()).unwrap();
        libtorch(folder.path(), "2.12.1\n");
        let message = check(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("holds libtorch 2.12.1") && message.contains("2.13.0 is needed"),
            "{message}"
        );
    }

    #[test]
    fn the_version_is_read_from_the_header_too() {
        let folder = tempfile::tempdir().unwrap();
        let header = folder.path().join("include/torch/headeronly/version.h");
        fs::create_dir_all(header.parent().unwrap()).unwrap();
        fs::write(header, "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 13\n#define TORCH_VERSION_PATCH 0\n").unwrap();
        assert_eq!(version(folder.path()).unwrap(), "2.13.0");
    }

    #[test]
    fn a_link_is_replaced_and_a_real_folder_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("target/libtorch");
        for name in ["one", "two"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            assert_eq!(link(&at, &folder.path().join(name)).unwrap(), name == "two");
            assert_eq!(fs::read_link(&at).unwrap(), folder.path().join(name));
        }
        assert!(!link(&at, &folder.path().join("two")).unwrap());
        fs::remove_file(&at).unwrap();
        fs::create_dir(&at).unwrap();
        assert!(
            link(&at, &folder.path().join("one"))
                .unwrap_err()
                .to_string()
                .contains("move it away")
        );
    }

    #[test]
    fn the_run_path_of_documentation_tests_is_valid_toml() {
        let text = rustdoc_flags(Path::new("/a \"b\"/lib")).unwrap();
        let value: toml::Table = text.parse().unwrap();
        assert_eq!(
            value["build"]["rustdocflags"][1].as_str(),
            Some("link-arg=-Wl,-rpath,/a \"b\"/lib")
        );
    }
}
