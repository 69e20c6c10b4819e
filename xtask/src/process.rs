//! Starts other programs, shows what it starts, and turns a failure into a message.

use std::env;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// `cargo` in the repository, as a user would call it there.
///
/// `cargo xtask` itself runs under cargo, which leaves variables behind: LIBTORCH from `.cargo/config.toml`, and this
/// crate's own CARGO_MANIFEST_… and CARGO_PKG_…. They are taken out, so that an inner cargo sees what an outer one would
/// and neither builds torch-sys again because a variable differs.
pub(crate) fn cargo(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(workspace.root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text == "CARGO" {
            command.env_remove(&name);
        }
    }
    if own_libtorch(workspace).is_none() {
        command.env_remove("LIBTORCH");
    }
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        // The user's may be relative to a folder that is not the root.
        command.env("CARGO_TARGET_DIR", workspace.target());
    }
    command
}

/// Builds packages or examples for use, as `--package NAME` or `--package NAME --example NAME` name them.
pub(crate) fn build_release(workspace: &Workspace, words: &[&str]) -> Result<()> {
    run(cargo(workspace).args(["build", "--release"]).args(words))
}

/// The value of LIBTORCH if the user set it, and not cargo on behalf of `.cargo/config.toml`.
pub(crate) fn own_libtorch(workspace: &Workspace) -> Option<std::path::PathBuf> {
    let path = env::var_os("LIBTORCH")
        .filter(|value| !value.is_empty())
        .map(std::path::PathBuf::from)?;
    (path != workspace.libtorch()).then_some(path)
}

/// The command as it could be typed, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    let quoted = |word: &std::ffi::OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{word}'")
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Shows and runs the command; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    std::io::stdout().flush()?;
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs the command and returns what it wrote to stdout. Its messages (stderr) go where ours go.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not write text", shown(command)))
}

/// What a program prints on stdout, or nothing if it is not there or fails: for asking whether a tool is installed.
pub(crate) fn probe(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_as_they_could_be_typed() {
        let mut command = Command::new("cargo");
        command.args(["test", "-p", "a b", "--config=x.toml"]);
        assert_eq!(shown(&command), "cargo test -p 'a b' --config=x.toml");
    }

    #[test]
    fn a_program_that_fails_is_an_error_with_its_command() {
        let message = run(Command::new("cargo").arg("no-such-command"))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("`cargo no-such-command` failed"), "{message}");
        assert!(probe("no-such-program-here", &[]).is_none());
    }
}
