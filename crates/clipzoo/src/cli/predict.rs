//! `clipzoo predict`: the features of texts and pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use clip_core::serde_json::json;
use clip_core::{Embedder, Modality};
use clip_data::{Format, Number, Parts, Rejects, Roles, SinkOptions, feature_name, open_sink};
use clip_nn::Pipeline;

use super::Cli;
use super::args::{Compute, Model, TableArgs, check_batch_size, note, print};
use super::failure::{Outcome, usage};
use super::inputs;
use super::predict_run::{Run, shaped};
use super::predict_work::{Shard, Source, Work};

/// Flags of `predict`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo predict --model ./my-model --table products.tsv --output features.safetensors
  clipzoo predict --model ./my-model --texts titles.txt --images photos/ --output features.safetensors
  clipzoo predict --model ./my-model --table products.csv --id-column sku --append-cols brand --output features.parquet
  clipzoo predict --model ./my-model --table products.tsv --only images --shard 2/4 --output part-2.npy

OUTPUT's extension is its format: .safetensors holds `text_features` and/or `image_features`, [rows, dim], unit rows, in
input order; .npy (texts or pictures: of a table with both, --only says which); .jsonl (an object a row); .tsv
(EasyNLP's); .parquet. A refused row, or a part that a row does not have (--partial), is a row of zeros, or null.
Columns carried along (--append-cols, --id-column) stand in the rows of .jsonl, .tsv and .parquet; beside .safetensors and
.npy they go to OUTPUT.columns.jsonl, an object a row.

A run of more than --part-rows rows keeps what is finished in OUTPUT.parts until OUTPUT is whole. Ended before, it goes on
with --resume and the same flags; --batch-size, --device, --threads, --workers and --bad-rows may differ.")]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) model: Model,
    /// Texts: .txt one a line, .jsonl one JSON string a line
    #[arg(long, value_name = "FILE")]
    pub(super) texts: Option<PathBuf>,
    /// Pictures: files and folders (sorted by path)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(super) images: Vec<PathBuf>,
    /// A table of texts, pictures or both
    #[arg(long, value_name = "FILE")]
    pub(super) table: Option<PathBuf>,
    /// What of the table to embed, where it has both
    #[arg(long, value_enum, requires = "table")]
    only: Option<Only>,
    /// Prepared `pixels` and/or `input_ids` (`attention_mask`), safetensors
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["texts", "images", "table", "append_cols", "partial", "resume", "shard"]
    )]
    inputs: Option<PathBuf>,
    /// Where the features go
    #[arg(long, value_name = "FILE")]
    pub(super) output: PathBuf,
    /// The format of OUTPUT, whatever it is called
    #[arg(long, value_name = "FORMAT", value_parser = ["safetensors", "npy", "jsonl", "tsv", "parquet"])]
    output_format: Option<String>,
    /// Columns of the table to carry along, by name, parted by commas; --id-column goes before them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    append_cols: Vec<String>,
    /// Rows of the table may lack their text or their picture: an empty cell, in JSONL null or no such key
    #[arg(long)]
    pub(super) partial: bool,
    /// Bring rows to unit length; false writes what the model's projections give
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(super) normalize: bool,
    /// Keep the first D dimensions, brought to unit length again: for models trained to be cut (Matryoshka)
    #[arg(long, value_name = "D")]
    pub(super) dims: Option<usize>,
    /// What numbers are written as, in .safetensors, .npy and .parquet
    #[arg(long, value_enum, default_value_t = OutputType::F32)]
    output_dtype: OutputType,
    /// Go on with a run that was ended
    #[arg(long)]
    pub(super) resume: bool,
    /// Rows that a finished part has at least
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) part_rows: usize,
    /// The i-th of n equal shares of the rows, for several processes; outputs one behind the other are the whole
    #[arg(long, value_name = "I/N")]
    pub(super) shard: Option<Shard>,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub(super) batch_size: usize,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) table_args: TableArgs,
    #[command(flatten)]
    pub(super) compute: Compute,
}

/// What `--only` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Texts,
    Images,
}

/// What `--output-dtype` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OutputType {
    F32,
    F16,
}

impl Args {
    /// What of a table is embedded.
    pub(super) fn roles(&self, table: &Path) -> Outcome<Roles> {
        // JSONL's first row says what all have, but where rows may lack a part, it may be the one that does.
        match self.only {
            Some(Only::Texts) => Ok(Roles::Texts),
            Some(Only::Images) => Ok(Roles::Images),
            None if self.partial && self.table_args.format(table)? == Format::Jsonl => Ok(Roles::Pairs),
            None => self.table_args.roles(table),
        }
    }

    /// `--only` as it was given.
    pub(super) fn roles_named(&self) -> Option<&'static str> {
        self.only.map(|only| match only {
            Only::Texts => "texts",
            Only::Images => "images",
        })
    }

    /// Whether many rows go through the model.
    pub(super) fn runs_long(&self) -> bool {
        self.table.is_some()
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args.texts.is_none() && args.images.is_empty() && args.table.is_none() && args.inputs.is_none() {
        return usage(
            "there is nothing to embed",
            "give --texts, --images, --table or --inputs",
        );
    }
    check_batch_size(args.batch_size)?;
    args.compute.device()?;
    let carry = carried(&args)?;
    let work = Work::plan(&args)?;
    known_columns(&args, &work, &carry)?;
    let pipeline = open(cli, &args)?;
    let dim = args.dims.unwrap_or(pipeline.info().dim);
    let (rows, refused, listed) = match &args.inputs {
        Some(file) => {
            let sink = open_sink(&args.output, sink_options(&args, &pipeline, None))?;
            let mut sink = shaped(sink, &args);
            let rows = inputs::embed(&pipeline, file, args.batch_size, &mut *sink)?;
            sink.commit()?;
            (rows, 0, Rejects::beside(&args.output).finish()?)
        }
        None => {
            let (refused, listed) = Run::new(&args, &pipeline, carry, &work)?.all(&work)?;
            let (texts, images) = work.totals();
            (Rows { texts, images }, refused, listed)
        }
    };
    if let Some(list) = listed {
        note(&format!(
            "{refused} rows were refused: their places stay empty (zeros, or null); {} lists them",
            list.display()
        ));
    }
    if args.json {
        let object = json!({
            "output": args.output, "texts": rows.texts, "images": rows.images, "dim": dim,
            "refused": refused, "dtype": pipeline.compute().name(),
        });
        return Ok(print(&object.to_string())?);
    }
    note(&format!(
        "{}: {} texts, {} pictures, {dim} dimensions, computed in {}",
        args.output.display(),
        rows.texts,
        rows.images,
        pipeline.compute().name(),
    ));
    Ok(())
}

/// How many rows were written.
#[derive(Default, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) texts: u64,
    pub(crate) images: u64,
}

/// Opens the model, to give rows of the length that was asked for.
fn open(cli: &Cli, args: &Args) -> Outcome<Pipeline> {
    let pipeline = args.model.open(cli, &args.compute)?;
    let there = pipeline.info().dim;
    if let Some(dims) = args.dims
        && !(1..=there).contains(&dims)
    {
        return usage(
            format!("--dims {dims}: the model's features have {there} dimensions"),
            format!("use 1 to {there}"),
        );
    }
    Ok(if args.normalize {
        pipeline
    } else {
        pipeline.unnormalised()
    })
}

/// The columns to carry along: the row's id, then those asked for, each once.
fn carried(args: &Args) -> Outcome<Arc<[String]>> {
    let mut names: Vec<String> = Vec::new();
    for name in args.table_args.id_column.iter().chain(&args.append_cols) {
        if name.is_empty() {
            return usage(
                "--append-cols has an empty name",
                "write names parted by commas: id,brand",
            );
        }
        if [Modality::Text, Modality::Image]
            .map(feature_name)
            .contains(&name.as_str())
        {
            return usage(format!("a column is named `{name}`, as the features are"), "rename it");
        }
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    if !names.is_empty() && (args.table.is_none() || args.texts.is_some() || !args.images.is_empty()) {
        return usage(
            "columns are carried along from a table, and there must be nothing but a table then",
            "give --table alone, without --texts and --images",
        );
    }
    Ok(names.into())
}

/// Refuses columns that the table does not have. In JSONL the rows say what they have.
fn known_columns(args: &Args, work: &Work, carry: &[String]) -> Outcome {
    let tables = work.passes.iter().filter_map(|pass| match &pass.source {
        Source::Table(table) => Some(table),
        _ => None,
    });
    for table in tables {
        let unknown = carry.iter().find(|name| !table.columns().contains(name));
        if let Some(name) = unknown
            && args.table_args.format(table.path())? != Format::Jsonl
        {
            return usage(
                format!(
                    "--append-cols {name}: {} has no such column; it has: {}",
                    table.path().display(),
                    table.columns().join(", ")
                ),
                "name columns of the table; --header or --schema says what they are called",
            );
        }
    }
    Ok(())
}

pub(super) fn sink_options(args: &Args, pipeline: &Pipeline, parts: Option<&Parts>) -> SinkOptions {
    let mut metadata = BTreeMap::from([
        ("dtype".to_owned(), pipeline.compute().name().to_owned()),
        ("model".to_owned(), args.model.model.display().to_string()),
        ("logit_scale".to_owned(), pipeline.info().logit_scale.to_string()),
        ("clipzoo".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    if !args.normalize {
        metadata.insert("normalize".to_owned(), "false".to_owned());
    }
    if let Some(shard) = args.shard {
        metadata.insert("shard".to_owned(), shard.to_string());
    }
    SinkOptions {
        metadata,
        number: match args.output_dtype {
            OutputType::F32 => Number::F32,
            OutputType::F16 => Number::F16,
        },
        unfinished: parts.map(|parts| parts.folder().to_owned()),
        format: args.output_format.clone(),
    }
}
