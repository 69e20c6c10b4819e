//! The tables of the ablation: who is trained on, who is tested, what titles and concepts the rows carry.
//!
//! They are made from the emoji example's tables, one an artist, and keep their columns and pictures, so that features of
//! locked towers are found again whatever the table.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::arms::{Items, Language, Pairs, Setting, Titles, Tower};
use super::catalogue::{Catalogue, thing};
use super::tower;
use crate::workspace::write_whole;

/// The artists. The one behind another in this circle is the one that the other's baseline is chosen on.
pub(super) const VENDORS: [&str; 4] = ["twemoji", "openmoji", "fluent-emoji-flat", "noto"];

const HEADER: &str = "text\timage\tconcept\titem\tgroup\tid";

/// Who is trained on and who is tested. `noto`: Noto is tested, all others are trained on. `noto.valid`: what chooses for
/// that fold, so the next artist is tested, and Noto is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) name: String,
    pub(super) train: Vec<&'static str>,
    pub(super) test: &'static str,
}

impl Fold {
    pub(super) fn parse(name: &str) -> Result<Self> {
        let (vendor, valid) = match name.strip_suffix(".valid") {
            Some(vendor) => (vendor, true),
            None => (name, false),
        };
        let Some(place) = VENDORS.iter().position(|known| *known == vendor) else {
            bail!("there is no fold `{name}`: choose from {}", VENDORS.join(", "));
        };
        let (out, next) = (VENDORS[place], VENDORS[(place + 1) % VENDORS.len()]);
        let others = VENDORS.iter().copied().filter(|other| *other != out);
        Ok(Self {
            name: name.to_owned(),
            train: others.filter(|other| !valid || *other != next).collect(),
            test: if valid { next } else { out },
        })
    }

    /// The fold whose runs choose this one's baseline.
    pub(super) fn choosing(&self) -> Result<Self> {
        let vendor = self.name.strip_suffix(".valid").unwrap_or(&self.name);
        Self::parse(&format!("{vendor}.valid"))
    }
}

/// Makes and finds tables and towers in a folder.
pub(super) struct Data {
    folder: PathBuf,
    /// Tables of the emoji example, `ARTIST.LANGUAGE.tsv`.
    base: PathBuf,
    catalogues: [Catalogue; 2],
}

impl Data {
    /// Reads the catalogue from the emoji example's tables.
    pub(super) fn open(folder: &Path, base: &Path) -> Result<Self> {
        let catalogue = |language| Catalogue::new(things(base, VENDORS[0], language)?, language);
        let data = Self {
            folder: folder.to_owned(),
            base: base.to_owned(),
            catalogues: [catalogue(Language::En)?, catalogue(Language::Zh)?],
        };
        for vendor in &VENDORS[1..] {
            ensure!(
                things(base, vendor, Language::En)? == data.catalogue(Language::En).things,
                "the tables of {vendor} and {} hold other things or another order",
                VENDORS[0]
            );
        }
        Ok(data)
    }

    pub(super) fn catalogue(&self, language: Language) -> &Catalogue {
        match language {
            Language::En => &self.catalogues[0],
            Language::Zh => &self.catalogues[1],
        }
    }

    fn base(&self, vendor: &str, language: Language) -> PathBuf {
        base_table(&self.base, vendor, language)
    }

    /// The table to train on, made if it is not there.
    pub(super) fn train(&self, setting: &Setting, fold: &Fold, shuffled: bool) -> Result<PathBuf> {
        let mut name = format!("train.{}.{}", fold.name, setting.language.code());
        for (there, word) in [
            (setting.titles == Titles::Noisy, ".noisy"),
            (setting.items == Items::HeldOut, ".items"),
            (setting.pairs == Pairs::One, ".one"),
            (shuffled, ".shuffled"),
        ] {
            name += if there { word } else { "" };
        }
        self.made(&name, || {
            let catalogue = self.catalogue(setting.language);
            let held_out = match setting.items {
                Items::All => vec![false; catalogue.things.len()],
                Items::HeldOut => catalogue.held_out(),
            };
            let concepts = catalogue.known_concepts(shuffled);
            let mut table = format!("{HEADER}\n");
            for (place, vendor) in fold.train.iter().enumerate() {
                let text = read(&self.base(vendor, setting.language))?;
                for (number, line) in text.lines().skip(1).enumerate() {
                    let by_another =
                        setting.pairs == Pairs::One && catalogue.only_artist(number, fold.train.len()) != place;
                    if held_out[number] || by_another {
                        continue;
                    }
                    let (row, image) = thing(line)?;
                    let id = format!("{vendor}-{}", row.id);
                    let title = match setting.titles {
                        Titles::Clean => row.label,
                        Titles::Noisy => catalogue.noisy_title(number, &id),
                    };
                    let concepts = concepts[number].join("|");
                    writeln!(table, "{title}\t{image}\t{concepts}\t{}\t{}\t{id}", row.id, row.group)?;
                }
            }
            Ok(table)
        })
    }

    /// The table that the run embeds: the tested artist's rows, then a row for each concept, whose text is its name. Its
    /// picture is the first one's, since a row has one; nobody looks at it.
    pub(super) fn test(&self, setting: &Setting, fold: &Fold) -> Result<PathBuf> {
        let name = format!("test.{}.{}", fold.name, setting.language.code());
        self.made(&name, || {
            let text = read(&self.base(fold.test, setting.language))?;
            let mut table = format!("{HEADER}\n");
            for line in text.lines().skip(1) {
                let (row, image) = thing(line)?;
                writeln!(table, "{}\t{image}\t\t{}\t{}\t{}", row.label, row.id, row.group, row.id)?;
            }
            let first = text.lines().nth(1).context("the table is empty")?;
            let (_, image) = thing(first)?;
            for (number, concept) in self.catalogue(setting.language).concepts.iter().enumerate() {
                writeln!(
                    table,
                    "{}\t{image}\t\tconcept-{number}\t\tconcept-{number}",
                    concept.name
                )?;
            }
            Ok(table)
        })
    }

    fn made(&self, name: &str, make: impl FnOnce() -> Result<String>) -> Result<PathBuf> {
        let path = self.folder.join("tables").join(format!("{name}.tsv"));
        if !path.exists() {
            let table = make().with_context(|| format!("in the table {name}"))?;
            write_whole(&path, table)?;
        }
        Ok(path)
    }

    /// The text tower of a setting, made if it is not there.
    pub(super) fn text_tower(&self, setting: &Setting) -> Result<PathBuf> {
        let towers = self.folder.join("towers");
        match setting.tower {
            Tower::Pretrained => Ok(towers.join("text")),
            Tower::Scratch => {
                let folder = towers.join(format!("scratch.{}", setting.language.code()));
                if !folder.join(tower::WEIGHTS).exists() {
                    tower::write(&folder, self.catalogue(setting.language).texts())?;
                }
                Ok(folder)
            }
        }
    }
}

/// The emoji example's table of an artist.
pub(super) fn base_table(base: &Path, vendor: &str, language: Language) -> PathBuf {
    base.join(format!("{vendor}.{}.tsv", language.code()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn things(base: &Path, vendor: &str, language: Language) -> Result<Vec<super::catalogue::Thing>> {
    let path = base_table(base, vendor, language);
    let text = read(&path)?;
    let mut lines = text.lines();
    ensure!(lines.next() == Some(HEADER), "{} has other columns", path.display());
    let rows = lines.map(|line| thing(line).map(|(thing, _)| thing));
    rows.collect::<Result<_>>()
        .with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::arms::Plan;
    use super::*;

    /// Tables of eight things by four artists.
    fn tables(folder: &Path) -> Data {
        for vendor in VENDORS {
            for language in [Language::En, Language::Zh] {
                let mut table = format!("{HEADER}\n");
                for n in 0..8 {
                    writeln!(
                        table,
                        "thing {n}\t{vendor}{n}\tanimal-bird|even {}\tid{n}\tg\t{vendor}-id{n}",
                        n % 2
                    )
                    .unwrap();
                }
                write_whole(&base_table(folder, vendor, language), table).unwrap();
            }
        }
        Data::open(&folder.join("made"), folder).unwrap()
    }

    #[test]
    fn the_tested_artist_is_never_trained_on_and_chooses_nothing() {
        for vendor in VENDORS {
            let fold = Fold::parse(vendor).unwrap();
            assert_eq!((fold.train.len(), fold.test), (3, vendor));
            let choosing = fold.choosing().unwrap();
            assert_eq!(choosing.train.len(), 2);
            assert!(choosing.test != vendor && !choosing.train.contains(&vendor));
            assert!(!choosing.train.contains(&choosing.test) && !fold.train.contains(&vendor));
            assert_eq!(choosing.choosing().unwrap(), choosing);
        }
        assert!(Fold::parse("apple").is_err());
    }

    #[test]
    fn tables_hold_what_the_setting_says() {
        let folder = tempfile::tempdir().unwrap();
        let data = tables(folder.path());
        let plan = Plan::read().unwrap();
        let fold = Fold::parse("noto").unwrap();
        let clean = read(&data.train(plan.setting("clean").unwrap(), &fold, false).unwrap()).unwrap();
        assert_eq!(clean.lines().count(), 25);
        assert!(!clean.contains("noto"));
        let row: Vec<&str> = clean.lines().nth(1).unwrap().split('\t').collect();
        assert_eq!(
            (row[0], row[1], row[3], row[5]),
            ("thing 0", "twemoji0", "id0", "twemoji-id0")
        );
        assert!(
            row[2].split('|').any(|concept| concept == "birds and fowl"),
            "{}",
            row[2]
        );
        let items = read(&data.train(plan.setting("items").unwrap(), &fold, false).unwrap()).unwrap();
        assert_eq!(items.lines().count(), 1 + 3 * 7);
        let one = read(&data.train(plan.setting("one-pair").unwrap(), &fold, false).unwrap()).unwrap();
        let mut things: Vec<&str> = one.lines().skip(1).filter_map(|line| line.split('\t').nth(3)).collect();
        things.sort_unstable();
        assert_eq!(things, ["id0", "id1", "id2", "id3", "id4", "id5", "id6", "id7"]);
        let test = read(&data.test(plan.setting("clean").unwrap(), &fold).unwrap()).unwrap();
        let concepts = data.catalogue(Language::En).concepts.len();
        assert_eq!(test.lines().count(), 1 + 8 + concepts);
        assert!(test.lines().skip(1).all(|line| line.contains("noto")));
    }
}
