//! Ours and the Python peers, side by side in one run on one machine, on the same files.
//!
//! A figure alone says little about a machine that nobody else has, so each round runs every program once, as a whole
//! process, and a table holds how many times ours is better. Before anything is measured, the results are compared:
//! who computes something else is not faster. The peers are the scripts in `benches/peers`; everything made lies in
//! `target/bench`.

mod agree;
mod entrants;
mod name;
mod prepare;
mod race;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::demo;
use crate::prerequisites::Need;
use crate::process;
use crate::setup;
use crate::steps;
use crate::workspace::{Workspace, write_whole};

use name::{Name, Program};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The bench; all of them without a name
    #[arg(value_enum)]
    name: Option<Name>,
    /// How often each program is measured, after one round that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Threads that encoders and tokenizers use; with more than one, the clock counts and no core is chosen
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    threads: u32,
}

/// Where things are, and how they are to run.
struct Places<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    python: PathBuf,
    threads: u32,
}

/// Prepares what is missing, then measures.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, &[Need::Pip])?;
    let folder = workspace.target().join("bench");
    let places = Places {
        workspace,
        python: prepare::PEERS.python(workspace)?,
        folder,
        threads: options.threads,
    };
    let names = options
        .name
        .map_or_else(|| Name::value_variants().to_vec(), |name| vec![name]);
    places.build(&names)?;
    steps::take(workspace, &places.folder.join("marks"), places.preparation(&names))?;
    for name in names {
        let title = name.title(options.threads);
        println!("\n== {title}");
        let race = places.race(name);
        places.check(name, &race)?;
        let table = race.table(options.rounds)?;
        let path = places.folder.join(format!("{}.md", name.file(options.threads)));
        write_whole(&path, format!("## {title}\n\n{table}"))?;
        println!("\n{table}\nwritten to {}", workspace.shown(&path));
    }
    Ok(())
}

impl Places<'_> {
    /// Builds what the benches of these names run.
    fn build(&self, names: &[Name]) -> Result<()> {
        // One at a time: together they would share features, and the command would be built once more.
        for program in Program::value_variants() {
            if names.iter().any(|name| name.programs().contains(program)) {
                process::build_release(self.workspace, &program.target())?;
            }
        }
        Ok(())
    }

    fn peer(&self, script: &str) -> PathBuf {
        self.workspace.root().join("benches/peers").join(script)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.join("output").join(name)
    }

    /// One of our programs.
    fn program(&self, program: Program) -> OsString {
        demo::binary(self.workspace, &program.path()).into()
    }

    /// A peer's command line.
    fn script(&self, name: &str, arguments: &[&Path]) -> Vec<OsString> {
        let program = [self.python.clone(), self.peer(name)];
        program
            .iter()
            .map(PathBuf::as_path)
            .chain(arguments.iter().copied())
            .map(Into::into)
            .collect()
    }

    fn pictures(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data("pictures")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }
}
