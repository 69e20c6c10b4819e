//! The environment of the Python peers: one that is made here of pinned packages, or the user's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::{Workspace, write_whole};

/// The peers and what the scripts around them need, pinned: another version computes something else, at another speed.
const PACKAGES: [&str; 16] = [
    "torch==2.13.0",
    "torchvision==0.28.0",
    "open_clip_torch==3.3.0",
    "timm==1.0.31",
    "transformers==5.23.0",
    "tokenizers==0.23.3",
    "safetensors==0.8.0",
    "ftfy==6.3.1",
    "pillow==13.0.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "onnxscript==0.7.2",
    "faiss-cpu==1.15.1",
    "numpy",
    "regex",
    "six",
];

/// Packages without what they ask for: cn_clip's training code asks for a release of lmdb that no longer builds, and its
/// models need nothing of it.
const ALONE: [&str; 1] = ["cn_clip==1.6.0"];

/// An environment with the peers.
pub(crate) struct Environment {
    /// The variable by which users name one of their own.
    pub(crate) variable: &'static str,
    /// The modules that are used, as Python's `import` takes them: by these a user's own is judged.
    pub(crate) imports: &'static str,
}

impl Environment {
    /// The interpreter: of the user's environment, or of the one in `target/peers`, which is made where it is missing or
    /// holds other packages.
    pub(crate) fn python(&self, workspace: &Workspace) -> Result<PathBuf> {
        let own = env::var_os(self.variable).filter(|path| !path.is_empty());
        if let Some(own) = own {
            return self.judged(&env::current_dir()?.join(own).join("bin/python"));
        }
        let folder = workspace.target().join("peers");
        let (venv, stamp) = (folder.join("venv"), folder.join("venv.packages"));
        let python = venv.join("bin/python");
        let pins = pins();
        if fs::read_to_string(&stamp).is_ok_and(|text| text == pins) && python.exists() {
            return Ok(python);
        }
        println!("setting up the Python peers in {} (several GB)", workspace.shown(&venv));
        process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let install = |words: &[&str], packages: &[&str]| {
            let mut pip = Command::new(&python);
            pip.args(["-m", "pip", "install", "--quiet"]).args(words).args(packages);
            process::run(&mut pip)
        };
        install(&[], &PACKAGES)?;
        install(&["--no-deps"], &ALONE)?;
        write_whole(&stamp, pins)?;
        Ok(python)
    }

    /// The user's interpreter, if it can import the peers.
    fn judged(&self, python: &Path) -> Result<PathBuf> {
        let shown = python.display().to_string();
        let script = format!("import {}", self.imports);
        process::probe(&shown, &["-c", &script]).with_context(|| {
            format!(
                "{} is set and {shown} cannot import the peers ({}): it needs {}",
                self.variable,
                self.imports,
                pins().replace('\n', " ")
            )
        })?;
        Ok(python.to_owned())
    }
}

/// One package a line.
fn pins() -> String {
    [&PACKAGES[..], &ALONE].concat().join("\n")
}
