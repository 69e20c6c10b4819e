//! `clipzoo tokenize`: what the model really sees of a text.

use std::io::Write;
use std::path::PathBuf;

use clip_data::{PendingFile, TextFile, ordered};
use clip_format::{Checkpoint, TextOptions};

use super::Cli;
use super::args::{Cut, cores, located};
use super::failure::Outcome;

/// Flags of `tokenize`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  clipzoo tokenize --model ./my-model --texts titles.txt --output ids.jsonl")]
pub(crate) struct Args {
    /// The model: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// The texts: .txt one a line, .jsonl one JSON string a line
    #[arg(long, value_name = "FILE")]
    texts: PathBuf,
    /// Where the ids go: a JSON array a line, special tokens included, truncated as the model does, without padding
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The most tokens of a text [default: the config's; 52 for BERT text towers]
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    #[command(flatten)]
    cut: Cut,
    /// Threads that tokenise [default: all cores]
    #[arg(long)]
    workers: Option<usize>,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    let options = TextOptions {
        context_length: args.context_length,
        truncation: args.cut.how(),
    };
    let tokenizer = Checkpoint::open(located(&args.model)?, &cli.families)?.tokenizer_with(options)?;
    let mut output = PendingFile::create(&args.output)?;
    let workers = args.workers.unwrap_or_else(cores);
    let lines = ordered(TextFile::open(&args.texts)?, workers, 256 * workers, move |text| {
        let ids = tokenizer.encode(&[text?.as_str()])?;
        let ids: Vec<String> = ids.rows().flatten().map(u32::to_string).collect();
        Ok(format!("[{}]", ids.join(", ")))
    })?;
    for line in lines {
        writeln!(output, "{}", line?).map_err(|error| output.error(error))?;
    }
    Ok(output.commit()?)
}
