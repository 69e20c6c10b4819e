//! Writes the pair tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::catalogue::{Catalogue, Language};
use crate::drawing::Pictures;
use crate::icons::VENDORS;

/// The first line of every table.
const HEADER: &str = "text\timage\tconcept\titem\tgroup\tid";

/// A table's name and the artists whose drawings stand in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) vendors: Vec<String>,
}

impl Set {
    /// Parses `NAME=VENDOR,…`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (name, vendors) = text.split_once('=').context("write it as NAME=VENDOR,VENDOR")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            bail!("`{name}` becomes a file's name: use letters, digits, `_` and `-`");
        }
        let set = Self {
            name: name.to_string(),
            vendors: vendors.split(',').map(String::from).collect(),
        };
        set.check()?;
        Ok(set)
    }

    /// One set an artist, of the artist's name.
    pub(crate) fn one_each(vendors: &[String]) -> Result<Vec<Self>> {
        let mut sets = Vec::new();
        for vendor in vendors {
            let set = Self {
                name: vendor.clone(),
                vendors: vec![vendor.clone()],
            };
            set.check()?;
            sets.push(set);
        }
        Ok(sets)
    }

    fn check(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for vendor in &self.vendors {
            if !VENDORS.contains(&vendor.as_str()) {
                bail!("nobody here is called `{vendor}`: choose from {}", VENDORS.join(", "));
            }
            if !seen.insert(vendor) {
                bail!("`{vendor}` stands twice");
            }
        }
        Ok(())
    }
}

/// Writes `set` to `path`, artist by artist, and returns how many pairs it holds. The file appears whole or not at all.
pub(crate) fn write_set(
    path: &Path,
    set: &Set,
    language: Language,
    catalogue: &Catalogue,
    pictures: &BTreeMap<String, Pictures>,
) -> Result<usize> {
    let beside = path.with_extension(format!("tsv.{}.partial", std::process::id()));
    let written = write_rows(&beside, set, language, catalogue, pictures)
        .and_then(|rows| Ok(fs::rename(&beside, path).map(|()| rows)?));
    if written.is_err() {
        // What is left of a failed write is of no use; that it cannot be removed changes nothing about the failure.
        let _ = fs::remove_file(&beside);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn write_rows(
    path: &Path,
    set: &Set,
    language: Language,
    catalogue: &Catalogue,
    pictures: &BTreeMap<String, Pictures>,
) -> Result<usize> {
    let mut out = BufWriter::new(File::create(path)?);
    writeln!(out, "{HEADER}")?;
    let mut rows = 0;
    for vendor in &set.vendors {
        let drawn = pictures
            .get(vendor)
            .with_context(|| format!("{vendor} was not drawn"))?;
        for item in catalogue.items() {
            let hexcode = &item.hexcode;
            let image = STANDARD.encode(drawn.get(hexcode).with_context(|| format!("{hexcode} was not drawn"))?);
            let (text, concepts) = (item.label(language), item.concepts(language).join("|"));
            writeln!(
                out,
                "{text}\t{image}\t{concepts}\t{hexcode}\t{}\t{vendor}-{hexcode}",
                item.group
            )?;
            rows += 1;
        }
    }
    out.into_inner()?.sync_all()?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pictures() -> BTreeMap<String, Pictures> {
        let of = |text: &str| {
            [("1F419", "o"), ("2603-FE0F", "s")].map(|(k, v)| (k.to_string(), format!("{text}{v}").into()))
        };
        BTreeMap::from([
            ("noto".to_string(), of("n").into()),
            ("twemoji".to_string(), of("t").into()),
        ])
    }

    #[test]
    fn rows_come_artist_by_artist_and_nothing_else_is_left_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("both.zh.tsv");
        let set = Set::parse("both=twemoji,noto").unwrap();
        assert_eq!(
            write_set(&path, &set, Language::Zh, &Catalogue::of_two(), &pictures()).unwrap(),
            4
        );
        let expected = "text\timage\tconcept\titem\tgroup\tid\n\
            章鱼\tdG8=\tanimal-marine|八爪|鱼\t1F419\tanimals-nature\ttwemoji-1F419\n\
            雪人\tdHM=\tsky-weather|下雪\t2603-FE0F\ttravel-places\ttwemoji-2603-FE0F\n\
            章鱼\tbm8=\tanimal-marine|八爪|鱼\t1F419\tanimals-nature\tnoto-1F419\n\
            雪人\tbnM=\tsky-weather|下雪\t2603-FE0F\ttravel-places\tnoto-2603-FE0F\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_table_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let set = Set::parse("one=openmoji").unwrap();
        let path = folder.path().join("one.en.tsv");
        assert!(write_set(&path, &set, Language::En, &Catalogue::of_two(), &pictures()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn sets_are_checked() {
        for (text, complaint) in [
            ("train", "NAME=VENDOR"),
            ("../x=noto", "file's name"),
            ("a=noto,apple", "`apple`"),
            ("a=noto,noto", "twice"),
        ] {
            let message = Set::parse(text).unwrap_err().to_string();
            assert!(message.contains(complaint), "{message}");
        }
    }
}
