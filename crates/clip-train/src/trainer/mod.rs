//! The loop: epochs, steps, evaluations, checkpoints.

mod changes;
mod ending;
mod kept;
mod memory;
mod points;
mod suspects;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clip_core::{Error, Event, Observer, Position, Result};
use clip_data::PendingFile;
use clip_nn::tch;
use clip_nn::{DualEncoder, ModelWriter, Zoo, door};
use serde_json::{Map, Value};

use self::changes::changes;
use self::ending::{finished, no_batch};
use self::memory::Memory;
use self::points::Point;
use self::suspects::{Suspects, suspects};
use crate::batch::{Batch, BatchSource};
use crate::checkpoint::{Best, Checkpoint, Checkpoints, OPTIMIZER, RunState};
use crate::clip::clip_gradients;
use crate::concepts::NameReader;
use crate::config::RunConfig;
use crate::depth::LayerDecay;
use crate::ema::Ema;
use crate::evaluate::Evaluation;
use crate::fit::fit;
use crate::groups::check_prefixes;
use crate::numbers::Mean;
use crate::objectives::Objectives;
use crate::observers::{JsonLines, TensorBoard};
use crate::optimizer::{Optimizer, OptimizerConfig};
use crate::report::Report;
use crate::run::RunDir;
use crate::start;
use crate::step::{Beside, StepLoss, StepOptions, back_propagate};
use crate::stop::Stop;

/// What a run is made of.
pub struct Parts {
    /// The model to train: of [`Checkpoint::model`](crate::Checkpoint::model) where the run goes on from one.
    pub model: DualEncoder,
    /// How it is written.
    pub writer: Box<dyn ModelWriter>,
    /// The training pairs.
    pub source: Box<dyn BatchSource>,
    /// The pairs to evaluate on; without them `best` is `last`.
    pub evaluation: Option<Box<dyn Evaluation>>,
    /// What reads names of concepts; needed where an objective wants them encoded.
    pub names: Option<Box<dyn NameReader>>,
    /// The settings.
    pub config: RunConfig,
    /// Who else is told what happens; metrics.jsonl and TensorBoard's events are written anyway.
    pub observers: Vec<Box<dyn Observer>>,
    /// Where the run is written, and what it goes on from.
    pub run: RunDir,
    /// Looked at behind each step: once asked, the run makes a checkpoint and ends.
    pub stop: Stop,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Steps done, those before a resume included.
    pub step: u64,
    /// Steps that this process did.
    pub done: u64,
    /// Seconds that those steps took, without evaluations and checkpoints.
    pub seconds: f64,
    /// The loss of the last step of this process.
    pub loss: Option<f64>,
    /// The figures of the last evaluation of this process.
    pub evaluated: Option<Map<String, Value>>,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Rows refused, those met again counted again.
    pub refused: u64,
}

/// Trains a model.
pub struct Trainer {
    model: DualEncoder,
    writer: Box<dyn ModelWriter>,
    evaluation: Option<Box<dyn Evaluation>>,
    config: RunConfig,
    observers: Vec<Box<dyn Observer>>,
    path: PathBuf,
    checkpoints: Checkpoints,
    objectives: Objectives,
    optimizer: Optimizer,
    ema: Option<Ema>,
    report: Option<Report>,
    /// Queue and concepts, where an objective looks at them.
    memory: Option<Memory>,
    /// Of the last step that was left out.
    suspects: Suspects,
    state: RunState,
    steps: u64,
    summary: Summary,
    stop: Stop,
    /// The step that the run went on from. Its checkpoint stays while the run trains: the writer may still read from the
    /// model in it (a vocabulary, say).
    resumed: Option<u64>,
    /// Step, epoch and `evaluated` of the newest checkpoint.
    saved: Option<(u64, u64, bool)>,
}

impl Trainer {
    /// Prepares a run: locks, builds the optimizer, takes the state of a checkpoint over, writes run.toml and cuts
    /// metrics.jsonl back. The source is handed to [`run`](Self::run).
    fn new(parts: Parts, objectives: Objectives, zoo: &Zoo, pairs: Option<u64>) -> Result<Self> {
        let Parts {
            model,
            writer,
            evaluation,
            names,
            config,
            observers,
            run,
            stop,
            source: _,
        } = parts;
        config.check()?;
        let config = config.resolved(zoo)?;
        if config.evaluation.patience.is_some() && evaluation.is_none() {
            return Err(
                Error::invalid("evaluation.patience waits for a new best, and nothing is evaluated")
                    .remedy("pass --valid, or leave patience out"),
            );
        }
        let steps = config.steps(pairs)?;
        fit(&model, &config)?;
        check_prefixes("rates", config.rates.keys().map(String::as_str), model.parameters())?;
        let trained = model
            .parameters()
            .trainable()
            .chain(objectives.parameters().trainable());
        let layer_decay = LayerDecay::new(model.parameters(), config.layer_decay)?;
        let settings = OptimizerConfig {
            layer_decay,
            ..config.optimizer()
        };
        let optimizer = Optimizer::new(trained, &settings)?;
        if optimizer.is_empty() {
            return Err(Error::invalid("every parameter is locked, so there is nothing to train").remedy("lock less"));
        }
        let ema = Ema::of(model.parameters(), config.ema)?;
        let memory = Memory::new(&objectives.needs(), &config, &model, names)?;
        let (path, checkpoints) = (run.path().to_owned(), run.checkpoints());
        let notes = run.notes().to_vec();
        let state = RunState {
            step: 0,
            epoch: 0,
            position: Position::default(),
            evaluated: false,
            epoch_loss: Mean::default(),
            best: None,
            stale: 0,
            bad_steps: 0,
            refused: 0,
            config: config.to_toml()?,
            queue: Value::Null,
            concepts: Value::Null,
        };
        let mut trainer = Self {
            model,
            writer,
            evaluation,
            config,
            observers,
            report: None,
            path,
            checkpoints,
            objectives,
            optimizer,
            ema,
            memory,
            suspects: Suspects::default(),
            state,
            steps,
            summary: Summary {
                step: 0,
                done: 0,
                seconds: 0.0,
                loss: None,
                evaluated: None,
                best: None,
                refused: 0,
            },
            stop,
            resumed: run.checkpoint().map(|checkpoint| checkpoint.state().step),
            saved: None,
        };
        trainer.open(notes, run.into_checkpoint())?;
        Ok(trainer)
    }

    /// Trains to the end.
    ///
    /// # Errors
    /// What a source, an objective, the model, a file or an observer answers; a loss that stays not finite. The run can be
    /// resumed from its newest checkpoint.
    pub fn run(parts: Parts, zoo: &Zoo) -> Result<Summary> {
        let objectives = Objectives::of_run(&parts.config, &parts.model, zoo)?;
        Self::run_with(parts, objectives, zoo)
    }

    /// The same with the objectives of the run's settings in hand.
    pub(crate) fn run_with(mut parts: Parts, objectives: Objectives, zoo: &Zoo) -> Result<Summary> {
        if parts.run.finished(&parts.config) {
            return finished(parts);
        }
        // The source is borrowed by its streams, so it stays outside of what they change.
        let mut source = std::mem::replace(&mut parts.source, Box::new(Nothing));
        let mut trainer = Self::new(parts, objectives, zoo, source.pairs())?;
        if let Err(error) = trainer.train(&mut *source) {
            if trainer.state.step == 0 {
                // The first error is the one to tell.
                start::clear(&trainer.path).ok();
            }
            return Err(error);
        }
        trainer.end()
    }

    /// Epochs and steps to the last.
    fn train(&mut self, source: &mut dyn BatchSource) -> Result<()> {
        self.look_before()?;
        self.tell(&Event::Started {
            step: self.state.step,
            steps: self.steps,
        })?;
        while !self.ended() {
            let position = self.state.position.clone();
            let mut stream = source.start(self.state.epoch, &position)?;
            while !self.ended() {
                match stream.next()? {
                    Some(batch) => {
                        self.step(&batch)?;
                        if self.stop.asked() && !self.ended() {
                            return Err(self.stopped()?);
                        }
                    }
                    None => {
                        self.epoch()?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens the run's files, and takes a checkpoint over.
    fn open(&mut self, notes: Vec<String>, checkpoint: Option<Checkpoint>) -> Result<()> {
        if let Some(checkpoint) = &checkpoint {
            self.restore(checkpoint)?;
        }
        self.checkpoints
            .forget_after(checkpoint.as_ref().map(|checkpoint| checkpoint.state().step))?;
        write(&self.path.join("run.toml"), self.state.config.as_bytes())?;
        let metrics = self.path.join("metrics.jsonl");
        let lines = JsonLines::open(metrics, self.state.step, self.state.evaluated)?;
        let board = TensorBoard::create(self.path.join("tensorboard"))?;
        self.observers.insert(0, Box::new(lines));
        self.observers.insert(1, Box::new(board));
        if self.config.report.enabled {
            self.report = Some(Report::open(&self.path, self.config.report, &self.state)?);
        }
        for note in notes {
            self.tell(&Event::Note(&note))?;
        }
        if let Some(checkpoint) = checkpoint {
            for change in changes(&checkpoint.state().config, &self.state.config) {
                self.tell(&Event::Note(&change))?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let device = self.optimizer.device();
        let mut tensors = checkpoint.tensors(OPTIMIZER, device)?;
        self.restore_beside(&mut tensors, checkpoint.path())?;
        self.optimizer
            .restore(&tensors)
            .map_err(|error| error.file(checkpoint.path()))?;
        if let Some(memory) = &mut self.memory {
            memory.take_over(checkpoint, device)?;
        }
        let config = std::mem::take(&mut self.state.config);
        self.state = RunState {
            config,
            ..checkpoint.state().clone()
        };
        self.saved = Some(self.standing());
        // A process killed behind a checkpoint may have left the names at older models.
        self.publish("last", Some(checkpoint.path()))?;
        let best = self.state.best.as_ref().map(|best| best.step);
        if self.evaluation.is_none() || best == Some(self.state.step) {
            self.publish("best", Some(checkpoint.path()))?;
        }
        Ok(())
    }

    fn tell(&mut self, event: &Event<'_>) -> Result<()> {
        let own = self.report.as_mut().map(|report| report as &mut dyn Observer);
        let others = self
            .observers
            .iter_mut()
            .map(|observer| &mut **observer as &mut dyn Observer);
        others.chain(own).try_for_each(|observer| observer.observe(event))
    }

    /// One step, and what is due behind it.
    fn step(&mut self, batch: &Batch) -> Result<()> {
        self.state.position.clone_from(&batch.position);
        self.state.refused += batch.refused;
        if batch.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let rate = self.config.rate(self.state.step, self.steps);
        let options = StepOptions {
            micro_batch: self.config.micro_batch,
            seed: self.config.seed,
            step: self.state.step,
            compute: self.config.dtype.of_pass(),
            patch_dropout: self.config.patch_dropout,
        };
        self.optimizer.clear_gradients()?;
        let needs = self.objectives.needs_at(self.state.step);
        let drawn = match &mut self.memory {
            Some(memory) => memory.draw(&needs, &self.model, options)?,
            None => None,
        };
        let beside = self
            .memory
            .as_ref()
            .map_or_else(Beside::default, |memory| memory.beside(&drawn));
        let stepped = back_propagate(&self.model, &self.objectives, batch, &beside, options)?;
        let loss = &stepped.loss;
        let norm = clip_gradients(&self.optimizer.gradients()?, self.config.grad_clip)?;
        let good = loss.total.is_finite() && norm.is_finite();
        if good {
            self.optimizer.step(rate)?;
            self.clamp_scale()?;
            self.ema.as_ref().map_or(Ok(()), Ema::update)?;
            if let Some(memory) = &mut self.memory {
                memory.push(&stepped, batch, self.state.step)?;
            }
        } else {
            self.suspects = suspects(&stepped, batch, self.model.parameters())?;
        }
        self.state.step += 1;
        self.state.evaluated = false;
        self.state.bad_steps = if good { 0 } else { self.state.bad_steps + 1 };
        self.summary.seconds += started.elapsed().as_secs_f64();
        self.summary.done += 1;
        self.summary.loss = Some(loss.total);
        if good {
            self.state.epoch_loss.add(loss.total);
        }
        if self.state.step.is_multiple_of(self.config.log_every) || !good {
            let figures = self.figures(loss, rate, norm, batch.len(), good)?;
            self.tell(&Event::Step(&figures))?;
        }
        if self.state.bad_steps == 1 {
            let rows = match self.suspects.rows.as_str() {
                "" => String::new(),
                rows => format!(" ({rows})"),
            };
            let note = format!(
                "step {} is left out: its loss or gradient is not finite{rows}",
                self.state.step
            );
            self.tell(&Event::Note(&note))?;
        }
        if self.state.bad_steps > 0 && self.state.bad_steps >= self.config.max_bad_steps {
            return Err(self.diverged());
        }
        self.look_up(Point::Step)
    }

    /// Makes a checkpoint to go on from, and says what to tell.
    fn stopped(&mut self) -> Result<Error> {
        self.look_up(Point::Stop)?;
        let what = format!("stopped behind step {} of {}, as asked", self.state.step, self.steps);
        Ok(Error::unavailable(what).remedy("go on with `clipzoo train --resume` and the same --output"))
    }

    /// Whether there is nothing left to do.
    fn ended(&self) -> bool {
        self.state.ended(&self.config)
    }

    /// The end of an epoch, and what is due there.
    fn epoch(&mut self) -> Result<()> {
        if self.state.step == 0 {
            return Err(no_batch(self.state.refused));
        }
        self.state.epoch += 1;
        self.state.position = Position::default();
        self.state.epoch_loss = Mean::default();
        self.look_up(Point::Epoch)
    }

    /// Keeps the temperature in its range, as OpenCLIP does after each step.
    fn clamp_scale(&self) -> Result<()> {
        let [low, high] = self.config.logit_scale_range;
        let mut scale = self.model.logit_scale().shallow_clone();
        if !scale.requires_grad() || (low == f64::NEG_INFINITY && high == f64::INFINITY) {
            return Ok(());
        }
        door(|| {
            let _guard = tch::no_grad_guard();
            let _ = scale.clamp_(low, high);
        })
    }

    fn figures(&self, loss: &StepLoss, rate: f64, norm: f64, pairs: usize, good: bool) -> Result<Map<String, Value>> {
        let scale = door(|| self.model.logit_scale().double_value(&[]))?;
        let mut figures = Map::new();
        let mut put = |name: &str, value: Value| figures.insert(name.to_owned(), value);
        put("step", self.state.step.into());
        put("epoch", self.state.epoch.into());
        // JSON has no word for numbers that are not finite: they are written as null.
        put("loss", loss.total.into());
        for (name, value) in &loss.terms {
            put(name, (*value).into());
        }
        put("lr", rate.into());
        put("logit_scale", scale.into());
        put("grad_norm", norm.into());
        put("pairs", pairs.into());
        put("epoch_loss", self.state.epoch_loss.value().into());
        if !good {
            put("left_out", true.into());
        }
        if let Some(memory) = &self.memory {
            memory.figures(&mut figures);
        }
        Ok(figures)
    }
}

/// A source of nothing, in the place of one that was taken out.
struct Nothing;

impl BatchSource for Nothing {
    fn pairs(&self) -> Option<u64> {
        None
    }

    fn start(&mut self, _: u64, _: &Position) -> Result<Box<dyn crate::batch::BatchStream + '_>> {
        Err(Error::internal("the source was taken out before"))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = PendingFile::create(path)?;
    std::io::Write::write_all(&mut file, bytes).map_err(|error| file.error(error))?;
    file.commit()
}
