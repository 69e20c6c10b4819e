//! `clipzoo completions` and `clipzoo man`: what shells and `man` want to know of the command, made from its flags.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clip_core::{Error, Result};
use clip_data::PendingFile;

use super::Arguments;
use super::args::{note, print};
use super::failure::Outcome;

/// Flags of `completions`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo completions bash > ~/.local/share/bash-completion/completions/clipzoo
  clipzoo completions zsh > ~/.zfunc/_clipzoo
  clipzoo completions fish > ~/.config/fish/completions/clipzoo.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `man`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo man --output ~/.local/share/man/man1    # then: man clipzoo-train
  clipzoo man > clipzoo.1                         # the overview alone")]
pub(crate) struct ManArgs {
    /// A folder for a page a command; without it the overview goes to stdout
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "clipzoo", &mut script);
    Ok(print(String::from_utf8_lossy(&script).trim_end())?)
}

pub(crate) fn man(args: &ManArgs) -> Outcome {
    let mut all = Arguments::command();
    // Flags that every command has are known only then.
    all.build();
    let Some(folder) = &args.output else {
        return Ok(print(String::from_utf8_lossy(&page(&all)?).trim_end())?);
    };
    std::fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
    let commands = all.get_subcommands().filter(|command| command.get_name() != "help");
    let mut pages = 0;
    for command in std::iter::once(&all).chain(commands) {
        // What `build` calls a command's command: clipzoo-train.
        let name = command.get_display_name().unwrap_or(command.get_name());
        write(folder, name, &page(command)?)?;
        pages += 1;
    }
    note(&format!("{pages} pages in {}", folder.display()));
    Ok(())
}

/// One page in roff.
fn page(command: &Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .render(&mut page)
        .map_err(|error| Error::internal(format!("the page of {}: {error}", command.get_name())).source(error))?;
    Ok(page)
}

fn write(folder: &Path, name: &str, page: &[u8]) -> Result<()> {
    let mut file = PendingFile::create(folder.join(format!("{name}.1")))?;
    file.write_all(page).map_err(|error| file.error(error))?;
    file.commit()
}
