//! report.html: what a run did, on one page that needs nothing but itself.
//!
//! The page is made of the run's own files: metrics.jsonl, run.toml, average.json where there is one, and report.json,
//! which keeps what sample titles found before training and with the best model. So it can be written again at any time,
//! and a resumed run goes on with the page of the run before.

mod curves;
mod page;
mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clip_core::{Error, Event, Observer, Result};
use clip_data::PendingFile;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::curves::Curves;
use self::samples::{Exhibited, Extent, Shot, exhibit};
use crate::checkpoint::{Best, RunState};
use crate::config::ReportConfig;
use crate::evaluate::{Embedded, Evaluation};
use crate::trainer::Summary;

/// What a report knows beside the run's other files.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    /// The initial model.
    before: Option<Shot>,
    /// The best one so far.
    best: Option<Shot>,
    /// Pictures by their row among the pairs evaluated.
    pictures: BTreeMap<usize, Exhibited>,
    /// Steps that the run will do at most.
    steps: u64,
    /// How the run ended, if it has.
    ending: Option<Ending>,
}

/// What is known when a run has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ending {
    /// Steps done.
    step: u64,
    /// Of these by the last process, and the seconds they took, without evaluations and checkpoints.
    done: u64,
    seconds: f64,
    /// Pairs in those steps.
    pairs: f64,
    refused: u64,
    best: Option<Best>,
}

/// Keeps what a report shows, and writes it at each evaluation and at the end.
pub(crate) struct Report {
    folder: PathBuf,
    config: ReportConfig,
    curves: Curves,
    record: Record,
    /// Pairs since this process began, of the steps that were told.
    pairs: f64,
    told: u64,
}

const PAGE: &str = "report.html";
const RECORD: &str = "report.json";

impl Report {
    /// The report of the run in a directory, which stands where `state` says; run.toml is written already.
    pub(crate) fn open(folder: &Path, config: ReportConfig, state: &RunState) -> Result<Self> {
        let mut record = Record::default();
        if state.step > 0 || state.epoch > 0 {
            record = read(folder)?;
            // What a process saw that was killed behind its last checkpoint comes again.
            record.best = record.best.filter(|best| best.step <= state.step);
            record.ending = None;
        }
        Ok(Self {
            curves: Curves::read(&folder.join("metrics.jsonl"))?,
            folder: folder.to_owned(),
            config,
            record,
            pairs: 0.0,
            told: 0,
        })
    }

    /// Whether the initial model should be evaluated: titles are shown, and what they find is not known yet.
    pub(crate) fn wants_before(&self) -> bool {
        self.config.titles > 0 && self.record.before.is_none()
    }

    /// Keeps what an evaluation found: of the initial model, or of the best so far.
    pub(crate) fn keep(
        &mut self,
        step: u64,
        embedded: &Embedded,
        figures: &Map<String, Value>,
        evaluation: &mut dyn Evaluation,
    ) -> Result<()> {
        let extent = Extent {
            queries: self.config.titles,
            pictures: self.config.pictures,
        };
        let shot = Shot::take(step, embedded, figures, evaluation, extent)?;
        let other = if step == 0 {
            &self.record.best
        } else {
            &self.record.before
        };
        exhibit(&mut self.record.pictures, &shot, other.as_ref(), evaluation)?;
        if step == 0 {
            self.record.before = Some(shot);
        } else {
            self.record.best = Some(shot);
        }
        self.write_record()
    }

    /// Writes the page for the last time.
    pub(crate) fn end(&mut self, summary: &Summary) -> Result<()> {
        self.record.ending = Some(Ending {
            step: summary.step,
            done: summary.done,
            seconds: summary.seconds,
            // Where only some steps are told, those stand for the others.
            pairs: self.pairs * summary.done as f64 / self.told.max(1) as f64,
            refused: summary.refused,
            best: summary.best.clone(),
        });
        self.write_record()?;
        self.write_page()
    }

    fn write_record(&self) -> Result<()> {
        let text = serde_json::to_string(&self.record)
            .map_err(|error| Error::internal(format!("what the report keeps: {error}")).source(error))?;
        let mut file = PendingFile::create(self.folder.join(RECORD))?;
        file.write_all(text.as_bytes()).map_err(|error| file.error(error))?;
        file.commit()
    }

    fn write_page(&self) -> Result<()> {
        page::page(&self.folder, &self.curves, &self.record)?.write(self.folder.join(PAGE))
    }
}

impl Observer for Report {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { steps, .. } => self.record.steps = *steps,
            Event::Step(figures) => {
                self.curves.add(figures);
                self.pairs += figures.get("pairs").and_then(Value::as_f64).unwrap_or(0.0);
                self.told += 1;
            }
            Event::Evaluated(figures) => {
                self.curves.add(figures);
                self.write_page()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a report kept before; nothing where there is no file, or one that is none.
fn read(folder: &Path) -> Result<Record> {
    let path = folder.join(RECORD);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Writes report.html of a run again, from the run's own files: after something was added to them.
///
/// # Errors
/// A file cannot be read or written.
pub fn write_report(folder: impl AsRef<Path>) -> Result<()> {
    let folder = folder.as_ref();
    let curves = Curves::read(&folder.join("metrics.jsonl"))?;
    page::page(folder, &curves, &read(folder)?)?.write(folder.join(PAGE))
}
