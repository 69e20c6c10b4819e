//! `clipzoo concepts`: a list of phrases that may be concepts, for a person to edit.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use clip_core::serde_json::json;
use clip_core::{Error, PairTable, Result};
use clip_data::{
    PendingFile, PhraseCounts, ProposedPhrase, Rejects, Roles, Table, TitleLanguage, TitlePhrases, ordered,
};

use super::args::{OnBadRow, TableArgs, cores, note, print};
use super::failure::Outcome;
use super::progress::Progress;

/// Flags of `concepts`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  clipzoo concepts --table products.tsv --output phrases.tsv --min-count 20

OUTPUT has a phrase a row, best first: phrase, count (titles that hold it), pmi (bits by which its words stand together
more often than by chance; 0 for one word), and a title as an example. Edit it, then train with it:
  [concepts]
  source = \"phrases\"
  phrases = \"phrases.tsv\"")]
pub(crate) struct Args {
    /// The table whose texts are read
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// Where the phrases go
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Phrases in fewer titles are left out
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    min_count: u64,
    /// So many phrases at most, the best
    #[arg(long, value_name = "N", default_value_t = 1000)]
    top: usize,
    /// The language of the titles; auto reads both, in one title too
    #[arg(long, value_enum, default_value_t = Language::Auto)]
    language: Language,
    /// Threads that read [default: all cores]
    #[arg(long)]
    workers: Option<usize>,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
}

/// What `--language` takes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    Auto,
    En,
    Zh,
}

impl From<Language> for TitleLanguage {
    fn from(language: Language) -> Self {
        match language {
            Language::Auto => Self::Auto,
            Language::En => Self::English,
            Language::Zh => Self::Chinese,
        }
    }
}

pub(crate) fn run(args: Args) -> Outcome {
    let table = Arc::new(args.table_args.open(&args.table, Roles::Texts)?);
    let mut rejects = Rejects::beside(&args.output);
    let (counts, titles) = count(&args, &table, &mut rejects)?;
    let lost = counts.lost();
    let phrases = counts.propose(args.min_count, args.top);
    if phrases.is_empty() {
        let what = format!("no phrase comes in {} of {titles} titles", args.min_count);
        let error = Error::invalid(what).file(&args.table);
        return Err(error
            .remedy("lower --min-count, or name the titles with --text-column")
            .into());
    }
    let mut output = PendingFile::create(&args.output)?;
    write(&mut output, &args, &table, titles, lost, &phrases).map_err(|error| output.error(error))?;
    output.commit()?;
    let (refused, listed) = (rejects.count(), rejects.finish()?);
    if let Some(list) = listed {
        note(&format!(
            "{refused} rows were refused; they are listed in {}",
            list.display()
        ));
    }
    if lost > 0 {
        note(&format!(
            "the titles hold more phrases than fit in memory: rare ones were forgotten, counts may be up to {lost} too low"
        ));
    }
    if args.json {
        let object = json!({
            "output": args.output, "titles": titles, "refused": refused, "phrases": phrases.len(), "lost": lost,
        });
        return Ok(print(&object.to_string())?);
    }
    note(&format!(
        "{}: {} phrases of {titles} titles; edit the list before you train with it",
        args.output.display(),
        phrases.len()
    ));
    Ok(())
}

/// Reads through the table; gives the counts and how many titles were read.
fn count(args: &Args, table: &Arc<Table>, rejects: &mut Rejects) -> Result<(PhraseCounts, u64)> {
    /// Rows a task, since one title is soon done.
    const ROWS: usize = 64;
    let (language, rows) = (TitleLanguage::from(args.language), table.rows());
    let workers = args.workers.unwrap_or_else(cores).max(1);
    let own = Arc::clone(table);
    let parts = ordered((0..rows).step_by(ROWS), workers, 4 * workers, move |first: usize| {
        let title = |row: usize| {
            let pair = own.get(row)?;
            Ok((row, TitlePhrases::of(pair.texts.iter().map(|text| &**text), language)))
        };
        Ok((first..rows.min(first + ROWS)).map(title).collect::<Vec<Result<_>>>())
    })?;
    let (mut counts, mut titles) = (PhraseCounts::default(), 0);
    let mut progress = Progress::start("titles", Some(rows as u64));
    for part in parts {
        let part = part?;
        let read = part.len() as u64;
        for title in part {
            match title {
                Ok((row, phrases)) => {
                    counts.add(row as u64, phrases);
                    titles += 1;
                }
                Err(error) if args.table_args.bad_rows == OnBadRow::Skip => rejects.push(&error)?,
                Err(error) => return Err(error),
            }
        }
        progress.add(read);
    }
    progress.finish();
    Ok((counts, titles))
}

/// The list: a comment that says what to do with it, and a row a phrase.
fn write(
    output: &mut PendingFile,
    args: &Args,
    table: &Table,
    titles: u64,
    lost: u64,
    phrases: &[ProposedPhrase],
) -> io::Result<()> {
    let file = Path::new(args.table.file_name().unwrap_or_default()).display();
    writeln!(
        output,
        "# Phrases that may be concepts, proposed from {titles} titles of {file}, the best first."
    )?;
    writeln!(
        output,
        "# Edit this list: delete the rows that name no concept (brands, advertising, halves of words), and add your own."
    )?;
    writeln!(
        output,
        "# The first column counts; the others are for you and may be left out. Rows that begin with # are ignored."
    )?;
    writeln!(
        output,
        "# Then train with it: [concepts] source = \"phrases\", phrases = \"<this file>\"."
    )?;
    if lost > 0 {
        writeln!(
            output,
            "# There were more phrases than fit in memory: counts may be up to {lost} too low."
        )?;
    }
    writeln!(output, "# phrase\tcount\tpmi\texample")?;
    for ProposedPhrase {
        phrase,
        count,
        pmi,
        example,
    } in phrases
    {
        writeln!(output, "{phrase}\t{count}\t{pmi:.2}\t{}", cell(table, *example))?;
    }
    Ok(())
}

/// The title of a row as a cell: on one line, and not longer than one.
fn cell(table: &Table, row: u64) -> String {
    /// Characters of an example.
    const LONGEST: usize = 120;
    // A row that was read a moment ago can be read; if the file changed since, its place stays empty.
    let pair = usize::try_from(row).ok().and_then(|row| table.get(row).ok());
    let text = pair
        .and_then(|pair| pair.texts.first().cloned())
        .unwrap_or_else(|| "".into());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
