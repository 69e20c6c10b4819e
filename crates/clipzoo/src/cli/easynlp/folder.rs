//! The files of `--checkpoint_dir` as EasyNLP has them, beside the run's own directory in it.
//!
//! The run is in `run/`: `best/`, `checkpoints/`, settings, metrics, the report. What EasyNLP writes is linked out of it, so
//! that it costs no space: `pytorch_model.bin` (the best by mean recall), `config.json`, `vocab.txt`,
//! `pytorch_model_step_N.bin`; and made beside it: `train_config.json`, `label_mapping.json`, `log/`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clip_core::serde_json::{Map, Value, json};
use clip_core::{Error, Event, Observer, Result};
use clip_data::PendingFile;
use clip_format::{Checkpoint, Families, convert};
use clip_train::TensorBoard;

/// The weights that EasyNLP reads.
pub(super) const WEIGHTS: &str = "pytorch_model.bin";
/// The run's own directory.
pub(super) const RUN: &str = "run";
/// Where a model is rewritten that is not in a layout of EasyNLP's.
const REWRITTEN: &str = ".rewritten";

/// Fills a checkpoint directory while a run goes on.
pub(super) struct Folder {
    directory: PathBuf,
    /// The layout to rewrite models in; `None` where the run writes it itself.
    layout: Option<String>,
    families: Families,
    /// Whether each checkpoint's weights appear too.
    all: bool,
    train_config: Value,
}

impl Folder {
    /// The directory of a run; `train_config` is what `train_config.json` holds.
    pub(super) fn new(
        directory: &Path,
        layout: Option<String>,
        families: &Families,
        all: bool,
        train_config: Value,
    ) -> Self {
        Self {
            directory: directory.to_owned(),
            layout,
            families: families.clone(),
            all,
            train_config,
        }
    }

    /// Shows the best model of the run, if it is not the one that is shown.
    fn best(&self) -> Result<()> {
        let best = self.directory.join(RUN).join("best");
        if !best.is_dir() || (self.layout.is_none() && same(&best.join(WEIGHTS), &self.directory.join(WEIGHTS))) {
            return Ok(());
        }
        self.json("train_config.json", &self.train_config)?;
        self.json("label_mapping.json", &json!({ "0": 0, "1": 1 }))?;
        self.in_layout(&best, |model| {
            let mut names = names(model)?;
            // Weights last: whoever finds new ones finds their config.
            names.sort_by_key(|name| name == WEIGHTS);
            names
                .iter()
                .try_for_each(|name| show(&model.join(name), &self.directory.join(name)))
        })
    }

    /// Shows the weights of a checkpoint.
    fn step(&self, model: &Path, step: u64) -> Result<()> {
        let name = format!("pytorch_model_step_{step}.bin");
        self.in_layout(model, |model| show(&model.join(WEIGHTS), &self.directory.join(name)))
    }

    /// Calls `then` with a model's directory in the layout to show.
    fn in_layout(&self, model: &Path, then: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let Some(layout) = &self.layout else {
            return then(model);
        };
        let rewritten = self.directory.join(REWRITTEN);
        remove(&rewritten)?;
        let checkpoint = Checkpoint::open(model, &self.families)?;
        convert(&checkpoint, layout, None, &rewritten, &self.families)?;
        then(&rewritten)?;
        remove(&rewritten)
    }

    fn json(&self, name: &str, value: &Value) -> Result<()> {
        let mut file = PendingFile::create(self.directory.join(name))?;
        writeln!(file, "{value:#}").map_err(|error| file.error(error))?;
        file.commit()
    }
}

impl Observer for Folder {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        match event {
            Event::Saved { path, step } => {
                self.best()?;
                if self.all {
                    self.step(&path.join("model"), *step)?;
                }
                Ok(())
            }
            Event::Finished { .. } => self.best(),
            _ => Ok(()),
        }
    }
}

/// The files of a directory, without folders.
fn names(directory: &Path) -> Result<Vec<String>> {
    let fault = |error| Error::io("read", directory, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(fault)? {
        let entry = entry.map_err(fault)?;
        if entry.file_type().map_err(fault)?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Puts a file under another name, as a link where the file system has them; the old one is there until the new one is.
/// No file of a run is ever written in place, so a link stays what it was.
fn show(from: &Path, to: &Path) -> Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = to.with_file_name(format!(".{name}.partial"));
    let fault = |error| Error::io("write", to, error);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fault(error)),
        _ => {}
    }
    if fs::hard_link(from, &beside).is_err() {
        fs::copy(from, &beside).map_err(fault)?;
    }
    fs::rename(&beside, to).map_err(fault)
}

/// Whether two names are links to one file.
#[cfg(unix)]
fn same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    id(one).is_some() && id(one) == id(other)
}

/// Elsewhere that is not asked, and files are shown again.
#[cfg(not(unix))]
fn same(_: &Path, _: &Path) -> bool {
    false
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", directory, error)),
        _ => Ok(()),
    }
}

/// TensorBoard's events in `log/`, under EasyNLP's names.
pub(super) struct Board(TensorBoard);

impl Board {
    /// Starts them with the settings and the model's config as texts.
    pub(super) fn create(directory: &Path, training: &str, model: &str) -> Result<Self> {
        let mut board = TensorBoard::create(directory.join("log"))?.named(|name| Some(name.to_owned()));
        board.text("config/training", training)?;
        board.text("config/model_config", model)?;
        Ok(Self(board))
    }
}

impl Observer for Board {
    fn observe(&mut self, event: &Event<'_>) -> Result<()> {
        let pick = |figures: &Map<String, Value>, names: &[(&str, &str, f64)]| {
            let number = |name: &str| figures.get(name).and_then(Value::as_f64);
            let mut picked = Map::from_iter(figures.get("step").map(|step| ("step".to_owned(), step.clone())));
            let values = names
                .iter()
                .filter_map(|(own, name, share)| Some(((*name).to_owned(), json!(number(own)? * share))));
            picked.extend(values);
            picked
        };
        match event {
            Event::Step(figures) => {
                let names = [("loss", "losses/loss", 1.0), ("lr", "learning_rate/lr", 1.0)];
                self.0.observe(&Event::Step(&pick(figures, &names)))
            }
            Event::Evaluated(figures) => {
                // EasyNLP's is a share of 1, and of the one direction.
                let names = [("valid_mean_recall_text_to_image", "eval/mean_recall", 0.01)];
                self.0.observe(&Event::Evaluated(&pick(figures, &names)))
            }
            other => self.0.observe(other),
        }
    }
}
