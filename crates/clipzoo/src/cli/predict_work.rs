//! What `predict` has to do: passes over sources of texts and pictures, and which rows of each.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use clip_core::serde_json::{Value, json};
use clip_core::{Error, Id, PairTable, Result};
use clip_data::{Format, Part, Roles, Table, TextFile, image_paths};

use super::failure::{Outcome, usage};
use super::predict::Args;

/// One process's share of the rows: `2/8` is the second of eight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    number: u64,
    of: u64,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once('/').map(|(number, of)| (number.parse(), of.parse()));
        match numbers {
            Some((Ok(number), Ok(of))) if 1 <= number && number <= of => Ok(Self { number, of }),
            _ => Err("write i/n, with i from 1 to n: 2/8 is the second of eight".to_owned()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// Its rows out of `rows`: consecutive, so that the shards' outputs one behind the other are the whole, and as many as
    /// those of any other shard, or one more.
    fn range(self, rows: u64) -> Range<u64> {
        let start = |number: u64| (u128::from(rows) * u128::from(number) / u128::from(self.of)) as u64;
        start(self.number - 1)..start(self.number)
    }
}

/// Where rows come from.
pub(crate) enum Source {
    Texts(PathBuf),
    Images(Vec<PathBuf>),
    Table(Arc<Table>),
}

/// One pass over a source.
pub(crate) struct Pass {
    pub(crate) source: Source,
    pub(crate) roles: Roles,
    /// Rows of the source, from 0.
    pub(crate) rows: Range<u64>,
    /// The number of its first row among the output's rows of its kind.
    pub(crate) base: u64,
}

impl Pass {
    /// What its rows hold.
    pub(crate) fn part(&self) -> Part {
        match (self.roles.texts(), self.roles.images()) {
            (true, true) => Part::Rows,
            (true, false) => Part::Texts,
            _ => Part::Images,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// What progress calls its rows.
    pub(crate) fn name(&self) -> &'static str {
        match self.source {
            Source::Texts(_) => "texts",
            Source::Images(_) => "pictures",
            Source::Table(_) => "rows",
        }
    }
}

/// All passes, in order.
pub(crate) struct Work {
    pub(crate) passes: Vec<Pass>,
}

impl Work {
    /// Looks at the sources that the flags name. A table alone is read once, its columns together; otherwise texts and
    /// pictures are passes of their own, those of a file before those of the table.
    pub(crate) fn plan(args: &Args) -> Outcome<Self> {
        let mut work = Self { passes: Vec::new() };
        if let Some(file) = &args.texts {
            let rows = TextFile::open(file)?.count_rest()?;
            work.add(Source::Texts(file.clone()), Roles::Texts, rows, args.shard)?;
        }
        if !args.images.is_empty() {
            let paths = image_paths(&args.images)?;
            let rows = paths.len() as u64;
            work.add(Source::Images(paths), Roles::Images, rows, args.shard)?;
        }
        if let Some(file) = &args.table {
            let all = args.roles(file)?;
            let apart = [Roles::Texts, Roles::Images].into_iter().filter(|roles| match roles {
                Roles::Texts => all.texts(),
                _ => all.images(),
            });
            let passes: Vec<Roles> = if work.passes.is_empty() {
                vec![all]
            } else {
                apart.collect()
            };
            for roles in passes {
                let table = args.table_args.open(file, roles)?;
                let table = if args.partial { table.partial() } else { table };
                let rows = table.rows() as u64;
                work.add(Source::Table(Arc::new(table)), roles, rows, args.shard)?;
            }
        }
        Ok(work)
    }

    fn add(&mut self, source: Source, roles: Roles, rows: u64, shard: Option<Shard>) -> Outcome {
        let same = self.passes.iter().filter(|pass| pass.roles == roles);
        let base: u64 = same.map(Pass::len).sum();
        let rows = match shard {
            Some(shard) if base > 0 => {
                return usage(
                    format!(
                        "--shard {shard}: texts or pictures come from two sources, and shards of two are not one's share"
                    ),
                    "give each source a run of its own",
                );
            }
            Some(shard) if shard.range(rows).is_empty() => {
                return usage(
                    format!("--shard {shard}: of {rows} rows there are none in this shard"),
                    "use fewer shards",
                );
            }
            Some(shard) => shard.range(rows),
            None => 0..rows,
        };
        self.passes.push(Pass {
            source,
            roles,
            rows,
            base,
        });
        Ok(())
    }

    /// Rows of all passes.
    pub(crate) fn rows(&self) -> u64 {
        self.passes.iter().map(Pass::len).sum()
    }

    /// Texts and pictures that the output has in the end.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let sum = |has: fn(Roles) -> bool| {
            let passes = self.passes.iter().filter(|pass| has(pass.roles));
            passes.map(Pass::len).sum()
        };
        (sum(Roles::texts), sum(Roles::images))
    }
}

/// What tells whether an input is the one of before: sizes and times of change, as for a build. The pictures that a table
/// names by path are not looked at.
pub(crate) fn state(args: &Args) -> Result<[(&'static str, Value); 3]> {
    let texts = args.texts.as_deref().map(file).transpose()?;
    let images = match args.images.as_slice() {
        [] => None,
        images => Some(files(image_paths(images)?)?),
    };
    let table = match &args.table {
        Some(folder) if Format::of(folder)? == Format::Folder => {
            let pictures = image_paths(std::slice::from_ref(folder))?;
            let captions = pictures.iter().map(|path| path.with_extension("txt"));
            let captions: Vec<PathBuf> = captions.filter(|path| path.is_file()).collect();
            Some(files(pictures.into_iter().chain(captions))?)
        }
        other => other.as_deref().map(file).transpose()?,
    };
    Ok([
        ("--texts", json!(texts)),
        ("--images", json!(images)),
        ("--table", json!(table)),
    ])
}

fn file(path: &Path) -> Result<Value> {
    let there = fs::metadata(path).map_err(|error| Error::io("read", path, error))?;
    let changed = there
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(json!({ "bytes": there.len(), "changed": changed.map(|time| time.as_nanos().to_string()) }))
}

fn files(paths: impl IntoIterator<Item = PathBuf>) -> Result<Value> {
    let (mut count, mut all) = (0u64, Id(0));
    for path in paths {
        all = Id::of(&format!("{:x} {} {}", all.0, path.display(), file(&path)?));
        count += 1;
    }
    Ok(json!({ "files": count, "hash": format!("{:016x}", all.0) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_one_behind_the_other_are_all_rows() {
        for rows in [0, 1, 7, 100, 101] {
            for of in [1, 2, 3, 8] {
                let shards: Vec<_> = (1..=of).map(|number| Shard { number, of }.range(rows)).collect();
                assert_eq!(
                    shards.iter().cloned().flatten().collect::<Vec<_>>(),
                    (0..rows).collect::<Vec<_>>()
                );
                let lengths = shards.iter().map(|shard| shard.end - shard.start);
                assert!(lengths.clone().max().unwrap() - lengths.min().unwrap() <= 1);
            }
        }
        assert_eq!("2/8".parse(), Ok(Shard { number: 2, of: 8 }));
        for wrong in ["", "2", "0/8", "9/8", "0/0", "-1/2", "1/2/3", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }
}
