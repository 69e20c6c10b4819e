//! `clipzoo train`: opens what a run needs, then the trainer.

use std::sync::Arc;

use clip_core::serde_json::json;
use clip_core::{Observer, PairTable};
use clip_data::{Decoder, Roles};
use clip_models::{Join, Loaded};
use clip_nn::{DualEncoder, Fresh, ParamOptions, Preparation};
use clip_train::{
    Environment, Existing, Job, JoinConfig, LoraConfig, Reading, RunConfig, RunDir, Stop, Terminal, Trained, is_usage,
    train as train_job,
};

use super::Cli;
use super::args::{located, note, note_layout, print};
use super::average::{Mix, Mixed};
use super::failure::{Failure, Outcome, usage};
use super::interrupt;
use super::rows::ColumnDecoder;
use super::train_flags::Args;
use super::train_tables::open;

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
    let (run, mut config) = settle(args)?;
    config.environment = Environment::here(device, args.compute.workers());
    let (train, valid) = tables(args, &run, &config)?;
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
        Some(mix) => mix.write(&trained.summary)?,
        None => None,
    };
    Ok((trained, averaged))
}

/// The run's directory, its settings, and as many threads as they say.
fn settle(args: &mut Args) -> Outcome<(RunDir, RunConfig)> {
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
    let config = args.config(&run)?;
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
    Ok((run, config))
}

type Table = Arc<dyn PairTable>;

/// The pairs to train on, and those to evaluate on where some are named.
fn tables(args: &Args, run: &RunDir, config: &RunConfig) -> Outcome<(Table, Option<Table>)> {
    let Some(file) = &config.data.train else {
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
    let train: Table = Arc::new(open(&config.data, file, Roles::Pairs)?);
    for column in config.unique_by.iter().chain(&config.batch_by) {
        // A column that is not there is found before the run's directory holds anything.
        if train.rows() > 0 {
            train.label(0, column)?;
        }
    }
    let valid: Option<Table> = match &config.data.valid {
        Some(file) => Some(Arc::new(open(&config.data, file, Roles::Pairs)?)),
        None => None,
    };
    Ok((train, valid))
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
