//! `clipzoo average`: two states of one model become one, and what `train --average-init` does at the end of a run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::serde::Serialize;
use clip_core::serde_json::{Map, Value, from_str, json};
use clip_core::{Error, PairTable, Result};
use clip_data::PendingFile;
use clip_models::Average;
use clip_nn::ParamOptions;
use clip_train::{Reading, RunConfig, Summary, measure, write_report};

use super::Cli;
use super::args::{located, new_directory, note, note_layout};
use super::failure::{Outcome, usage};

/// Flags of `average`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  clipzoo average ./my-model runs/first/last --alpha 0.5 --output averaged

The weights are (1 - ALPHA) of the first model and ALPHA of the second (WiSE-FT, Wortsman et al. 2022). Both must have the
same config, the same names and the same shapes. The output has the first model's layout, or ours where that cannot
express it.")]
pub(crate) struct Args {
    /// A model directory, a weights file or hf:owner/name[@revision]: what was known before, say
    #[arg(value_name = "A")]
    first: PathBuf,
    /// Another state of the same model: what was trained from it
    #[arg(value_name = "B")]
    second: PathBuf,
    /// The share of B, from 0 to 1
    #[arg(long, value_name = "ALPHA", default_value_t = 0.5, allow_negative_numbers = true)]
    alpha: f64,
    /// The average's directory; must be new or empty
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if !(0.0..=1.0).contains(&args.alpha) {
        return usage(format!("--alpha {}: no share", args.alpha), "use a number from 0 to 1");
    }
    new_directory(&args.output)?;
    let average = Average::open(located(&args.first)?, located(&args.second)?, &cli.families)?;
    let layout = average.save(args.alpha, &args.output, &cli.families)?;
    if layout != average.family() {
        note_layout(average.family(), layout);
    }
    note(&format!(
        "{} of {} and {} of {}, model in {}",
        1.0 - args.alpha,
        args.first.display(),
        args.alpha,
        args.second.display(),
        args.output.display()
    ));
    Ok(())
}

/// What [`Mixed`] is written to, in the run's directory.
const MIXED: &str = "average.json";

/// Shares at which a run's average is evaluated.
const SHARES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// What `--average-init` does when a run has ended.
pub(super) struct Mix<'a> {
    cli: &'a Cli,
    config: RunConfig,
    initial: String,
    /// Where it lies.
    found: PathBuf,
    share: f64,
    run: PathBuf,
    params: ParamOptions,
    reading: Reading,
    valid: Option<Arc<dyn PairTable>>,
}

/// What came of it.
#[derive(Serialize)]
#[serde(crate = "clip_core::serde")]
pub(super) struct Mixed {
    /// The share that was asked for.
    alpha: f64,
    /// The run's step when it was made.
    step: u64,
    /// Where the model of that share lies.
    path: PathBuf,
    /// The initial model.
    initial: String,
    /// What was trained.
    trained: PathBuf,
    /// Figures by share, ascending; none where nothing is evaluated.
    sweep: Vec<Map<String, Value>>,
}

impl<'a> Mix<'a> {
    /// `None` if the run asks for no average. A model that does not open is found now and not when the run has ended.
    pub(super) fn planned(
        cli: &'a Cli,
        config: &RunConfig,
        run: &Path,
        params: ParamOptions,
        reading: Reading,
        valid: Option<Arc<dyn PairTable>>,
    ) -> Outcome<Option<Self>> {
        let Some(share) = config.average_init else {
            return Ok(None);
        };
        let Some(initial) = config.model.clone() else {
            return usage(
                "--average-init averages with the initial model, and none is named",
                "pass --model, or leave --average-init out",
            );
        };
        let found = located(&initial)?;
        clip_format::Checkpoint::open(&found, &cli.families)?;
        Ok(Some(Self {
            found,
            cli,
            config: config.clone(),
            initial,
            share,
            run: run.to_owned(),
            params: ParamOptions {
                trainable: false,
                lora: None,
                ..params
            },
            reading,
            valid,
        }))
    }

    /// Evaluates the sweep and writes the model, unless that was done before at this share and this step, and nothing was
    /// trained since.
    pub(super) fn write(&self, summary: &Summary) -> Outcome<Option<Mixed>> {
        let path = self.run.join("averaged");
        if summary.done == 0 && path.exists() && self.written() == Some((self.share, summary.step)) {
            return Ok(None);
        }
        let last = self.run.join("last");
        let average = Average::open(&self.found, &last, &self.cli.families)?;
        let mixed = Mixed {
            alpha: self.share,
            step: summary.step,
            sweep: self.sweep(&average)?,
            initial: self.initial.clone(),
            trained: last,
            path,
        };
        average.save(self.share, &mixed.path, &self.cli.families)?;
        // What tells that it was done comes last.
        let text = json!(mixed);
        let mut file = PendingFile::create(self.run.join(MIXED))?;
        writeln!(file, "{text:#}").map_err(|error| file.error(error))?;
        file.commit()?;
        if self.config.report.enabled {
            // The page shows the sweep too.
            write_report(&self.run)?;
        }
        Ok(Some(mixed))
    }

    /// The share and the step of the average that is there.
    fn written(&self) -> Option<(f64, u64)> {
        let text = std::fs::read_to_string(self.run.join(MIXED)).ok()?;
        let there: Value = from_str(&text).ok()?;
        Some((there["alpha"].as_f64()?, there["step"].as_u64()?))
    }

    fn sweep(&self, average: &Average) -> Result<Vec<Map<String, Value>>> {
        let Some(valid) = &self.valid else {
            return Ok(Vec::new());
        };
        let mut shares = SHARES.to_vec();
        if !shares.contains(&self.share) {
            shares.push(self.share);
            shares.sort_by(f64::total_cmp);
        }
        let evaluate = |share: &f64| {
            let zoo = &self.cli.zoo;
            let model = average.model(*share, zoo, self.params.clone(), self.config.context_length)?;
            let mut figures = Map::from_iter([("alpha".to_owned(), json!(share))]);
            figures.extend(measure(&model, &self.reading, Arc::clone(valid), &self.config)?);
            Ok::<_, Error>(figures)
        };
        shares.iter().map(evaluate).collect()
    }
}

impl Mixed {
    /// The sweep as lines for people.
    pub(super) fn table(&self) -> String {
        let columns = [
            ("valid_r@1_text_to_image", "R@1 text to image"),
            ("valid_r@1_image_to_text", "R@1 image to text"),
            ("valid_mean_recall", "mean recall"),
        ];
        let mut lines = Vec::new();
        if !self.sweep.is_empty() {
            let names = columns.map(|(_, name)| name).join("   ");
            lines.push(format!("share of the training   {names}"));
        }
        for figures in &self.sweep {
            let number = |name: &str| figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
            let cells = columns.map(|(key, name)| format!("{:>width$.1}", number(key), width = name.len()));
            lines.push(format!("{:>21.2}   {}", number("alpha"), cells.join("   ")));
        }
        lines.push(format!("averaged at {}: model in {}", self.alpha, self.path.display()));
        lines.join("\n")
    }
}
