//! `--mode=evaluate`: the two lines of recalls.

use clip_core::Error;

use super::flags::Flags;
use super::log::{Recalls, info};
use super::look::Look;
use super::plain::Plain;
use super::settings::Settings;
use crate::cli::args::print;
use crate::cli::failure::Outcome;
use crate::cli::{Cli, Command, evaluate};

pub(super) fn run(cli: &Cli, _: &Flags, settings: &Settings) -> Outcome {
    let look = Look::at(cli, settings)?;
    let mut plain = Plain::new("evaluate");
    plain
        .flag("model", &settings.model)
        .flag("table", settings.last_table())
        .table(settings);
    plain.flag("batch-size", settings.batch).compute(settings, &look);
    let Command::Evaluate(args) = plain.command()? else {
        return Err(Error::internal("`evaluate` is another command").into());
    };
    let (evaluation, seconds) = evaluate::measure(cli, &args)?;
    let forth = Recalls::of(&evaluation.text_to_image.figures);
    forth.lines().iter().try_for_each(|line| print(line))?;
    // EasyNLP knows the one direction only; the other goes where its formats have nothing.
    let back = Recalls::of(&evaluation.image_to_text.figures).lines();
    info(&format!("image to text: {}", back.join(" ")));
    info(&format!(
        "Inference time = {seconds:.2}s, [{:.4} ms / sample] ",
        seconds * 1000.0 / evaluation.text_to_image.figures.queries as f64
    ));
    Ok(())
}
