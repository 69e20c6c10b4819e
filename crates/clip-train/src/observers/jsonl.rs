//! metrics.jsonl: one object a logged step or evaluation.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clip_core::{Error, Event, Observer, Result};
use clip_data::PendingFile;
use serde_json::{Map, Value};

/// Appends the figures of steps (with `step` and `loss`) and of evaluations (with `step` and `valid_…`, without `loss`),
/// one object a line, each flushed.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Opens the file to append, after cutting it back to what was known after `step` steps: lines of later steps go, and
    /// with them evaluations at `step` itself unless `evaluated`. With 0 steps the file starts empty. Lines that are no
    /// objects, as a killed process leaves them, go too.
    pub fn open(path: impl AsRef<Path>, step: u64, evaluated: bool) -> Result<Self> {
        let path = path.as_ref().to_owned();
        cut(&path, step, evaluated)?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|error| Error::io("write", &path, error))?;
        Ok(Self { path, file })
    }

    fn write(&mut self, figures: &Map<String, Value>) -> Result<()> {
        // One write a line, so that a reader never sees half of one.
        let line = format!("{}\n", Value::Object(figures.clone()));
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.flush())
            .map_err(|error| Error::io("write", &self.path, error))
    }
}

/// Rewrites the file with the lines to keep; it appears whole.
fn cut(path: &Path, step: u64, evaluated: bool) -> Result<()> {
    let fault = |error| Error::io("read", path, error);
    let old = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fault(error)),
    };
    let mut new = PendingFile::create(path)?;
    for line in old.split(b'\n') {
        let line = line.map_err(fault)?;
        if keeps(&line, step, evaluated) {
            let written = new.write_all(&line).and_then(|()| new.write_all(b"\n"));
            written.map_err(|error| new.error(error))?;
        }
    }
    new.commit()
}

fn keeps(line: &[u8], step: u64, evaluated: bool) -> bool {
    let Ok(Value::Object(figures)) = serde_json::from_slice(line) else {
        return false;
    };
    match figures.get("step").and_then(Value::as_u64) {
        Some(own) if figures.contains_key("loss") || evaluated => own <= step,
        Some(own) => own < step,
        None => false,
    }
}

impl Observer for JsonLines {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Step(figures) | Event::Evaluated(figures) => self.write(figures),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn run(path: &Path) {
        let mut observer = JsonLines::open(path, 0, false).unwrap();
        for step in 1..=4u64 {
            let figures = json!({ "step": step, "loss": 0.5 });
            observer.observe(&Event::Step(figures.as_object().unwrap())).unwrap();
            if step % 2 == 0 {
                let figures = json!({ "step": step, "valid_mrr": 0.1 });
                observer
                    .observe(&Event::Evaluated(figures.as_object().unwrap()))
                    .unwrap();
            }
        }
        observer.observe(&Event::Finished { step: 4 }).unwrap();
    }

    #[test]
    fn it_is_cut_back_to_a_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        run(&path);
        let all = lines(&path);
        assert_eq!(all[0], r#"{"step":1,"loss":0.5}"#);
        assert_eq!(all.len(), 6);
        // A killed process leaves half a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"step\":1,\"lo").unwrap();
        for (step, evaluated, kept) in [
            (4, true, 6),
            (4, false, 5),
            (3, true, 4),
            (2, true, 3),
            (2, false, 2),
            (0, false, 0),
        ] {
            let copy = folder.path().join("copy.jsonl");
            std::fs::copy(&path, &copy).unwrap();
            JsonLines::open(&copy, step, evaluated).unwrap();
            assert_eq!(lines(&copy), all[..kept], "{step} {evaluated}");
        }
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = JsonLines::open("/proc/self/metrics.jsonl", 0, false).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/proc/self/metrics.jsonl: cannot write: "),
            "{error}"
        );
    }
}
