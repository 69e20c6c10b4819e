//! `clipzoo inspect RUN --queue`: what a run's feature queue holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clip_core::serde_json::{Value, json};
use clip_core::{Id, PairTable, Result};
use clip_data::Roles;
use clip_nn::{FeatureQueue, Modality};
use clip_train::{Near, RunConfig, SavedQueue};

use super::args::{note, print};
use super::failure::{Failure, Outcome};
use super::inspect::grouped;
use super::train_tables::open;

/// What is shown near a prototype, of each kind.
const NEAR: usize = 3;

/// Characters of a title that a person is shown.
const TITLE: usize = 40;

/// A concept with its prototypes' surroundings.
struct Shown {
    id: Id,
    features: usize,
    /// Around the pictures' prototype, then the texts'; none where the concept has too few features for one.
    near: Option<[Near; 2]>,
}

/// What ids are called.
#[derive(Default)]
struct Words {
    concepts: BTreeMap<Id, Arc<str>>,
    titles: HashMap<Id, Arc<str>>,
}

/// Prints what the queue holds, with the `top` concepts of most and of fewest features.
pub(super) fn run(run: &Path, top: usize, as_json: bool) -> Outcome {
    let saved = SavedQueue::open(run)?;
    for fault in &saved.faults {
        note(&format!("a checkpoint is broken and left out: {fault}"));
    }
    let concepts = by_features(&saved);
    let most = show(&saved, &concepts[..top.min(concepts.len())])?;
    // Whoever is among those with most is not shown a second time.
    let rest = &concepts[most.len()..];
    let fewest: Vec<(Id, usize)> = rest.iter().rev().take(top).copied().collect();
    let fewest = show(&saved, &fewest)?;
    let words = words(&saved, most.iter().chain(&fewest));
    if as_json {
        return Ok(print(&object(run, &saved, &words, &most, &fewest).to_string())?);
    }
    let queue = &saved.queue;
    let share = 100.0 * queue.filled() as f64 / queue.capacity().max(1) as f64;
    print(&format!(
        "queue       {} of {} pairs ({share:.1} %) after step {}",
        grouped(queue.filled() as u64),
        grouped(queue.capacity() as u64),
        grouped(saved.step)
    ))?;
    if let Some(age) = queue.age() {
        print(&format!("oldest      came {} steps ago", grouped(age)))?;
    }
    print(&format!(
        "concepts    {}, of which {} have a prototype (at least {} features)",
        grouped(concepts.len() as u64),
        grouped(queue.live().len() as u64),
        saved.config.queue.min_features
    ))?;
    for (what, shown) in [("most features", &most), ("fewest features", &fewest)] {
        if !shown.is_empty() {
            print(&format!("\n{what}"))?;
        }
        for concept in shown {
            describe(concept, &words)?;
        }
    }
    Ok(())
}

/// The concepts, most features first; of equals, the smaller id.
fn by_features(saved: &SavedQueue) -> Vec<(Id, usize)> {
    let mut counts: Vec<(Id, usize)> = saved.queue.counts().collect();
    counts.sort_by_key(|(id, features)| (std::cmp::Reverse(*features), *id));
    counts
}

fn show(saved: &SavedQueue, concepts: &[(Id, usize)]) -> Result<Vec<Shown>> {
    let live = saved.queue.live();
    let is_live = |id: &Id| live.binary_search(id).is_ok();
    let ids: Vec<Id> = concepts.iter().map(|(id, _)| *id).filter(is_live).collect();
    let images = saved.near(Modality::Image, &ids, NEAR)?;
    let texts = saved.near(Modality::Text, &ids, NEAR)?;
    let mut around = images.into_iter().zip(texts).map(|(image, text)| [image, text]);
    let shown = concepts.iter().map(|(id, features)| Shown {
        id: *id,
        features: *features,
        near: if is_live(id) { around.next() } else { None },
    });
    Ok(shown.collect())
}

/// Names and titles of all that is shown: the names that the run keeps, and what its training table says, where it is
/// still there.
fn words<'a>(saved: &SavedQueue, shown: impl Iterator<Item = &'a Shown>) -> Words {
    let (mut keys, mut concepts) = (HashSet::new(), BTreeSet::new());
    for concept in shown {
        concepts.insert(concept.id);
        for near in concept.near.iter().flatten() {
            keys.extend(near.texts.iter().map(|(key, _)| *key));
            concepts.extend(near.concepts.iter().map(|(id, _)| *id));
        }
    }
    let mut words = Words {
        concepts: saved.names.clone(),
        ..Words::default()
    };
    concepts.retain(|id| !words.concepts.contains_key(id));
    if keys.is_empty() && concepts.is_empty() {
        return words;
    }
    if let Err(Failure::Usage(error) | Failure::Failed(error)) =
        read_table(&saved.config, &mut keys, &mut concepts, &mut words)
    {
        note(&format!("titles are not shown: {error}"));
    }
    words
}

/// Reads the training table until all that is wanted is found.
fn read_table(config: &RunConfig, keys: &mut HashSet<Id>, concepts: &mut BTreeSet<Id>, words: &mut Words) -> Outcome {
    // Paths in the settings are relative to where the run was started.
    let at = |path: &PathBuf| config.environment.directory.join(path);
    let Some(file) = config.data.train.as_ref().map(at) else {
        return Ok(());
    };
    let table = open(&config.data, &file, Roles::Texts)?;
    let mut source = config.concepts.clone();
    for path in [&mut source.phrases, &mut source.names].into_iter().flatten() {
        *path = at(path);
    }
    let source = source.open()?;
    for row in 0..table.rows() {
        if keys.is_empty() && concepts.is_empty() {
            break;
        }
        // A row that cannot be read was refused in training as well.
        let Ok(pair) = table.get(row) else { continue };
        if keys.remove(&pair.key) {
            words
                .titles
                .extend(pair.texts.first().map(|title| (pair.key, Arc::clone(title))));
        }
        if !concepts.is_empty() {
            for concept in source.concepts(&pair).unwrap_or_default() {
                if concepts.remove(&concept.id) {
                    words.concepts.insert(concept.id, concept.name);
                }
            }
        }
    }
    Ok(())
}

impl Words {
    fn concept(&self, id: Id) -> String {
        self.concepts.get(&id).map_or_else(|| hex(id), |name| name.to_string())
    }

    /// The title, cut where it would fill the line.
    fn title(&self, key: Id) -> String {
        let Some(title) = self.titles.get(&key) else {
            return hex(key);
        };
        match title.char_indices().nth(TITLE) {
            Some((end, _)) => format!("{}…", title[..end].trim_end()),
            None => title.to_string(),
        }
    }
}

/// An id whose words are not known.
fn hex(id: Id) -> String {
    format!("{:016x}", id.0)
}

fn describe(concept: &Shown, words: &Words) -> Result<()> {
    print(&format!(
        "{:>9}  {}",
        grouped(concept.features as u64),
        words.concept(concept.id)
    ))?;
    let Some(near) = &concept.near else {
        return print("           too few for a prototype");
    };
    for (what, near) in ["pictures", "texts"].into_iter().zip(near) {
        let list = |near: &[(Id, f32)], name: &dyn Fn(Id) -> String| {
            let one = |(id, cosine): &(Id, f32)| format!("{} ({cosine:.2})", name(*id));
            near.iter().map(one).collect::<Vec<_>>().join(" · ")
        };
        print(&format!(
            "           its {what} lie near the texts {}",
            list(&near.texts, &|key| words.title(key))
        ))?;
        print(&format!(
            "           {:8} {} near the concepts {}",
            "",
            " ".repeat(what.len()),
            list(&near.concepts, &|id| words.concept(id))
        ))?;
    }
    Ok(())
}

fn object(run: &Path, saved: &SavedQueue, words: &Words, most: &[Shown], fewest: &[Shown]) -> Value {
    let near = |near: &Near| {
        let texts: Vec<Value> = near
            .texts
            .iter()
            .map(|(key, cosine)| json!({ "key": hex(*key), "title": words.titles.get(key).map(|words| &**words), "cosine": cosine }))
            .collect();
        let concepts: Vec<Value> = near
            .concepts
            .iter()
            .map(|(id, cosine)| json!({ "id": hex(*id), "name": words.concepts.get(id).map(|words| &**words), "cosine": cosine }))
            .collect();
        json!({ "texts": texts, "concepts": concepts })
    };
    let list = |shown: &[Shown]| -> Vec<Value> {
        let one = |concept: &Shown| {
            let [image, text] = match &concept.near {
                Some([image, text]) => [near(image), near(text)],
                None => [Value::Null, Value::Null],
            };
            json!({
                "id": hex(concept.id), "name": words.concepts.get(&concept.id).map(|words| &**words), "features": concept.features,
                "image_prototype": image, "text_prototype": text,
            })
        };
        shown.iter().map(one).collect()
    };
    json!({
        "run": run, "step": saved.step, "filled": saved.queue.filled(), "capacity": saved.queue.capacity(),
        "oldest_steps": saved.queue.age(), "concepts": saved.queue.counts().count(),
        "live_concepts": saved.queue.live().len(), "min_features": saved.config.queue.min_features,
        "most": list(most), "fewest": list(fewest),
    })
}
