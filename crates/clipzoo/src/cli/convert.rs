//! `clipzoo convert`: a checkpoint in another family's layout.

use std::path::PathBuf;

use clap::ValueEnum;
use clip_core::serde_json::json;
use clip_format::{Checkpoint, Dtype, convert};

use super::Cli;
use super::args::{located, new_directory, note, print};
use super::failure::{Outcome, usage};
use super::inspect::{grouped, numbers, types};

/// Flags of `convert`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo convert --model ./my-model --to hf --output my-model-hf
  clipzoo convert --model epoch_3.pt --to clipzoo --dtype bf16 --output small

Layouts are named as their users call them (hf, easynlp, chinese_clip, open_clip, clipzoo) or by the name of one family;
`clipzoo models` lists them. Weights are copied bit for bit unless --dtype says otherwise.")]
pub(crate) struct Args {
    /// The model: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The layout to write
    #[arg(long, value_name = "LAYOUT")]
    to: String,
    /// The new directory; must be new or empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The type of the weights in the new file
    #[arg(long, value_enum, default_value_t = StoredAs::Keep)]
    dtype: StoredAs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--dtype` takes here: what is stored, not what is computed in.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum StoredAs {
    /// As in the file
    Keep,
    F32,
    F16,
    Bf16,
}

impl StoredAs {
    fn dtype(self) -> Option<Dtype> {
        match self {
            Self::Keep => None,
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::Bf16 => Some(Dtype::BF16),
        }
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    let layouts = cli.families.layouts();
    if !layouts.contains(&args.to.as_str()) {
        return usage(
            format!("--to {}: no such layout", args.to),
            format!("use one of {}", layouts.join(", ")),
        );
    }
    new_directory(&args.output)?;
    let checkpoint = Checkpoint::open(located(&args.model)?, &cli.families)?;
    let written = convert(&checkpoint, &args.to, args.dtype.dtype(), &args.output, &cli.families)?;
    for text in &written.notes {
        note(&format!("note: {text}"));
    }
    if args.json {
        let files: Vec<_> = written
            .files
            .iter()
            .map(|file| json!({ "path": file.path, "bytes": file.bytes }))
            .collect();
        let object = json!({
            "from": checkpoint.family(), "to": written.family, "output": args.output, "files": files,
            "tensors": written.tensors.len(), "numbers": numbers(&written.tensors), "dtypes": types(&written.tensors),
            "notes": written.notes,
        });
        return Ok(print(&object.to_string())?);
    }
    print(&format!("{} -> {}", checkpoint.family(), written.family))?;
    for file in &written.files {
        print(&format!("{} ({} bytes)", file.path.display(), grouped(file.bytes)))?;
    }
    Ok(print(&format!(
        "{} numbers in {} tensors ({})",
        grouped(numbers(&written.tensors)),
        written.tensors.len(),
        types(&written.tensors).join(", ")
    ))?)
}
