//! What EasyNLP prints: its logger's lines on standard error, figures on standard output.

use std::path::PathBuf;
use std::time::Instant;

use chrono::Local;
use clip_core::serde_json::{Map, Value};
use clip_core::{Event, Observer, Result};
use clip_data::PythonNumber;
use clip_index::Figures;
use clip_train::RunConfig;

use crate::cli::args::{note, print};

/// A line of the logger.
pub(super) fn info(text: &str) {
    note(&format!(
        "[{} INFO] {text}",
        Local::now().format("%Y-%m-%d %H:%M:%S,%3f")
    ));
}

/// Recalls of one direction as EasyNLP counts and prints them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Recalls {
    hits: [u64; 3],
    queries: u64,
}

impl Recalls {
    /// Of recalls in percent.
    fn new(percent: [f64; 3], queries: u64) -> Self {
        Self {
            hits: percent.map(|percent| (percent / 100.0 * queries as f64).round() as u64),
            queries,
        }
    }

    pub(super) fn of(figures: &Figures) -> Self {
        // The default ranks are looked at, so each is there.
        let percent = [1, 5, 10].map(|k| figures.recall(k).unwrap_or(0.0));
        Self::new(percent, figures.queries as u64)
    }

    /// Of an evaluation in training.
    fn of_event(figures: &Map<String, Value>) -> Self {
        let number = |name: &str| figures.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let percent = ["r@1", "r@5", "r@10"].map(|figure| number(&format!("valid_{figure}_text_to_image")));
        Self::new(percent, number("valid_queries") as u64)
    }

    /// The two lines, in Python's arithmetic.
    pub(super) fn lines(&self) -> [String; 2] {
        let [r1, r5, r10] = self.hits;
        let [p1, p5, p10] = self.shares().map(|share| PythonNumber(share * 100.0));
        [
            format!("r1_num:{r1} r5_num:{r5} r10_num:{r10} query_num:{}", self.queries),
            format!(
                "r1(%):{p1} r5(%):{p5} r10(%):{p10} mean_recall(%):{}",
                PythonNumber(self.mean() * 100.0)
            ),
        ]
    }

    fn shares(&self) -> [f64; 3] {
        self.hits.map(|hits| hits as f64 / self.queries as f64)
    }

    /// The mean recall, 0 to 1.
    pub(super) fn mean(&self) -> f64 {
        self.shares().iter().sum::<f64>() / 3.0
    }
}

/// What there is to say of a run before its first step.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) gpus: usize,
    pub(super) training: usize,
    pub(super) validation: Option<usize>,
    pub(super) micro_batch: usize,
    pub(super) sequence_length: usize,
    pub(super) parameters: u64,
    pub(super) trainable: u64,
    /// The run's settings.
    pub(super) run: RunConfig,
    /// The model's config.
    pub(super) model: String,
}

/// Writes a run's lines.
pub(super) struct Log {
    opening: Opening,
    weights: PathBuf,
    best: Option<f64>,
    steps: u64,
    since: Instant,
}

impl Log {
    /// Of a run that writes its best model to `weights`, where the best so far has a mean recall of `best` (0 to 1).
    pub(super) fn new(opening: Opening, weights: PathBuf, best: Option<f64>) -> Self {
        Self {
            opening,
            weights,
            best,
            steps: 0,
            since: Instant::now(),
        }
    }

    fn open(&self) {
        let own = &self.opening;
        let line = |name: &str, value: &dyn std::fmt::Display| info(&format!("  {name:<24}= {value}"));
        info("========== Training Start ==========");
        line("Num of GPUs (all)", &own.gpus);
        line("Num dataset examples", &own.training);
        line("Num training examples", &own.training);
        if let Some(validation) = own.validation {
            line("Num validation examples", &validation);
        }
        line("Train. batch size", &own.run.batch_size);
        line("Train. micro batch size", &own.micro_batch);
        line(
            "Train. batch no.",
            &(own.training as u64 * own.run.epochs / own.micro_batch as u64),
        );
        line("Evaluation batch size", &own.micro_batch);
        line("Total training steps", &self.steps);
        line("Sequence length", &own.sequence_length);
        line("Saving steps", &own.run.checkpoint_every);
        line("Distributed_backend", &"none");
        line("Worker data threads", &own.run.environment.workers);
        line("num model params", &grouped(own.parameters));
        line("num trainable params", &grouped(own.trainable));
        info("========== Model Config ==========");
        info(&own.model);
    }

    fn step(&mut self, figures: &Map<String, Value>) {
        let number = |name: &str| figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        info(&format!(
            "Epoch [{:2}/{:2}], step [{}/{}], lr {:.6}, {:.2} s",
            number("epoch"),
            self.opening.run.epochs,
            number("step"),
            self.steps,
            number("lr"),
            self.since.elapsed().as_secs_f64()
        ));
        info(&format!("  {:<10}: {:.4} ", "loss", number("epoch_loss")));
        self.since = Instant::now();
    }

    fn evaluated(&mut self, figures: &Map<String, Value>) -> Result<()> {
        let step = figures.get("step").and_then(Value::as_u64).unwrap_or(0);
        info(&format!("========== Evaluation at global step {step} =========="));
        let recalls = Recalls::of_event(figures);
        recalls.lines().iter().try_for_each(|line| print(line))?;
        let mean = recalls.mean();
        if self.best.is_none_or(|best| mean > best) {
            info(&format!("Saving best model to {}...", self.weights.display()));
            self.best = Some(mean);
        }
        info(&format!("Best score: {}", PythonNumber(self.best.unwrap_or(mean))));
        let rate = self.opening.run.rate(step.saturating_sub(1), self.steps);
        info(&format!("Learning rate: {rate:.8}"));
        Ok(())
    }
}

impl Observer for Log {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Started { steps, .. } => {
                self.steps = *steps;
                self.since = Instant::now();
                self.open();
            }
            Event::Step(figures) => self.step(figures),
            Event::Evaluated(figures) => self.evaluated(figures)?,
            Event::Note(text) => info(text),
            _ => {}
        }
        Ok(())
    }
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 127, 280 and 334 of 500 are the figures of an example in EasyNLP's documentation.
    #[test]
    fn recalls_are_counted_and_written_as_python_does() {
        let recalls = Recalls::new([25.4, 56.0, 66.8], 500);
        assert_eq!(
            recalls.lines(),
            [
                "r1_num:127 r5_num:280 r10_num:334 query_num:500",
                "r1(%):25.4 r5(%):56.00000000000001 r10(%):66.8 mean_recall(%):49.400000000000006"
            ]
        );
        let thirds = Recalls::new([100.0 / 3.0, 200.0 / 3.0, 100.0], 3);
        assert_eq!(thirds.hits, [1, 2, 3]);
        assert_eq!(
            thirds.lines()[1],
            "r1(%):33.33333333333333 r5(%):66.66666666666666 r10(%):100.0 mean_recall(%):66.66666666666666"
        );
    }

    #[test]
    fn thousands_have_commas() {
        assert_eq!([7, 1234, 151_277_313].map(grouped), ["7", "1,234", "151,277,313"]);
    }
}
