//! What EasyNLP's flags ask for, with EasyNLP's defaults.

use std::path::{Path, PathBuf};

use clip_core::Modality;
use clip_data::{Schema, feature_name};

use super::flags::Flags;
use crate::cli::failure::{Failure, Outcome, usage};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Train,
    Evaluate,
    Predict,
}

/// The settings of every mode.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    /// Where the model is: that of `user_defined_parameters` in training, else that of `checkpoint_dir`.
    pub(super) model: String,
    pub(super) tables: Vec<String>,
    pub(super) schema: String,
    pub(super) skip_first_line: bool,
    pub(super) text_column: String,
    pub(super) image_column: String,
    pub(super) checkpoint_dir: PathBuf,
    /// `None`: not given, which is 16.
    pub(super) sequence_length: Option<usize>,
    pub(super) batch: usize,
    pub(super) gpu: bool,
    /// Threads that read and decode; `None`: all cores.
    pub(super) data_threads: Option<usize>,
}

/// EasyNLP's default of `--sequence_length`.
pub(super) const SEQUENCE_LENGTH: usize = 16;

impl Settings {
    /// Reads what all modes share.
    pub(super) fn read(flags: &Flags) -> Outcome<Self> {
        let mode = mode(flags)?;
        if let Some(app) = flags.text("app_name").filter(|app| *app != "clip") {
            return usage(
                format!("--app_name={app}: not supported"),
                "use --app_name=clip, which is the only app here",
            );
        }
        let gpus: i64 = flags.number("worker_gpu", "whole number")?.unwrap_or(-1);
        let workers: i64 = flags.number("worker_count", "whole number")?.unwrap_or(1);
        if gpus > 1 || workers != 1 {
            return usage(
                format!("--worker_gpu={gpus} --worker_count={workers}: not supported"),
                "use one worker (--worker_count=1) on one GPU (--worker_gpu=1) or on the CPU (--worker_gpu=0)",
            );
        }
        let tables = flags.list("tables");
        for table in &tables {
            local(
                "tables",
                table,
                "a TSV file on this machine, a text, a tab and a base64 picture a line",
            )?;
            if table.ends_with(".tar") {
                let remedy =
                    "unpack it to a folder of pictures with a .txt of each, or to a TSV file, and use `clipzoo train`";
                return usage(format!("--tables={table}: tar files are not supported"), remedy);
            }
        }
        if tables.is_empty() {
            return usage(
                "--tables is missing",
                "write --tables=train.tsv,valid.tsv, or one table",
            );
        }
        let schema = needed(flags, "input_schema", "text:str:1,image:str:1")?.to_owned();
        let names = Schema::parse(&schema).map_err(Failure::Usage)?.names().to_vec();
        let directory = needed(flags, "checkpoint_dir", "./my-model")?;
        local("checkpoint_dir", directory, "a directory on this machine")?;
        let [text_column, image_column] = columns(flags, mode, &names)?;
        Ok(Self {
            mode,
            model: match mode {
                Mode::Train => pretrained(flags)?,
                Mode::Evaluate | Mode::Predict => model("--checkpoint_dir", directory)?,
            },
            tables,
            schema,
            skip_first_line: flags.has("skip_first_line"),
            text_column,
            image_column,
            checkpoint_dir: directory.into(),
            sequence_length: positive(flags, "sequence_length")?,
            batch: positive(flags, "micro_batch_size")?.unwrap_or(2),
            gpu: gpus == 1,
            data_threads: positive(flags, "data_threads")?,
        })
    }

    /// The first table, which is the one that is trained on.
    pub(super) fn first_table(&self) -> &str {
        self.tables.first().map_or("", String::as_str)
    }

    /// The last table, which is the one that is evaluated or embedded.
    pub(super) fn last_table(&self) -> &str {
        self.tables.last().map_or("", String::as_str)
    }
}

fn mode(flags: &Flags) -> Outcome<Mode> {
    match flags.text("mode").unwrap_or("train") {
        "train" => Ok(Mode::Train),
        "evaluate" => Ok(Mode::Evaluate),
        "predict" => Ok(Mode::Predict),
        other => usage(
            format!("--mode={other}: there is no such mode"),
            "use --mode=train, --mode=evaluate or --mode=predict",
        ),
    }
}

/// A flag without which nothing can be done.
pub(super) fn needed<'a>(flags: &'a Flags, name: &str, example: &str) -> Outcome<&'a str> {
    match flags.text(name).filter(|value| !value.is_empty()) {
        Some(value) => Ok(value),
        None => usage(format!("--{name} is missing"), format!("write --{name}={example}")),
    }
}

/// A whole number from 1.
pub(super) fn positive(flags: &Flags, name: &str) -> Outcome<Option<usize>> {
    let what = "whole number from 1";
    match flags.number::<usize>(name, what)? {
        Some(0) => usage(format!("--{name}=0: this is no {what}"), "correct it"),
        given => Ok(given),
    }
}

/// Refuses places that only Alibaba's cloud has.
pub(super) fn local(flag: &str, place: &str, instead: &str) -> Outcome {
    match ["odps://", "oss://"].iter().find(|scheme| place.starts_with(**scheme)) {
        Some(scheme) => usage(
            format!("--{flag}={place}: {scheme} is not supported"),
            format!("use {instead}"),
        ),
        None => Ok(()),
    }
}

/// A parameter of `--user_defined_parameters`: words of the form `key=value`.
pub(super) fn parameter<'a>(flags: &'a Flags, name: &str) -> Option<&'a str> {
    let words = flags
        .text("user_defined_parameters")
        .unwrap_or_default()
        .split_whitespace();
    words
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// Keys of `--user_defined_parameters` that mean nothing here.
pub(super) fn idle_parameters(flags: &Flags) -> Vec<&str> {
    let words = flags
        .text("user_defined_parameters")
        .unwrap_or_default()
        .split_whitespace();
    let keys = words.map(|word| word.split_once('=').map_or(word, |(key, _)| key));
    keys.filter(|key| !["pretrain_model_name_or_path", "do_eval"].contains(key))
        .collect()
}

fn pretrained(flags: &Flags) -> Outcome<String> {
    const NAME: &str = "pretrain_model_name_or_path";
    match parameter(flags, NAME).filter(|name| !name.is_empty()) {
        Some(name) => model(NAME, name),
        None => usage(
            format!("--user_defined_parameters names no {NAME}, so there is nothing to train"),
            format!("write --user_defined_parameters='{NAME}=./my-model'"),
        ),
    }
}

/// A model's place: a path, or a name on the hub. EasyNLP's registry of names is not asked.
fn model(flag: &str, name: &str) -> Outcome<String> {
    if let Some(scheme) = ["oss://", "odps://"].iter().find(|scheme| name.starts_with(**scheme)) {
        return usage(
            format!("{flag}={name}: {scheme} is not supported"),
            "use the model's directory on this machine, or hf:owner/name",
        );
    }
    let is_path = ["/", "./", "../", "hf:"].iter().any(|start| name.starts_with(start)) || Path::new(name).exists();
    if is_path {
        return Ok(name.to_owned());
    }
    usage(
        format!("{flag}={name}: no such directory, and EasyNLP's registry of names is not asked"),
        format!(
            "download and unpack the model and give its directory, as {flag}=./{name}, or a name on the hub, as hf:owner/name"
        ),
    )
}

/// The columns of texts and of pictures. EasyNLP's own scripts name the pictures' column as the first sequence where
/// only pictures are embedded.
fn columns(flags: &Flags, mode: Mode, names: &[String]) -> Outcome<[String; 2]> {
    let (first, second) = (flags.text("first_sequence"), flags.text("second_sequence"));
    let outputs = Outputs::read(flags, mode)?;
    let alone = outputs.images && !outputs.texts;
    let text = first.filter(|_| outputs.texts).unwrap_or("text");
    let image = second
        .or(first.filter(|_| alone))
        .filter(|_| outputs.images)
        .unwrap_or("image");
    for (wanted, name, flag) in [
        (outputs.texts, text, "first_sequence"),
        (outputs.images, image, "second_sequence"),
    ] {
        if wanted && !names.iter().any(|known| known == name) {
            return usage(
                format!("--{flag}: --input_schema has no column `{name}`"),
                format!("name one of {}", names.join(", ")),
            );
        }
    }
    Ok([text.to_owned(), image.to_owned()])
}

/// What is made of the rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outputs {
    pub(super) texts: bool,
    pub(super) images: bool,
}

impl Outputs {
    /// Both in training and evaluation; in prediction what `--output_schema` names.
    pub(super) fn read(flags: &Flags, mode: Mode) -> Outcome<Self> {
        if mode != Mode::Predict {
            let (texts, images) = (true, true);
            return Ok(Self { texts, images });
        }
        let wanted = "text_feat or image_feat";
        let names = flags.list("output_schema");
        match names.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => usage("--output_schema is missing", format!("write --output_schema={wanted}")),
            ["text_feat"] => Ok(Self {
                texts: true,
                images: false,
            }),
            ["image_feat"] => Ok(Self {
                texts: false,
                images: true,
            }),
            ["text_feat", "image_feat"] | ["image_feat", "text_feat"] => usage(
                "--output_schema names both kinds of features, and a line of numbers cannot say where one ends",
                format!(
                    "run it for one and for the other, or use `clipzoo predict --output features.jsonl`, which writes {} and {}",
                    feature_name(Modality::Text),
                    feature_name(Modality::Image)
                ),
            ),
            _ => usage(
                format!("--output_schema={}: there is no such output", names.join(",")),
                format!("use {wanted}"),
            ),
        }
    }
}
