//! The command without EasyNLP's flags that a run stands for: it is shown, and it is what is run.

use std::fmt;
use std::iter::once;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches};
use clip_core::Error;

use super::look::Look;
use super::settings::{SEQUENCE_LENGTH, Settings};
use crate::cli::args::note;
use crate::cli::failure::Outcome;
use crate::cli::{Arguments, Command};

/// A command of `clipzoo`, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plain(Vec<String>);

impl Plain {
    pub(super) fn new(command: &str) -> Self {
        Self(vec![command.to_owned()])
    }

    /// A flag without a value.
    pub(super) fn switch(&mut self, name: &str, on: bool) -> &mut Self {
        self.0.extend(on.then(|| format!("--{name}")));
        self
    }

    /// A flag with its value.
    pub(super) fn flag(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        let value = value.to_string();
        if value.starts_with('-') {
            // As a word of its own it would be taken for a flag.
            self.0.push(format!("--{name}={value}"));
        } else {
            self.0.extend([format!("--{name}"), value]);
        }
        self
    }

    /// A flag where there is a value for it.
    pub(super) fn optional(&mut self, name: &str, value: Option<impl fmt::Display>) -> &mut Self {
        match value {
            Some(value) => self.flag(name, value),
            None => self,
        }
    }

    /// How a table is read.
    pub(super) fn table(&mut self, settings: &Settings) -> &mut Self {
        // EasyNLP reads any file as text between tabs.
        let odd = |table: &String| Path::new(table).extension().is_none_or(|extension| extension != "tsv");
        if settings.tables.iter().any(odd) {
            self.flag("table-format", "tsv");
        }
        self.flag("schema", &settings.schema)
            .switch("header", settings.skip_first_line);
        if settings.text_column != "text" {
            self.flag("text-column", &settings.text_column);
        }
        if settings.image_column != "image" {
            self.flag("image-column", &settings.image_column);
        }
        self
    }

    /// What a model and its texts are computed with.
    pub(super) fn compute(&mut self, settings: &Settings, look: &Look) -> &mut Self {
        let length = (!look.byte_pairs).then(|| settings.sequence_length.unwrap_or(SEQUENCE_LENGTH));
        self.optional("context-length", length)
            .flag("device", if settings.gpu { "cuda" } else { "cpu" })
            .optional("workers", settings.data_threads)
    }

    /// Shows the command and parses it.
    pub(super) fn command(&self) -> Outcome<Command> {
        note(&format!("plain command: {self}"));
        let words = once("clipzoo").chain(self.0.iter().map(String::as_str));
        let parsed = Arguments::command().try_get_matches_from(words);
        let parsed = parsed.and_then(|matches| Arguments::from_arg_matches(&matches));
        Ok(parsed
            .map(|arguments| arguments.command)
            .map_err(|error| Error::internal(format!("the command `{self}` is not understood: {error}")))?)
    }
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("clipzoo")?;
        self.0.iter().try_for_each(|word| write!(f, " {}", quoted(word)))
    }
}

/// A word as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_written_as_a_shell_reads_it() {
        let mut plain = Plain::new("predict");
        plain
            .flag("model", "my models/a")
            .switch("header", true)
            .switch("no", false);
        plain
            .flag("output", "-x.tsv")
            .optional("workers", None::<usize>)
            .optional("threads", Some(2));
        assert_eq!(
            plain.to_string(),
            "clipzoo predict --model 'my models/a' --header --output=-x.tsv --threads 2"
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("betas=[0.9,0.999]"), "'betas=[0.9,0.999]'");
    }
}
