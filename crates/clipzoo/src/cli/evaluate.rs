//! `clipzoo evaluate`: recall both ways.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clip_apps::{Evaluation, Predictor, Relevance, Sides, chance, evaluate};
use clip_core::serde_json;
use clip_core::{Embedder, Embeddings, Error, FeatureRows, FeatureSink, Id, Modality, PairTable, Result};
use clip_data::{BadRows, Decoder, Rejects, Roles, Table, feature_name, read_features};
use clip_index::{Figures, Options};

use super::Cli;
use super::args::{Compute, Cut, TableArgs, check_batch_size, note, print};
use super::evaluate_concepts::{Asked, ConceptArgs, Wanted};
use super::evaluate_page::{self, Shown};
use super::failure::{Outcome, usage};
use super::progress::Progress;
use super::rows::{Preparer, Refused, policed};

/// Flags of `evaluate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo evaluate --model ./my-model --table valid.tsv
  clipzoo evaluate --model ./my-model --table valid.tsv --concept-column category
  clipzoo evaluate --text-features t.safetensors --image-features i.safetensors --json

A tie counts against. Row i of the texts belongs to row i of the pictures, and all rows of one product belong together
where --item-column names it; --relevance says otherwise, in lines {\"query\": TEXT, \"items\": [IMAGE, …]}.

With --concept-column the name of each concept is a query too, and the pictures that carry it are right: mean average
precision and precision among the first 10, in percent.")]
pub(crate) struct Args {
    /// The model: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH", requires = "table")]
    model: Option<PathBuf>,
    /// A table of texts and pictures
    #[arg(long, value_name = "FILE", requires = "model")]
    table: Option<PathBuf>,
    /// The tensor `text_features` of a safetensors file, or a .npy
    #[arg(long, value_name = "FILE", requires = "image_features", conflicts_with = "model")]
    text_features: Option<PathBuf>,
    /// The tensor `image_features` of a safetensors file, or a .npy
    #[arg(long, value_name = "FILE", requires = "text_features")]
    image_features: Option<PathBuf>,
    /// Which pictures are right for which text, JSON lines; rows are named by number, from 0
    #[arg(long, value_name = "FILE")]
    relevance: Option<PathBuf>,
    /// The most tokens of a text [default: the config's; 52 for BERT text towers]
    #[arg(long, value_name = "N")]
    context_length: Option<usize>,
    #[command(flatten)]
    cut: Cut,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Also write a self-contained HTML page of queries and what they found
    #[arg(long, value_name = "FILE", requires = "table")]
    page: Option<PathBuf>,
    /// Decides which queries the page shows
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    concept_args: ConceptArgs,
    #[command(flatten)]
    table_args: TableArgs,
    #[command(flatten)]
    compute: Compute,
}

impl Args {
    /// Whether many rows go through the model.
    pub(super) fn runs_long(&self) -> bool {
        self.model.is_some()
    }
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    check_batch_size(args.batch_size)?;
    let threads = args.compute.set_threads()?;
    let options = Options::default().threads(threads);
    let (mut embedded, source) = match (&args.model, &args.table, &args.text_features, &args.image_features) {
        (Some(model), Some(file), ..) => {
            let wanted = args.concept_args.read(&args.table_args, file)?;
            let table = Arc::new(args.table_args.open(file, Roles::Pairs)?);
            let (embedded, rows) = embed(cli, &args, model, &table, wanted)?;
            (embedded, Some((model, table, rows)))
        }
        (_, _, Some(texts), Some(images)) => {
            if args.table_args.concept_column.is_some() {
                let remedy = "give --model and --table";
                return usage(
                    "--concept-column asks for concepts, which feature files have none of",
                    remedy,
                );
            }
            let texts = read_features(texts, feature_name(Modality::Text))?;
            let images = read_features(images, feature_name(Modality::Image))?;
            let (texts, images) = without_refused(texts, images, args.relevance.is_some())?;
            (
                Embedded {
                    seconds: 0.0,
                    texts,
                    images,
                    relevance: Relevance::diagonal(),
                    concepts: None,
                },
                None,
            )
        }
        _ => {
            let remedy = "give --model and --table, or --text-features and --image-features";
            return usage("there is nothing to evaluate", remedy);
        }
    };
    if let Some(file) = &args.relevance {
        let sides = Sides {
            texts: embedded.texts.len(),
            images: embedded.images.len(),
            ..Sides::default()
        };
        embedded.relevance = Relevance::read(file, sides)?;
    }
    let Embedded {
        texts,
        images,
        relevance,
        concepts,
        ..
    } = &embedded;
    let evaluation = evaluate(texts, images, relevance, options)?;
    let found = concepts
        .as_ref()
        .map(|asked| asked.evaluate(images, options))
        .transpose()?;
    if args.json {
        let mut object = serde_json::to_value(evaluation).map_err(|error| Error::internal(error.to_string()))?;
        if let Some(found) = found {
            object["concept_to_image"] = serde_json::json!(found);
        }
        print(&object.to_string())?;
    } else {
        print(&report(&evaluation, &chance(relevance, texts.len(), images.len())?))?;
        if let (Some(asked), Some(found)) = (concepts, found) {
            print(&asked.report(&found)?)?;
        }
    }
    // Behind the figures, so that a page that cannot be written does not cost them.
    if let (Some(path), Some((model, table, rows))) = (&args.page, &source) {
        let shown = Shown {
            model,
            table,
            rows,
            texts,
            images,
            relevance,
        };
        evaluate_page::write(&shown, &evaluation, args.seed, options, path)?;
        if !args.json {
            print(&format!("page: {}", path.display()))?;
        }
    }
    Ok(())
}

/// Evaluates the model that the flags name on their table; gives the figures and the seconds that embedding took.
pub(super) fn measure(cli: &Cli, args: &Args) -> Outcome<(Evaluation, f64)> {
    let (Some(model), Some(file)) = (&args.model, &args.table) else {
        return Err(Error::internal("an evaluation without a model and a table").into());
    };
    check_batch_size(args.batch_size)?;
    let options = Options::default().threads(args.compute.set_threads()?);
    let table = Arc::new(args.table_args.open(file, Roles::Pairs)?);
    let (embedded, _) = embed(cli, args, model, &table, None)?;
    let evaluation = evaluate(&embedded.texts, &embedded.images, &embedded.relevance, options)?;
    Ok((evaluation, embedded.seconds))
}

/// The features to rank, and which belong together.
struct Embedded {
    /// How long the model took to make them.
    seconds: f64,
    texts: Embeddings,
    images: Embeddings,
    relevance: Relevance,
    concepts: Option<Asked>,
}

/// A short table of both directions, against chance.
fn report(evaluation: &Evaluation, chance: &Evaluation) -> String {
    let line = |name: &str, figures: &Figures| {
        format!(
            "{name:<15}{:>7.2}{:>7.2}{:>7.2}{:>8.2}{:>8.1}{:>8.4}",
            figures.recall_1,
            figures.recall_5,
            figures.recall_10,
            figures.mean_recall,
            figures.median_rank,
            figures.mrr
        )
    };
    let forth = &evaluation.text_to_image;
    [
        format!(
            "{} texts, {} pictures",
            forth.queries.max(evaluation.image_to_text.gallery),
            forth.gallery
        ),
        format!(
            "{:<15}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}",
            "recall in %", "R@1", "R@5", "R@10", "mean", "median", "MRR"
        ),
        line("text to image", forth),
        line("  by chance", &chance.text_to_image),
        line("image to text", &evaluation.image_to_text),
        line("  by chance", &chance.image_to_text),
    ]
    .join("\n")
}

/// Embeds a table; also gives the numbers of its good rows.
fn embed(
    cli: &Cli,
    args: &Args,
    model: &Path,
    table: &Arc<Table>,
    wanted: Option<Wanted>,
) -> Outcome<(Embedded, Vec<usize>)> {
    let model = super::args::Model {
        model: model.to_owned(),
        context_length: args.context_length,
        cut: args.cut,
    };
    let pipeline = model.open(cli, &args.compute)?;
    let path = table.path();
    let preparer = Preparer {
        tokenizer: Some(pipeline.tokenizer()?),
        transform: Some(pipeline.transform()?),
        decoder: Decoder::default(),
        workers: args.compute.workers(),
    };
    let (mut kept, mut rejects, refused) = (Kept::default(), Rejects::beside(path), Refused::default());
    let (mut progress, mut before) = (Progress::start("rows", Some(table.rows() as u64)), 0);
    let rows = preparer.table(Arc::clone(table), Roles::Pairs, &args.table_args)?;
    // A refused row can be neither query nor gallery, so it leaves; nothing here is numbered by row.
    let policy: BadRows = args.table_args.bad_rows.into();
    let rows = policed(rows, &preparer, policy, &mut rejects, &refused);
    let started = Instant::now();
    Predictor::new(&pipeline, args.batch_size)?.run(rows, &mut kept, &mut |done| {
        progress.add(done - before);
        before = done;
    })?;
    progress.finish();
    let seconds = started.elapsed().as_secs_f64();
    let (count, listed) = (rejects.count(), rejects.finish()?);
    if let Some(list) = listed {
        note(&format!(
            "{count} rows were refused and left out; they are listed in {}",
            list.display()
        ));
    }
    let good: Vec<usize> = (0..table.rows()).filter(|&row| !refused.contains(row as u64)).collect();
    let relevance = relevance(args, table, &good)?;
    let concepts = wanted
        .map(|wanted| wanted.ask(&pipeline, &good, args.batch_size))
        .transpose()?;
    let embedded = Embedded {
        seconds,
        texts: pick(kept.texts, &good)?,
        images: pick(kept.images, &good)?,
        relevance,
        concepts,
    };
    Ok((embedded, good))
}

fn relevance(args: &Args, table: &Table, rows: &[usize]) -> Result<Relevance> {
    let Some(column) = &args.table_args.item_column else {
        return Ok(Relevance::diagonal());
    };
    let items: Result<Vec<Option<Id>>> = rows.iter().map(|&row| table.label(row, column)).collect();
    Ok(Relevance::by_items(&items?))
}

/// The given rows.
fn pick(features: Embeddings, rows: &[usize]) -> Result<Embeddings> {
    if rows.len() == features.len() || features.is_empty() {
        return Ok(features);
    }
    Embeddings::new(
        rows.iter().flat_map(|&row| features.row(row)).copied().collect(),
        features.dim(),
    )
}

/// Takes out pairs of which a row is all zeros: what `predict` writes for a refused row. Where a relevance file names rows
/// by number, they stay, and the user is told.
fn without_refused(texts: Embeddings, images: Embeddings, named: bool) -> Result<(Embeddings, Embeddings)> {
    let zero = |features: &Embeddings, row: usize| features.row(row).iter().all(|&value| value == 0.0);
    let count = |features: &Embeddings| (0..features.len()).filter(|&row| zero(features, row)).count();
    let refused = count(&texts) + count(&images);
    if refused == 0 {
        return Ok((texts, images));
    }
    if named || texts.len() != images.len() {
        note(&format!(
            "{refused} rows are all zeros (refused ones, it seems) and are ranked as they are"
        ));
        return Ok((texts, images));
    }
    let good: Vec<usize> = (0..texts.len())
        .filter(|&row| !zero(&texts, row) && !zero(&images, row))
        .collect();
    note(&format!(
        "{} pairs with a row of zeros (refused ones, it seems) are left out",
        texts.len() - good.len()
    ));
    Ok((pick(texts, &good)?, pick(images, &good)?))
}

/// Keeps the features in memory, for ranking.
#[derive(Default)]
struct Kept {
    texts: Embeddings,
    images: Embeddings,
}

impl FeatureSink for Kept {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        rows.texts.map_or(Ok(()), |texts| self.texts.append(&texts))?;
        rows.images.map_or(Ok(()), |images| self.images.append(&images))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
