//! `clipzoo predict`: the features of texts and pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_apps::{Predictor, PreparedRow};
use clip_core::serde_json::json;
use clip_core::{Embedder, FeatureSink, PairTable, Result};
use clip_data::{Decoder, Format, Rejects, Roles, SinkOptions, Table, TextFile, image_paths, open_sink};
use clip_nn::Pipeline;

use super::Cli;
use super::args::{Compute, Model, TableArgs, check_batch_size, note, print};
use super::failure::{Outcome, usage};
use super::inputs;
use super::progress::Progress;
use super::rows::{Pass, Preparer, Refused, policed, readable};

/// Flags of `predict`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo predict --model ./my-model --table products.tsv --output features.safetensors
  clipzoo predict --model ./my-model --texts titles.txt --images photos/ --output features.safetensors

OUTPUT's extension is its format: .safetensors holds `text_features` and/or `image_features`, [rows, dim], f32, unit
rows, in input order; .npy (texts or pictures); .jsonl (an object a row); .tsv (EasyNLP's); .parquet.
Columns carried along (--append-cols, --id-column) stand in the rows of .jsonl, .tsv and .parquet; beside .safetensors and
.npy they go to OUTPUT.columns.jsonl, an object a row.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: Model,
    /// Texts: .txt one a line, .jsonl one JSON string a line
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Pictures: files and folders (sorted by path)
    #[arg(long, value_name = "PATH", num_args = 1..)]
    images: Vec<PathBuf>,
    /// A table of texts, pictures or both
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Prepared `pixels` and/or `input_ids` (`attention_mask`), safetensors
    #[arg(long, value_name = "FILE", conflicts_with_all = ["texts", "images", "table"])]
    inputs: Option<PathBuf>,
    /// Where the features go
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Columns of the table to carry along, by name, parted by commas; --id-column goes before them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    append_cols: Vec<String>,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
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
    let carry = carried(&args)?;
    let pipeline = args.model.open(cli, &args.compute)?;
    let mut sink = open_sink(&args.output, sink_options(&args, &pipeline)?)?;
    let mut rejects = Rejects::beside(&args.output);
    let rows = match &args.inputs {
        Some(file) => inputs::embed(&pipeline, file, args.batch_size, &mut *sink)?,
        None => Passes {
            args: &args,
            pipeline: &pipeline,
            sink: &mut *sink,
            rejects: &mut rejects,
            carry,
        }
        .run()?,
    };
    sink.commit()?;
    let (refused, listed) = (rejects.count(), rejects.finish()?);
    if let Some(list) = listed {
        note(&format!(
            "{refused} rows were refused: their places stay empty (zeros, or null); {} lists them",
            list.display()
        ));
    }
    if args.json {
        let object = json!({
            "output": args.output, "texts": rows.texts, "images": rows.images, "dim": pipeline.info().dim,
            "refused": refused, "dtype": pipeline.compute().name(),
        });
        return Ok(print(&object.to_string())?);
    }
    note(&format!(
        "{}: {} texts, {} pictures, {} dimensions",
        args.output.display(),
        rows.texts,
        rows.images,
        pipeline.info().dim
    ));
    Ok(())
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

fn sink_options(args: &Args, pipeline: &Pipeline) -> Result<SinkOptions> {
    let metadata = BTreeMap::from([
        ("dtype".to_owned(), pipeline.compute().name().to_owned()),
        ("model".to_owned(), args.model.model.display().to_string()),
        ("logit_scale".to_owned(), pipeline.info().logit_scale.to_string()),
        ("clipzoo".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    Ok(SinkOptions { metadata })
}

/// How many rows were written.
#[derive(Default, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) texts: u64,
    pub(crate) images: u64,
}

struct Passes<'a> {
    args: &'a Args,
    pipeline: &'a Pipeline,
    sink: &'a mut dyn FeatureSink,
    rejects: &'a mut Rejects,
    /// Columns of the table that go along.
    carry: Arc<[String]>,
}

impl Passes<'_> {
    /// A table alone is read once, both columns together; otherwise texts and pictures are passes of their own.
    fn run(&mut self) -> Outcome<Rows> {
        let args = self.args;
        let mut rows = Rows::default();
        if let (Some(table), None, true) = (&args.table, &args.texts, args.images.is_empty()) {
            let roles = args.table_args.roles(table)?;
            let done = self.table(table, roles, 0)?;
            rows.texts = if roles.texts() { done } else { 0 };
            rows.images = if roles.images() { done } else { 0 };
            return Ok(rows);
        }
        if let Some(file) = &args.texts {
            let preparer = self.preparer(Roles::Texts)?;
            let texts = preparer.texts(TextFile::open(file)?)?;
            rows.texts += self.pass("texts", None, rows.texts, &preparer, texts, None)?;
        }
        if !args.images.is_empty() {
            let preparer = self.preparer(Roles::Images)?;
            let paths = image_paths(&args.images)?;
            let total = Some(paths.len() as u64);
            let images = preparer.images(paths)?;
            rows.images += self.pass("pictures", total, rows.images, &preparer, images, None)?;
        }
        if let Some(table) = &args.table {
            let roles = args.table_args.roles(table)?;
            if roles.texts() {
                rows.texts += self.table(table, Roles::Texts, rows.texts)?;
            }
            if roles.images() {
                rows.images += self.table(table, Roles::Images, rows.images)?;
            }
        }
        Ok(rows)
    }

    fn preparer(&self, roles: Roles) -> Result<Preparer> {
        Ok(Preparer {
            tokenizer: roles.texts().then(|| self.pipeline.tokenizer()).transpose()?,
            transform: roles.images().then(|| self.pipeline.transform()).transpose()?,
            decoder: Decoder::default(),
            workers: self.args.compute.workers(),
        })
    }

    fn table(&mut self, path: &Path, roles: Roles, base: u64) -> Outcome<u64> {
        let table = Arc::new(self.args.table_args.open(path, roles)?);
        let total = Some(table.rows() as u64);
        let preparer = self.preparer(roles)?;
        self.known_columns(&table)?;
        let all = 0..table.rows();
        let rows = preparer.carrying_rows(
            Arc::clone(&table),
            all,
            roles,
            &self.args.table_args,
            Arc::clone(&self.carry),
        )?;
        self.pass("rows", total, base, &preparer, rows, Some(&table))
    }

    /// Refuses columns that the table does not have. In JSONL the rows say what they have.
    fn known_columns(&self, table: &Table) -> Outcome {
        let unknown = self.carry.iter().find(|name| !table.columns().contains(name));
        match unknown {
            Some(name) if Format::of(table.path())? != Format::Jsonl => usage(
                format!(
                    "--append-cols {name}: {} has no such column; it has: {}",
                    table.path().display(),
                    table.columns().join(", ")
                ),
                "name columns of the table; --header or --schema says what they are called",
            ),
            _ => Ok(()),
        }
    }

    /// One pass over rows of like parts, behind `base` earlier ones; `table` is where they come from, if from one.
    fn pass(
        &mut self,
        what: &'static str,
        total: Option<u64>,
        base: u64,
        preparer: &Preparer,
        rows: impl Iterator<Item = Result<PreparedRow>>,
        table: Option<&Table>,
    ) -> Outcome<u64> {
        let refused = Refused::default();
        let rows = policed(
            rows,
            preparer,
            self.args.table_args.bad_rows.into(),
            self.rejects,
            &refused,
        );
        let carry = &self.carry;
        let rows = rows.enumerate().map(|(number, row)| {
            row.map(|mut row| {
                if let (Some(table), false, true) = (table, carry.is_empty(), row.columns.is_null()) {
                    row.columns = readable(table, number, carry);
                }
                row
            })
        });
        let mut sink = Pass { sink: self.sink, base };
        let (mut progress, mut before) = (Progress::start(what, total), 0);
        let done = Predictor::new(self.pipeline, self.args.batch_size)?.run(rows, &mut sink, &mut |done| {
            progress.add(done - before);
            before = done;
        })?;
        progress.finish();
        Ok(done)
    }
}
