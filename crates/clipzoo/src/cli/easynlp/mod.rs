//! `clipzoo easynlp`: EasyNLP's own flags for its CLIP, over the commands here.
//!
//! A run becomes the words of one of our commands ([`plain`]), which are shown and then run by that command's own code, so
//! that what is shown is what was done. What is EasyNLP's alone stands around it: its defaults, what it prints, and the
//! files of its checkpoint directory.

mod evaluate;
mod flags;
mod folder;
mod log;
mod look;
mod plain;
mod predict;
mod resume;
mod settings;
mod train;

use std::time::Instant;

use clap::CommandFactory;
use clip_core::Error;
use clip_data::PythonNumber;

use self::flags::Flags;
use self::settings::{Mode, Settings, idle_parameters};
use super::args::{note, print};
use super::failure::Outcome;
use super::{Arguments, Cli};

/// Flags of `easynlp`: EasyNLP's own.
#[derive(clap::Args)]
#[command(
    override_usage = "clipzoo easynlp --mode=train|evaluate|predict [EASYNLP'S FLAGS]",
    after_help = "Examples:
  clipzoo easynlp --mode=train --worker_gpu=1 --tables=train.tsv,valid.tsv \\
    --input_schema=text:str:1,image:str:1 --first_sequence=text --second_sequence=image \\
    --checkpoint_dir=./out --learning_rate=1e-6 --epoch_num=1 --random_seed=42 \\
    --save_checkpoint_steps=200 --sequence_length=32 --micro_batch_size=32 --app_name=clip \\
    --user_defined_parameters='pretrain_model_name_or_path=./pai-clip-commercial-base-en'
  clipzoo easynlp --mode=evaluate --tables=valid.tsv --input_schema=text:str:1,image:str:1 \\
    --first_sequence=text --second_sequence=image --checkpoint_dir=./out --app_name=clip
  clipzoo easynlp --mode=predict --tables=texts.tsv --input_schema=text:str:1 \\
    --first_sequence=text --outputs=features.tsv --output_schema=text_feat \\
    --checkpoint_dir=./out --app_name=clip

Flags are EasyNLP's, as --name=value or --name value, with EasyNLP's defaults. Without
--worker_gpu=1 the CPU computes. Each run says which plain command it stands for.
docs/guide/coming-from-easynlp.md has the table of all flags."
)]
pub(crate) struct Args {
    /// EasyNLP's flags
    #[arg(
        value_name = "FLAGS",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        hide = true
    )]
    words: Vec<String>,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args.words.iter().any(|word| word == "--help" || word == "-h") {
        return help();
    }
    let started = Instant::now();
    let flags = Flags::parse(&args.words)?;
    let settings = Settings::read(&flags)?;
    let (letter, mode): (_, fn(&Cli, &Flags, &Settings) -> Outcome) = match settings.mode {
        Mode::Train => ('t', train::run),
        Mode::Evaluate => ('e', evaluate::run),
        Mode::Predict => ('p', predict::run),
    };
    flags.idle(letter).iter().for_each(|line| note(line));
    let idle = idle_parameters(&flags);
    if !idle.is_empty() {
        note(&format!(
            "without meaning in --user_defined_parameters, and passed over: {}",
            idle.join(", ")
        ));
    }
    mode(cli, &flags, &settings)?;
    let seconds = PythonNumber(started.elapsed().as_secs_f64());
    Ok(print(&format!("Duration time: {seconds} s"))?)
}

/// What `--help` shows where EasyNLP's flags stand before it.
fn help() -> Outcome {
    let mut all = Arguments::command();
    // Built, the commands below know what they are called from outside.
    all.build();
    let own = all.find_subcommand_mut("easynlp");
    let own = own.ok_or_else(|| Error::internal("`easynlp` is no command"))?;
    Ok(print(own.render_help().to_string().trim_end())?)
}
