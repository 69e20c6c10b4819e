//! Flags of `clipzoo train`, over run.toml, over defaults.

use std::path::PathBuf;

use clap::ValueEnum;
use clip_train::{Every, Keep, Precision, RunConfig, RunDir, Schedule};

use super::args::{Compute, Cut, Dtype};
use super::failure::{Failure, Outcome, usage};
use super::train_tables::TableFlags;
use super::tuning::TuningFlags;

/// Flags of `train`. Each overrides the file's value.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo train --model ./my-model --train pairs.tsv --valid valid.tsv --output runs/first
  clipzoo train --image-tower efficientnet-lite0.pth --text-tower ./minilm --config run.toml --output runs/joined
  clipzoo train --config runs/first/run.toml --output runs/first --resume

OUTPUT holds best/ and last/ (model directories), report.html (curves, settings, what titles find before and after),
metrics.jsonl, run.toml with every setting, TensorBoard events, and checkpoints/ to resume from.")]
pub(crate) struct Args {
    /// Settings; flags override them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The model to start from: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH", conflicts_with_all = ["image_tower", "text_tower"])]
    model: Option<String>,
    /// An image tower, to join with --text-tower under fresh projections
    #[arg(long, value_name = "PATH", requires = "text_tower")]
    image_tower: Option<String>,
    /// A text tower, to join with --image-tower
    #[arg(long, value_name = "PATH", requires = "image_tower")]
    text_tower: Option<String>,
    /// The training pairs
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,
    /// The pairs that evaluations rank; without them, best = last
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,
    /// The run's directory; must be new or empty, unless --resume
    #[arg(long, value_name = "DIR")]
    pub(super) output: PathBuf,
    /// Go on from the newest good checkpoint in OUTPUT
    #[arg(long)]
    pub(super) resume: bool,

    /// How often each pair is seen [default: 10]
    #[arg(long, value_name = "N", help_heading = "Training")]
    epochs: Option<u64>,
    /// Pairs a step [default: 64]
    #[arg(long, value_name = "N", help_heading = "Training")]
    batch_size: Option<usize>,
    /// Pairs that go through a tower at once; memory and time, not the result
    #[arg(long, value_name = "N", help_heading = "Training")]
    micro_batch: Option<usize>,
    /// The rate after the warm-up [default: 5e-5]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    lr: Option<f64>,
    /// Steps over which the rate goes up [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    warmup_steps: Option<u64>,
    /// Weight decay [default: 0.2]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    weight_decay: Option<f64>,
    /// How the rate goes on after the warm-up [default: cosine]
    #[arg(long, value_enum, help_heading = "Training")]
    schedule: Option<ScheduleName>,
    /// The most that all gradients' common norm may be; 0 for no limit [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    grad_clip: Option<f64>,
    /// Decides every random number [default: 0]
    #[arg(long, value_name = "N", help_heading = "Training")]
    seed: Option<u64>,
    /// Whether an epoch's order is drawn; false takes the rows in order [default: true]
    #[arg(long, value_name = "BOOL", help_heading = "Training")]
    shuffle: Option<bool>,
    /// No batch holds a product (see --item-column), or another column's value, twice
    #[arg(long, value_name = "COLUMN", help_heading = "Training")]
    unique_by: Option<String>,
    /// How many checkpoints stay: a number of the newest, or all [default: 2]
    #[arg(long, value_name = "N", help_heading = "Training")]
    keep: Option<Keep>,
    /// Any other setting of run.toml, as `evaluation.every=200` or `betas=[0.9,0.999]`; where a key
    /// has a flag of its own, the flag wins
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Training")]
    set: Vec<String>,
    /// What keeps its weights: image, text (the towers), or any prefix of weight names
    #[arg(long, value_name = "PREFIX", num_args = 1.., help_heading = "Training")]
    lock: Vec<String>,
    /// Steps between lines of metrics.jsonl [default: 1]
    #[arg(long, value_name = "N", help_heading = "Training")]
    log_every: Option<u64>,
    /// Steps between checkpoints, or epoch [default: epoch]
    #[arg(long, value_name = "N", help_heading = "Training")]
    checkpoint_every: Option<Every>,
    /// End after so many evaluations in a row without a new best [default: only when all steps are done]
    #[arg(long, value_name = "N", help_heading = "Training")]
    patience: Option<u64>,
    /// At the end, average with the initial model: X of what was trained, 1 - X of --model. Writes OUTPUT/averaged, and
    /// evaluates a sweep of shares on --valid
    #[arg(long, value_name = "X", allow_negative_numbers = true, help_heading = "Training")]
    average_init: Option<f64>,
    /// The most tokens of a text [default: the config's; 52 for BERT text towers]
    #[arg(long, value_name = "N", help_heading = "Training")]
    context_length: Option<usize>,
    #[command(flatten, next_help_heading = "Training")]
    cut: Cut,

    #[command(flatten)]
    tuning: TuningFlags,
    #[command(flatten)]
    table: TableFlags,
    #[command(flatten)]
    pub(super) compute: Compute,
    /// Print one JSON object about the result
    #[arg(long)]
    pub(super) json: bool,
}

/// What `--schedule` takes.
#[derive(ValueEnum, Clone, Copy)]
enum ScheduleName {
    Cosine,
    Linear,
    Constant,
}

/// Overrides a setting where the flag was given.
pub(super) fn set<T>(setting: &mut T, flag: Option<T>) {
    if let Some(value) = flag {
        *setting = value;
    }
}

/// Overrides an optional setting where the flag was given.
pub(super) fn set_some<T>(setting: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *setting = flag;
    }
}

impl Args {
    /// Flags over the file over the run's own settings, where it goes on, over the defaults.
    pub(super) fn config(&mut self, run: &RunDir) -> Outcome<RunConfig> {
        let mut config = match &self.config {
            Some(file) => RunConfig::load(file)?,
            None if self.resume => run.config()?.unwrap_or_default(),
            None => RunConfig::default(),
        };
        config = config.with(&self.set).map_err(Failure::Usage)?;
        if self.model.is_some() {
            (config.image_tower, config.text_tower) = (None, None);
        } else if self.image_tower.is_some() {
            config.model = None;
        }
        set_some(&mut config.model, self.model.take());
        set_some(&mut config.image_tower, self.image_tower.take());
        set_some(&mut config.text_tower, self.text_tower.take());
        set_some(&mut config.data.train, self.train.take());
        set_some(&mut config.data.valid, self.valid.take());
        set(&mut config.epochs, self.epochs);
        set(&mut config.batch_size, self.batch_size);
        set(&mut config.micro_batch, self.micro_batch);
        set(&mut config.lr, self.lr);
        if let Some(steps) = self.warmup_steps {
            (config.warmup_steps, config.warmup_share) = (steps, None);
        }
        set(&mut config.weight_decay, self.weight_decay);
        set(&mut config.schedule, self.schedule.map(Schedule::from));
        set(&mut config.grad_clip, self.grad_clip);
        set(&mut config.seed, self.seed);
        set(&mut config.shuffle, self.shuffle);
        set_some(&mut config.unique_by, self.unique_by.take());
        if !self.lock.is_empty() {
            config.lock = std::mem::take(&mut self.lock);
        }
        set(&mut config.log_every, self.log_every);
        set(&mut config.keep, self.keep);
        set(&mut config.checkpoint_every, self.checkpoint_every);
        set_some(&mut config.evaluation.patience, self.patience);
        set_some(&mut config.average_init, self.average_init);
        set_some(&mut config.context_length, self.context_length);
        set(&mut config.truncation, self.cut.truncation);
        self.tuning.over(&mut config);
        self.table.over(&mut config.data);
        // `--unique-by item` (or `--batch-by`) means the product, whatever its column is called.
        for chosen in [&mut config.unique_by, &mut config.batch_by] {
            if let (Some("item"), Some(column)) = (chosen.as_deref(), &config.data.item_column) {
                *chosen = Some(column.clone());
            }
        }
        set(&mut config.dtype, self.precision()?);
        // The file was checked when it was read, so what is wrong now came by a flag.
        config.check().map_err(Failure::Usage)?;
        if config.dtype == Precision::Bf16 {
            self.compute.warn_if_slow(clip_nn::Compute::Bf16)?;
        }
        Ok(config)
    }

    /// What `--dtype` says, if it says something.
    fn precision(&self) -> Outcome<Option<Precision>> {
        let native = clip_nn::Compute::Bf16.is_native(self.compute.device()?);
        match self.compute.dtype {
            None => Ok(None),
            Some(Dtype::F32) => Ok(Some(Precision::F32)),
            Some(Dtype::Auto) if !native => Ok(Some(Precision::F32)),
            Some(Dtype::Bf16 | Dtype::Auto) => Ok(Some(Precision::Bf16)),
            Some(Dtype::Int8) => usage(
                "--dtype int8 does not train",
                "use f32 or bf16, and calibrate what was trained",
            ),
        }
    }
}

impl From<ScheduleName> for Schedule {
    fn from(name: ScheduleName) -> Self {
        match name {
            ScheduleName::Cosine => Self::Cosine,
            ScheduleName::Linear => Self::Linear,
            ScheduleName::Constant => Self::Constant,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;
    use clip_core::serde_json::{self, Value};

    use super::{Args, RunConfig};

    /// A flag that was not given leaves the file's value, so clap knows no defaults: they stand in the help as words.
    #[test]
    fn the_help_tells_the_defaults() {
        let plain = serde_json::to_value(RunConfig::default()).unwrap();
        let command = Args::augment_args(clap::Command::new("train"));
        let mut told = 0;
        for flag in command.get_arguments() {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let Some((_, said)) = help.split_once("[default: ") else {
                continue;
            };
            let said = said.trim_end_matches(']');
            let is = match &plain[flag.get_id().as_str()] {
                // In a table of its own, or decided by what is there.
                Value::Null => continue,
                Value::String(name) => said == name,
                Value::Bool(is) => said.parse() == Ok(*is),
                number => said.parse().ok() == number.as_f64() && number.is_number(),
            };
            assert!(
                is,
                "{}: the help says {said}, it is {}",
                flag.get_id(),
                plain[flag.get_id().as_str()]
            );
            told += 1;
        }
        assert_eq!(told, 16, "flags whose defaults the help tells");
    }
}
