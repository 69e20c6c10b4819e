//! Environments for Python programs: one that is made here of pinned packages, or the user's own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::{Workspace, write_whole};

/// What an environment must hold.
pub(crate) struct Environment {
    /// The variable by which users name an environment of their own.
    pub(crate) variable: &'static str,
    /// Packages, pinned, and with them what they ask for.
    pub(crate) packages: &'static [&'static str],
    /// Packages without what they ask for, which may be old or large and is not needed.
    pub(crate) alone: &'static [&'static str],
    /// The modules that are used, as Python's `import` takes them: by these another environment is judged.
    pub(crate) imports: &'static str,
}

impl Environment {
    /// The interpreter: of the user's environment, or of the one in `folder`, which is made where it is missing or holds
    /// other packages.
    pub(crate) fn python(&self, workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
        let own = env::var_os(self.variable).filter(|path| !path.is_empty());
        if let Some(own) = own {
            return self.judged(&env::current_dir()?.join(own).join("bin/python"));
        }
        let (venv, stamp) = (folder.join("venv"), folder.join("venv.packages"));
        let python = venv.join("bin/python");
        let pins = self.pins();
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
        install(&[], self.packages)?;
        if !self.alone.is_empty() {
            install(&["--no-deps"], self.alone)?;
        }
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
                self.pins().replace('\n', " ")
            )
        })?;
        Ok(python.to_owned())
    }

    /// One package a line.
    fn pins(&self) -> String {
        [self.packages, self.alone].concat().join("\n")
    }
}
