//! TensorBoard event files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clip_core::{Error, Event, Observer, Result};
use serde_json::{Map, Value};

use super::record::{What, event, record};

/// Writes every numeric figure as a scalar: `train/loss`, `valid/mean_recall`. A resumed run starts a file of its own,
/// which tells TensorBoard from which step on older files no longer count.
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: File,
    tag: fn(&str) -> Option<String>,
}

impl TensorBoard {
    /// Starts an event file in a directory, which is created where there is none.
    pub fn create(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        fs::create_dir_all(directory).map_err(|error| Error::io("write", directory, error))?;
        let seconds = now() as u64;
        // TensorBoard reads the files of a folder in the order of their names.
        let mut number = 0;
        let (path, file) = loop {
            let path = directory.join(format!(
                "events.out.tfevents.{seconds:010}.{number:04}.{}",
                std::process::id()
            ));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(Error::io("write", &path, error)),
            }
        };
        let mut board = Self { path, file, tag };
        board.write(0, &What::Version)?;
        Ok(board)
    }

    /// The same with names of the caller's: `tag` gives a figure's, and `None` for one that is not written.
    pub fn named(self, tag: fn(&str) -> Option<String>) -> Self {
        Self { tag, ..self }
    }

    /// Writes a text under a name, which TensorBoard shows as Markdown.
    pub fn text(&mut self, tag: &str, text: &str) -> Result<()> {
        self.write(0, &What::Text(tag, text))
    }

    fn write(&mut self, step: u64, what: &What<'_>) -> Result<()> {
        self.file
            .write_all(&record(&event(now(), step, what)))
            .map_err(|error| Error::io("write", &self.path, error))
    }

    fn scalars(&mut self, figures: &Map<String, Value>) -> Result<()> {
        let step = figures.get("step").and_then(Value::as_u64).unwrap_or(0);
        let values: Vec<(String, f32)> = figures
            .iter()
            .filter(|(name, _)| *name != "step")
            .filter_map(|(name, value)| Some(((self.tag)(name)?, value.as_f64()? as f32)))
            .collect();
        self.write(step, &What::Scalars(&values))
    }
}

fn tag(name: &str) -> Option<String> {
    Some(match name.strip_prefix("valid_") {
        Some(rest) => format!("valid/{rest}"),
        None => format!("train/{name}"),
    })
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

impl Observer for TensorBoard {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            // Also from step 0: a killed process may have left events of a run that starts anew.
            Event::Started { step, .. } => self.write(step + 1, &What::Restart),
            Event::Step(figures) | Event::Evaluated(figures) => self.scalars(figures),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_file_is_a_row_of_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        for start in [0, 2] {
            let mut board = TensorBoard::create(folder.path()).unwrap();
            board.observe(&Event::Started { step: start, steps: 9 }).unwrap();
            let step = json!({ "step": start + 1, "loss": 0.25, "note": "x" });
            board.observe(&Event::Step(step.as_object().unwrap())).unwrap();
        }
        let mut counts = Vec::new();
        let mut paths: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            let bytes = fs::read(path).unwrap();
            let (mut at, mut count) = (0, 0);
            while at < bytes.len() {
                let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
                let data = &bytes[at + 12..at + 12 + length];
                assert_eq!(record(data), bytes[at..at + 16 + length]);
                (at, count) = (at + 16 + length, count + 1);
            }
            counts.push(count);
        }
        // Each also says from which step on those before no longer count.
        assert_eq!(counts, [3, 3]);
    }
}
