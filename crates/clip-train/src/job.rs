//! A training run from tables: what the command calls.

use std::cell::OnceCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clip_core::{BatchBy, ConceptSource, Error, Event, InOrder, Observer, Order, PairTable, Result, Shuffle, UniqueBy};
use clip_data::{LastBatch, Rejects};
use clip_nn::{DualEncoder, ModelWriter, Needs, Zoo};

use crate::batch::BatchSource;
use crate::config::{BadRows, ConceptSourceKind, RunConfig};
use crate::fit::fit;
use crate::groups::locked;
use crate::inputs::{
    Captions, Extent, Fill, Masking, Reading, Shapes, Store, Stores, TableSource, Teacher, TemplateNames, ValidTable,
    WithConcepts, fill, standardise, tower_id,
};
use crate::objectives::Objectives;
use crate::run::RunDir;
use crate::stop::Stop;
use crate::trainer::{Parts, Summary, Trainer};
use crate::views::Views;

/// What a run needs beside its settings.
pub struct Job {
    /// The model to train: that of [`Checkpoint::model`](crate::Checkpoint::model) where the run goes on from one.
    pub model: DualEncoder,
    /// How it is written.
    pub writer: Box<dyn ModelWriter>,
    /// What reads texts and pictures for it.
    pub reading: Reading,
    /// The training pairs.
    pub train: Arc<dyn PairTable>,
    /// The pairs to evaluate on; without them `best` is `last`.
    pub valid: Option<Arc<dyn PairTable>>,
    /// What says which concepts a pair carries; without it pairs carry those of their table's column. See
    /// [`ConceptsConfig::open`](crate::ConceptsConfig::open).
    pub concepts: Option<Arc<dyn ConceptSource>>,
    /// The settings.
    pub config: RunConfig,
    /// Who is told what happens, beside metrics.jsonl and TensorBoard.
    pub observers: Vec<Box<dyn Observer>>,
    /// Where the run is written, and what it goes on from.
    pub run: RunDir,
    /// Looked at behind each step: once asked, the run makes a checkpoint and ends.
    pub stop: Stop,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Of the run.
    pub summary: Summary,
    /// The list of refused rows, where there were any.
    pub rejects: Option<PathBuf>,
}

/// Trains: locks, computes what locked towers give once, sets statistics, and runs the [`Trainer`].
///
/// # Errors
/// Settings that make no sense, rows that cannot be used (unless they are skipped), files that cannot be written, and all
/// that [`Trainer::run`] answers.
pub fn train(job: Job, zoo: &Zoo) -> Result<Trained> {
    let Job {
        model,
        writer,
        reading,
        train,
        valid,
        concepts,
        config,
        mut observers,
        run,
        stop,
    } = job;
    // Phrases are looked for and codes named where a pair is read, so that all behind it sees the same concepts.
    let train: Arc<dyn PairTable> = match concepts {
        Some(source) => Arc::new(WithConcepts { table: train, source }),
        None => train,
    };
    config.check()?;
    fit(&model, &config)?;
    let compute = config.dtype.of_pass();
    let bad_rows = bad_rows(&config);
    let mut rejects = Rejects::beside(run.path());
    if run.checkpoint().is_some() && !run.finished(&config) {
        rejects = rejects.going_on()?;
    }
    let rejects = Arc::new(Mutex::new(rejects));
    let views = Arc::new(Views::new(&config.augmentation, config.text_augmentation.open()?));
    let objectives = Objectives::of_run(&config, &model, zoo)?;
    let needs = objectives.needs();
    check_concepts(&needs, &config)?;
    let captions = Captions {
        share: config.data.caption_share,
        template: config.concepts.template.as_str().into(),
    };
    let teacher = if needs.teacher && !run.finished(&config) {
        Some(Arc::new(Teacher::open(&config.teacher, &*train)?))
    } else {
        None
    };
    let mut stores = Stores::default();
    // A finished run has nothing to compute; the trainer says so.
    if !run.finished(&config) {
        let mut note = |text: &str| tell(&mut observers, text);
        stores = open_stores(&model, &reading, &config, &run, &mut note)?;
        let work = Fill {
            model: &model,
            zoo,
            reading: &reading,
            stores: &stores,
            views: &views,
            captions: &captions,
            batch: config.cache.batch_size,
            compute,
            bad_rows,
        };
        fill(&work, &train, Extent::Everything, &mut note)?;
        if let Some(valid) = &valid {
            fill(&work, valid, Extent::First, &mut note)?;
        }
        if run.checkpoint().is_none() {
            let batch = config.cache.batch_size;
            for name in standardise(&model, &train, &reading, &stores, batch, compute, bad_rows)? {
                note(&format!(
                    "{name} standardises by the mean and deviation of the training features"
                ))?;
            }
        }
    }
    if needs.text_views > 1 && stores.text.is_some() {
        let note = "the text tower is locked and its features are kept, so a text that comes again in another view comes \
                    unchanged; `enabled = false` under [cache] encodes changed ones";
        tell(&mut observers, note)?;
    }
    let shapes = Shapes::of(&model);
    let names = TemplateNames {
        template: config.concepts.template.clone(),
        tokenizer: Arc::clone(&reading.tokenizer),
        shapes,
    };
    let evaluation = valid.map(|table| ValidTable {
        table,
        reading: reading.clone(),
        stores: stores.clone(),
        views: Arc::clone(&views),
        batch: config.evaluation.batch_size,
        bad_rows,
        rejects: Arc::clone(&rejects),
        origins: Vec::new(),
    });
    let source = TableSource {
        table: train,
        order: order(&config),
        stores,
        views,
        wanted: [needs.image_views, needs.text_views],
        captions,
        masking: needs.masked_text.map(|share| Masking {
            share,
            vocabulary: reading.tokenizer.vocabulary(),
        }),
        reading,
        shapes,
        teacher,
        seed: config.seed,
        batch: config.batch_size,
        last: if config.drop_last {
            LastBatch::Drop
        } else {
            LastBatch::Short
        },
        bad_rows,
        rejects: Arc::clone(&rejects),
        taken: OnceCell::new(),
    };
    if !run.finished(&config) {
        for note in [left_out(&source, &config), too_few(&source, &config)?]
            .iter()
            .flatten()
        {
            tell(&mut observers, note)?;
        }
    }
    let parts = Parts {
        model,
        writer,
        source: Box::new(source),
        evaluation: evaluation.map(|valid| Box::new(valid) as _),
        names: Some(Box::new(names)),
        config,
        observers,
        run,
        stop,
    };
    let ended = Trainer::run_with(parts, objectives, zoo);
    let rejects = Arc::into_inner(rejects).map(|list| list.into_inner().unwrap_or_else(PoisonError::into_inner));
    let rejects = match (rejects, &ended) {
        // Where nothing was read, a list of before stays.
        (Some(list), Ok(summary)) if summary.done > 0 => list.finish()?,
        // A run that was stopped has refused what it has refused, and when it goes on it adds to that.
        (Some(list), _) if list.count() > 0 => list.finish()?,
        _ => None,
    };
    Ok(Trained {
        summary: ended?,
        rejects,
    })
}

fn tell(observers: &mut [Box<dyn Observer>], note: &str) -> Result<()> {
    let mut observers = observers.iter_mut();
    observers.try_for_each(|observer| observer.observe(&Event::Note(note)))
}

/// What there is to say where fewer batches of one value can be made than are asked for.
fn too_few(source: &TableSource, config: &RunConfig) -> Result<Option<String>> {
    let (Some(column), None) = (&config.batch_by, &config.unique_by) else {
        return Ok(None);
    };
    let (order, batch) = (batch_by(column, config), config.batch_size);
    let wanted = order.wanted(source.table.rows(), batch);
    let possible = order.possible(&*source.table, batch)?;
    Ok((possible < wanted).then(|| {
        format!(
            "{possible} of the {wanted} batches of one `{column}` that are asked for in an epoch can be made, since too few values of \
             it have {batch} rows; a smaller --batch-size makes more"
        )
    }))
}

/// What there is to say of pairs that no batch of an epoch holds.
fn left_out(source: &TableSource, config: &RunConfig) -> Option<String> {
    let (column, all) = (config.unique_by.as_ref()?, source.table.rows() as u64);
    let taken = source.pairs().filter(|&taken| taken < all)?;
    Some(format!(
        "an epoch has {taken} of the {all} pairs: no batch of {} holds a value of `{column}` twice, and the rest would not fill \
         one; a smaller --batch-size takes more, without --unique-by all are taken",
        config.batch_size
    ))
}

/// An error where concepts are looked at and no source of them is named.
fn check_concepts(needs: &Needs, config: &RunConfig) -> Result<()> {
    let given = match config.concepts.source {
        ConceptSourceKind::Column => config.data.concept_column.is_some(),
        ConceptSourceKind::Phrases => true,
        ConceptSourceKind::None => false,
    };
    let who = if needs.concepts {
        "an objective looks"
    } else if config.data.caption_share > 0.0 {
        "data.caption_share looks"
    } else {
        return Ok(());
    };
    if !given {
        return Err(Error::invalid(format!(
            "{who} at the pairs' concepts, and nothing says which they carry"
        ))
        .remedy("name their column (--concept-column), or a phrase list (concepts.phrases in run.toml)"));
    }
    Ok(())
}

pub(crate) fn bad_rows(config: &RunConfig) -> clip_data::BadRows {
    match config.data.bad_rows {
        BadRows::Stop => clip_data::BadRows::Stop,
        BadRows::Skip => clip_data::BadRows::Skip,
    }
}

fn batch_by(column: &str, config: &RunConfig) -> BatchBy {
    BatchBy {
        column: column.to_owned(),
        probability: config.batch_by_share,
    }
}

fn order(config: &RunConfig) -> Arc<dyn Order> {
    match (&config.unique_by, &config.batch_by) {
        (Some(column), _) => Arc::new(UniqueBy { column: column.clone() }),
        (None, Some(column)) => Arc::new(batch_by(column, config)),
        (None, None) if config.shuffle => Arc::new(Shuffle),
        (None, None) => Arc::new(InOrder),
    }
}

/// Opens the stores of the towers that are locked.
fn open_stores(
    model: &DualEncoder,
    reading: &Reading,
    config: &RunConfig,
    run: &RunDir,
    note: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Stores> {
    if !config.cache.enabled {
        return Ok(Stores::default());
    }
    let folder = config
        .cache
        .directory
        .clone()
        .unwrap_or_else(|| run.path().join("cache"));
    let mut notes = Vec::new();
    let mut open = |tower: &str, width: i64, prepared: String| -> Result<Option<Arc<Store>>> {
        if !locked(model.parameters(), tower) {
            return Ok(None);
        }
        let id = tower_id(model, tower, &format!("{prepared}; {:?}", config.dtype.of_pass()))?;
        let folder = folder.join(format!("{tower}-{id}"));
        // Both stores share what may be held in memory.
        let store = Store::open(folder, width as usize, config.cache.memory / 2, &mut notes)?;
        Ok(Some(Arc::new(store)))
    };
    let image = open("image", model.image().width(), reading.transform.describe())?;
    let text = open("text", model.text().width(), String::new())?;
    notes.iter().try_for_each(|text| note(text))?;
    Ok(Stores { image, text })
}
