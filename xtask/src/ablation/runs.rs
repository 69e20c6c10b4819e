//! One run: its settings written, the command started, its features measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use toml::Table;

use super::arms::{Candidate, Plan, Setting};
use super::data::{Data, Fold};
use super::measure::{Answers, Questions, answer};
use super::records::Records;
use crate::checksum;
use crate::process;
use crate::workspace::{Workspace, remove, write_whole};

/// What names a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) setting: String,
    pub(super) arm: String,
    pub(super) fold: String,
    pub(super) seed: u64,
}

/// Names of arms that are candidates for the baseline start so.
pub(super) const CANDIDATE: &str = "candidate-";

impl Run {
    /// The run of a line.
    pub(super) fn of(line: &Value) -> Option<Self> {
        let text = |key: &str| Some(line[key].as_str()?.to_owned());
        Some(Self {
            setting: text("setting")?,
            arm: text("arm")?,
            fold: text("fold")?,
            seed: line["seed"].as_u64()?,
        })
    }

    fn file_name(&self) -> String {
        format!("{}.{}.{}.{}", self.setting, self.arm, self.fold, self.seed)
    }
}

/// What runs are made with.
pub(super) struct Bench<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) plan: &'a Plan,
    pub(super) data: &'a Data,
    pub(super) records: &'a Records,
    /// Everything but the kept lines.
    pub(super) folder: PathBuf,
    /// The command.
    pub(super) clipzoo: PathBuf,
    /// The commit that it was built from.
    pub(super) commit: String,
}

/// A run with its settings.
pub(super) struct Prepared {
    pub(super) run: Run,
    candidate: Option<String>,
    config: String,
    pub(super) hash: String,
    questions: Questions,
}

impl Prepared {
    /// What is trained on and tested, and by which text tower.
    pub(super) fn tables(&self) -> [String; 3] {
        let config: Table = toml::from_str(&self.config).unwrap_or_default();
        let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).unwrap_or_default().to_owned();
        let data = table(&config, "data");
        [
            text(data.get("train")),
            text(data.get("valid")),
            text(config.get("text_tower")),
        ]
    }
}

/// What a process took.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Cost {
    /// Seconds on processors.
    cpu_seconds: f64,
    /// The most memory that was resident.
    peak_mib: f64,
}

impl Bench<'_> {
    /// The candidate for a run's baseline, by the runs that choose it: the highest mean recall, the first of equals.
    /// `None` if these are not done.
    pub(super) fn chosen(&self, setting: &Setting, fold: &Fold) -> Result<Option<&Candidate>> {
        let tuner = self.plan.tuner(setting)?;
        let mut best: Option<(f64, &Candidate)> = None;
        for candidate in self.plan.candidates_of(tuner)? {
            let prepared = self.candidate(tuner, candidate, fold)?;
            let Some(line) = self.records.with_settings(&prepared.run, &prepared.hash) else {
                return Ok(None);
            };
            let recall = line["mean_recall"].as_f64().context("a line without mean_recall")?;
            if best.is_none_or(|(most, _)| recall > most) {
                best = Some((recall, candidate));
            }
        }
        Ok(best.map(|(_, candidate)| candidate))
    }

    /// A run of the choice of a baseline for a fold.
    pub(super) fn candidate(&self, tuner: &Setting, candidate: &Candidate, fold: &Fold) -> Result<Prepared> {
        let fold = fold.choosing()?;
        let run = Run {
            setting: tuner.name.clone(),
            arm: format!("{CANDIDATE}{}", candidate.name),
            fold: fold.name.clone(),
            seed: self.plan.tuning.seed,
        };
        let config = self.plan.run_of(tuner, Some(candidate), None)?;
        self.prepared(run, Some(candidate), config, tuner, &fold, false)
    }

    /// A run of an arm; `None` if its baseline is not chosen yet.
    pub(super) fn arm(&self, setting: &Setting, arm: &str, fold: &Fold, seed: u64) -> Result<Option<Prepared>> {
        let arm = self.plan.arm(arm)?;
        let candidate = if arm.tuned {
            match self.chosen(setting, fold)? {
                Some(candidate) => Some(candidate),
                None => return Ok(None),
            }
        } else {
            None
        };
        let run = Run {
            setting: setting.name.clone(),
            arm: arm.name.clone(),
            fold: fold.name.clone(),
            seed,
        };
        let config = self.plan.run_of(setting, candidate, Some(arm))?;
        self.prepared(run, candidate, config, setting, fold, arm.shuffled)
            .map(Some)
    }

    fn prepared(
        &self,
        run: Run,
        candidate: Option<&Candidate>,
        mut config: Table,
        setting: &Setting,
        fold: &Fold,
        shuffled: bool,
    ) -> Result<Prepared> {
        let shown = |path: &Path| toml::Value::String(self.workspace.shown(path));
        let image_tower = self.folder.join("towers/image").join(super::IMAGE_WEIGHTS);
        config.insert("image_tower".into(), shown(&image_tower));
        config.insert("text_tower".into(), shown(&self.data.text_tower(setting)?));
        config.insert("seed".into(), i64::try_from(run.seed)?.into());
        let mut data = table(&config, "data");
        data.insert("train".into(), shown(&self.data.train(setting, fold, shuffled)?));
        data.insert("valid".into(), shown(&self.data.test(setting, fold)?));
        config.insert("data".into(), data.into());
        let mut cache = table(&config, "cache");
        cache.insert("directory".into(), shown(&self.folder.join("cache")));
        config.insert("cache".into(), cache.into());
        let config = toml::to_string(&config)?;
        let digest = checksum::of_bytes(config.as_bytes());
        Ok(Prepared {
            run,
            candidate: candidate.map(|candidate| candidate.name.clone()),
            config,
            hash: digest[..12].to_owned(),
            questions: self.data.catalogue(setting.language).questions(setting.items),
        })
    }

    /// Trains, measures, keeps; the line is returned.
    pub(super) fn do_run(&self, prepared: &Prepared) -> Result<Value> {
        let (trained, cost, output) = self.train(&prepared.run.file_name(), &prepared.config, 1)?;
        let answers = answer(&output.join("valid.safetensors"), &prepared.questions)?;
        let line = self.line(prepared, &answers, &trained, cost)?;
        self.records.keep(&prepared.run, line.clone(), &answers)?;
        remove(&output)?;
        Ok(line)
    }

    /// Computes the features that all runs share, so that none has to.
    pub(super) fn fill(&self, prepared: &Prepared) -> Result<()> {
        let config = format!("max_steps = 1\n{}", prepared.config);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let (_, _, output) = self.train(&format!("fill.{}", prepared.run.fold), &config, threads)?;
        remove(&output)
    }

    fn train(&self, name: &str, config: &str, threads: usize) -> Result<(Value, Cost, PathBuf)> {
        let runs = self.folder.join("runs");
        let (config_file, output) = (runs.join(format!("{name}.toml")), runs.join(name));
        let log = runs.join(format!("{name}.log"));
        write_whole(&config_file, config)?;
        remove(&output)?;
        let threads = threads.to_string();
        let mut command = Command::new(&self.clipzoo);
        command.current_dir(self.workspace.root()).arg("train");
        command.arg("--config").arg(self.workspace.shown(&config_file));
        command.arg("--output").arg(self.workspace.shown(&output));
        command.args(["--threads", &threads, "--workers", "1", "--json"]);
        let (stdout, cost) = watched(&mut command, &log)?;
        let trained = serde_json::from_str(&stdout).context("train --json printed no JSON")?;
        remove(&config_file)?;
        remove(&log)?;
        Ok((trained, cost, output))
    }

    fn line(&self, prepared: &Prepared, answers: &Answers, trained: &Value, cost: Cost) -> Result<Value> {
        let Run {
            setting,
            arm,
            fold,
            seed,
        } = &prepared.run;
        let mean = |values: Vec<f64>| {
            let known: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            (mean * 1e4).round() / 1e4
        };
        let recalls = [1, 5, 10].map(|k| mean(answers.recall(k)));
        let questions = &prepared.questions;
        let steps = trained["step"].as_u64().context("train --json names no step")?;
        let seconds = trained["seconds_per_step"]
            .as_f64()
            .context("train --json names no time")?;
        Ok(json!({
            "setting": setting, "arm": arm, "fold": fold, "seed": seed,
            "candidate": prepared.candidate, "settings": prepared.hash, "commit": self.commit,
            "r@1": recalls[0], "r@5": recalls[1], "r@10": recalls[2],
            "mean_recall": (recalls.iter().sum::<f64>() / 3.0 * 1e4).round() / 1e4,
            "cmap": mean(answers.precision(questions, true)), "cnew": mean(answers.precision(questions, false)),
            "p@10": mean(answers.precision_10(questions, true)), "p@10_new": mean(answers.precision_10(questions, false)),
            "steps": steps, "step_ms": (seconds * 1e6).round() / 1e3,
            "cpu_seconds": (cost.cpu_seconds * 1e2).round() / 1e2, "peak_mib": cost.peak_mib.round(),
        }))
    }
}

fn table(config: &Table, key: &str) -> Table {
    config
        .get(key)
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default()
}

/// Runs a command to its end, its messages into `log`, and reads off what it takes while it runs. On failure the end of
/// its messages is the error.
fn watched(command: &mut Command, log: &Path) -> Result<(String, Cost)> {
    let shown = process::shown(command);
    let messages = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    // The one object on stdout is far smaller than a pipe holds, so the process never waits for a reader.
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(messages);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let mut cost = Cost::default();
    while child.try_wait()?.is_none() {
        if let Some(now) = cost_of(child.id()) {
            cost = now;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        let end: Vec<&str> = lines.into_iter().rev().collect();
        bail!("`{shown}` failed ({}): {}", output.status, end.join(" / "));
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not write text"))?;
    Ok((text, cost))
}

/// What a process has taken so far, where the system says so (Linux).
fn cost_of(process: u32) -> Option<Cost> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; times are the 12th and 13th word behind it, in hundredths of a second.
    let behind = stat.rsplit_once(')')?.1;
    let words: Vec<&str> = behind.split_whitespace().collect();
    let ticks = |place: usize| words.get(place)?.parse::<f64>().ok();
    Some(Cost {
        cpu_seconds: (ticks(11)? + ticks(12)?) / 100.0,
        peak_mib: kib / 1024.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_watched_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut work = Command::new("sh");
        work.args([
            "-c",
            "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 0.2",
        ]);
        let (text, cost) = watched(&mut work, &log).unwrap();
        assert_eq!(text, "done\n");
        assert!(cost.cpu_seconds > 0.01 && cost.peak_mib > 0.1, "{cost:?}");
        let mut fails = Command::new("sh");
        let error = watched(fails.args(["-c", "echo what went wrong >&2; exit 3"]), &log).unwrap_err();
        assert!(error.to_string().ends_with("what went wrong"), "{error}");
    }

    #[test]
    fn a_line_names_its_run() {
        let run = Run {
            setting: "clean".into(),
            arm: "mix".into(),
            fold: "noto".into(),
            seed: 3,
        };
        let line = json!({"setting": "clean", "arm": "mix", "fold": "noto", "seed": 3, "r@1": 1.0});
        assert_eq!(Run::of(&line), Some(run));
        assert_eq!(Run::of(&json!({"setting": "clean"})), None);
    }
}
