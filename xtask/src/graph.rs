//! Who may import whom, as data, checked against what cargo says.
//!
//! The line it guards: text, pictures, pairs, files, vectors and hits are plain; only encoders, objectives and queues
//! hold tensors. So the light crates build and test in seconds, and a release of tch breaks nobody who needs no tensor.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// What a member of the workspace may import of the other members.
enum May {
    /// These alone.
    Import(&'static [&'static str]),
    /// Everything: facade, examples, benches and cross-crate tests.
    All,
    /// Whatever never links libtorch.
    Light,
}

use May::{All, Import, Light};

/// Rows of crates: who, and whom it may import. ARCHITECTURE.md tells why.
const TABLE: &[(&str, May)] = &[
    ("clip-core", Import(&[])),
    ("clip-tokenizers", Import(&["clip-core"])),
    ("clip-data", Import(&["clip-core"])),
    ("clip-index", Import(&["clip-core"])),
    ("clip-page", Import(&["clip-core"])),
    ("clip-format", Import(&["clip-core", "clip-tokenizers", "clip-data"])),
    ("clip-apps", Import(&["clip-core", "clip-index", "clip-page"])),
    ("clip-serve", Import(&["clip-core", "clip-apps", "clip-page"])),
    ("clip-torch", Import(&[])),
    ("clip-nn", Import(&["clip-core", "clip-torch"])),
    ("clip-models", Import(&["clip-nn", "clip-format"])),
    (
        "clip-train",
        Import(&[
            "clip-core",
            "clip-nn",
            "clip-torch",
            "clip-data",
            "clip-index",
            "clip-page",
        ]),
    ),
    ("clipzoo", All),
    ("xtask", Light),
];

/// Members below these folders may import everything.
const OPEN_FOLDERS: [&str; 3] = ["examples/", "benches/", "tests/"];

/// The crates that never link libtorch.
const LIGHT: &[&str] = &[
    "clip-core",
    "clip-tokenizers",
    "clip-data",
    "clip-format",
    "clip-index",
    "clip-page",
    "clip-apps",
    "clip-serve",
    "xtask",
];

/// Who may name the bindings to libtorch; everyone else reaches them through `clip_nn::tch`.
const BINDINGS: &[(&str, &[&str])] = &[("tch", &["clip-torch", "clip-nn"]), ("torch-sys", &["clip-torch"])];

/// Checks the workspace and names every breach at once.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let arguments = ["metadata", "--format-version", "1", "--all-features"];
    let metadata = process::output(process::cargo(workspace).args(arguments))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata did not write JSON")?;
    let packages = read_packages(&metadata)?;
    let mut breaches = breaches(&packages);

    let light: Vec<_> = packages
        .iter()
        .filter(|package| package.member && LIGHT.contains(&&*package.name))
        .collect();
    let mut tree = process::cargo(workspace);
    tree.args(["tree", "--prefix", "none", "--all-features"]);
    tree.args(light.iter().flat_map(|package| ["--package", &package.name]));
    // A cargo that fails stops here: an empty answer must not pass for a clean one.
    if process::output(&mut tree)?
        .lines()
        .any(|line| line.starts_with("torch-sys "))
    {
        let how = "cargo tree --all-features --invert torch-sys --package <crate> shows the way";
        breaches.push(format!("a light crate reaches torch-sys; {how}"));
    }
    if !breaches.is_empty() {
        bail!("the import rules are broken:\n  {}", breaches.join("\n  "));
    }
    println!(
        "{} members keep the import rules; {} of them never link libtorch",
        count(&packages),
        light.len()
    );
    Ok(())
}

fn count(packages: &[Package]) -> usize {
    packages.iter().filter(|package| package.member).count()
}

struct Package {
    name: String,
    /// Its folder below the root, with `/`.
    folder: String,
    member: bool,
    from_registry: bool,
    /// Direct dependencies of every kind, by package name.
    imports: Vec<String>,
}

fn read_packages(metadata: &Value) -> Result<Vec<Package>> {
    let text = |value: &Value| value.as_str().map(String::from);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let root = text(&metadata["workspace_root"]).context("cargo metadata names no workspace")?;
    let members: Vec<_> = list(&metadata["workspace_members"]).iter().filter_map(text).collect();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let manifest = text(&package["manifest_path"]).context("a package without a manifest")?;
            let folder = manifest
                .strip_prefix(&root)
                .unwrap_or(&manifest)
                .trim_start_matches('/')
                .to_string();
            Ok(Package {
                name: text(&package["name"]).context("a package without a name")?,
                folder,
                member: text(&package["id"]).is_some_and(|id| members.contains(&id)),
                from_registry: text(&package["source"]).is_some_and(|source| source.starts_with("registry+")),
                imports: list(&package["dependencies"])
                    .iter()
                    .filter_map(|import| text(&import["name"]))
                    .collect(),
            })
        })
        .collect()
}

fn breaches(packages: &[Package]) -> Vec<String> {
    let table: BTreeMap<_, _> = TABLE.iter().map(|(name, may)| (*name, may)).collect();
    let members: BTreeMap<_, _> = packages
        .iter()
        .filter(|package| package.member)
        .map(|package| (package.name.as_str(), package))
        .collect();
    let mut breaches = Vec::new();
    for package in members.values() {
        let open = OPEN_FOLDERS.iter().any(|folder| package.folder.starts_with(folder));
        let may = match table.get(package.name.as_str()) {
            Some(may) => *may,
            None if open => &All,
            None => {
                breaches.push(format!(
                    "{} has no row in the table of xtask/src/graph.rs",
                    package.name
                ));
                continue;
            }
        };
        for import in &package.imports {
            let ours = members.contains_key(import.as_str());
            let allowed = match may {
                All => true,
                Light => !ours || LIGHT.contains(&import.as_str()),
                Import(names) => !ours || names.contains(&import.as_str()),
            };
            let binding = BINDINGS.iter().find(|(name, _)| name == import);
            let allowed = allowed && binding.is_none_or(|(_, users)| users.contains(&package.name.as_str()));
            if !allowed {
                breaches.push(format!("{} must not import {import}", package.name));
            }
        }
    }
    // The public registry has unrelated packages of such names, under other licences.
    let foreign = packages.iter().filter(|package| package.from_registry);
    for package in foreign.filter(|package| package.name.starts_with("clip-") || package.name.starts_with("clip_")) {
        breaches.push(format!(
            "{} comes from a registry: it is not ours, and the name is too close",
            package.name
        ));
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, folder: &str, imports: &[&str]) -> Package {
        Package {
            name: name.to_string(),
            folder: format!("{folder}/Cargo.toml"),
            member: true,
            from_registry: false,
            imports: imports.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_the_table_allows_passes() {
        let packages = [
            package("clip-core", "crates/clip-core", &["serde"]),
            package("clip-torch", "crates/clip-torch", &["tch", "torch-sys"]),
            package("clip-nn", "crates/clip-nn", &["clip-core", "clip-torch", "tch"]),
            package("clipzoo", "crates/clipzoo", &["clip-core", "clip-nn"]),
            package("my-example", "examples/mine", &["clipzoo", "clip-nn"]),
            package("xtask", "xtask", &["clip-core", "clap"]),
        ];
        assert_eq!(breaches(&packages), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_breach_is_named() {
        let mut foreign = package("clip_core", "registry", &[]);
        (foreign.member, foreign.from_registry) = (false, true);
        let packages = [
            package("clip-core", "crates/clip-core", &["clip-nn"]),
            package("clip-nn", "crates/clip-nn", &["torch-sys"]),
            package("clip-train", "crates/clip-train", &["tch"]),
            package("clip-new", "crates/clip-new", &[]),
            package("xtask", "xtask", &["clip-nn"]),
            foreign,
        ];
        assert_eq!(
            breaches(&packages),
            [
                "clip-core must not import clip-nn",
                "clip-new has no row in the table of xtask/src/graph.rs",
                "clip-nn must not import torch-sys",
                "clip-train must not import tch",
                "xtask must not import clip-nn",
                "clip_core comes from a registry: it is not ours, and the name is too close",
            ]
        );
    }

    #[test]
    fn packages_are_read_from_cargos_answer() {
        let metadata = serde_json::json!({
            "workspace_root": "/w", "workspace_members": ["path+file:///w/crates/a#0.1.0"],
            "packages": [
                {"id": "path+file:///w/crates/a#0.1.0", "name": "a", "manifest_path": "/w/crates/a/Cargo.toml",
                 "source": null, "dependencies": [{"name": "b", "rename": "c"}]},
                {"id": "registry#b@1.0.0", "name": "b", "manifest_path": "/cache/b/Cargo.toml",
                 "source": "registry+https://example.org", "dependencies": []}]
        });
        let packages = read_packages(&metadata).unwrap();
        assert_eq!(
            (packages[0].folder.as_str(), packages[0].member),
            ("crates/a/Cargo.toml", true)
        );
        assert_eq!(packages[0].imports, ["b"]);
        assert!(packages[1].from_registry && !packages[1].member);
    }
}
