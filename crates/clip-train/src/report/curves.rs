//! What figures did over a run, thinned to what a plot can show.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use clip_core::{Error, Result};
use memchr::memmem::Finder;
use serde_json::{Map, Value};

/// A curve has at most so many points; a plot is no wider than that.
const MOST: usize = 1024;

/// Of a file of so many bytes every line is read, of one twice as long every second.
const LONG: u64 = 8 << 20;

/// One figure over steps. Each point is the mean of as many neighbouring values as it takes to stay below [`MOST`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Mean step, mean value.
    points: Vec<(f64, f64)>,
    /// Values a point.
    stride: u32,
    /// Sums of the values that make no whole point yet, and their number.
    rest: (f64, f64, u32),
}

impl Curve {
    fn new() -> Self {
        Self {
            points: Vec::new(),
            stride: 1,
            rest: (0.0, 0.0, 0),
        }
    }

    fn add(&mut self, step: f64, value: f64) {
        let (steps, values, count) = self.rest;
        self.rest = (steps + step, values + value, count + 1);
        if count + 1 < self.stride {
            return;
        }
        self.points.extend(mean(self.rest));
        self.rest = (0.0, 0.0, 0);
        if self.points.len() == MOST {
            let halved = self.points.as_chunks::<2>().0.iter();
            self.points = halved.map(|[a, b]| ((a.0 + b.0) / 2.0, (a.1 + b.1) / 2.0)).collect();
            self.stride *= 2;
        }
    }

    /// All points, the unfinished one too.
    pub(super) fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().chain(mean(self.rest))
    }
}

fn mean((steps, values, count): (f64, f64, u32)) -> Option<(f64, f64)> {
    (count > 0).then(|| (steps / f64::from(count), values / f64::from(count)))
}

/// Curves of all figures of a run's steps and evaluations.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Curves {
    /// In the order in which figures were first met.
    curves: Vec<(String, Curve)>,
    /// Names of the loss's terms.
    terms: Vec<String>,
    /// The last line of a step, and of an evaluation.
    pub(super) step: Map<String, Value>,
    pub(super) evaluation: Map<String, Value>,
    /// Steps that were left out.
    pub(super) left_out: u64,
}

impl Curves {
    /// Reads metrics.jsonl, a line at a time. Of a long file not every step is taken: a plot would not show it.
    ///
    /// # Errors
    /// The file cannot be read; that there is none is no error. Lines that are no objects are passed over.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::read_thinned(path, LONG)
    }

    /// As [`read`](Self::read), every line up to a length of `long` bytes.
    fn read_thinned(path: &Path, long: u64) -> Result<Self> {
        let mut curves = Self::default();
        let file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(curves),
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let length = std::fs::metadata(path).map_or(0, |data| data.len());
        let every = (length / long).max(1) as usize;
        let rare = [Finder::new("\"valid_"), Finder::new("\"left_out\"")];
        for (number, line) in file.split(b'\n').enumerate() {
            let line = line.map_err(|error| Error::io("read", path, error))?;
            let has = |word: &Finder<'_>| word.find(&line).is_some();
            if !number.is_multiple_of(every) && !rare.iter().any(has) {
                continue;
            }
            if let Ok(Value::Object(figures)) = serde_json::from_slice(&line) {
                curves.add(&figures);
            }
        }
        Ok(curves)
    }

    /// Adds the figures of a step or of an evaluation.
    pub(super) fn add(&mut self, figures: &Map<String, Value>) {
        let Some(step) = figures.get("step").and_then(Value::as_f64) else {
            return;
        };
        if figures.contains_key("loss") {
            // The terms stand between the loss and the rate.
            let behind = figures.keys().skip_while(|name| *name != "loss").skip(1);
            for name in behind.take_while(|name| *name != "lr") {
                if !self.terms.contains(name) {
                    self.terms.push(name.clone());
                }
            }
            self.left_out += u64::from(figures.get("left_out") == Some(&Value::Bool(true)));
            self.step.clone_from(figures);
        } else {
            self.evaluation.clone_from(figures);
        }
        for (name, value) in figures.iter().filter(|(name, _)| *name != "step") {
            let Some(value) = value.as_f64() else { continue };
            match self.curves.iter_mut().find(|(known, _)| known == name) {
                Some((_, curve)) => curve.add(step, value),
                None => {
                    let mut curve = Curve::new();
                    curve.add(step, value);
                    self.curves.push((name.clone(), curve));
                }
            }
        }
    }

    /// A figure's curve.
    pub(super) fn get(&self, name: &str) -> Option<&Curve> {
        self.curves
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, curve)| curve)
    }

    /// The loss's terms with their curves.
    pub(super) fn terms(&self) -> impl Iterator<Item = (&str, &Curve)> {
        let terms = self.terms.iter();
        terms.filter_map(|name| Some((name.as_str(), self.get(name)?)))
    }

    /// Figures of evaluations, without the `valid_` of their names.
    pub(super) fn evaluations(&self) -> impl Iterator<Item = (&str, &Curve)> {
        let all = self.curves.iter();
        all.filter_map(|(name, curve)| Some((name.strip_prefix("valid_")?, curve)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_curve_keeps_its_shape_in_few_points() {
        let mut curve = Curve::new();
        let total = 1_000_003u32;
        for step in 0..total {
            curve.add(f64::from(step), (f64::from(step) / 1e5).sin());
        }
        let points: Vec<_> = curve.points().collect();
        assert!((MOST / 2..=MOST).contains(&points.len()), "{}", points.len());
        assert!(
            points
                .iter()
                .all(|(step, value)| (value - (step / 1e5).sin()).abs() < 1e-3)
        );
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(points.last().unwrap().0 > f64::from(total) - 2e3);
    }

    #[test]
    fn of_a_long_file_some_steps_are_taken_and_every_evaluation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut text = String::new();
        for step in 1..=1000 {
            text += &format!("{}\n", json!({"step": step, "loss": 1.0 / f64::from(step), "lr": 0.1}));
            if step % 100 == 0 {
                text += &format!("{}\n", json!({"step": step, "valid_mrr": 0.5}));
            }
            if step % 333 == 0 {
                text += &format!("{}\n", json!({"step": step, "loss": null, "lr": 0.1, "left_out": true}));
            }
        }
        std::fs::write(&path, &text).unwrap();
        let curves = Curves::read_thinned(&path, text.len() as u64 / 10).unwrap();
        let loss: Vec<_> = curves.get("loss").unwrap().points().collect();
        assert!((90..=110).contains(&loss.len()), "{}", loss.len());
        assert!(loss.iter().all(|(step, value)| (value * step - 1.0).abs() < 1e-12));
        assert_eq!(
            (curves.get("valid_mrr").unwrap().points().count(), curves.left_out),
            (10, 3)
        );
        let whole = Curves::read_thinned(&path, text.len() as u64).unwrap();
        assert_eq!(whole.get("loss").unwrap().points().count(), 1000);
    }

    #[test]
    fn a_short_curve_is_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let lines = [
            json!({"step": 1, "epoch": 0, "loss": 3.5, "info_nce": 3.0, "other": 0.5, "lr": 0.1, "queue": 0.25}),
            json!({"step": 2, "epoch": 0, "loss": null, "info_nce": null, "lr": 0.1, "left_out": true}),
            json!({"step": 2, "valid_r@1_text_to_image": 50.0}),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text + "{\"step\": 3, \"lo").unwrap();
        let curves = Curves::read(&path).unwrap();
        let points = |name: &str| -> Vec<_> { curves.get(name).unwrap().points().collect() };
        assert_eq!(points("loss"), [(1.0, 3.5)]);
        assert_eq!(points("lr"), [(1.0, 0.1), (2.0, 0.1)]);
        assert_eq!(
            curves.terms().map(|(name, _)| name).collect::<Vec<_>>(),
            ["info_nce", "other"]
        );
        assert_eq!(
            curves.evaluations().map(|(name, _)| name).collect::<Vec<_>>(),
            ["r@1_text_to_image"]
        );
        assert_eq!(curves.left_out, 1);
        assert_eq!(curves.evaluation["step"], 2);
        assert_eq!(Curves::read(&folder.path().join("none")).unwrap(), Curves::default());
    }
}
