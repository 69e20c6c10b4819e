//! What is kept of each run: a line with its figures, and its answers to every query.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;

use super::measure::Answers;
use super::runs::Run;
use crate::workspace::write_whole;

/// Lines in `SETTING.jsonl`, one a run, the newest of a run counts; answers in `answers/SETTING/…json`.
pub(super) struct Records {
    folder: PathBuf,
    kept: Mutex<BTreeMap<Run, Value>>,
}

impl Records {
    /// Reads what is there.
    pub(super) fn open(folder: PathBuf, settings: &[&str]) -> Result<Self> {
        let mut kept = BTreeMap::new();
        for setting in settings {
            let path = folder.join(format!("{setting}.jsonl"));
            if !path.exists() {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for (row, line) in text.lines().enumerate() {
                let parsed = serde_json::from_str(line)
                    .ok()
                    .and_then(|line: Value| Some((Run::of(&line)?, line)));
                let (run, line) =
                    parsed.with_context(|| format!("{}: line {} is no run's", path.display(), row + 1))?;
                kept.insert(run, line);
            }
        }
        Ok(Self {
            folder,
            kept: Mutex::new(kept),
        })
    }

    /// The line of a run, if it was made with these settings.
    pub(super) fn with_settings(&self, run: &Run, hash: &str) -> Option<Value> {
        self.line(run).filter(|line| line["settings"] == hash)
    }

    /// The line of a run.
    pub(super) fn line(&self, run: &Run) -> Option<Value> {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(run)
            .cloned()
    }

    /// All runs of a setting with their lines.
    pub(super) fn of_setting(&self, setting: &str) -> Vec<(Run, Value)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of = kept.iter().filter(|(run, _)| run.setting == setting);
        of.map(|(run, line)| (run.clone(), line.clone())).collect()
    }

    /// Keeps a run: its answers first, so that a line never stands without them.
    pub(super) fn keep(&self, run: &Run, line: Value, answers: &Answers) -> Result<()> {
        write_whole(&self.answers_file(run), answers.to_json().to_string())?;
        let path = self.folder.join(format!("{}.jsonl", run.setting));
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = kept.insert(run.clone(), line.clone()).is_some();
        let written = if replaced {
            let lines = kept.iter().filter(|(other, _)| other.setting == run.setting);
            let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
            return write_whole(&path, text);
        } else {
            let file = fs::OpenOptions::new().create(true).append(true).open(&path);
            // One write, so that a line is there whole or not at all.
            file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        };
        written.with_context(|| format!("cannot write {}", path.display()))
    }

    /// The answers of a run, if they are there.
    pub(super) fn answers(&self, run: &Run) -> Option<Answers> {
        let text = fs::read_to_string(self.answers_file(run)).ok()?;
        Answers::from_json(&serde_json::from_str(&text).ok()?)
    }

    fn answers_file(&self, run: &Run) -> PathBuf {
        let name = format!("{}.{}.{}.json", run.arm, run.fold, run.seed);
        self.folder.join("answers").join(&run.setting).join(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers() -> Answers {
        Answers {
            text_to_image: vec![1],
            image_to_text: vec![2],
            average_precision: vec![f64::NAN],
            precision_10: vec![0.5],
        }
    }

    #[test]
    fn a_run_is_found_again_and_a_newer_line_replaces_the_older() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Records::open(folder.path().to_owned(), &["clean"]).unwrap();
        let run = |seed| Run {
            setting: "clean".into(),
            arm: "mix".into(),
            fold: "noto".into(),
            seed,
        };
        let line = |seed: u64, hash: &str| json!({"setting": "clean", "arm": "mix", "fold": "noto", "seed": seed, "settings": hash});
        let records = open();
        records.keep(&run(1), line(1, "a"), &answers()).unwrap();
        records.keep(&run(2), line(2, "a"), &answers()).unwrap();
        assert!(open().with_settings(&run(1), "a").is_some() && open().with_settings(&run(1), "b").is_none());
        open().keep(&run(1), line(1, "b"), &answers()).unwrap();
        let records = open();
        assert!(records.with_settings(&run(1), "b").is_some());
        assert_eq!(records.of_setting("clean").len(), 2);
        let text = fs::read_to_string(folder.path().join("clean.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(records.answers(&run(1)).unwrap().image_to_text, [2]);
        assert!(records.answers(&run(3)).is_none());
        fs::write(folder.path().join("clean.jsonl"), "{\"setting\"").unwrap();
        assert!(Records::open(folder.path().to_owned(), &["clean"]).is_err());
    }
}
