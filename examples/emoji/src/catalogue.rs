//! The things in the catalogue: what each is called in both languages, and the words that describe it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::icons::{IconSet, character_key};
use crate::package;

/// The groups whose members a shop or a library of pictures could hold. Faces, people, signs and flags are left out.
const GROUPS: [&str; 5] = ["animals-nature", "food-drink", "travel-places", "activities", "objects"];

/// How many things these groups hold that all four artists drew, in the versions the data card names. Another number
/// means other packages, whose results could not be compared with ours.
const ITEMS: usize = 853;

/// The language of labels and tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Language {
    /// English.
    En,
    /// Chinese (simplified).
    Zh,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::En => "en",
            Self::Zh => "zh",
        })
    }
}

/// One thing.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) hexcode: String,
    pub(crate) group: String,
    subgroup: String,
    en: Words,
    zh: Words,
}

#[derive(Debug)]
struct Words {
    label: String,
    tags: Vec<String>,
}

impl Item {
    /// What it is called; unique within a language.
    pub(crate) fn label(&self, language: Language) -> &str {
        &self.words(language).label
    }

    /// The subgroup's key (the same in both languages), then the tags, without repeats.
    pub(crate) fn concepts(&self, language: Language) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        std::iter::once(&self.subgroup)
            .chain(&self.words(language).tags)
            .map(String::as_str)
            .filter(|concept| seen.insert(*concept))
            .collect()
    }

    fn words(&self, language: Language) -> &Words {
        match language {
            Language::En => &self.en,
            Language::Zh => &self.zh,
        }
    }
}

/// All things, in the order of the Unicode charts.
pub(crate) struct Catalogue {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Record {
    hexcode: String,
    label: String,
    #[serde(default)]
    tags: Vec<String>,
    group: Option<u32>,
    subgroup: Option<u32>,
    order: Option<u32>,
}

#[derive(Deserialize)]
struct Messages {
    groups: Vec<Category>,
    subgroups: Vec<Category>,
}

#[derive(Deserialize)]
struct Category {
    key: String,
    order: u32,
}

impl Catalogue {
    /// Joins the words in `folder` with the drawings of all artists.
    pub(crate) fn read(folder: &Path, icons: &BTreeMap<&str, IconSet>) -> Result<Self> {
        let path = package::find(folder, "emojibase-data")?;
        let names = ["en/data.json", "zh/data.json", "en/messages.json"];
        let [en, zh, messages] = package::read_members(&path, names)?;
        let items = join(
            package::parse(&path, names[0], &en)?,
            package::parse(&path, names[1], &zh)?,
            &package::parse(&path, names[2], &messages)?,
            |hexcode| icons.values().all(|set| set.has(hexcode)),
        )
        .with_context(|| format!("in {}", path.display()))?;
        if items.len() != ITEMS {
            bail!(
                "these packages hold {} things that all artists drew, and should hold {ITEMS}: take the versions that docs/data/emoji.md names",
                items.len()
            );
        }
        Ok(Self { items })
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }
}

fn join(en: Vec<Record>, zh: Vec<Record>, messages: &Messages, drawn: impl Fn(&str) -> bool) -> Result<Vec<Item>> {
    let keys = |categories: &[Category]| -> BTreeMap<u32, String> {
        categories
            .iter()
            .map(|category| (category.order, category.key.clone()))
            .collect()
    };
    let (groups, subgroups) = (keys(&messages.groups), keys(&messages.subgroups));
    let mut chinese: BTreeMap<String, Record> = zh
        .into_iter()
        .map(|record| (character_key(&record.hexcode), record))
        .collect();

    let mut items = Vec::new();
    for record in en {
        let Some(group) = record.group.and_then(|order| groups.get(&order)) else {
            continue;
        };
        if !GROUPS.contains(&group.as_str()) || !drawn(&record.hexcode) {
            continue;
        }
        let hexcode = record.hexcode;
        let subgroup = record.subgroup.and_then(|order| subgroups.get(&order));
        let subgroup = subgroup.with_context(|| format!("{hexcode} has no subgroup"))?.clone();
        let zh = chinese
            .remove(&character_key(&hexcode))
            .with_context(|| format!("{hexcode} has no Chinese words"))?;
        let en = Words {
            label: record.label,
            tags: record.tags,
        };
        let zh = Words {
            label: zh.label,
            tags: zh.tags,
        };
        for word in [&en, &zh]
            .into_iter()
            .flat_map(|words| std::iter::once(&words.label).chain(&words.tags))
        {
            if word.trim().is_empty() || word.contains(['\t', '\n', '\r', '|']) {
                bail!("{hexcode}: {word:?} cannot stand in a table whose concepts are parted by `|`");
            }
        }
        items.push((
            record.order,
            Item {
                hexcode,
                group: group.clone(),
                subgroup,
                en,
                zh,
            },
        ));
    }
    items.sort_by(|(a_order, a), (b_order, b)| (a_order, &a.hexcode).cmp(&(b_order, &b.hexcode)));
    Ok(items.into_iter().map(|(_, item)| item).collect())
}

#[cfg(test)]
impl Catalogue {
    /// A catalogue of two things, as the tests of other files need it.
    pub(crate) fn of_two() -> Self {
        Self {
            items: tests::joined(|_| true).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EN: &str = r#"[
        {"hexcode": "2603-FE0F", "label": "snowman", "tags": ["cold", "snow"], "group": 5, "subgroup": 9, "order": 20},
        {"hexcode": "1F600", "label": "grinning", "group": 0, "subgroup": 1, "order": 1},
        {"hexcode": "1F419", "label": "octopus", "tags": ["ocean", "animal-marine"], "group": 3, "subgroup": 38, "order": 10},
        {"hexcode": "1F1E6", "label": "regional indicator A"}]"#;
    const ZH: &str = r#"[
        {"hexcode": "1F419", "label": "章鱼", "tags": ["八爪", "鱼"], "group": 3, "subgroup": 38, "order": 10},
        {"hexcode": "2603", "label": "雪人", "tags": ["下雪"], "group": 5, "subgroup": 9, "order": 20}]"#;
    const MESSAGES: &str = r#"{
        "groups": [{"key": "smileys-emotion", "order": 0}, {"key": "animals-nature", "order": 3}, {"key": "travel-places", "order": 5}],
        "subgroups": [{"key": "face-smiling", "order": 1}, {"key": "sky-weather", "order": 9}, {"key": "animal-marine", "order": 38}]}"#;

    pub(super) fn joined(drawn: impl Fn(&str) -> bool) -> Result<Vec<Item>> {
        let parse = |text| serde_json::from_str(text).unwrap();
        join(parse(EN), parse(ZH), &serde_json::from_str(MESSAGES).unwrap(), drawn)
    }

    #[test]
    fn things_of_the_wanted_groups_come_in_chart_order_with_both_languages() {
        let items = joined(|_| true).unwrap();
        let labels: Vec<_> = items
            .iter()
            .map(|item| (item.label(Language::En), item.label(Language::Zh)))
            .collect();
        assert_eq!(labels, [("octopus", "章鱼"), ("snowman", "雪人")]);
        assert_eq!(items[0].concepts(Language::En), ["animal-marine", "ocean"]);
        assert_eq!(items[1].concepts(Language::Zh), ["sky-weather", "下雪"]);
        assert_eq!(items[1].group, "travel-places");
    }

    #[test]
    fn a_thing_that_one_artist_left_out_is_not_in() {
        assert_eq!(joined(|hexcode| hexcode != "1F419").unwrap().len(), 1);
    }

    #[test]
    fn a_word_that_would_break_the_table_is_refused() {
        let en = serde_json::from_str(&EN.replace("\"cold\"", "\"cold|ice\"")).unwrap();
        let parse = |text| serde_json::from_str(text).unwrap();
        let error = join(en, parse(ZH), &serde_json::from_str(MESSAGES).unwrap(), |_| true).unwrap_err();
        assert!(error.to_string().contains("cold|ice"), "{error}");
    }
}
