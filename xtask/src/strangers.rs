//! The examples that stand for a stranger's crate, built and run as their authors would, and the fuzz targets: workspaces
//! of their own.
//!
//! They share our target folder and get our profiles, so that torch-sys, minutes of C++, is not compiled again for them.

use std::fs;
use std::path::{Path, PathBuf};
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
    for example in &found {
        let folder = &example.folder;
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
        process::run(built("run").arg("--quiet").arg("--").args(&example.arguments))?;
    }
    println!("{} examples of a stranger's crate", found.len());
    fuzz_targets(workspace, &profiles)
}

/// Formats and lints the fuzz targets. They run under nightly Rust; on stable, clip-format's tests run their bodies.
fn fuzz_targets(workspace: &Workspace, profiles: &Path) -> Result<()> {
    println!("fuzz targets");
    let cargo = |subcommand: &str| -> Command {
        let mut cargo = process::cargo(workspace);
        cargo
            .current_dir(workspace.root().join("fuzz"))
            .env("CARGO_TARGET_DIR", workspace.target());
        cargo.arg(subcommand);
        cargo
    };
    process::run(cargo("fmt").arg("--check"))?;
    process::run(
        cargo("clippy")
            .arg("--config")
            .arg(profiles)
            .args(["--all-targets", "--", "-D", "warnings"]),
    )
}

/// An example that stands for a stranger's crate.
struct Example {
    folder: PathBuf,
    /// What its program is run with: `run` of `[package.metadata.xtask]`.
    arguments: Vec<String>,
}

/// Those of examples/ whose manifest opens a workspace of its own.
fn find(workspace: &Workspace) -> Result<Vec<Example>> {
    let examples = workspace.root().join("examples");
    let mut found = Vec::new();
    for entry in fs::read_dir(&examples).with_context(|| format!("cannot read {}", examples.display()))? {
        let folder = entry?.path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let manifest: toml::Table = manifest.parse().with_context(|| format!("in {}", folder.display()))?;
        if manifest.contains_key("workspace") {
            let arguments = arguments(&manifest);
            found.push(Example { folder, arguments });
        }
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// What a manifest says its program is run with; nothing where it does not.
fn arguments(manifest: &toml::Table) -> Vec<String> {
    let ours = ["package", "metadata", "xtask"];
    let ours = ours
        .iter()
        .try_fold(manifest, |table, key| table.get(*key).and_then(toml::Value::as_table));
    let run = ours.and_then(|table| table.get("run")).and_then(toml::Value::as_array);
    let words = run.into_iter().flatten().filter_map(toml::Value::as_str);
    words.map(str::to_owned).collect()
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
    fn a_manifest_may_say_what_its_program_is_run_with() {
        let manifest = |text: &str| text.parse::<toml::Table>().unwrap();
        assert!(arguments(&manifest("[package]\nname = \"x\"\n")).is_empty());
        let some = "[package.metadata.xtask]\nrun = [\"models\", \"--json\"]\n";
        assert_eq!(arguments(&manifest(some)), ["models", "--json"]);
    }

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
