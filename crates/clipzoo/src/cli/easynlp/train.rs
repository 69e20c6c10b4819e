//! `--mode=train`: a run in `CHECKPOINT_DIR/run`, and EasyNLP's files beside it.

use std::path::Path;
use std::time::Instant;

use clip_core::serde_json::{Value, json};
use clip_core::{Error, Observer, Result};
use clip_data::PythonNumber;
use clip_train::{Algorithm, RunConfig};

use super::flags::Flags;
use super::folder::{Board, Folder, RUN, WEIGHTS};
use super::log::{Log, Opening, info};
use super::look::Look;
use super::plain::Plain;
use super::resume::{branch, refuse_used};
use super::settings::{Settings, local, parameter, positive};
use crate::cli::args::{note, print};
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::train::{Ready, train};
use crate::cli::train_tables::open;
use crate::cli::{Cli, Command, interrupt};

/// The settings of training alone, with EasyNLP's defaults.
struct Training {
    rate: f64,
    epochs: f64,
    seed: u64,
    log_every: usize,
    save_every: Option<usize>,
    save_all: bool,
    accumulation: usize,
    bf16: bool,
    warmup: f64,
    algorithm: Algorithm,
    weight_decay: f64,
    max_norm: f64,
    evaluate: bool,
    resume: Option<String>,
}

impl Training {
    fn read(flags: &Flags) -> Outcome<Self> {
        let number = |name: &str, default: f64| from_zero(flags, name).map(|given| given.unwrap_or(default));
        let resume = flags.text("resume_from_checkpoint").map(str::to_owned);
        if let Some(place) = &resume {
            local("resume_from_checkpoint", place, "a --checkpoint_dir on this machine")?;
        }
        let epochs = number("epoch_num", 3.0)?;
        if epochs == 0.0 {
            return usage("--epoch_num=0: there is nothing to do", "use 1 or more");
        }
        let warmup = number("warmup_proportion", 0.1)?;
        if warmup > 1.0 {
            return usage(
                format!("--warmup_proportion={warmup}: no share"),
                "use a number from 0 to 1",
            );
        }
        Ok(Self {
            rate: number("learning_rate", 5e-5)?,
            epochs,
            seed: flags.number("random_seed", "whole number from 0")?.unwrap_or(1234),
            log_every: positive(flags, "logging_steps")?.unwrap_or(100),
            save_every: positive(flags, "save_checkpoint_steps")?,
            save_all: flags.has("save_all_checkpoints"),
            accumulation: positive(flags, "gradient_accumulation_steps")?.unwrap_or(1),
            bf16: flags.has("use_amp"),
            warmup,
            algorithm: algorithm(flags.text("optimizer_type").unwrap_or("AdamW"))?,
            weight_decay: number("weight_decay", 1e-4)?,
            max_norm: number("max_grad_norm", 1.0)?,
            evaluate: parameter(flags, "do_eval").is_none_or(|value| value == "True"),
            resume,
        })
    }

    /// The command that the run stands for.
    fn plain(&self, settings: &Settings, look: &Look) -> Outcome<Plain> {
        let micro_batch = settings.batch;
        let batch = micro_batch.saturating_mul(self.accumulation);
        let every = self
            .save_every
            .map_or_else(|| "epoch".to_owned(), |steps| steps.to_string());
        let mut plain = Plain::new("train");
        plain
            .flag("model", &settings.model)
            .flag("train", settings.first_table());
        plain
            .optional("valid", self.evaluate.then(|| settings.last_table()))
            .table(settings);
        plain
            .flag("output", settings.checkpoint_dir.join(RUN).display())
            .switch("resume", self.resume.is_some());
        plain.flag("epochs", self.epochs.ceil()).flag("batch-size", batch);
        plain.optional("micro-batch", (self.accumulation > 1).then_some(micro_batch));
        plain
            .flag("lr", self.rate)
            .flag("schedule", "linear")
            .flag("warmup-share", self.warmup);
        plain
            .flag("optimizer", name(self.algorithm))
            .flag("weight-decay", self.weight_decay);
        plain
            .flag("grad-clip", self.max_norm)
            .flag("seed", self.seed)
            .flag("log-every", self.log_every);
        plain.flag("checkpoint-every", &every);
        if self.save_all {
            plain.flag("keep", "all");
        }
        if look.fixed_picture_tower {
            plain.flag("lock", "image");
        }
        plain.compute(settings, look);
        if self.bf16 {
            plain.flag("dtype", "bf16");
        }
        plain.flag("set", "betas=[0.9,0.999]");
        if self.algorithm == Algorithm::Adam {
            plain.flag("set", "eps=1e-8");
        }
        if let Some(steps) = self.last_step(settings, batch)? {
            plain.flag("set", format!("max_steps={steps}"));
        }
        if self.evaluate {
            plain.flag("set", format!("evaluation.every={every}"));
            plain.flag("set", "evaluation.metric=valid_mean_recall_text_to_image");
            plain.flag("set", format!("evaluation.batch_size={micro_batch}"));
        }
        Ok(plain)
    }

    /// The last step of a run that ends within an epoch.
    fn last_step(&self, settings: &Settings, batch: usize) -> Outcome<Option<u64>> {
        if self.epochs.fract() == 0.0 {
            return Ok(None);
        }
        let mut data = RunConfig::default().data;
        data.format = Some(clip_data::Format::Tsv);
        data.schema = Some(settings.schema.clone());
        data.header = settings.skip_first_line.then_some(true);
        data.text_column.clone_from(&settings.text_column);
        data.image_column.clone_from(&settings.image_column);
        let table = open(&data, Path::new(settings.first_table()), clip_data::Roles::Pairs)?;
        let rows = clip_core::PairTable::rows(&table);
        Ok(Some((rows.div_ceil(batch) as f64 * self.epochs).ceil() as u64))
    }
}

/// A number from 0.
fn from_zero(flags: &Flags, name: &str) -> Outcome<Option<f64>> {
    match flags.number::<f64>(name, "number")? {
        Some(value) if !(value.is_finite() && value >= 0.0) => {
            usage(format!("--{name}={value}: this is no number from 0"), "correct it")
        }
        given => Ok(given),
    }
}

fn algorithm(name: &str) -> Outcome<Algorithm> {
    match name {
        "AdamW" => Ok(Algorithm::AdamW),
        "Adam" => Ok(Algorithm::Adam),
        "BertAdam" => Ok(Algorithm::BertAdam),
        "SGD" => Ok(Algorithm::Sgd),
        other => usage(
            format!("--optimizer_type={other}: there is no such optimizer"),
            "use AdamW, Adam, BertAdam or SGD",
        ),
    }
}

/// As `train` calls it.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::AdamW => "adamw",
        Algorithm::Adam => "adam",
        Algorithm::BertAdam => "bert_adam",
        Algorithm::Sgd => "sgd",
    }
}

pub(super) fn run(cli: &Cli, flags: &Flags, settings: &Settings) -> Outcome {
    let started = Instant::now();
    let training = Training::read(flags)?;
    let directory = &settings.checkpoint_dir;
    let copies = match &training.resume {
        Some(value) => Some(branch(value, directory)?),
        None => {
            refuse_used(directory)?;
            None
        }
    };
    if training.evaluate && settings.tables.len() == 1 {
        note("--tables names one table, so the model is evaluated on what it is trained on");
    }
    let look = Look::at(cli, settings)?;
    let layout = look.layout(&cli.families)?;
    let plain = training.plain(settings, &look)?;
    if let Some(copies) = copies {
        copies.make()?;
    }
    let Command::Train(mut args) = plain.command()? else {
        return Err(Error::internal("`train` is another command").into());
    };
    if let Some(layout) = &layout {
        let best = directory.join(RUN).join("best");
        let mut convert = Plain::new("convert");
        convert
            .flag("model", best.display())
            .flag("to", layout)
            .flag("output", "DIR");
        note(&format!("plain command, for the model in --checkpoint_dir: {convert}"));
    }
    let own_config = look.own_config();
    let around = Around {
        directory,
        train_config: train_config(flags, settings, &training, &own_config),
        model_config: own_config.to_string(),
        layout,
    };
    let watch = |ready: &Ready<'_>| Ok(around.watch(cli, settings, &training, ready)?);
    let (trained, _) = train(cli, &mut args, watch).map_err(|failure| match failure {
        // What `train` says of going on is in its own flags.
        Failure::Failed(error) if interrupt::heard() => Failure::Failed(error.remedy(format!(
            "go on with --resume_from_checkpoint={} and the same flags",
            directory.join("pytorch_model").display()
        ))),
        other => other,
    })?;
    let seconds = PythonNumber(started.elapsed().as_secs_f64());
    print(&format!(
        "Training Time: {seconds}, rank 0, gsteps {}",
        trained.summary.step
    ))?;
    info(&format!("Training Time: {seconds}"));
    Ok(())
}

/// What stands around a run.
struct Around<'a> {
    directory: &'a Path,
    train_config: Value,
    model_config: String,
    /// The layout to rewrite the model in for EasyNLP.
    layout: Option<String>,
}

impl Around<'_> {
    /// Who is told what happens in the run.
    fn watch(
        self,
        cli: &Cli,
        settings: &Settings,
        training: &Training,
        ready: &Ready<'_>,
    ) -> Result<Vec<Box<dyn Observer>>> {
        info("========== Initializing Tensorboard ==========");
        let config = &ready.config;
        let locked = |name: &str| config.lock.iter().any(|prefix| name.starts_with(&format!("{prefix}.")));
        let parameters = ready.model.parameters();
        let trainable = parameters.trainable().filter(|parameter| !locked(&parameter.name));
        let opening = Opening {
            gpus: usize::from(settings.gpu),
            training: ready.train.rows(),
            validation: ready.valid.map(|table| table.rows()),
            micro_batch: settings.batch,
            sequence_length: ready.model.info().context_length,
            parameters: parameters.count(),
            trainable: trainable.map(|parameter| parameter.tensor.numel() as u64).sum(),
            run: ready.config.clone(),
            model: self.model_config,
        };
        let best = ready
            .run
            .checkpoint()
            .and_then(|checkpoint| checkpoint.state().best.as_ref());
        let board = Board::create(self.directory, &self.train_config.to_string(), &opening.model)?;
        let log = Log::new(
            opening,
            self.directory.join(WEIGHTS),
            best.map(|best| best.value / 100.0),
        );
        let folder = Folder::new(
            self.directory,
            self.layout,
            &cli.families,
            training.save_all,
            self.train_config,
        );
        Ok(vec![Box::new(log), Box::new(folder), Box::new(board)])
    }
}

/// What `train_config.json` holds: every flag's value, and the model's config.
fn train_config(flags: &Flags, settings: &Settings, training: &Training, model: &Value) -> Value {
    let text = |name: &str| flags.text(name).map(str::to_owned);
    json!({
        "mode": "train", "app_name": "clip", "tables": settings.tables.join(","), "input_schema": settings.schema,
        "skip_first_line": settings.skip_first_line, "first_sequence": settings.text_column,
        "second_sequence": settings.image_column, "checkpoint_dir": settings.checkpoint_dir,
        "sequence_length": settings.sequence_length.unwrap_or(super::settings::SEQUENCE_LENGTH),
        "micro_batch_size": settings.batch, "gradient_accumulation_steps": training.accumulation,
        "learning_rate": training.rate, "epoch_num": training.epochs, "random_seed": training.seed,
        "weight_decay": training.weight_decay, "max_grad_norm": training.max_norm,
        "optimizer_type": text("optimizer_type").unwrap_or_else(|| "AdamW".to_owned()),
        "warmup_proportion": training.warmup, "use_amp": training.bf16, "logging_steps": training.log_every,
        "save_checkpoint_steps": training.save_every, "save_all_checkpoints": training.save_all,
        "resume_from_checkpoint": training.resume, "data_threads": settings.data_threads,
        "worker_gpu": i32::from(settings.gpu), "worker_count": 1,
        "user_defined_parameters": text("user_defined_parameters"), "pretrained_model_name_or_path": settings.model,
        "label_enumerate_values": "0,1", "model_config": model,
    })
}
