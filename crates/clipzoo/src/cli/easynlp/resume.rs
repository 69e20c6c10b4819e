//! `--resume_from_checkpoint`: which run to go on with, and what of it another directory needs.

use std::fs;
use std::path::{Path, PathBuf};

use clip_core::{Error, Result};
use clip_train::Checkpoint;

use super::folder::{RUN, WEIGHTS};
use super::plain::quoted;
use crate::cli::args::note;
use crate::cli::failure::{Outcome, usage};

/// Files and folders that a run needs where it goes on in another directory.
#[derive(Debug, Default)]
pub(super) struct Branch(Vec<(PathBuf, PathBuf)>);

/// Files that a run writes beside `run/`, for which a new run wants room.
const OWN: [&str; 4] = [WEIGHTS, "config.json", "train_config.json", "label_mapping.json"];

/// Refuses a directory that holds a model or a run.
pub(super) fn refuse_used(directory: &Path) -> Outcome {
    let run = directory.join(RUN);
    let used = OWN
        .iter()
        .map(|name| directory.join(name))
        .chain([run.join("checkpoints")]);
    let Some(there) = used.into_iter().find(|path| path.exists()) else {
        return Ok(());
    };
    usage(
        format!(
            "--checkpoint_dir={}: {} is there already",
            directory.display(),
            there.display()
        ),
        format!(
            "name another directory, or go on with --resume_from_checkpoint={}",
            directory.join("pytorch_model").display()
        ),
    )
}

/// What is meant by the flag's value: EasyNLP's path without `.bin` (`DIR/pytorch_model`, `DIR/pytorch_model_step_N`), the
/// file itself, or the directory; and in which directory the run goes on. Gives what has to be copied first.
pub(super) fn branch(value: &str, directory: &Path) -> Outcome<Branch> {
    let (from, step) = meant(value)?;
    let source = [from.join(RUN), from.clone()]
        .into_iter()
        .find(|run| run.join("checkpoints").is_dir());
    let Some(source) = source else {
        return usage(
            format!(
                "--resume_from_checkpoint={value}: there is no run in {}; what EasyNLP writes is not enough to go on with",
                from.display()
            ),
            "name a --checkpoint_dir of `clipzoo easynlp --mode=train`, or start from the model in it with \
             pretrain_model_name_or_path",
        );
    };
    let steps = steps(&source)?;
    let newest = steps.last().copied();
    let target = directory.join(RUN);
    let here = matches!((source.canonicalize(), target.canonicalize()), (Ok(one), Ok(other)) if one == other);
    if here && (step.is_none() || step == newest) {
        return Ok(Branch::default());
    }
    let kept: Vec<String> = steps.iter().map(u64::to_string).collect();
    if here {
        return usage(
            format!("--resume_from_checkpoint={value}: the run has gone on after that step"),
            "name another --checkpoint_dir to go on from there, or DIR/pytorch_model to go on from the newest",
        );
    }
    let Some(step) = step.or(newest).filter(|step| steps.contains(step)) else {
        return usage(
            format!("--resume_from_checkpoint={value}: no checkpoint of that step was kept"),
            format!(
                "name one of {}, and train with --save_all_checkpoints to keep all",
                kept.join(", ")
            ),
        );
    };
    refuse_used(directory)?;
    Ok(Branch(needed(&source, &target, step)?))
}

/// Directory and step of the flag's value.
fn meant(value: &str) -> Outcome<(PathBuf, Option<u64>)> {
    let path = Path::new(value);
    if path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = [".meta.bin", ".bin"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let step = name
        .strip_prefix("pytorch_model_step_")
        .and_then(|step| step.parse().ok());
    if name != "pytorch_model" && step.is_none() {
        return usage(
            format!("--resume_from_checkpoint={value}: this names no checkpoint"),
            "write DIR/pytorch_model, or DIR/pytorch_model_step_N",
        );
    }
    Ok((directory, step))
}

/// Steps of a run's checkpoints, ascending.
fn steps(run: &Path) -> Result<Vec<u64>> {
    let folder = run.join("checkpoints");
    let fault = |error| Error::io("read", &folder, error);
    let mut steps = Vec::new();
    for entry in fs::read_dir(&folder).map_err(fault)? {
        let name = entry.map_err(fault)?.file_name();
        steps.extend(
            name.to_str()
                .and_then(|name| name.strip_prefix("step_")?.parse::<u64>().ok()),
        );
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The checkpoint, the metrics, and the best model until then.
fn needed(source: &Path, target: &Path, step: u64) -> Result<Vec<(PathBuf, PathBuf)>> {
    let at = |step: u64| Path::new("checkpoints").join(format!("step_{step}"));
    let checkpoint = Checkpoint::open(&source.join(at(step)))?;
    let best = checkpoint
        .state()
        .best
        .as_ref()
        .map(|best| source.join(at(best.step)).join("model"));
    let best = best
        .filter(|model| model.is_dir())
        .unwrap_or_else(|| source.join("best"));
    Ok(vec![
        (source.join(at(step)), target.join(at(step))),
        (source.join("metrics.jsonl"), target.join("metrics.jsonl")),
        (best, target.join("best")),
    ])
}

impl Branch {
    /// Shows the copies as commands, and makes them.
    pub(super) fn make(&self) -> Result<()> {
        for (from, to) in &self.0 {
            let parent = to.parent().unwrap_or(to);
            let shown = [parent, from, to].map(|path| quoted(&path.to_string_lossy()));
            note(&format!(
                "plain command: mkdir -p {} && cp -r {} {}",
                shown[0], shown[1], shown[2]
            ));
            fs::create_dir_all(parent).map_err(|error| Error::io("write", parent, error))?;
            copy(from, to)?;
        }
        Ok(())
    }
}

/// Copies a file, or a folder with all in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to)
            .map(drop)
            .map_err(|error| Error::io("copy", from, error));
    }
    fs::create_dir_all(to).map_err(|error| Error::io("write", to, error))?;
    let fault = |error| Error::io("read", from, error);
    for entry in fs::read_dir(from).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
