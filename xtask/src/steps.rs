//! Steps that are done once: each is skipped while its result is there and was made from the same inputs.
//!
//! A step's mark is the SHA-256 of its command and of everything it reads. It is written when the step begins and again
//! when it is done. A step that was interrupted finds its first mark, goes on and may pick up what it left; one whose
//! inputs changed finds another mark, and what it made before is removed first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::checksum;
use crate::process;
use crate::workspace::{Workspace, remove, write_whole};

/// One step.
pub(crate) struct Step<'a> {
    /// A short name without spaces; the marks' file.
    pub(crate) name: &'static str,
    /// What it does, for the user.
    pub(crate) says: &'static str,
    /// Files and folders it reads.
    pub(crate) inputs: Vec<PathBuf>,
    /// Files and folders it makes.
    pub(crate) outputs: Vec<PathBuf>,
    pub(crate) work: Work<'a>,
}

/// How a step is done.
pub(crate) enum Work<'a> {
    /// By a command that writes its outputs itself.
    Run(Command),
    /// By a command whose stdout is the one output.
    Keep(Command),
    /// By us; the text is part of the mark and changes when the code's result does.
    Here(&'static str, Box<dyn Fn() -> Result<()> + 'a>),
}

/// Takes the steps in order; their marks lie in `folder`.
pub(crate) fn take(workspace: &Workspace, folder: &Path, steps: Vec<Step<'_>>) -> Result<()> {
    let count = steps.len();
    for (place, step) in steps.into_iter().enumerate() {
        println!("\n[{} of {count}] {}", place + 1, step.says);
        let start = Instant::now();
        if take_one(workspace, folder, step)? {
            println!("done in {:.0} s", start.elapsed().as_secs_f32());
        } else {
            println!("done before");
        }
    }
    Ok(())
}

/// Takes a step if it must be taken; says whether it was.
fn take_one(workspace: &Workspace, folder: &Path, mut step: Step<'_>) -> Result<bool> {
    let mark = step.mark(workspace)?;
    let (begun, done) = (
        folder.join(format!("{}.begun", step.name)),
        folder.join(format!("{}.done", step.name)),
    );
    let holds = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text == mark);
    if holds(&done) && step.missing().is_none() {
        return Ok(false);
    }
    remove(&done)?;
    if !holds(&begun) {
        for output in &step.outputs {
            remove(output)?;
        }
        write_whole(&begun, &mark)?;
    }
    step.act()?;
    if let Some(path) = step.missing() {
        bail!(
            "the step `{}` ended without making {}",
            step.name,
            workspace.shown(path)
        );
    }
    write_whole(&done, mark)?;
    Ok(true)
}

impl Step<'_> {
    fn act(&mut self) -> Result<()> {
        match &mut self.work {
            Work::Run(command) => process::run(command),
            Work::Keep(command) => {
                println!("$ {}", process::shown(command));
                let text = process::output(command)?;
                write_whole(
                    self.outputs.first().context("a step that keeps an output names it")?,
                    text,
                )
            }
            Work::Here(_, act) => act(),
        }
    }

    fn missing(&self) -> Option<&PathBuf> {
        self.outputs.iter().find(|path| !path.exists())
    }

    fn mark(&self, workspace: &Workspace) -> Result<String> {
        let mut text = match &self.work {
            Work::Run(command) | Work::Keep(command) => process::shown(command),
            Work::Here(version, _) => (*version).to_string(),
        };
        for input in &self.inputs {
            text += &format!("\n{} {}", workspace.shown(input), digest(input)?);
        }
        Ok(checksum::of_bytes(text.as_bytes()))
    }
}

/// The SHA-256 of a file, or of a folder's names and files in order.
fn digest(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return checksum::of_file(path);
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut text = String::new();
    for path in paths {
        text += &format!("{:?} {}\n", path.file_name(), digest(&path)?);
    }
    Ok(checksum::of_bytes(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A step that copies `in` to `out`, counts its calls, and fails while told to.
    fn copy<'a>(folder: &Path, version: &'static str, calls: &'a Cell<u32>, fails: bool) -> Step<'a> {
        let (from, to) = (folder.join("in"), folder.join("out"));
        let act = {
            let (from, to) = (from.clone(), to.clone());
            move || {
                calls.set(calls.get() + 1);
                if fails {
                    fs::write(&to, "half")?;
                    bail!("interrupted");
                }
                fs::write(&to, fs::read(&from)?)?;
                Ok(())
            }
        };
        Step {
            name: "copy",
            says: "copies",
            inputs: vec![from],
            outputs: vec![to],
            work: Work::Here(version, Box::new(act)),
        }
    }

    #[test]
    fn a_step_is_taken_again_only_when_something_it_depends_on_changed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let workspace = Workspace::find().unwrap();
        let (calls, marks) = (Cell::new(0), folder.join("marks"));
        let take = |version, fails| take_one(&workspace, &marks, copy(folder, version, &calls, fails));
        fs::write(folder.join("in"), "1").unwrap();
        assert!(take("1", false).unwrap());
        assert!(!take("1", false).unwrap());
        fs::write(folder.join("in"), "2").unwrap();
        assert!(take("1", false).unwrap());
        assert!(take("2", false).unwrap());
        fs::remove_file(folder.join("out")).unwrap();
        assert!(take("2", false).unwrap());
        assert_eq!(
            (calls.get(), fs::read_to_string(folder.join("out")).unwrap().as_str()),
            (4, "2")
        );
    }

    #[test]
    fn an_interrupted_step_keeps_what_it_left_and_is_not_taken_for_done() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let workspace = Workspace::find().unwrap();
        let (calls, marks) = (Cell::new(0), folder.join("marks"));
        let take = |fails| take_one(&workspace, &marks, copy(folder, "1", &calls, fails));
        fs::write(folder.join("in"), "1").unwrap();
        fs::write(folder.join("out"), "of other inputs").unwrap();
        assert!(take(true).is_err());
        assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "half");
        assert!(take(false).unwrap());
        // New inputs: the old result is gone before the step begins.
        fs::write(folder.join("in"), "2").unwrap();
        assert!(take(true).is_err());
        assert!(take(false).unwrap());
        assert_eq!(calls.get(), 4);
    }

    #[test]
    fn a_folder_is_its_names_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/x"), "1").unwrap();
        let before = digest(path).unwrap();
        fs::rename(path.join("a/x"), path.join("a/y")).unwrap();
        assert_ne!(digest(path).unwrap(), before);
        assert!(digest(&path.join("none")).is_err());
    }
}
