//! The command line: one file a command, one [`Cli`] that a third party extends.

mod args;
mod average;
mod calibrate;
mod classify;
mod classify_lines;
mod classify_pictures;
mod compare;
mod compare_queries;
mod completions;
mod concepts;
mod convert;
mod dedup;
mod easynlp;
mod evaluate;
mod evaluate_concepts;
mod evaluate_page;
mod evaluate_report;
mod evaluate_sides;
mod failure;
mod import;
mod inputs;
mod inspect;
mod inspect_queue;
mod interrupt;
mod kept;
mod models;
mod pictures;
mod predict;
mod predict_run;
mod predict_work;
mod preprocess;
mod progress;
mod rows;
mod split;
mod tokenize;
mod train;
mod train_flags;
mod train_tables;
mod tuning;
mod waiting;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clip_core::Result;
use clip_format::{Families, Family};
use clip_nn::Zoo;

use failure::Outcome;

/// The `clipzoo` command over a zoo of parts.
///
/// A program of a few lines is the whole command with parts of its own in it:
///
/// ```no_run
/// fn main() -> clip_core::Result<std::process::ExitCode> {
///     let mut zoo = clipzoo::zoo()?;
///     // zoo.image::<MyBackbone>()?;
///     Ok(clipzoo::cli(zoo).run())
/// }
/// ```
pub struct Cli {
    zoo: Zoo,
    families: Families,
}

/// The command over a zoo, with the bundled families.
pub fn cli(zoo: Zoo) -> Cli {
    Cli {
        zoo,
        families: Families::bundled(),
    }
}

impl Cli {
    /// Adds a family of checkpoints.
    pub fn family(mut self, family: impl Family + 'static) -> Result<Self> {
        self.families.register(family)?;
        Ok(self)
    }

    /// Runs the process's own arguments; gives the exit status: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
    ///
    /// On Linux a command that runs long starts itself once more in the same process, under `OMP_WAIT_POLICY=passive`;
    /// set that variable to decide otherwise.
    pub fn run(&self) -> ExitCode {
        self.answer(std::env::args_os(), true)
    }

    /// Runs given arguments, the program's name first.
    pub fn run_from(&self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        self.answer(arguments, false)
    }

    fn answer(&self, arguments: impl IntoIterator<Item = OsString>, own: bool) -> ExitCode {
        clip_nn::quiet();
        let parsed = Arguments::command()
            .try_get_matches_from(arguments)
            .and_then(|m| Arguments::from_arg_matches(&m));
        let arguments = match parsed {
            Ok(arguments) => arguments,
            Err(error) => {
                // clap writes --help and --version to stdout with status 0, wrong usage to stderr with status 2.
                let _ = error.print();
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
        };
        if own && arguments.command.runs_long() {
            waiting::sleep_while_waiting();
        }
        if own {
            interrupt::listen();
        }
        match self.dispatch(arguments.command) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let status = failure.report();
                if interrupt::heard() {
                    ExitCode::from(interrupt::STATUS)
                } else {
                    status
                }
            }
        }
    }

    fn dispatch(&self, command: Command) -> Outcome {
        match command {
            Command::Train(args) => train::run(self, *args),
            Command::Evaluate(args) => evaluate::run(self, args),
            Command::Predict(args) => predict::run(self, args),
            Command::Classify(args) => classify::run(self, *args),
            Command::Compare(args) => compare::run(self, *args),
            Command::Tokenize(args) => tokenize::run(self, args),
            Command::Preprocess(args) => preprocess::run(self, args),
            Command::Concepts(args) => concepts::run(args),
            Command::Import(args) => import::run(args),
            Command::Split(args) => split::run(args),
            Command::Dedup(args) => dedup::run(self, args),
            Command::Inspect(args) => inspect::run(self, args),
            Command::Convert(args) => convert::run(self, args),
            Command::Average(args) => average::run(self, args),
            Command::Calibrate(args) => calibrate::run(self, args),
            Command::Models(args) => models::run(self, args),
            Command::Easynlp(args) => easynlp::run(self, args),
            Command::Completions(args) => completions::completions(&args),
            Command::Man(args) => completions::man(&args),
        }
    }
}

/// Train, evaluate and run CLIP models for e-commerce, in English and Chinese.
#[derive(Parser)]
#[command(
    name = "clipzoo",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model on image-text pairs
    Train(Box<train_flags::Args>),
    /// Recall both ways, of a model on a table or of two feature files
    Evaluate(evaluate::Args),
    /// Write the features of texts and pictures
    Predict(predict::Args),
    /// Say which of some labels pictures show, without training for them
    Classify(Box<classify::Args>),
    /// Show two models' answers to the same queries side by side
    Compare(Box<compare::Args>),
    /// Show the token ids that the model sees
    Tokenize(tokenize::Args),
    /// Show the pixels that the model sees
    Preprocess(preprocess::Args),
    /// Propose a list of concept phrases from a table's titles
    Concepts(concepts::Args),
    /// Rewrite a public data set as a table
    Import(import::Args),
    /// Split a table so that no product is on two sides
    Split(split::Args),
    /// Report pictures that a table holds twice
    Dedup(dedup::Args),
    /// Say what is in a checkpoint
    Inspect(inspect::Args),
    /// Rewrite a checkpoint in another family's layout
    Convert(convert::Args),
    /// Average the weights of two states of one model
    Average(average::Args),
    /// Find the layers of a model that may multiply bytes (int8), on a table of yours
    Calibrate(calibrate::Args),
    /// List what this program knows, and whether CUDA is there
    Models(models::Args),
    /// Train, evaluate and predict by EasyNLP's own flags
    Easynlp(easynlp::Args),
    /// Write a shell's completions
    Completions(completions::CompletionArgs),
    /// Write manual pages
    Man(completions::ManArgs),
}

impl Command {
    /// Whether it computes for longer than a second or two.
    fn runs_long(&self) -> bool {
        match self {
            Self::Train(_) | Self::Easynlp(_) => true,
            Self::Evaluate(args) => args.runs_long(),
            Self::Predict(args) => args.runs_long(),
            Self::Tokenize(_) | Self::Preprocess(_) | Self::Concepts(_) | Self::Import(_) | Self::Split(_) => false,
            Self::Calibrate(_) | Self::Dedup(_) | Self::Classify(_) | Self::Compare(_) => true,
            Self::Inspect(_) | Self::Convert(_) | Self::Average(_) | Self::Models(_) => false,
            Self::Completions(_) | Self::Man(_) => false,
        }
    }
}
