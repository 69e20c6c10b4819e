//! EasyNLP's flags as they are written: `--name=value` or `--name value`, in full.

use std::collections::BTreeMap;
use std::str::FromStr;

use clip_core::Error;

use crate::cli::failure::{Failure, Outcome, usage};

/// What a flag does here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Something, in these modes: `t`rain, `e`valuate, `p`redict.
    Work(&'static str),
    /// Nothing: what it is about does not exist here.
    Nothing,
}

struct Known {
    name: &'static str,
    alias: Option<&'static str>,
    /// Whether a value follows.
    value: bool,
    does: Does,
}

const fn works(name: &'static str, modes: &'static str) -> Known {
    let (alias, value, does) = (None, true, Does::Work(modes));
    Known {
        name,
        alias,
        value,
        does,
    }
}

const fn also(alias: &'static str, known: Known) -> Known {
    Known {
        alias: Some(alias),
        ..known
    }
}

const fn switch(known: Known) -> Known {
    Known { value: false, ..known }
}

const fn vain(name: &'static str) -> Known {
    let (alias, value, does) = (None, true, Does::Nothing);
    Known {
        name,
        alias,
        value,
        does,
    }
}

/// Every flag of EasyNLP's command.
const KNOWN: &[Known] = &[
    works("mode", "tep"),
    works("app_name", "tep"),
    works("tables", "tep"),
    switch(works("skip_first_line", "tep")),
    works("input_schema", "tep"),
    works("first_sequence", "tep"),
    works("second_sequence", "tep"),
    works("output_schema", "p"),
    works("append_cols", "p"),
    works("outputs", "p"),
    also("checkpoint_path", works("checkpoint_dir", "tep")),
    works("user_defined_parameters", "t"),
    works("worker_gpu", "tep"),
    works("worker_count", "tep"),
    works("data_threads", "tep"),
    works("sequence_length", "tep"),
    also("train_batch_size", works("micro_batch_size", "tep")),
    works("gradient_accumulation_steps", "t"),
    works("learning_rate", "t"),
    works("epoch_num", "t"),
    works("random_seed", "t"),
    also("wd", works("weight_decay", "t")),
    also("mn", works("max_grad_norm", "t")),
    also("optimizer", works("optimizer_type", "t")),
    works("warmup_proportion", "t"),
    switch(works("use_amp", "t")),
    works("logging_steps", "t"),
    works("save_checkpoint_steps", "t"),
    switch(works("save_all_checkpoints", "t")),
    works("resume_from_checkpoint", "t"),
    vain("buckets"),
    vain("modelzoo_base_dir"),
    vain("label_name"),
    vain("label_enumerate_values"),
    vain("distributed_backend"),
    vain("predict_slice_size"),
    vain("predict_queue_size"),
    vain("predict_thread_num"),
    vain("predict_table_read_thread_num"),
    vain("restore_works_dir"),
    vain("export_tf_checkpoint_type"),
    vain("user_script"),
    vain("user_entry_file"),
    vain("odps_config"),
    vain("worker_cpu"),
    vain("worker_hosts"),
    vain("master_port"),
    vain("local_rank"),
    vain("ps_hosts"),
    vain("chief_hosts"),
    vain("job_name"),
    vain("task_index"),
    vain("task_count"),
    vain("is_chief"),
    switch(vain("do_lower_case")),
    switch(vain("use_torchacc")),
];

/// The flags of one command line, by their own names; of a flag that comes twice the last counts.
#[derive(Debug, Default)]
pub(super) struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Reads the words behind `clipzoo easynlp`.
    pub(super) fn parse(words: &[String]) -> Outcome<Self> {
        let mut values = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(rest) = word.strip_prefix("--") else {
                return usage(
                    format!("`{word}` is no flag, and nothing before it wants a value"),
                    "write flags as --name=value or --name value",
                );
            };
            let (name, given) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            let known = find(name)?;
            let value = match (known.value, given) {
                (true, Some(value)) => value,
                (true, None) => match words.next().filter(|value| !value.starts_with("--")) {
                    Some(value) => value.clone(),
                    None => return usage(format!("--{name} wants a value"), format!("write --{name}=VALUE")),
                },
                (false, None) => String::new(),
                (false, Some(value)) => {
                    return usage(
                        format!("--{name} takes no value, and `{value}` is one"),
                        format!("write --{name}, or leave it out"),
                    );
                }
            };
            values.insert(known.name, value);
        }
        Ok(Self(values))
    }

    /// A flag's value; `None` if it was not given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A flag's value as a number; `what` says which numbers there are.
    pub(super) fn number<T: FromStr>(&self, name: &str, what: &str) -> Outcome<Option<T>> {
        let parse = |text: &str| {
            let fault = || Error::invalid(format!("--{name}={text}: this is no {what}")).remedy("correct it");
            text.trim().parse::<T>().map_err(|_| Failure::Usage(fault()))
        };
        self.text(name).map(parse).transpose()
    }

    /// A part of a list between commas, without empty parts.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.text(name).unwrap_or_default().split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// What to say of flags that do nothing here, or nothing in a mode (its first letter).
    pub(super) fn idle(&self, mode: char) -> Vec<String> {
        let given = |does: fn(&Does, char) -> bool| {
            let found = KNOWN
                .iter()
                .filter(|known| self.has(known.name) && does(&known.does, mode));
            found.map(|known| format!("--{}", known.name)).collect::<Vec<_>>()
        };
        let vain = given(|does, _| *does == Does::Nothing);
        let elsewhere = given(|does, mode| matches!(does, Does::Work(modes) if !modes.contains(mode)));
        let line =
            |flags: Vec<String>, what: &str| (!flags.is_empty()).then(|| format!("{what}: {}", flags.join(", ")));
        let lines = [
            line(vain, "without meaning here, and passed over"),
            line(elsewhere, "without meaning in this mode, and passed over"),
        ];
        lines.into_iter().flatten().collect()
    }
}

fn find(name: &str) -> Outcome<&'static Known> {
    let called = |known: &&Known| known.name == name || known.alias == Some(name);
    if let Some(known) = KNOWN.iter().find(called) {
        return Ok(known);
    }
    let nearest = nearest(name);
    usage(
        format!("--{name}: EasyNLP has no such flag"),
        format!("did you mean --{nearest}?"),
    )
}

/// The known name that is most like another: one that continues it, else the one with the fewest changes.
fn nearest(name: &str) -> &'static str {
    let name = name.replace('-', "_").to_lowercase();
    let names = || KNOWN.iter().flat_map(|known| [Some(known.name), known.alias]).flatten();
    let continued = || {
        names()
            .filter(|known| name.len() > 2 && known.starts_with(&name))
            .min_by_key(|known| known.len())
    };
    let changed = || names().min_by_key(|known| strsim::damerau_levenshtein(&name, known));
    continued().or_else(changed).unwrap_or("mode")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Outcome<Flags> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Flags::parse(&words)
    }

    fn message(line: &str) -> String {
        match parse(line) {
            Err(Failure::Usage(error)) => error.to_string(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn both_forms_and_aliases_mean_the_same() {
        let one = parse("--mode=train --wd=0.1 --train_batch_size=4 --use_amp --worker_gpu=-1").unwrap();
        let other = parse("--mode train --weight_decay 0.1 --micro_batch_size 4 --use_amp --worker_gpu -1").unwrap();
        assert_eq!(one.0, other.0);
        assert_eq!(one.text("weight_decay"), Some("0.1"));
        assert_eq!(one.number::<i64>("worker_gpu", "whole number").unwrap(), Some(-1));
        let aliases = parse("--checkpoint_path=a --mn=1 --optimizer=SGD").unwrap();
        assert!(aliases.has("checkpoint_dir") && aliases.has("max_grad_norm") && aliases.has("optimizer_type"));
        // A value may hold an equals sign, and the last of two counts.
        let twice = parse("--mode=train --user_defined_parameters=a=b --mode=predict").unwrap();
        assert_eq!(twice.text("user_defined_parameters"), Some("a=b"));
        assert_eq!(twice.text("mode"), Some("predict"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_nearest() {
        for (line, wanted) in [
            (
                "--epoch=3",
                "--epoch: EasyNLP has no such flag; did you mean --epoch_num?",
            ),
            (
                "--micro-batch-size=3",
                "--micro-batch-size: EasyNLP has no such flag; did you mean --micro_batch_size?",
            ),
            (
                "--learningrate=3",
                "--learningrate: EasyNLP has no such flag; did you mean --learning_rate?",
            ),
            ("--mode", "--mode wants a value; write --mode=VALUE"),
            ("--mode --use_amp", "--mode wants a value; write --mode=VALUE"),
            (
                "--use_amp=True",
                "--use_amp takes no value, and `True` is one; write --use_amp, or leave it out",
            ),
            (
                "train",
                "`train` is no flag, and nothing before it wants a value; write flags as --name=value or --name value",
            ),
        ] {
            assert_eq!(message(line), wanted);
        }
        let flags = parse("--random_seed=x").unwrap();
        assert!(flags.number::<u64>("random_seed", "whole number from 0").is_err());
    }

    #[test]
    fn idle_flags_are_named() {
        let flags = parse("--buckets=b --learning_rate=1 --use_torchacc --mode=predict").unwrap();
        assert_eq!(
            flags.idle('p'),
            [
                "without meaning here, and passed over: --buckets, --use_torchacc",
                "without meaning in this mode, and passed over: --learning_rate"
            ]
        );
        assert_eq!(flags.idle('t').len(), 1);
    }

    #[test]
    fn no_name_stands_twice() {
        let mut names: Vec<&str> = KNOWN
            .iter()
            .flat_map(|known| [Some(known.name), known.alias])
            .flatten()
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
