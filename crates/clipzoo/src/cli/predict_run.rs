//! How `predict` runs: pass by pass, in parts that outlive it.

use std::path::PathBuf;
use std::sync::Arc;

use clip_apps::Predictor;
use clip_core::serde_json::{self, Map, Value, json};
use clip_core::{Embedder, Embeddings, Error, FeatureRows, FeatureSink, Result};
use clip_data::{BadRows, Decoder, Parts, Rejects, Roles, TextFile, open_sink, write_behind};
use clip_nn::Pipeline;

use super::args::note;
use super::failure::{Failure, Outcome};
use super::interrupt;
use super::predict::{Args, sink_options};
use super::predict_work::{Pass, Source, Work, state};
use super::progress::Progress;
use super::rows::{self, Preparer, Refused, policed, readable};

/// A run over rows.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a Args,
    pub(crate) pipeline: &'a Pipeline,
    rejects: Rejects,
    /// Columns of the table that go along.
    carry: Arc<[String]>,
    /// What is finished, where the run is long enough for that.
    parts: Option<Parts>,
}

impl<'a> Run<'a> {
    /// A run that is long enough keeps its parts; one of a single part has nothing to lose.
    pub(crate) fn new(args: &'a Args, pipeline: &'a Pipeline, carry: Arc<[String]>, work: &Work) -> Outcome<Self> {
        let mut run = Self {
            args,
            pipeline,
            rejects: Rejects::beside(&args.output),
            carry,
            parts: None,
        };
        if args.resume || work.rows() > args.part_rows as u64 {
            let parts = Parts::open(&args.output, &run.way()?, !run.carry.is_empty(), args.resume)?;
            run.rejects = run.rejects.unfinished_in(parts.folder());
            interrupt::say("what is finished is kept; go on with the same command and --resume");
            run.parts = Some(parts);
        }
        Ok(run)
    }

    /// All passes into the output. Says how many rows were refused, and where they are listed. What is finished when something
    /// goes wrong is kept, if it is worth going on with.
    pub(crate) fn all(mut self, work: &Work) -> Outcome<(u64, Option<PathBuf>)> {
        let done = self.passes(work);
        let parts = self.parts;
        match done {
            Ok(()) => {
                let refused = (self.rejects.count(), self.rejects.finish()?);
                parts.map_or(Ok(()), Parts::remove)?;
                Ok(refused)
            }
            Err(failure) => {
                if let Some(parts) = parts {
                    let (folder, rows) = (parts.folder().to_owned(), parts.leave());
                    if rows > 0 {
                        note(&format!(
                            "{rows} finished rows are kept in {}: --resume goes on behind them",
                            folder.display()
                        ));
                    }
                }
                Err(failure)
            }
        }
    }

    fn passes(&mut self, work: &Work) -> Outcome {
        let args = self.args;
        let mut sink = open_sink(&args.output, sink_options(args, self.pipeline, self.parts.as_ref()))?;
        if let Some(parts) = &self.parts {
            take_over(parts, args, &mut self.rejects, &mut *sink)?;
            // Parts end where a window of the predictor ends, so that going on makes the batches of one run.
            let window = Predictor::window(args.batch_size);
            let rows = args.part_rows.max(1).checked_next_multiple_of(window);
            sink = parts.keep(sink, rows.unwrap_or(usize::MAX));
        }
        let mut sink = shaped(write_behind(sink)?, args);
        for pass in &work.passes {
            self.pass(pass, &mut *sink)?;
        }
        Ok(sink.commit()?)
    }

    fn preparer(&self, roles: Roles) -> Result<Preparer> {
        Ok(Preparer {
            tokenizer: roles.texts().then(|| self.pipeline.tokenizer()).transpose()?,
            transform: roles.images().then(|| self.pipeline.transform()).transpose()?,
            decoder: Decoder::default(),
            workers: self.args.compute.workers(),
        })
    }

    /// One pass, from the first row on that is not finished.
    fn pass(&mut self, pass: &Pass, sink: &mut dyn FeatureSink) -> Outcome {
        let part = pass.part();
        let finished = self.parts.as_ref().map_or(0, |parts| parts.rows(part));
        let done = finished.saturating_sub(pass.base).min(pass.len());
        let (from, to) = ((pass.rows.start + done) as usize, pass.rows.end as usize);
        let base = pass.base + done;
        if from == to {
            return Ok(());
        }
        let preparer = self.preparer(pass.roles)?;
        let carry = &self.carry;
        let read = match &pass.source {
            Source::Texts(file) => preparer.texts(TextFile::open(file)?.skip(from).take(to - from))?,
            Source::Images(paths) => preparer.images(paths.iter().take(to).skip(from).cloned().collect())?,
            Source::Table(table) => {
                let columns = Arc::clone(carry);
                preparer.carrying_rows(Arc::clone(table), from..to, pass.roles, &self.args.table_args, columns)?
            }
        };
        let (policy, parts) = (BadRows::from(self.args.table_args.bad_rows), &mut self.parts);
        let noted = read.enumerate().map(|(number, row)| {
            if let (Err(error), Some(parts), BadRows::Skip) = (&row, parts.as_mut(), policy) {
                parts.refuse(part, base + number as u64, error)?;
            }
            row
        });
        let refused = Refused::default();
        let rows = policed(noted, &preparer, policy, &mut self.rejects, &refused);
        let rows = rows.enumerate().map(|(number, row)| {
            row.map(|mut row| {
                if let (Source::Table(table), false, true) = (&pass.source, carry.is_empty(), row.columns.is_null()) {
                    row.columns = readable(table, from + number, carry);
                }
                row
            })
        });
        let mut sink = rows::Pass { sink, base };
        let mut progress = Progress::start(pass.name(), Some((to - from) as u64));
        let done = Predictor::new(self.pipeline, self.args.batch_size)?
            .run(rows, &mut sink, &mut |done| progress.reach(done))?;
        progress.finish();
        if done != (to - from) as u64 {
            let what = format!("{done} {} came where {} had been counted", pass.name(), to - from);
            return Err(Error::invalid(what)
                .remedy("leave the input alone while it is read")
                .into());
        }
        Ok(())
    }

    /// How the rows are made, by flag: what must be the same for a run to go on.
    fn way(&self) -> Result<Map<String, Value>> {
        let (args, info) = (self.args, self.pipeline.info());
        let truncation = serde_json::to_value(args.model.cut.how()).unwrap_or_default();
        let table = &args.table_args;
        let flags = [
            ("--model", json!({ "id": self.pipeline.id()? })),
            ("--dtype", json!(self.pipeline.compute().name())),
            ("--context-length", json!(info.context_length)),
            ("--truncation", truncation),
            ("--schema", json!(table.schema)),
            ("--header", json!(table.header)),
            ("--text-column", json!(table.text_column)),
            ("--image-column", json!(table.image_column)),
            ("--append-cols", json!(self.carry.join(","))),
            ("--only", json!(args.roles_named())),
            ("--partial", json!(args.partial)),
            ("--normalize", json!(args.normalize)),
            ("--dims", json!(args.dims)),
            ("--shard", json!(args.shard.map(|shard| shard.to_string()))),
        ];
        let flags = flags.into_iter().chain(state(args)?);
        Ok(flags.map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// Takes over what an earlier run finished.
fn take_over(parts: &Parts, args: &Args, rejects: &mut Rejects, sink: &mut dyn FeatureSink) -> Outcome {
    let refused = parts.refused().count();
    if refused > 0 && BadRows::from(args.table_args.bad_rows) == BadRows::Stop {
        let error = Error::invalid(format!("{refused} of the finished rows were refused and left empty"))
            .file(parts.folder())
            .remedy("go on with --bad-rows skip, or remove the folder to start anew");
        return Err(Failure::Failed(error));
    }
    parts.refused().try_for_each(|error| rejects.push(error))?;
    parts.replay(sink)?;
    if args.resume {
        note(&match parts.total() {
            0 => "no finished rows are kept to go on with: it begins with the first".to_owned(),
            rows => format!("{rows} rows were finished before and are taken over"),
        });
    }
    Ok(())
}

/// Cuts rows to the dimensions asked for.
struct Shaped {
    sink: Box<dyn FeatureSink>,
    dims: usize,
    normalize: bool,
}

/// A sink whose rows have the dimensions asked for.
pub(crate) fn shaped(sink: Box<dyn FeatureSink>, args: &Args) -> Box<dyn FeatureSink> {
    match args.dims {
        Some(dims) => Box::new(Shaped {
            sink,
            dims,
            normalize: args.normalize,
        }),
        None => sink,
    }
}

impl FeatureSink for Shaped {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        let cut = |features: Embeddings| {
            let cut = features.first_dims(self.dims)?;
            Ok(if self.normalize { cut.normalised() } else { cut })
        };
        self.sink.append(FeatureRows {
            texts: rows.texts.map(cut).transpose()?,
            images: rows.images.map(cut).transpose()?,
            ..rows
        })
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.sink.commit()
    }
}
