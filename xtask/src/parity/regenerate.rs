//! Makes the stored references again, and shows what changed.
//!
//! Each script writes over files of the repository, so what changed is what git says. Random weights come from a seed and are
//! the same everywhere; sums of floating-point numbers may end otherwise on another processor.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// A script and what it is given, a run a line.
struct Script {
    name: &'static str,
    runs: &'static [&'static [&'static str]],
    /// What it writes, in the repository.
    writes: &'static [&'static str],
}

const SCRIPTS: [Script; 7] = [
    Script {
        name: "weights",
        runs: &[&["tests/fixtures/weights"]],
        writes: &["tests/fixtures/weights"],
    },
    Script {
        name: "pixels",
        runs: &[&[]],
        writes: &["crates/clip-data/tests/golden"],
    },
    Script {
        name: "tokenizers",
        runs: &[
            &[
                "--count",
                "300",
                "--seed",
                "1",
                "--output",
                "crates/clip-tokenizers/tests/fuzz.jsonl",
            ],
            &["--tiny", "crates/clip-tokenizers/tests/tiny"],
            &["--tables", "crates/clip-tokenizers/data"],
        ],
        writes: &["crates/clip-tokenizers/tests", "crates/clip-tokenizers/data"],
    },
    Script {
        name: "json_tokenizers",
        runs: &[&["crates/clip-tokenizers/tests/json"]],
        writes: &["crates/clip-tokenizers/tests/json"],
    },
    Script {
        name: "nearest_neighbour",
        runs: &[&[]],
        writes: &["tests/fixtures/nearest_neighbour"],
    },
    Script {
        name: "layouts",
        runs: &[&[]],
        writes: &["tests/fixtures/models"],
    },
    Script {
        name: "hugging_face",
        runs: &[&["tests/fixtures/models", "--easynlp"]],
        writes: &["tests/fixtures/models"],
    },
];

/// Runs the scripts of these names, or all.
pub(super) fn run(workspace: &Workspace, python: &Path, wanted: &[String]) -> Result<()> {
    let names = SCRIPTS.map(|script| script.name);
    let stem = |name: &str| name.trim_end_matches(".py").to_owned();
    if let Some(stranger) = wanted.iter().find(|name| !names.contains(&stem(name).as_str())) {
        bail!("no script is called {stranger}; there are: {}", names.join(", "));
    }
    let is_wanted = |script: &&Script| wanted.is_empty() || wanted.iter().any(|name| stem(name) == script.name);
    let scripts: Vec<&Script> = SCRIPTS.iter().filter(is_wanted).collect();
    for script in &scripts {
        for words in script.runs {
            let mut command = Command::new(python);
            // A script here is named like a package, which its folder would hide.
            command
                .current_dir(workspace.root())
                .arg("-P")
                .arg(format!("xtask/parity/{}.py", script.name))
                .args(*words);
            process::run(&mut command)?;
        }
    }
    let written: Vec<&str> = scripts.iter().flat_map(|script| script.writes).copied().collect();
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command
            .current_dir(workspace.root())
            .args(words)
            .arg("--")
            .args(&written);
        process::output(&mut command)
    };
    let changed = git(&["diff", "--stat"])? + &git(&["ls-files", "--others", "--exclude-standard"])?;
    if changed.is_empty() {
        println!("nothing changed");
    } else {
        println!("changed, or new:\n{changed}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_is_there_and_writes_where_something_is() {
        let workspace = Workspace::find().unwrap();
        let folder = workspace.root().join("xtask/parity");
        for script in &SCRIPTS {
            assert!(folder.join(format!("{}.py", script.name)).is_file(), "{}", script.name);
            for path in script.writes {
                assert!(workspace.root().join(path).exists(), "{path}");
            }
        }
        let there = std::fs::read_dir(folder).unwrap();
        let there = there.filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|end| end == "py")
        });
        assert_eq!(there.count(), SCRIPTS.len(), "a script is missing in the table");
    }
}
