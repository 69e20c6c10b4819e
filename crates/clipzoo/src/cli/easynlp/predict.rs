//! `--mode=predict`: a line of features a row, and columns carried along.

use clip_core::Error;

use super::flags::Flags;
use super::look::Look;
use super::plain::Plain;
use super::settings::{Mode, Outputs, Settings, local, needed};
use crate::cli::failure::Outcome;
use crate::cli::{Cli, Command, predict};

pub(super) fn run(cli: &Cli, flags: &Flags, settings: &Settings) -> Outcome {
    let output = needed(flags, "outputs", "features.tsv")?;
    local("outputs", output, "a file on this machine")?;
    let outputs = Outputs::read(flags, Mode::Predict)?;
    let look = Look::at(cli, settings)?;
    let mut plain = Plain::new("predict");
    plain
        .flag("model", &settings.model)
        .flag("table", settings.last_table())
        .table(settings);
    plain
        .flag("only", if outputs.texts { "texts" } else { "images" })
        .flag("output", output);
    if !output.ends_with(".tsv") {
        plain.flag("output-format", "tsv");
    }
    let appended = flags.list("append_cols");
    plain.optional("append-cols", (!appended.is_empty()).then(|| appended.join(",")));
    plain.flag("batch-size", settings.batch).compute(settings, &look);
    let Command::Predict(args) = plain.command()? else {
        return Err(Error::internal("`predict` is another command").into());
    };
    predict::run(cli, args)
}
