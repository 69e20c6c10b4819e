//! The texts and the pictures of `clipzoo evaluate`: embedded by a model, or read from feature files.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clip_apps::Predictor;
use clip_core::{Embedder, Embeddings, Error, Id, Modality, PairTable, Result};
use clip_data::{BadRows, Decoder, Rejects, Roles, Table, feature_name, read_features};
use clip_nn::Pipeline;

use super::Cli;
use super::args::note;
use super::evaluate::Args;
use super::evaluate_concepts::Asked;
use super::failure::{Outcome, usage};
use super::kept::{Kept, pick, tell_left_out};
use super::progress::Progress;
use super::rows::{Preparer, Refused, policed};

/// What is ranked.
pub(super) struct Sides {
    pub(super) texts: Side,
    pub(super) images: Side,
    /// How long the model took to embed them; none for files of features.
    pub(super) seconds: f64,
}

/// The texts, or the pictures.
pub(super) struct Side {
    /// A row each, those that were left out not among them.
    pub(super) features: Embeddings,
    /// Where the rows come from, if that is known.
    pub(super) table: Option<Arc<Table>>,
    /// Their numbers in the table or the file of features, ascending.
    pub(super) rows: Vec<usize>,
    /// How many rows there were before some were left out.
    pub(super) all: usize,
}

impl Side {
    /// The values of a column, hashed; none where there is no table, which flags were checked for.
    pub(super) fn labels(&self, column: &str) -> Result<Vec<Option<Id>>> {
        let Some(table) = &self.table else {
            return Ok(Vec::new());
        };
        self.rows.iter().map(|&row| table.label(row, column)).collect()
    }

    /// The id of every row of the table, those that were left out too: a file may name them.
    pub(super) fn ids(&self, column: Option<&str>) -> Result<Option<Vec<Option<String>>>> {
        let (Some(table), Some(column)) = (&self.table, column) else {
            return Ok(None);
        };
        let id = |row: usize| match table.cell(row, column) {
            Ok(cell) => Ok(Some(cell.trim().to_owned()).filter(|id| !id.is_empty())),
            // A row that was refused may lack its id as well.
            Err(_) if self.rows.binary_search(&row).is_err() => Ok(None),
            Err(error) => Err(error),
        };
        (0..self.all).map(id).collect::<Result<_>>().map(Some)
    }

    /// As a relevance file names it.
    pub(super) fn named<'a>(&'a self, ids: Option<&'a [Option<String>]>) -> clip_apps::Side<'a> {
        clip_apps::Side {
            rows: self.all,
            ids,
            kept: Some(&self.rows),
        }
    }
}

impl Sides {
    /// Embeds the tables, or reads the files; also asks for concepts by their names.
    pub(super) fn open(cli: &Cli, args: &Args) -> Outcome<(Self, Option<Asked>)> {
        match (&args.model, &args.table, &args.text_features, &args.image_features) {
            (Some(model), Some(table), ..) => Self::embed(cli, args, model, table),
            (_, _, Some(texts), Some(images)) => Ok((Self::read(args, texts, images)?, None)),
            _ => {
                let remedy = "give --model and --table, or --text-features and --image-features";
                usage("there is nothing to evaluate", remedy)
            }
        }
    }

    fn embed(cli: &Cli, args: &Args, model: &Path, table: &Path) -> Outcome<(Self, Option<Asked>)> {
        let gallery = args.gallery.as_deref();
        // What is wrong with a file of names costs no time of the model.
        let wanted = args.concept_args.read(&args.table_args, gallery.unwrap_or(table))?;
        let open = |path, roles| args.table_args.open(path, roles).map(Arc::new);
        let table = open(table, if gallery.is_some() { Roles::Texts } else { Roles::Pairs })?;
        let gallery = gallery.map(|path| open(path, Roles::Images)).transpose()?;
        let model = super::args::Model {
            model: model.to_owned(),
            context_length: args.context_length,
            cut: args.cut,
        };
        let pipeline = model.open(cli, &args.compute)?;
        let started = Instant::now();
        let mut sides = match gallery {
            None => {
                let (texts, images, rows) = through(args, &pipeline, &table, Roles::Pairs)?;
                Self::of(
                    [texts, images],
                    [rows.clone(), rows],
                    [Some(Arc::clone(&table)), Some(table)],
                )?
            }
            Some(gallery) => {
                let (texts, _, text_rows) = through(args, &pipeline, &table, Roles::Texts)?;
                let (_, images, image_rows) = through(args, &pipeline, &gallery, Roles::Images)?;
                Self::of([texts, images], [text_rows, image_rows], [Some(table), Some(gallery)])?
            }
        };
        sides.seconds = started.elapsed().as_secs_f64();
        let concepts = wanted
            .map(|wanted| wanted.ask(&pipeline, &sides.images.rows, args.batch_size))
            .transpose()?;
        Ok((sides, concepts))
    }

    /// The given rows of features that hold all rows of the tables.
    fn of(features: [Embeddings; 2], rows: [Vec<usize>; 2], tables: [Option<Arc<Table>>; 2]) -> Result<Self> {
        let side = |features: Embeddings, rows: Vec<usize>, table| {
            Ok::<_, Error>(Side {
                all: features.len(),
                features: pick(features, &rows)?,
                table,
                rows,
            })
        };
        let ([texts, images], [text_rows, image_rows], [table, gallery]) = (features, rows, tables);
        Ok(Self {
            texts: side(texts, text_rows, table)?,
            images: side(images, image_rows, gallery)?,
            seconds: 0.0,
        })
    }

    fn read(args: &Args, texts: &Path, images: &Path) -> Outcome<Self> {
        if args.table_args.concept_column.is_some() {
            let remedy = "give --model and --table";
            return usage(
                "--concept-column asks for concepts, which feature files have none of",
                remedy,
            );
        }
        let features = [
            read_features(texts, feature_name(Modality::Text))?,
            read_features(images, feature_name(Modality::Image))?,
        ];
        // Single columns are read, but a page shows what rows hold.
        let open = |path: &Path| {
            let table = match args.page {
                None => args.table_args.open_any(path),
                Some(_) => args
                    .table_args
                    .roles(path)
                    .and_then(|roles| args.table_args.open(path, roles)),
            };
            table.map(Arc::new)
        };
        let table = args.table.as_deref().map(open).transpose()?;
        let gallery = args.gallery.as_deref().map(open).transpose()?.or_else(|| table.clone());
        for (file, features, table) in [(texts, &features[0], &table), (images, &features[1], &gallery)] {
            if let Some(table) = table
                && table.rows() != features.len()
            {
                let (rows, there) = (table.rows(), features.len());
                let what = format!("{there} rows of features for {rows} rows of {}", table.path().display());
                let error = Error::invalid(what).file(file);
                return Err(error.remedy("name the table that the features were made of").into());
            }
        }
        let named = args.names_rows() || args.gallery.is_some();
        let kept = without_refused(&features, named);
        Ok(Self::of(features, kept, [table, gallery])?)
    }
}

/// Embeds all rows of a table, refused ones as blanks; also gives the numbers of the good ones.
fn through(
    args: &Args,
    pipeline: &Pipeline,
    table: &Arc<Table>,
    roles: Roles,
) -> Outcome<(Embeddings, Embeddings, Vec<usize>)> {
    let preparer = Preparer {
        tokenizer: roles.texts().then(|| pipeline.tokenizer()).transpose()?,
        transform: roles.images().then(|| pipeline.transform()).transpose()?,
        decoder: Decoder::default(),
        workers: args.compute.workers(),
    };
    let (mut kept, mut rejects, refused) = (Kept::default(), Rejects::beside(table.path()), Refused::default());
    let mut progress = Progress::start("rows", Some(table.rows() as u64));
    let rows = preparer.table(Arc::clone(table), roles, &args.table_args)?;
    // A refused row can be neither query nor gallery, so it leaves.
    let policy: BadRows = args.table_args.bad_rows.into();
    let rows = policed(rows, &preparer, policy, &mut rejects, &refused);
    Predictor::new(pipeline, args.batch_size)?.run(rows, &mut kept, &mut |done| progress.reach(done))?;
    progress.finish();
    tell_left_out(rejects)?;
    let good = (0..table.rows()).filter(|&row| !refused.contains(row as u64)).collect();
    Ok((kept.texts, kept.images, good))
}

/// The rows that are not all zeros, which is what `predict` writes for a refused row. Where rows are not named one by
/// one, they belong together in pairs, and leave in pairs.
fn without_refused(features: &[Embeddings; 2], named: bool) -> [Vec<usize>; 2] {
    let good = |features: &Embeddings, row: usize| features.row(row).iter().any(|&value| value != 0.0);
    let [texts, images] = features;
    let paired = !named && texts.len() == images.len();
    let mut kept = [texts, images].map(|features| -> Vec<usize> {
        (0..features.len())
            .filter(|&row| match paired {
                true => good(texts, row) && good(images, row),
                false => good(features, row),
            })
            .collect()
    });
    // Rows that neither pair up nor are named cannot be told apart; to say so is the ranking's business.
    if !named && !paired {
        kept = [(0..texts.len()).collect(), (0..images.len()).collect()];
    }
    let lost = [texts.len() - kept[0].len(), images.len() - kept[1].len()];
    match (paired, lost) {
        (_, [0, 0]) => {}
        (true, [pairs, _]) => note(&format!(
            "{pairs} pairs with a row of zeros (refused ones, it seems) are left out"
        )),
        (false, [texts, images]) => note(&format!(
            "{texts} texts and {images} pictures are all zeros (refused ones, it seems) and are left out"
        )),
    }
    kept
}
