//! A run that was stopped goes on to the bit.

use std::fs;
use std::path::{Path, PathBuf};

use clip_nn::clip_core::{Event, Observer};
use clip_train::{Checkpoint, Every, Existing, Parts, RunConfig, RunDir, Stop, Summary, Trainer};

use crate::tiny::{Pairs, Told, model, open, parts, zoo};

/// 2 epochs of 5 steps, the last of each with fewer pairs; dropout on; an evaluation each epoch and each third step.
fn config() -> RunConfig {
    RunConfig {
        epochs: 2,
        batch_size: 5,
        micro_batch: 3,
        lr: 0.05,
        warmup_steps: 2,
        checkpoint_every: Every::Steps(1),
        keep: clip_train::Keep::All,
        ..RunConfig::default()
    }
}

pub(crate) fn train(path: &Path, config: RunConfig, existing: Existing) -> (clip_nn::clip_core::Result<Summary>, Told) {
    let run = RunDir::open(path, existing).unwrap();
    let told = Told::default();
    let model = run
        .checkpoint()
        .map_or_else(|| model(0.25), |checkpoint| open(&checkpoint.model()));
    let parts = Parts {
        observers: vec![Box::new(told.clone())],
        ..parts(model, Pairs::new(23, 5, 7), config, run)
    };
    (Trainer::run(parts, &zoo()), told)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a run leaves that must not depend on whether it was stopped.
pub(crate) fn outcome(path: &Path) -> Vec<Vec<u8>> {
    let names = [
        "last/model.safetensors",
        "best/model.safetensors",
        "metrics.jsonl",
        "run.toml",
    ];
    names.iter().map(|name| fs::read(path.join(name)).unwrap()).collect()
}

fn whole(root: &Path) -> PathBuf {
    let path = root.join("whole");
    let (summary, _) = train(&path, config(), Existing::Refuse);
    let summary = summary.unwrap();
    assert_eq!((summary.step, summary.done), (10, 10));
    path
}

pub(crate) fn checkpoint(path: &Path, step: u64) -> PathBuf {
    path.join(format!("checkpoints/step_{step}"))
}

#[test]
fn from_every_step_to_the_bit() {
    let root = tempfile::tempdir().unwrap();
    let whole = whole(root.path());
    let wanted = outcome(&whole);
    let lines = String::from_utf8(wanted[2].clone()).unwrap();
    assert_eq!(lines.lines().count(), 12, "{lines}");
    for step in 1..=10 {
        // What a process killed in the next step would leave: newer metrics and models, half a checkpoint.
        let path = root.path().join(format!("from_{step}"));
        copy(&whole, &path);
        for later in step + 1..=10 {
            fs::remove_dir_all(checkpoint(&path, later)).unwrap();
        }
        fs::create_dir(path.join("checkpoints/.partial-step_99")).unwrap();
        fs::write(path.join("checkpoints/.partial-step_99/state.json"), "{").unwrap();
        fs::create_dir(path.join(".partial-last")).unwrap();
        let (summary, told) = train(&path, config(), Existing::Resume);
        assert_eq!(summary.unwrap().done, 10 - step);
        assert!(outcome(&path) == wanted, "step {step}");
        assert!(!path.join("checkpoints/.partial-step_99").exists() && !path.join(".partial-last").exists());
        let note = if step == 10 {
            "the run is finished"
        } else {
            "the run goes on after step"
        };
        assert!(
            told.lines().iter().any(|line| line.contains(note)),
            "{:?}",
            told.lines()
        );
    }
}

/// Asks the run to end once it has seen some steps.
pub(crate) struct AskAt(pub(crate) u64, pub(crate) Stop);

impl Observer for AskAt {
    fn observe(&mut self, event: &Event<'_>) -> clip_nn::clip_core::Result<()> {
        if let Event::Step(figures) = event
            && figures["step"] == self.0
        {
            self.1.ask();
        }
        Ok(())
    }
}

#[test]
fn asked_to_stop_it_leaves_a_checkpoint_and_goes_on_to_the_bit() {
    let root = tempfile::tempdir().unwrap();
    let rare = RunConfig {
        checkpoint_every: Every::Epoch,
        ..config()
    };
    let (summary, _) = train(&root.path().join("whole"), rare.clone(), Existing::Refuse);
    assert_eq!(summary.unwrap().step, 10);
    let wanted = outcome(&root.path().join("whole"));
    for step in [1, 4, 5, 9] {
        let path = root.path().join(format!("at_{step}"));
        let stop = Stop::default();
        let parts = Parts {
            observers: vec![Box::new(AskAt(step, stop.clone()))],
            stop,
            ..parts(
                model(0.25),
                Pairs::new(23, 5, 7),
                rare.clone(),
                RunDir::open(&path, Existing::Refuse).unwrap(),
            )
        };
        let error = Trainer::run(parts, &zoo()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("stopped behind step {step} of 10, as asked; go on with")),
            "{error}"
        );
        assert!(checkpoint(&path, step).is_dir());
        let (summary, _) = train(&path, rare.clone(), Existing::Resume);
        assert_eq!(summary.unwrap().done, 10 - step);
        assert!(outcome(&path) == wanted, "step {step}");
    }
}

#[test]
fn without_a_checkpoint_it_starts_anew() {
    let root = tempfile::tempdir().unwrap();
    let whole = whole(root.path());
    let wanted = outcome(&whole);
    let path = root.path().join("anew");
    copy(&whole, &path);
    fs::remove_dir_all(path.join("checkpoints")).unwrap();
    let (summary, told) = train(&path, config(), Existing::Resume);
    assert_eq!(summary.unwrap().done, 10);
    assert!(outcome(&path) == wanted);
    assert!(told.lines()[0].contains("starts anew"), "{:?}", told.lines());
}

/// Breaks a file.
type Spoil = fn(&Path);

#[test]
fn a_broken_checkpoint_falls_back_to_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    let whole = whole(root.path());
    let wanted = outcome(&whole);
    let spoil: [(&str, Spoil); 4] = [
        ("optimizer.safetensors", |file| {
            let mut bytes = fs::read(file).unwrap();
            let at = bytes.len() - 3;
            bytes[at] ^= 1;
            fs::write(file, bytes).unwrap();
        }),
        ("model/model.safetensors", |file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("model/config.json", |file| fs::remove_file(file).unwrap()),
        ("state.json", |file| {
            let text = fs::read_to_string(file).unwrap();
            fs::write(file, text.replace("\"step\": 6", "\"step\": 5")).unwrap();
        }),
    ];
    for (number, (name, spoil)) in spoil.iter().enumerate() {
        let path = root.path().join(format!("broken_{number}"));
        copy(&whole, &path);
        (7..=10).for_each(|later| fs::remove_dir_all(checkpoint(&path, later)).unwrap());
        spoil(&checkpoint(&path, 6).join(name));
        let (summary, told) = train(&path, config(), Existing::Resume);
        assert_eq!(summary.unwrap().done, 5, "{name}");
        assert!(outcome(&path) == wanted, "{name}");
        let lines = told.lines();
        assert!(lines[0].contains("is broken") && lines[0].contains(name), "{lines:?}");
        assert!(lines[1].contains("after step 5"), "{lines:?}");
        // Its number has come again, good this time.
        assert_eq!(Checkpoint::open(&checkpoint(&path, 6)).unwrap().state().step, 6);
    }
}

#[test]
fn a_finished_run_is_left_alone_and_more_epochs_go_on() {
    let root = tempfile::tempdir().unwrap();
    let path = whole(root.path());
    let files = |path: &Path| {
        let mut names: Vec<_> = fs::read_dir(path.join("tensorboard"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        names.sort();
        names
    };
    let (before, events) = (outcome(&path), files(&path));
    assert!(RunDir::open(&path, Existing::Resume).unwrap().finished(&config()));
    let (summary, told) = train(&path, config(), Existing::Resume);
    let summary = summary.unwrap();
    assert_eq!((summary.step, summary.done), (10, 0));
    assert_eq!(
        told.lines(),
        ["note: the run is finished: all 10 steps are done", "finished 10"]
    );
    assert!(outcome(&path) == before && files(&path) == events);
    let more = RunConfig { epochs: 3, ..config() };
    let (summary, told) = train(&path, more, Existing::Resume);
    assert_eq!(summary.unwrap().done, 5);
    assert!(
        told.lines()
            .iter()
            .any(|line| line.contains("`epochs` was 2 before and is 3 now")),
        "{:?}",
        told.lines()
    );
    let metrics = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 18);
    assert!(metrics.as_bytes().starts_with(&before[2]));
}

#[test]
fn a_checkpoint_of_other_parameters_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = whole(root.path());
    fs::remove_dir_all(checkpoint(&path, 10)).unwrap();
    let other = RunConfig {
        lock: vec!["image".into()],
        ..config()
    };
    let error = train(&path, other, Existing::Resume).0.unwrap_err();
    assert!(
        error.to_string().contains("same model, locks and objectives"),
        "{error}"
    );
}

#[test]
fn patience_ends_a_run_at_the_same_step_wherever_it_was_stopped() {
    let root = tempfile::tempdir().unwrap();
    let mut config = RunConfig { epochs: 20, ..config() };
    config.evaluation.every = Every::Steps(2);
    config.evaluation.patience = Some(3);
    config.evaluation.metric = "valid_median_rank_text_to_image".into();
    let whole = root.path().join("whole");
    let (summary, told) = train(&whole, config.clone(), Existing::Refuse);
    let summary = summary.unwrap();
    let (end, best) = (summary.step, summary.best.unwrap());
    // Three evaluations of two steps each brought nothing new.
    assert_eq!(end, best.step + 6);
    assert!(best.step > 2 && end < 100, "{best:?}");
    let lines = told.lines();
    let stopped = lines.iter().find(|line| line.contains("stopped after step")).unwrap();
    assert!(
        stopped.contains(&format!("step {end}, since 3 evaluations")),
        "{stopped}"
    );
    assert_eq!(*lines.last().unwrap(), format!("finished {end}"));
    let wanted = outcome(&whole);
    for step in 1..=end {
        let path = root.path().join(format!("from_{step}"));
        copy(&whole, &path);
        for later in step + 1..=end {
            fs::remove_dir_all(checkpoint(&path, later)).unwrap();
        }
        let (summary, told) = train(&path, config.clone(), Existing::Resume);
        let summary = summary.unwrap();
        assert_eq!((summary.step, summary.done), (end, end - step));
        assert!(outcome(&path) == wanted, "step {step}");
        let finished = told.lines()[0].contains("the run is finished: stopped after step");
        assert_eq!(finished, step == end, "{:?}", told.lines());
    }
    // With more patience the same run goes on.
    config.evaluation.patience = Some(4);
    let (summary, _) = train(&whole, config, Existing::Resume);
    assert!(summary.unwrap().step > end);
}

/// Is gone when it should hear of an evaluation behind a step.
struct GoneAt(u64);

impl Observer for GoneAt {
    fn observe(&mut self, event: &Event<'_>) -> clip_nn::clip_core::Result<()> {
        match event {
            Event::Evaluated(figures) if figures["step"] == self.0 => {
                Err(clip_nn::clip_core::Error::unavailable("the process ends"))
            }
            _ => Ok(()),
        }
    }
}

#[test]
fn what_was_due_at_the_end_is_done_by_the_process_that_goes_on() {
    let root = tempfile::tempdir().unwrap();
    // The last step lies within an epoch, so its checkpoint is made before what is due at the end.
    let config = RunConfig {
        max_steps: Some(9),
        ..config()
    };
    let whole = root.path().join("whole");
    train(&whole, config.clone(), Existing::Refuse).0.unwrap();
    let wanted = outcome(&whole);
    let path = root.path().join("ended in the evaluation");
    let parts = Parts {
        observers: vec![Box::new(GoneAt(9))],
        ..parts(
            model(0.25),
            Pairs::new(23, 5, 7),
            config.clone(),
            RunDir::open(&path, Existing::Refuse).unwrap(),
        )
    };
    assert!(Trainer::run(parts, &zoo()).is_err());
    let stopped = Checkpoint::open(&checkpoint(&path, 9)).unwrap();
    assert!(!stopped.state().evaluated);
    let (summary, _) = train(&path, config.clone(), Existing::Resume);
    assert_eq!((summary.as_ref().unwrap().step, summary.unwrap().done), (9, 0));
    assert!(outcome(&path) == wanted);
    // Now it is finished.
    let (summary, told) = train(&path, config.clone(), Existing::Resume);
    assert!(summary.unwrap().evaluated.is_none());
    assert!(told.lines()[0].contains("the run is finished"), "{:?}", told.lines());
    // Killed between the checkpoint and the names.
    let path = root.path().join("without names");
    copy(&whole, &path);
    fs::remove_file(checkpoint(&path, 9).join("end")).unwrap();
    fs::remove_dir_all(path.join("last")).unwrap();
    let (summary, _) = train(&path, config, Existing::Resume);
    assert_eq!(summary.unwrap().done, 0);
    assert!(outcome(&path) == wanted);
}
