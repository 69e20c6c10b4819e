//! `clipzoo inspect`: what is in a checkpoint, without running it.

use std::path::PathBuf;

use clip_core::Error;
use clip_core::serde_json::{self, json};
use clip_format::{Checkpoint, TensorInfo};

use super::Cli;
use super::args::{located, print};
use super::failure::Outcome;
use super::inspect_queue;

/// Flags of `inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  clipzoo inspect ./my-model --tensors\n  clipzoo inspect runs/first --queue")]
pub(crate) struct Args {
    /// A model directory, a weights file or hf:owner/name[@revision]; with --queue, the directory of a run
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// List every tensor
    #[arg(long, conflicts_with = "queue")]
    tensors: bool,
    /// Show the feature queue in the newest good checkpoint of a run
    #[arg(long)]
    queue: bool,
    /// How many concepts of most and of fewest features are shown
    #[arg(long, value_name = "N", default_value_t = 10, requires = "queue")]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args.queue {
        return inspect_queue::run(&args.path, args.top, args.json);
    }
    let checkpoint = Checkpoint::open(located(&args.path)?, &cli.families)?;
    let tensors = checkpoint.raw_tensors();
    if args.json {
        let list: Vec<_> = tensors
            .iter()
            .map(|tensor| json!({ "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape }))
            .collect();
        let files: Vec<_> = checkpoint
            .files()
            .iter()
            .map(|file| json!({ "path": file.path, "bytes": file.bytes }))
            .collect();
        let object = json!({
            "family": checkpoint.family(), "files": files, "config": checkpoint.config(), "tensors": list,
        });
        return Ok(print(&object.to_string())?);
    }
    print(&format!("family      {}", checkpoint.family()))?;
    for file in checkpoint.files() {
        print(&format!(
            "file        {} ({} bytes)",
            file.path.display(),
            grouped(file.bytes)
        ))?;
    }
    print(&format!(
        "numbers     {} in {} tensors ({})",
        grouped(numbers(tensors)),
        tensors.len(),
        types(tensors).join(", ")
    ))?;
    let config = serde_json::to_string_pretty(checkpoint.config()).map_err(|e| Error::internal(e.to_string()))?;
    print(&format!("config      {}", config.replace('\n', "\n            ")))?;
    if args.tensors {
        for tensor in tensors {
            print(&format!(
                "{:<5} {:<22} {}",
                tensor.dtype.name(),
                format!("{:?}", tensor.shape),
                tensor.name
            ))?;
        }
    }
    Ok(())
}

/// How many numbers the tensors hold.
pub(super) fn numbers(tensors: &[TensorInfo]) -> u64 {
    tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>() as u64)
        .sum()
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|g| std::str::from_utf8(g).ok())
        .collect();
    groups.join(",")
}

/// The types of the tensors, each once.
pub(super) fn types(tensors: &[TensorInfo]) -> Vec<&'static str> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.dtype.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
