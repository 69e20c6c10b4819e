//! `clipzoo train`: flags over run.toml over defaults, then the trainer.

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use clip_core::serde_json::json;
use clip_core::{Observer, PairTable};
use clip_data::{Decoder, Roles};
use clip_models::{Join, Loaded};
use clip_nn::{DualEncoder, Fresh, ParamOptions, Preparation};
use clip_train::{
    Environment, Every, Existing, Job, JoinConfig, Keep, LoraConfig, Precision, Reading, RunConfig, RunDir, Schedule,
    Stop, Terminal, Trained, is_usage, train as train_job,
};

use super::Cli;
use super::args::{Compute, Cut, Dtype, located, note, note_layout, print};
use super::average::{Mix, Mixed};
use super::failure::{Failure, Outcome, usage};
use super::interrupt;
use super::rows::ColumnDecoder;
use super::train_tables::{TableFlags, open};
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
    output: PathBuf,
    /// Go on from the newest good checkpoint in OUTPUT
    #[arg(long)]
    resume: bool,

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
    compute: Compute,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
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
    fn config(&mut self, run: &RunDir) -> Outcome<RunConfig> {
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

pub(crate) fn run(cli: &Cli, mut args: Args) -> Outcome {
    let json = args.json;
    let (trained, averaged) = train(cli, &mut args, |ready| {
        if !json {
            let count = ready.model.parameters().count();
            note(&format!(
                "a model of {count} parameters, {} training pairs, threads: {}",
                ready.train.rows(),
                ready.config.environment.threads
            ));
        }
        Ok(vec![Box::new(Terminal::new())])
    })?;
    report(&args, &trained, averaged.as_ref())
}

/// A run that is about to begin.
pub(super) struct Ready<'a> {
    pub(super) model: &'a DualEncoder,
    pub(super) config: &'a RunConfig,
    pub(super) run: &'a RunDir,
    pub(super) train: &'a dyn PairTable,
    pub(super) valid: Option<&'a dyn PairTable>,
}

/// Who is told what happens in a run.
type Observers = Vec<Box<dyn Observer>>;

/// Trains as the flags say; `watch` gives those who are told what happens.
pub(super) fn train(
    cli: &Cli,
    args: &mut Args,
    watch: impl FnOnce(&Ready<'_>) -> Outcome<Observers>,
) -> Outcome<(Trained, Option<Mixed>)> {
    let was_there = args.output.exists();
    let trained = begin(cli, args, watch);
    if trained.is_err() && !was_there {
        // What failed before anything was written leaves no empty folder; one with files in it stays.
        let _ = std::fs::remove_dir(&args.output);
    }
    trained
}

fn begin(
    cli: &Cli,
    args: &mut Args,
    watch: impl FnOnce(&Ready<'_>) -> Outcome<Observers>,
) -> Outcome<(Trained, Option<Mixed>)> {
    let device = args.compute.device()?;
    let existing = if args.resume {
        Existing::Resume
    } else {
        Existing::Refuse
    };
    let run = RunDir::open(&args.output, existing).map_err(|error| {
        if is_usage(&error) {
            Failure::Usage(error)
        } else {
            Failure::Failed(error)
        }
    })?;
    let mut config = args.config(&run)?;
    if config.evaluation.patience.is_some() && config.data.valid.is_none() {
        return usage(
            "--patience waits for a new best, and nothing is evaluated",
            "pass --valid FILE, or leave --patience out",
        );
    }
    if run.checkpoint().is_some() && args.compute.threads.is_none() && config.environment.threads > 0 {
        // As many as before, or the numbers would be others.
        args.compute.threads = Some(config.environment.threads);
    }
    args.compute.set_threads()?;
    config.environment = Environment::here(device, args.compute.workers());
    let Some(train_file) = config.data.train.clone() else {
        if args.resume && run.config()?.is_none() {
            return usage(
                format!("{}: there is no run to go on with", args.output.display()),
                "check --output, or leave --resume out and name the pairs with --train",
            );
        }
        return usage(
            "no training pairs are named",
            "pass --train FILE, or set data.train in the config file",
        );
    };
    let train: Arc<dyn PairTable> = Arc::new(open(&config.data, &train_file, Roles::Pairs)?);
    for column in config.unique_by.iter().chain(&config.batch_by) {
        // A column that is not there is found before the run's directory holds anything.
        if train.rows() > 0 {
            train.label(0, column)?;
        }
    }
    let valid: Option<Arc<dyn PairTable>> = match &config.data.valid {
        Some(file) => Some(Arc::new(open(&config.data, file, Roles::Pairs)?)),
        None => None,
    };
    let params = ParamOptions {
        device,
        seed: config.seed,
        fresh: Fresh::Nothing,
        trainable: true,
        lora: config.lora.as_ref().map(LoraConfig::lora),
        ..ParamOptions::default()
    };
    let loaded = load(cli, &config, &run, params.clone())?;
    if let Some(layout) = loaded.writer.instead_of() {
        note_layout(layout, loaded.writer.family());
    }
    // A changed view treats transparency as the model's own transform does.
    config.augmentation.alpha = loaded.preparation.image().transform_config()?.alpha;
    config.context_length = Some(loaded.model.info().context_length);
    let reading = Reading {
        decoder: Arc::new(ColumnDecoder {
            decoder: Decoder::default(),
            column: config.data.image_column.clone(),
        }),
        transform: loaded.preparation.transform()?,
        tokenizer: loaded
            .preparation
            .clone()
            .with_truncation(config.truncation)
            .tokenizer()?,
        workers: args.compute.workers(),
    };
    let observers = watch(&Ready {
        model: &loaded.model,
        config: &config,
        run: &run,
        train: &*train,
        valid: valid.as_deref(),
    })?;
    let concepts = config.concepts.open()?;
    let mix = Mix::planned(cli, &config, &args.output, params, reading.clone(), valid.clone())?;
    let stop = Stop::default();
    interrupt::ask(stop.clone());
    let job = Job {
        concepts: Some(concepts),
        model: loaded.model,
        writer: Box::new(loaded.writer),
        reading,
        train,
        valid,
        config,
        observers,
        run,
        stop,
    };
    let trained = train_job(job, &cli.zoo)?;
    let averaged = match mix {
        Some(mix) => mix.write(trained.summary.done > 0)?,
        None => None,
    };
    Ok((trained, averaged))
}

/// The model to train: of the checkpoint that the run goes on from, or the one named, or two towers joined.
fn load(cli: &Cli, config: &RunConfig, run: &RunDir, params: ParamOptions) -> Outcome<Loaded> {
    let (zoo, families) = (&cli.zoo, &cli.families);
    if let Some(checkpoint) = run.checkpoint() {
        return Ok(clip_models::load(
            checkpoint.model(),
            zoo,
            families,
            params,
            config.context_length,
        )?);
    }
    match (&config.model, &config.image_tower, &config.text_tower) {
        (Some(model), None, None) => {
            let model = located(model)?;
            Ok(clip_models::load(model, zoo, families, params, config.context_length)?)
        }
        (None, Some(image), Some(text)) => {
            let JoinConfig {
                embed_dim,
                image_projection,
                text_projection,
                logit_bias,
                image: image_fields,
                text: text_fields,
            } = config.join.clone();
            let how = Join {
                embed_dim,
                image_projection,
                text_projection,
                logit_bias,
                context_length: config.context_length,
                image: image_fields,
                text: text_fields,
            };
            let (image, text) = (located(image)?, located(text)?);
            Ok(clip_models::join(image, text, &how, zoo, families, params)?)
        }
        _ => usage(
            "it is not clear what to train",
            "name either a model (--model) or two towers (--image-tower and --text-tower)",
        ),
    }
}

fn report(args: &Args, trained: &Trained, averaged: Option<&Mixed>) -> Outcome {
    let Trained { summary, rejects } = trained;
    let seconds_per_step = (summary.done > 0).then(|| summary.seconds / summary.done as f64);
    if args.json {
        let object = json!({
            "output": args.output, "step": summary.step, "done": summary.done, "loss": summary.loss,
            "seconds_per_step": seconds_per_step, "evaluated": summary.evaluated, "refused": summary.refused,
            "rejects": rejects, "averaged": averaged,
        });
        return Ok(print(&object.to_string())?);
    }
    if let Some(averaged) = averaged {
        note(&averaged.table());
    }
    if let Some(list) = rejects {
        note(&format!("refused rows are listed in {}", list.display()));
    }
    let what = if summary.done == 0 {
        "the run was finished before"
    } else {
        "done"
    };
    note(&format!(
        "{what}: step {}, model in {}",
        summary.step,
        args.output.join("best").display()
    ));
    Ok(())
}
