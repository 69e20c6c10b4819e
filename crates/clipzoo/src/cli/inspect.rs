//! `clipzoo inspect`: what is in a checkpoint, and whether its weights are those of the model that its config describes.

use std::path::{Path, PathBuf};

use clip_core::serde_json::{self, Map, Value, json};
use clip_core::{Error, Result, visible};
use clip_format::{Checkpoint, TensorInfo, WeightsFile};
use clip_models::check;
use clip_nn::Fit;

use super::Cli;
use super::args::{located, print};
use super::failure::{Failure, Outcome};
use super::inspect_queue;

/// Flags of `inspect`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo inspect ./my-model --tensors
  clipzoo inspect hf:openai/clip-vit-base-patch32 --json
  clipzoo inspect runs/first --queue

Where the weights are not those of the model that the config describes, every tensor that is missing, unexpected or of
another shape is listed. A file that belongs to no known family is an error, behind what can be said of it.")]
pub(crate) struct Args {
    /// A model directory, a weights file or hf:owner/name[@revision]; with --queue, the directory of a run
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// List every tensor
    #[arg(long, conflicts_with = "queue")]
    tensors: bool,
    /// Show the feature queue in the newest good checkpoint of a run
    #[arg(long)]
    queue: bool,
    /// How many concepts of most and of fewest features are shown
    #[arg(long, value_name = "N", default_value_t = 10, requires = "queue")]
    top: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args.queue {
        return inspect_queue::run(&args.path, args.top, args.json);
    }
    let path = located(&args.path)?;
    let found = match Checkpoint::open(&path, &cli.families) {
        Ok(checkpoint) => Found::of(cli, &checkpoint),
        Err(error) => return bare(&path, error, &args),
    };
    if args.json {
        return Ok(print(&found.json().to_string())?);
    }
    found.show(args.tensors)
}

/// What can be said of a checkpoint.
struct Found {
    family: String,
    files: Vec<(PathBuf, u64)>,
    towers: Vec<Tower>,
    tokenizer: Option<Result<String>>,
    transform: Option<Result<String>>,
    fit: Result<Fit>,
    config: Value,
    tensors: Vec<TensorInfo>,
}

/// A tower and how many numbers it has.
struct Tower {
    name: &'static str,
    model_type: String,
    numbers: u64,
}

impl Found {
    fn of(cli: &Cli, checkpoint: &Checkpoint) -> Self {
        let config = checkpoint.config();
        let has = |key: &str| config.get(key).is_some_and(Value::is_object);
        let towers = [("image", "vision_config"), ("text", "text_config")];
        let towers = towers.into_iter().filter(|(_, key)| has(key)).map(|(name, key)| {
            let prefix = format!("{name}.");
            let own = checkpoint.weights().tensors().iter();
            Tower {
                name,
                model_type: config[key]["model_type"].as_str().unwrap_or("of no type").to_owned(),
                numbers: own.filter(|tensor| tensor.name.starts_with(&prefix)).map(count).sum(),
            }
        });
        let transform = || Ok(checkpoint.transform()?.describe());
        Self {
            family: checkpoint.family().to_owned(),
            files: checkpoint
                .files()
                .into_iter()
                .map(|file| (file.path, file.bytes))
                .collect(),
            towers: towers.collect(),
            tokenizer: has("text_config").then(|| tokenizer(checkpoint)),
            transform: has("vision_config").then(transform),
            fit: check(checkpoint, &cli.zoo),
            config: config.clone(),
            tensors: checkpoint.raw_tensors().to_vec(),
        }
    }

    fn json(&self) -> Value {
        let said = |said: &Option<Result<String>>| match said {
            None => Value::Null,
            Some(Ok(text)) => json!({ "does": text }),
            Some(Err(error)) => json!({ "error": error.to_string() }),
        };
        let towers: Map<String, Value> = self
            .towers
            .iter()
            .map(|tower| {
                let about = json!({ "model_type": tower.model_type, "numbers": tower.numbers });
                (tower.name.to_owned(), about)
            })
            .collect();
        let mut object = json!({
            "family": self.family, "files": files(&self.files), "towers": towers, "tokenizer": said(&self.tokenizer),
            "transform": said(&self.transform), "config": self.config,
        });
        object["fits"] = self.fit.as_ref().is_ok_and(Fit::is_exact).into();
        match &self.fit {
            Err(error) => object["error"] = error.to_string().into(),
            Ok(fit) => {
                let missing = fit.missing.iter();
                let missing = missing.map(|tensor| json!({ "name": tensor.name, "shape": tensor.shape }));
                let misshapen = fit
                    .misshapen
                    .iter()
                    .map(|tensor| json!({ "name": tensor.name, "file": tensor.file, "model": tensor.model }));
                object["missing"] = missing.collect();
                object["misshapen"] = misshapen.collect();
                object["unexpected"] = json!(fit.unexpected);
                object["faults"] = json!(fit.faults);
            }
        }
        add_tensors(&mut object, &self.tensors);
        object
    }

    fn show(&self, tensors: bool) -> Outcome {
        line("family", &self.family)?;
        show_files(&self.files)?;
        for tower in &self.towers {
            let about = format!("{}, {} numbers", tower.model_type, grouped(tower.numbers));
            line(&format!("{} tower", tower.name), &about)?;
        }
        line("numbers", &total(&self.tensors))?;
        for (name, said) in [("tokenizer", &self.tokenizer), ("transform", &self.transform)] {
            match said {
                None => {}
                Some(Ok(text)) => line(name, text)?,
                Some(Err(error)) => line(name, &format!("none: {error}"))?,
            }
        }
        match &self.fit {
            Err(error) => line("fits", &format!("the model cannot be built: {error}"))?,
            Ok(fit) if fit.is_exact() => line("fits", "yes: every tensor is there, and no other")?,
            Ok(fit) => {
                line("fits", "no: the weights are not those of the config's model")?;
                for (what, list) in fit.lists() {
                    line(&format!("  {what}"), &list.len().to_string())?;
                    list.iter().try_for_each(|entry| print(&format!("    {entry}")))?;
                }
            }
        }
        let config = serde_json::to_string_pretty(&self.config).map_err(|e| Error::internal(e.to_string()))?;
        line("config", &config.replace('\n', "\n             "))?;
        if tensors {
            show_tensors(&self.tensors)?;
        }
        Ok(())
    }
}

/// The tokenizer's rule, how many ids it knows, and where texts are cut.
fn tokenizer(checkpoint: &Checkpoint) -> Result<String> {
    let tokenizer = checkpoint.tokenizer(None)?;
    let whose = if checkpoint.vocabulary_files().is_empty() {
        "bundled vocabulary"
    } else {
        "its own vocabulary"
    };
    Ok(format!(
        "{}; {whose} of {} ids; texts are cut at {} ids",
        checkpoint.tokenizer_rule()?,
        tokenizer.vocabulary().size,
        tokenizer.context_length()
    ))
}

/// What can be said of a file that no family takes, and why none does.
fn bare(path: &Path, error: Error, args: &Args) -> Outcome {
    let Ok(file) = WeightsFile::of_model(path) else {
        return Err(Failure::Failed(error));
    };
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
    let paths: Vec<(PathBuf, u64)> = file.files.iter().map(|path| (path.clone(), size(path))).collect();
    let tensors = file.tensors.tensors();
    if args.json {
        let mut object = json!({ "family": null, "files": files(&paths), "fits": false, "error": error.to_string() });
        add_tensors(&mut object, tensors);
        print(&object.to_string())?;
    } else {
        show_files(&paths)?;
        line("numbers", &total(tensors))?;
        if args.tensors {
            show_tensors(tensors)?;
        }
    }
    Err(Failure::Failed(error))
}

fn files(files: &[(PathBuf, u64)]) -> Value {
    let files = files
        .iter()
        .map(|(path, bytes)| json!({ "path": path, "bytes": bytes }));
    files.collect()
}

fn add_tensors(object: &mut Value, tensors: &[TensorInfo]) {
    object["numbers"] = numbers(tensors).into();
    object["dtypes"] = json!(types(tensors));
    let list = tensors
        .iter()
        .map(|tensor| json!({ "name": tensor.name, "dtype": tensor.dtype.name(), "shape": tensor.shape }));
    object["tensors"] = list.collect();
}

/// One line of a report: what, and how it is.
fn line(what: &str, how: &str) -> Result<()> {
    print(&format!("{what:<13}{how}"))
}

fn show_files(files: &[(PathBuf, u64)]) -> Result<()> {
    let show =
        |(path, bytes): &(PathBuf, u64)| line("file", &format!("{} ({} bytes)", path.display(), grouped(*bytes)));
    files.iter().try_for_each(show)
}

fn show_tensors(tensors: &[TensorInfo]) -> Result<()> {
    tensors.iter().try_for_each(|tensor| {
        let shape = format!("{:?}", tensor.shape);
        print(&format!(
            "{:<5} {shape:<22} {}",
            tensor.dtype.name(),
            visible(&tensor.name)
        ))
    })
}

fn total(tensors: &[TensorInfo]) -> String {
    format!(
        "{} in {} tensors ({})",
        grouped(numbers(tensors)),
        tensors.len(),
        types(tensors).join(", ")
    )
}

fn count(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().product::<usize>() as u64
}

/// How many numbers the tensors hold.
pub(super) fn numbers(tensors: &[TensorInfo]) -> u64 {
    tensors.iter().map(count).sum()
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|g| std::str::from_utf8(g).ok())
        .collect();
    groups.join(",")
}

/// The types of the tensors, each once.
pub(super) fn types(tensors: &[TensorInfo]) -> Vec<&'static str> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.dtype.name()).collect();
    names.sort_unstable();
    names.dedup();
    names
}
