//! `clipzoo split`: a table in two or three, no product on two sides.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

use clip_core::serde_json::{Map, Value, json};
use clip_core::{Id, PairTable, Result};
use clip_data::{Columns, Format, PendingFile, Roles, Share, Table, split_groups};

use super::args::{note, open_table, print};
use super::failure::{Outcome, usage};

/// Flags of `split`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo split --table products.tsv --header --by item --valid 5%
  clipzoo split --table products.csv --by sku --valid 5% --test 2000 --seed 7

Writes products.train.tsv, products.valid.tsv and, with --test, products.test.tsv beside the table, where paths of pictures
still lead to them. Rows are copied byte for byte, in order, below the table's own header. All rows of one value of --by
are on one side; a row with an empty cell there is on its own. Which side does not depend on the order of the rows.")]
pub(crate) struct Args {
    /// The table: .tsv, .csv or .jsonl
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// The column of what must not be on two sides
    #[arg(long, value_name = "NAME", default_value = "item")]
    by: String,
    /// The share to validate on: 5%, or a number of rows
    #[arg(long, value_name = "SHARE")]
    valid: Option<Share>,
    /// The share to test on
    #[arg(long, value_name = "SHARE")]
    test: Option<Share>,
    /// Decides which products go where
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The folder to write in [default: the table's]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Columns of a table without header: name:type:count, separated by commas
    #[arg(long, value_name = "SCHEMA")]
    schema: Option<String>,
    /// The first line of a TSV holds the names (always so for .csv)
    #[arg(long)]
    header: bool,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
}

/// One of the tables to write.
struct Side {
    name: &'static str,
    path: PathBuf,
    file: PendingFile,
    rows: u64,
    items: HashSet<Id>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let asked = [("valid", args.valid), ("test", args.test)];
    let asked: Vec<(&'static str, Share)> = asked
        .into_iter()
        .filter_map(|(name, share)| Some((name, share?)))
        .collect();
    if asked.is_empty() {
        return usage("there is nothing to split off", "give --valid 5%, --test 5% or both");
    }
    if Format::of(&args.table)? == Format::Folder {
        return usage(
            format!("{}: a folder of pictures has no rows to copy", args.table.display()),
            "give a table, .tsv, .csv or .jsonl",
        );
    }
    // Opened by the column that counts: where the table lacks it, or the header was not spoken of, the message says so.
    let columns = Columns {
        text: args.by.clone(),
        ..Columns::default()
    };
    let header = args.header.then_some(true);
    let table = open_table(
        &args.table,
        (None, args.schema.as_deref()),
        header,
        columns,
        Roles::Texts,
    )?;
    let groups = groups(&table, &args.by)?;
    let shares: Vec<Share> = asked.iter().map(|&(_, share)| share).collect();
    let sides = split_groups(&groups, &shares, args.seed).map_err(|error| error.file(&args.table))?;
    let names = ["train"].into_iter().chain(asked.iter().map(|&(name, _)| name));
    let mut outputs = names
        .map(|name| Side::create(&args, name))
        .collect::<Result<Vec<_>>>()?;
    copy(&table, &groups, &sides, &mut outputs)?;
    let rows = groups.len() as u64;
    let mut said = Map::new();
    for side in outputs {
        let share = 100.0 * side.rows as f64 / rows as f64;
        side.file.commit()?;
        let object = json!({ "output": side.path, "rows": side.rows, "items": side.items.len(), "percent": share });
        said.insert(side.name.to_owned(), object);
        if !args.json {
            note(&format!(
                "{}: {} of {}, {share:.2}%",
                side.path.display(),
                counted(side.rows, "row"),
                counted(side.items.len() as u64, "product")
            ));
        }
    }
    if args.json {
        print(&Value::Object(said).to_string())?;
    }
    Ok(())
}

/// `1 row`, `2 rows`.
fn counted(count: u64, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {one}{ending}")
}

/// What each row belongs to; a row that names nothing belongs to itself.
fn groups(table: &Table, by: &str) -> Result<Vec<Id>> {
    let label = |row: usize| {
        let label = table.label(row, by)?;
        Ok(label.unwrap_or_else(|| Id::of_row("a row of its own", row as u64)))
    };
    (0..table.rows()).map(label).collect()
}

/// Writes each row to its side, below the header.
fn copy(table: &Table, groups: &[Id], sides: &[u8], outputs: &mut [Side]) -> Result<()> {
    let header = table.bytes(None)?;
    outputs.iter_mut().try_for_each(|side| side.write(&header))?;
    let last = sides.len().saturating_sub(1);
    for (row, (&group, &side)) in groups.iter().zip(sides).enumerate() {
        let mut bytes = table.bytes(Some(row))?;
        if row == last && bytes.last() != Some(&b'\n') {
            bytes.push(b'\n');
        }
        if let Some(side) = outputs.get_mut(usize::from(side)) {
            side.write(&bytes)?;
            side.rows += 1;
            side.items.insert(group);
        }
    }
    Ok(())
}

impl Side {
    /// `products.tsv` becomes `products.train.tsv`.
    fn create(args: &Args, name: &'static str) -> Result<Self> {
        let ending = args.table.extension().unwrap_or_default().to_string_lossy();
        let file = args.table.with_extension(format!("{name}.{ending}"));
        let path = match &args.output {
            Some(folder) => folder.join(file.file_name().unwrap_or_default()),
            None => file,
        };
        Ok(Self {
            name,
            file: PendingFile::create(&path)?,
            path,
            rows: 0,
            items: HashSet::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.file.error(error))
    }
}
