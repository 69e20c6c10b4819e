//! The examples that stand for a stranger's crate: workspaces of their own, built and run as their authors would.
//!
//! They share our target folder and get our profiles, so that torch-sys, minutes of C++, is not compiled again for them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::{Workspace, write_whole};

/// Formats, lints, tests and runs each of them.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let profiles = workspace.target().join("xtask").join("profiles.toml");
    write_whole(
        &profiles,
        profiles_of(&fs::read_to_string(workspace.root().join("Cargo.toml"))?)?,
    )?;
    let found = find(workspace)?;
    for folder in &found {
        println!("example {}", workspace.shown(folder));
        let cargo = |subcommand: &str| -> Command {
            let mut cargo = process::cargo(workspace);
            cargo.current_dir(folder).env("CARGO_TARGET_DIR", workspace.target());
            cargo.arg(subcommand);
            cargo
        };
        // After the subcommand: clippy is a program of its own, which sees nothing of what stands before its name.
        let built = |subcommand: &str| -> Command {
            let mut cargo = cargo(subcommand);
            cargo.arg("--config").arg(&profiles);
            cargo
        };
        process::run(cargo("fmt").arg("--check"))?;
        process::run(built("clippy").args(["--all-targets", "--", "-D", "warnings"]))?;
        process::run(built("test").arg("--quiet"))?;
        process::run(built("run").arg("--quiet"))?;
    }
    println!("{} examples of a stranger's crate", found.len());
    Ok(())
}

/// The folders of examples/ whose manifest opens a workspace of its own.
fn find(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let examples = workspace.root().join("examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&examples).with_context(|| format!("cannot read {}", examples.display()))? {
        let folder = entry?.path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let manifest: toml::Table = manifest.parse().with_context(|| format!("in {}", folder.display()))?;
        if manifest.contains_key("workspace") {
            found.push(folder);
        }
    }
    found.sort();
    Ok(found)
}

/// The `[profile]` tables of a manifest, as a configuration file for cargo.
fn profiles_of(manifest: &str) -> Result<String> {
    let manifest: toml::Table = manifest.parse().context("in the root's Cargo.toml")?;
    let profiles = manifest
        .into_iter()
        .filter(|(key, _)| key == "profile")
        .collect::<toml::Table>();
    Ok(profiles.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_are_taken_as_they_stand() {
        let manifest =
            "[workspace]\nmembers = []\n[profile.dev]\nopt-level = 1\n[profile.dev.package.\"*\"]\nopt-level = 3\n";
        let profiles: toml::Table = profiles_of(manifest).unwrap().parse().unwrap();
        assert_eq!(profiles.keys().collect::<Vec<_>>(), ["profile"]);
        assert_eq!(profiles["profile"]["dev"]["opt-level"].as_integer(), Some(1));
        assert_eq!(
            profiles["profile"]["dev"]["package"]["*"]["opt-level"].as_integer(),
            Some(3)
        );
    }
}
