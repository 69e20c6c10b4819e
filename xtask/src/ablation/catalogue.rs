//! The things of the emoji catalogue with their concepts, and which of these training may use.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::arms::{Items, Language};
use super::draw::Draw;
use super::measure::{Concept, Questions};

/// A concept needs so many things.
const FEWEST: usize = 3;
/// One tag in so many is new: training never sees it as a concept.
const NEW: usize = 5;
/// One thing in so many is held out where things are.
const HELD_OUT: usize = 5;

/// One thing; its place in the catalogue is its number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thing {
    pub(super) id: String,
    pub(super) group: String,
    pub(super) label: String,
    /// Code of the subgroup.
    pub(super) subgroup: String,
    tags: Vec<String>,
}

/// All things, with their words in one language.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) things: Vec<Thing>,
    pub(super) concepts: Vec<Concept>,
}

/// A row of the emoji example's tables, without the picture.
pub(super) fn thing(line: &str) -> Result<(Thing, &str)> {
    let cells: Vec<&str> = line.split('\t').collect();
    let [label, image, concepts, id, group, _] = cells[..] else {
        anyhow::bail!("a row has {} cells and not 6", cells.len());
    };
    let mut words = concepts.split('|').map(str::to_owned);
    let thing = Thing {
        id: id.to_owned(),
        group: group.to_owned(),
        label: label.to_owned(),
        subgroup: words.next().unwrap_or_default(),
        tags: words.collect(),
    };
    Ok((thing, image))
}

/// Names of subgroups by code, in one language.
fn subgroup_names(language: Language) -> Result<BTreeMap<&'static str, &'static str>> {
    let lines = include_str!("subgroups.tsv").lines();
    let names = lines.map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [code, en, zh] = cells[..] else {
            anyhow::bail!("subgroups.tsv: `{line}` is no code and two names");
        };
        Ok((
            code,
            match language {
                Language::En => en,
                Language::Zh => zh,
            },
        ))
    });
    names.collect()
}

impl Catalogue {
    /// Finds the concepts of the things: subgroups, and tags that stand at enough things. A thing that is called by a tag
    /// does not carry it: its own name is its identity.
    pub(super) fn new(things: Vec<Thing>, language: Language) -> Result<Self> {
        let subgroups = subgroup_names(language)?;
        let mut members: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        let mut namesakes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (number, thing) in things.iter().enumerate() {
            let name = subgroups.get(thing.subgroup.as_str());
            let name = name.with_context(|| format!("subgroups.tsv lacks `{}`", thing.subgroup))?;
            members.entry(name).or_default().insert(number);
            // The tables drop a tag that is its own thing's subgroup, so who carries such a tag is not known.
            for tag in thing.tags.iter().filter(|tag| !subgroups.contains_key(tag.as_str())) {
                members.entry(tag).or_default().insert(number);
            }
            namesakes.entry(thing.label.to_lowercase()).or_default().push(number);
        }
        let mut concepts: Vec<Concept> = members
            .into_iter()
            .map(|(name, members)| {
                let namesakes = namesakes.get(&name.to_lowercase()).cloned().unwrap_or_default();
                Concept {
                    name: name.to_owned(),
                    known: true,
                    members: members
                        .into_iter()
                        .filter(|number| !namesakes.contains(number))
                        .collect(),
                    namesakes,
                }
            })
            .filter(|concept| concept.members.len() >= FEWEST)
            .collect();
        let names: BTreeSet<&str> = subgroups.into_values().collect();
        let mut tags: Vec<usize> = (0..concepts.len())
            .filter(|place| !names.contains(concepts[*place].name.as_str()))
            .collect();
        Draw::of("new tags", 0).shuffle(&mut tags);
        let new = tags.len() / NEW;
        tags[..new].iter().for_each(|place| concepts[*place].known = false);
        ensure!(!concepts.is_empty(), "no tag stands at {FEWEST} things");
        Ok(Self { things, concepts })
    }

    /// Which things are held out.
    pub(super) fn held_out(&self) -> Vec<bool> {
        let mut order: Vec<usize> = (0..self.things.len()).collect();
        Draw::of("held-out things", 0).shuffle(&mut order);
        let mut held = vec![false; self.things.len()];
        order[..self.things.len() / HELD_OUT]
            .iter()
            .for_each(|number| held[*number] = true);
        held
    }

    /// Whose picture of a thing is trained on where it is one of `artists`.
    pub(super) fn only_artist(&self, number: usize, artists: usize) -> usize {
        Draw::of("one picture a thing", number as u64).below(artists)
    }

    /// Known concepts of each thing; `shuffled` hands each thing those of another.
    pub(super) fn known_concepts(&self, shuffled: bool) -> Vec<Vec<&str>> {
        let mut of: Vec<Vec<&str>> = vec![Vec::new(); self.things.len()];
        for concept in self.concepts.iter().filter(|concept| concept.known) {
            concept
                .members
                .iter()
                .for_each(|number| of[*number].push(&concept.name));
        }
        if shuffled {
            Draw::of("shuffled concepts", 0).shuffle(&mut of);
        }
        of
    }

    /// What is asked.
    pub(super) fn questions(&self, items: Items) -> Questions {
        Questions {
            tested: match items {
                Items::All => vec![true; self.things.len()],
                Items::HeldOut => self.held_out(),
            },
            concepts: self.concepts.clone(),
        }
    }

    /// A title as a careless shop would have it: now and then another thing's of the subgroup, with words left out.
    pub(super) fn noisy_title(&self, number: usize, row: &str) -> String {
        let mut draw = Draw::of("noisy titles", 0);
        let mut draw = Draw::of(row, draw.next());
        let own = &self.things[number];
        let mut title = &own.label;
        if draw.share() < 0.3 {
            let others = self.things.iter();
            let others: Vec<&Thing> = others
                .filter(|other| other.subgroup == own.subgroup && other.id != own.id)
                .collect();
            if !others.is_empty() {
                title = &others[draw.below(others.len())].label;
            }
        }
        let words: Vec<&str> = title.split_whitespace().collect();
        let kept: Vec<&str> = words.iter().copied().filter(|_| draw.share() >= 0.2).collect();
        if kept.is_empty() {
            words[draw.below(words.len())].to_owned()
        } else {
            kept.join(" ")
        }
    }

    /// Every text that training or testing may show to a tower.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let labels = self.things.iter().map(|thing| thing.label.as_str());
        labels.chain(self.concepts.iter().map(|concept| concept.name.as_str()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 40 mammals and birds of four tags; every fifth is called by the tag `red`.
    pub(in super::super) fn catalogue() -> Catalogue {
        let things = (0..40).map(|number| {
            let subgroup = ["animal-mammal", "animal-bird"][number % 2];
            let tags = format!("{}|tag {}|only {number}|red", subgroup, number % 4);
            let label = if number == 7 {
                "Red".to_owned()
            } else {
                format!("thing number {number}")
            };
            let line = format!("{label}\tAAAA\t{tags}\tid{number}\tgroup\tnoto-id{number}");
            thing(&line).unwrap().0
        });
        Catalogue::new(things.collect(), Language::En).unwrap()
    }

    #[test]
    fn concepts_are_shared_and_nobody_carries_its_own_name() {
        let catalogue = catalogue();
        let names: Vec<&str> = catalogue.concepts.iter().map(|concept| concept.name.as_str()).collect();
        assert_eq!(
            names,
            ["birds and fowl", "mammal", "red", "tag 0", "tag 1", "tag 2", "tag 3"]
        );
        let red = &catalogue.concepts[2];
        assert_eq!((red.members.len(), &red.namesakes[..]), (39, &[7][..]));
        assert!(!red.members.contains(&7));
        assert_eq!(catalogue.concepts.iter().filter(|concept| !concept.known).count(), 1);
        assert!(
            catalogue.concepts[0].known && catalogue.concepts[1].known,
            "subgroups are known"
        );
        let new = catalogue.concepts.iter().find(|concept| !concept.known).unwrap();
        assert!(
            catalogue
                .known_concepts(false)
                .iter()
                .flatten()
                .all(|name| *name != new.name)
        );
    }

    #[test]
    fn shuffled_concepts_are_the_same_ones_elsewhere() {
        let catalogue = catalogue();
        let (own, mut shuffled) = (catalogue.known_concepts(false), catalogue.known_concepts(true));
        assert_ne!(own, shuffled);
        let mut sorted = own.clone();
        sorted.sort();
        shuffled.sort();
        assert_eq!(sorted, shuffled);
    }

    #[test]
    fn noise_is_drawn_by_row_and_stays_in_the_subgroup() {
        let catalogue = catalogue();
        let titles: Vec<String> = (0..40)
            .map(|n| catalogue.noisy_title(n, &format!("noto-{n}")))
            .collect();
        assert_eq!(titles[3], catalogue.noisy_title(3, "noto-3"));
        let strange = |n: &usize| {
            let number = titles[*n].split(' ').next_back().unwrap();
            number.parse::<usize>().is_ok_and(|number| number != *n)
        };
        let swapped: Vec<usize> = (0..40).filter(strange).collect();
        assert!((4..20).contains(&swapped.len()), "{swapped:?}");
        for n in swapped {
            let number: usize = titles[n].split(' ').next_back().unwrap().parse().unwrap();
            assert_eq!(number % 2, n % 2, "of the same subgroup");
        }
        assert!(titles.iter().any(|title| !title.starts_with("thing number")));
    }

    #[test]
    fn a_fifth_is_held_out() {
        let catalogue = catalogue();
        assert_eq!(catalogue.held_out().iter().filter(|held| **held).count(), 8);
        assert_eq!(catalogue.questions(Items::HeldOut).tested, catalogue.held_out());
        assert!(catalogue.questions(Items::All).tested.iter().all(|tested| *tested));
    }
}
