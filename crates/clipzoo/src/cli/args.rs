//! Flags that several commands share.

use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use clip_core::serde::Serialize;
use clip_core::serde_json::{self, Value};
use clip_core::{Error, PairTable, Result, Truncation};
use clip_data::{BadRows, Columns, Format, Roles, Schema, Table, TableOptions};
use clip_models::OpenOptions;
use clip_nn::Pipeline;
use clip_nn::tch::{self, Device};

use super::Cli;
use super::failure::{Failure, Outcome, usage, writeln_stderr};
use super::progress::Downloads;

/// Where and how a model runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Computing")]
pub(crate) struct Compute {
    /// Where to compute: auto (CUDA where there is one), cpu, cuda, cuda:N
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// What linear layers multiply in; weights and everything else stay f32. int8 is for a CPU and best calibrated
    /// (`clipzoo calibrate`); auto takes the fastest type that keeps features as they are [default: f32]
    #[arg(long, value_enum)]
    pub(crate) dtype: Option<Dtype>,
    /// Threads that compute [default: all cores]
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Threads that read and decode [default: all cores]
    #[arg(long)]
    pub(crate) workers: Option<usize>,
}

/// What `--dtype` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    Bf16,
    Int8,
    Auto,
}

impl Compute {
    /// The device; asking for CUDA where there is none is an error.
    pub(crate) fn device(&self) -> Outcome<Device> {
        let there = || {
            if tch::Cuda::is_available() {
                tch::Cuda::device_count()
            } else {
                0
            }
        };
        let number = match self.device.as_str() {
            "cpu" => return Ok(Device::Cpu),
            "auto" => return Ok(if there() > 0 { Device::Cuda(0) } else { Device::Cpu }),
            "cuda" => Some(0),
            other => other
                .strip_prefix("cuda:")
                .and_then(|number| number.parse::<usize>().ok()),
        };
        match number {
            None => usage(
                format!("--device {}: no such device", self.device),
                "use auto, cpu, cuda or cuda:N",
            ),
            Some(number) if (number as i64) < there() => Ok(Device::Cuda(number)),
            Some(_) => usage(
                format!(
                    "--device {}: this machine has {} CUDA devices that libtorch can see",
                    self.device,
                    there()
                ),
                "use --device cpu, or set up CUDA (`cargo xtask setup --cuda`)",
            ),
        }
    }

    /// On the CPU, in f32.
    pub(crate) fn on_cpu(threads: Option<usize>, workers: Option<usize>) -> Self {
        Self {
            device: "cpu".to_owned(),
            dtype: None,
            threads,
            workers,
        }
    }

    /// What linear layers multiply in; `None`: what is fastest.
    fn of_pass(&self) -> Outcome<Option<clip_nn::Compute>> {
        let compute = match self.dtype.unwrap_or(Dtype::F32) {
            Dtype::F32 => clip_nn::Compute::F32,
            Dtype::Bf16 => clip_nn::Compute::Bf16,
            Dtype::Auto => return Ok(None),
            Dtype::Int8 if self.device()? == Device::Cpu => clip_nn::Compute::Int8,
            Dtype::Int8 => return usage("--dtype int8 is for a CPU", "use --device cpu, or --dtype bf16"),
        };
        self.warn_if_slow(compute)?;
        Ok(Some(compute))
    }

    /// Says so where the device has no instructions for a type that was asked for.
    pub(crate) fn warn_if_slow(&self, compute: clip_nn::Compute) -> Outcome {
        if !compute.is_native(self.device()?) {
            let name = compute.name();
            note(&format!(
                "this processor has no fast {name}: f32 (or --dtype auto) is faster here"
            ));
        }
        Ok(())
    }

    /// Sets libtorch's threads and gives their number.
    pub(crate) fn set_threads(&self) -> Outcome<usize> {
        let threads = self.threads.unwrap_or_else(cores);
        if threads == 0 {
            return usage("--threads 0 cannot compute", "use 1 or more");
        }
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        Ok(threads)
    }

    /// Threads that read and decode.
    pub(crate) fn workers(&self) -> usize {
        self.workers.unwrap_or_else(cores).max(1)
    }
}

/// Rows the model gets at once; none is wrong usage.
pub(crate) fn check_batch_size(rows: usize) -> Outcome {
    if rows == 0 {
        return usage("a batch must hold at least one row", "use --batch-size 1 or more");
    }
    Ok(())
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Which model.
#[derive(Args, Clone, Debug)]
pub(crate) struct Model {
    /// The model: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    /// The most tokens of a text [default: the config's; 52 for BERT text towers]
    #[arg(long, value_name = "N")]
    pub(crate) context_length: Option<usize>,
    #[command(flatten)]
    pub(crate) cut: Cut,
}

/// What becomes of texts that are too long.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    /// What becomes of a text of more tokens: keep-end, or easynlp, which cuts byte pairs as EasyNLP does, end token and all.
    /// For its old numbers: every text that is too long has the same features then [default: keep-end]
    #[arg(long, value_name = "HOW", value_parser = truncation)]
    pub(crate) truncation: Option<Truncation>,
}

impl Cut {
    /// What it says, or the default.
    pub(crate) fn how(self) -> Truncation {
        self.truncation.unwrap_or_default()
    }
}

/// `--truncation`, in the words of run.toml.
fn truncation(text: &str) -> std::result::Result<Truncation, String> {
    serde_json::from_value(text.into()).map_err(|_| "use keep-end or easynlp".to_owned())
}

impl Model {
    /// Where it is.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.model
    }

    /// Opens it for use.
    pub(crate) fn open(&self, cli: &Cli, compute: &Compute) -> Outcome<Pipeline> {
        compute.set_threads()?;
        let model = located(&self.model)?;
        let options = OpenOptions {
            device: compute.device()?,
            compute: compute.of_pass()?,
            context_length: self.context_length,
            truncation: self.cut.how(),
        };
        Ok(clip_models::open(&model, &cli.zoo, &cli.families, &options)?)
    }
}

/// Where a model lies: a path as it is, a name on a hub as the folder in the cache that it was fetched to.
pub(crate) fn located(model: impl AsRef<Path>) -> Outcome<PathBuf> {
    Ok(clip_format::resolve(model, &mut Downloads::default())?)
}

/// Refuses an output directory that holds anything: wrong usage.
pub(crate) fn new_directory(path: &Path) -> Outcome {
    let in_use = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if in_use || path.is_file() {
        return usage(
            format!("{}: the output directory is not empty", path.display()),
            "name another --output",
        );
    }
    Ok(())
}

/// What `--language` takes: the language of a page's own words.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageLanguage {
    En,
    Zh,
}

impl From<PageLanguage> for clip_apps::Language {
    fn from(language: PageLanguage) -> Self {
        match language {
            PageLanguage::En => Self::English,
            PageLanguage::Zh => Self::Chinese,
        }
    }
}

/// How a table is read.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub(crate) struct TableArgs {
    /// What the table looks like, whatever it is called: tsv, csv, jsonl, folder
    #[arg(long, value_name = "FORMAT", value_parser = table_format)]
    pub(crate) table_format: Option<Format>,
    /// Columns of a table without header: name:type:count, separated by commas
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
    /// The first line of a TSV holds the names (always so for .csv)
    #[arg(long)]
    pub(crate) header: bool,
    /// Column of the texts
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) text_column: String,
    /// Column of the pictures
    #[arg(long, value_name = "NAME", default_value = "image")]
    pub(crate) image_column: String,
    /// Column of the product: rows of one product are never each other's negatives
    #[arg(long, value_name = "NAME")]
    pub(crate) item_column: Option<String>,
    /// Column of the concepts
    #[arg(long, value_name = "NAME")]
    pub(crate) concept_column: Option<String>,
    /// Column of the weights
    #[arg(long, value_name = "NAME")]
    pub(crate) weight_column: Option<String>,
    /// Column of the row's own id
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,
    /// What to do with a row that cannot be read: stop, or skip and list it in OUTPUT.rejects.jsonl (evaluate: beside the table)
    #[arg(long, value_enum, default_value_t = OnBadRow::Stop)]
    pub(crate) bad_rows: OnBadRow,
}

/// What `--bad-rows` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBadRow {
    Stop,
    Skip,
}

impl From<OnBadRow> for BadRows {
    fn from(policy: OnBadRow) -> Self {
        match policy {
            OnBadRow::Stop => Self::Stop,
            OnBadRow::Skip => Self::Skip,
        }
    }
}

impl TableArgs {
    /// What a table looks like: as the flag says, or by its extension.
    pub(crate) fn format(&self, path: &Path) -> Result<Format> {
        self.table_format.map_or_else(|| Format::of(path), Ok)
    }

    /// What a table holds: texts, pictures or both.
    pub(crate) fn roles(&self, path: &std::path::Path) -> Outcome<Roles> {
        // Opened for texts or for pictures alone, a table that lacks the other column is fine.
        let texts = self.open(path, Roles::Texts);
        let has_images = |columns: &[String]| columns.contains(&self.image_column);
        match texts {
            Ok(table) if has_images(table.columns()) => Ok(Roles::Pairs),
            Ok(_) => Ok(Roles::Texts),
            Err(failure) => self
                .open(path, Roles::Images)
                .map(|_| Roles::Images)
                .map_err(|_| failure),
        }
    }

    /// Opens a table of which single columns are read, whatever its rows hold.
    pub(crate) fn open_any(&self, path: &Path) -> Outcome<Table> {
        // Texts are cheaper to read on the way than pictures.
        self.open(path, Roles::Texts)
            .or_else(|failure| self.open(path, Roles::Images).map_err(|_| failure))
    }

    /// Opens a table whose rows must fill `roles`.
    pub(crate) fn open(&self, path: &Path, roles: Roles) -> Outcome<Table> {
        let columns = Columns {
            text: self.text_column.clone(),
            image: self.image_column.clone(),
            item: self.item_column.clone(),
            concept: self.concept_column.clone(),
            weight: self.weight_column.clone(),
            id: self.id_column.clone(),
        };
        open_table(
            path,
            (self.table_format, self.schema.as_deref()),
            self.header.then_some(true),
            columns,
            roles,
        )
    }
}

/// `--table-format`, in the words of run.toml.
pub(crate) fn table_format(text: &str) -> std::result::Result<Format, String> {
    serde_json::from_value(text.into()).map_err(|_| "use tsv, csv, jsonl or folder".to_owned())
}

/// Opens a table of a format (by its extension if not given) and a schema, and notices a header that nobody spoke of.
pub(crate) fn open_table(
    path: &Path,
    (format, schema): (Option<Format>, Option<&str>),
    header: Option<bool>,
    columns: Columns,
    roles: Roles,
) -> Outcome<Table> {
    const REMEDY: &str = "pass --header if the first line holds the names, or name the columns with --schema";
    let unsaid = header.is_none() && schema.is_none() && format.map_or_else(|| Format::of(path), Ok)? == Format::Tsv;
    let names = [columns.text.clone(), columns.image.clone()];
    let options = TableOptions {
        format,
        schema: schema.map(Schema::parse).transpose().map_err(Failure::Usage)?,
        header,
        columns,
        roles,
    };
    let table = Table::open(path, options).map_err(|error| {
        if unsaid && error.what().contains("no column") {
            error.remedy(REMEDY)
        } else {
            error
        }
    })?;
    let is_header = |name: &String| table.cell(0, name).is_ok_and(|cell| &cell == name);
    if unsaid && table.rows() > 0 && names.iter().any(is_header) {
        let error = Error::invalid("the first row holds the columns' names")
            .file(path)
            .row(1)
            .remedy(REMEDY);
        return Err(Failure::Usage(error));
    }
    Ok(table)
}

/// A result as what `--json` prints of it.
pub(crate) fn to_json(result: &impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|error| Error::internal(error.to_string()))
}

/// Prints one JSON value, or what a person reads.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        // Who closed the pipe (`| head`) has read enough.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(clip_core::Error::io("write", "stdout", error))
        }
        _ => Ok(()),
    }
}

/// Tells the user something on stderr.
pub(crate) fn note(line: &str) {
    // Nothing can be done where stderr itself is gone.
    let _ = writeln_stderr(line);
}

/// Tells that a model is written in another layout than it came in.
pub(crate) fn note_layout(came_in: &str, written: &str) {
    note(&format!(
        "the layout {came_in} cannot express this model's config and transform: it is written in the layout {written}"
    ));
}
