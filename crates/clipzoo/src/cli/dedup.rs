//! `clipzoo dedup`: pictures that a table holds twice.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clip_apps::{Duplicates, Predictor, equal_groups, near_groups};
use clip_core::serde_json::{Map, Value, json};
use clip_core::{Embedder, Embeddings, Error, ImageDecoder, PairTable, Result};
use clip_data::{BadRows, Decoder, PendingFile, Rejects, Roles, Table, at_row, ordered, pixel_fingerprint};
use clip_index::Options;
use clip_page::{Card, Cards, Exhibit, Facts, Page, Tone, Verdict};

use super::Cli;
use super::args::{Compute, Model, TableArgs, check_batch_size, note, print};
use super::failure::{Outcome, usage};
use super::kept::{Kept, tell_left_out};
use super::pictures;
use super::progress::Progress;
use super::rows::{Preparer, Refused, policed};

/// Flags of `dedup`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo dedup --table products.tsv --output twice.jsonl
  clipzoo dedup --table products.tsv --header --item-column item --model ./my-model --threshold 0.97 --output twice.html

Finds and reports, and deletes nothing. Equal are pictures of equal pixels, whatever file they came in. With --model near
ones are found too: pictures whose features have a cosine of at least --threshold, one leading to the next. What is near
depends on the model: look at the page (.html) before you choose a threshold.
OUTPUT.jsonl has a group a line: {\"kind\": \"exact\" or \"near\", \"rows\": [{\"row\", \"score\", and the columns of --id-column
and --item-column}]}; rows count from 1, header included. It takes 32 bytes of memory a row; with --model, 4 a dimension more.")]
pub(crate) struct Args {
    /// A table of pictures, or a folder of them
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Where the report goes: .jsonl, or .html to look at
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The model that says what is near: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// The least cosine of near pictures
    #[arg(long, value_name = "COSINE", default_value_t = 0.95, requires = "model")]
    threshold: f32,
    /// Rows the model gets at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch_size: usize,
    /// Groups that a page shows
    #[arg(long, value_name = "N", default_value_t = 200)]
    show: usize,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
    #[command(flatten)]
    compute: Compute,
}

/// What was found.
struct Found {
    exact: Vec<Duplicates>,
    near: Vec<Duplicates>,
    pictures: usize,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    check_batch_size(args.batch_size)?;
    let page = match args.output.extension().and_then(|ending| ending.to_str()) {
        Some("html") => true,
        Some("jsonl") => false,
        _ => {
            let what = format!("{}: the extension does not say how to report", args.output.display());
            return usage(what, "name it .jsonl or .html");
        }
    };
    if !(args.threshold > 0.0 && args.threshold <= 1.0) {
        let what = format!("--threshold {}: no cosine to ask for", args.threshold);
        return usage(what, "use a number above 0, at most 1");
    }
    let table = Arc::new(args.table_args.open(&args.table, Roles::Images)?);
    let mut rejects = Rejects::beside(&args.output);
    let found = find(cli, &args, &table, &mut rejects)?;
    if page {
        write_page(&args, &table, &found)?;
    } else {
        write_lines(&args, &table, &found)?;
    }
    let refused = tell_left_out(rejects)?;
    report(&args, &found, refused)
}

fn report(args: &Args, found: &Found, refused: u64) -> Outcome {
    let rows = |groups: &[Duplicates]| groups.iter().map(|group| group.rows.len()).sum::<usize>();
    let side = |groups: &[Duplicates]| json!({ "groups": groups.len(), "rows": rows(groups) });
    if args.json {
        let near = args.model.is_some().then(|| side(&found.near));
        let object = json!({
            "output": args.output, "pictures": found.pictures, "refused": refused, "exact": side(&found.exact), "near": near,
        });
        return Ok(print(&object.to_string())?);
    }
    let words = |groups: &[Duplicates]| format!("{} groups of {} rows", groups.len(), rows(groups));
    let near = match &args.model {
        Some(_) => format!(", near {}", words(&found.near)),
        None => String::new(),
    };
    note(&format!(
        "{}: {} pictures; equal {}{near}",
        args.output.display(),
        found.pictures,
        words(&found.exact)
    ));
    Ok(())
}

fn find(cli: &Cli, args: &Args, table: &Arc<Table>, rejects: &mut Rejects) -> Outcome<Found> {
    // The model is opened first, so that a wrong name costs no pass over the pictures.
    let model = args.model.as_ref().map(|model| {
        let model = Model {
            model: model.clone(),
            context_length: None,
            cut: Default::default(),
        };
        model.open(cli, &args.compute)
    });
    let pipeline = model.transpose()?;
    let mut prints = fingerprints(args, table, rejects)?;
    let pictures = prints.len();
    let exact = equal_groups(&mut prints);
    let mut near = Vec::new();
    if let Some(pipeline) = &pipeline {
        // Of equal pictures one is enough to find what is near them.
        let spare: HashSet<usize> = exact.iter().flat_map(|group| &group.rows[1..]).copied().collect();
        let mut rows: Vec<usize> = prints
            .iter()
            .map(|&(_, row)| row)
            .filter(|row| !spare.contains(row))
            .collect();
        drop(prints);
        rows.sort_unstable();
        let images = embed(args, table, pipeline, &rows)?;
        let options = Options::default().threads(args.compute.set_threads()?);
        near = near_groups(&images, args.threshold, options)?;
        for group in &mut near {
            group.rows.iter_mut().for_each(|row| *row = rows[*row]);
        }
    }
    Ok(Found { exact, near, pictures })
}

/// The fingerprint of each picture that can be opened, with its row.
fn fingerprints(args: &Args, table: &Arc<Table>, rejects: &mut Rejects) -> Outcome<Vec<(u128, usize)>> {
    let (own, column) = (Arc::clone(table), args.table_args.image_column.clone());
    let workers = args.compute.workers();
    let read = ordered(0..table.rows(), workers, 4 * workers + 16, move |row: usize| {
        let pair = own.get(row)?;
        let place = |error: Error| at_row(error, &pair.origin).column(&column);
        let image = pair
            .images
            .first()
            .ok_or_else(|| place(Error::invalid("there is no picture")))?;
        let image = Decoder::default().decode(image).map_err(place)?;
        Ok((pixel_fingerprint(&image).map_err(place)?, row))
    })?;
    let policy = BadRows::from(args.table_args.bad_rows);
    let mut progress = Progress::start("pictures", Some(table.rows() as u64));
    let mut prints = Vec::new();
    for print in read {
        match print {
            Ok(print) => prints.push(print),
            Err(error) if policy == BadRows::Skip => rejects.push(&error)?,
            Err(error) => return Err(error.into()),
        }
        progress.add(1);
    }
    progress.finish();
    Ok(prints)
}

/// The features of some rows' pictures, which were opened once already.
fn embed(args: &Args, table: &Arc<Table>, pipeline: &clip_nn::Pipeline, rows: &[usize]) -> Outcome<Embeddings> {
    let preparer = Preparer {
        tokenizer: None,
        transform: Some(pipeline.transform()?),
        decoder: Decoder::default(),
        workers: args.compute.workers(),
    };
    let (mut kept, mut rejects, refused) = (Kept::default(), Rejects::beside(&args.output), Refused::default());
    let prepared = preparer.table_rows(Arc::clone(table), rows.to_vec(), Roles::Images, &args.table_args)?;
    // A picture that is gone since is an error in any case.
    let prepared = policed(prepared, &preparer, BadRows::Stop, &mut rejects, &refused);
    let mut progress = Progress::start("features", Some(rows.len() as u64));
    Predictor::new(pipeline, args.batch_size)?.run(prepared, &mut kept, &mut |done| progress.reach(done))?;
    progress.finish();
    Ok(kept.images)
}

/// A row as the report names it: its number, and the columns that say what it is.
fn named(args: &Args, table: &Table, row: usize) -> Map<String, Value> {
    let mut object = Map::new();
    // A row that was read a moment ago can be read; if the file changed since, its cells stay out.
    if let Ok(cells) = table.row(row) {
        object.insert("row".into(), cells.origin().row.into());
        let names = [&args.table_args.id_column, &args.table_args.item_column];
        for name in names.into_iter().flatten() {
            object.extend(cells.cells([name.as_str()]).unwrap_or_default());
        }
        if object.len() == 1 && cells.origin().file.as_path() != table.path() {
            // In a folder the picture's path is what names it.
            object.insert("file".into(), cells.origin().file.display().to_string().into());
        }
    }
    object
}

fn write_lines(args: &Args, table: &Table, found: &Found) -> Result<()> {
    let mut output = PendingFile::create(&args.output)?;
    for (kind, groups) in [("exact", &found.exact), ("near", &found.near)] {
        for group in groups {
            let rows = group.rows.iter().zip(&group.scores).map(|(&row, score)| {
                let mut object = named(args, table, row);
                object.insert("score".into(), json!(score));
                object
            });
            let line = json!({ "kind": kind, "rows": rows.collect::<Vec<_>>() });
            writeln!(output, "{line}").map_err(|error| output.error(error))?;
        }
    }
    output.commit()
}

/// Pictures of one group that a page shows.
const SHOWN: usize = 12;

fn write_page(args: &Args, table: &Table, found: &Found) -> Result<()> {
    let words = |row: usize| {
        let named = named(args, table, row);
        let cells = named.iter().map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name} {text}"),
            None => format!("{name} {value}"),
        });
        cells.collect::<Vec<_>>().join(", ")
    };
    let exhibit =
        |row: usize| -> Result<Exhibit> { Ok(Exhibit::picture(pictures::of_row(table, row, words(row))?, words(row))) };
    let mut page = Page::new(
        format!("{}: pictures that are there twice", table.path().display()),
        "en",
    );
    let mut facts = Facts::new().fact("Pictures", found.pictures.to_string());
    if let Some(model) = &args.model {
        facts = facts
            .fact("Model", model.display().to_string())
            .fact("Least cosine", args.threshold.to_string());
    }
    page.add(&facts);
    for (heading, kind, groups) in [("Equal", "equal", &found.exact), ("Near", "near", &found.near)] {
        page.heading(heading);
        page.paragraph(&match groups.len() {
            0 => "None.".to_owned(),
            all if all > args.show => format!("{all} groups, of which the first {} are shown.", args.show),
            all => format!("{all} groups."),
        });
        let mut cards = Vec::new();
        for group in groups.iter().take(args.show) {
            let more = group.rows.len().saturating_sub(SHOWN);
            let and = if more > 0 {
                format!(", {more} not shown")
            } else {
                String::new()
            };
            let verdict = Verdict::new(Tone::Plain, format!("{} {kind} pictures{and}", group.rows.len()));
            let mut card = Card::new(Exhibit::words(""), verdict);
            for (&row, score) in group.rows.iter().zip(&group.scores).take(SHOWN) {
                card = card.answer(exhibit(row)?, format!("{score:.3}"), None);
            }
            cards.push(card);
        }
        page.add(&Cards::new(cards));
    }
    page.write(&args.output)
}
