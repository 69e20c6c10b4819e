//! Computes what stores of locked towers lack of a table, before the first step.
//!
//! All features are on disk before any is used, so that a resumed run reads the very bits that the run before it used.
//! They do not depend on the number of threads: each batch is computed by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clip_core::{Pair, PairTable, Result};
use clip_data::{BadRows, Loader, Prepare, ordered};
use clip_nn::door;
use clip_nn::tch;
use clip_nn::{Compute, DualEncoder, Zoo};

use super::Reading;
use super::collate::{Shapes, images, texts};
use super::concepts::Captions;
use super::pass::{pooled_images, pooled_texts, values};
use super::replicas::Replicas;
use super::row::{Stores, Taken};
use super::source::loader;
use super::store::{ContentId, Store, text_content};
use crate::views::Views;

/// Entries of one file of a store, and texts that are sorted by length together.
const SHARD: usize = 1024;

/// What a fill works with.
pub(crate) struct Fill<'a> {
    pub(crate) model: &'a DualEncoder,
    pub(crate) zoo: &'a Zoo,
    pub(crate) reading: &'a Reading,
    pub(crate) stores: &'a Stores,
    pub(crate) views: &'a Arc<Views>,
    pub(crate) captions: &'a Captions,
    /// Rows computed at once by each thread.
    pub(crate) batch: usize,
    pub(crate) compute: Compute,
    pub(crate) bad_rows: BadRows,
}

/// Which entries of a pair are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every text, every picture, every view: what training may draw; and every concept's name, where these stand in for
    /// texts.
    Everything,
    /// The first text and the first picture as it is: what an evaluation takes.
    First,
}

/// Pixels of pictures by content.
type Pictures = Vec<(ContentId, Taken<Vec<f32>>)>;

/// Ids of texts by content.
type Texts = Vec<(ContentId, Taken<Vec<u32>>)>;

/// The entries of a pair that the stores lack.
struct Missing {
    images: Pictures,
    texts: Texts,
}

struct FindMissing {
    reading: Reading,
    stores: Stores,
    views: Arc<Views>,
    captions: Captions,
    extent: Extent,
}

impl FindMissing {
    fn images(&self, pair: &Pair, store: &Store) -> Result<Pictures> {
        let (pictures, views) = match self.extent {
            Extent::Everything => (pair.images.len(), self.views.kept()),
            Extent::First => (pair.images.len().min(1), 1),
        };
        let mut missing = Vec::new();
        for (which, encoded) in pair.images.iter().enumerate().take(pictures) {
            for view in 0..views {
                let content = store.image(encoded, self.views.content(view))?;
                if !store.contains(content) {
                    // A kept view is changed as its content says, so that every run and table finds the same one.
                    let change = (view > 0).then_some(content as u64);
                    let pixels = self.reading.pixels(pair, which, &self.views, change)?;
                    missing.push((content, Taken::Raw(pixels)));
                }
            }
        }
        Ok(missing)
    }

    fn texts(&self, pair: &Pair, store: &Store) -> Result<Texts> {
        let (count, names) = match self.extent {
            Extent::Everything if self.captions.share > 0.0 => (pair.texts.len(), pair.concepts.as_slice()),
            Extent::Everything => (pair.texts.len(), [].as_slice()),
            Extent::First => (pair.texts.len().min(1), [].as_slice()),
        };
        let texts = (0..count).map(|which| self.reading.ids(pair, which));
        let names = names
            .iter()
            .map(|concept| self.reading.text_ids(&self.captions.text(concept)));
        let mut missing = Vec::new();
        for ids in texts.chain(names) {
            let ids = ids?;
            let content = text_content(&ids);
            if !store.contains(content) {
                missing.push((content, Taken::Raw(ids)));
            }
        }
        Ok(missing)
    }
}

impl Prepare for FindMissing {
    type Output = Missing;

    fn prepare(&self, pair: &Pair, _: u64) -> Result<Missing> {
        let images = self.stores.image.as_ref().map(|store| self.images(pair, store));
        let texts = self.stores.text.as_ref().map(|store| self.texts(pair, store));
        Ok(Missing {
            images: images.transpose()?.unwrap_or_default(),
            texts: texts.transpose()?.unwrap_or_default(),
        })
    }
}

/// A batch for a tower.
enum Work {
    Images(Pictures),
    Texts(Texts),
}

/// Joins what the rows lack to batches, each entry once.
struct Batches {
    rows: Option<Loader<Missing>>,
    batch: usize,
    /// Entries given out or waiting: several rows may hold the same picture or text.
    met: HashSet<ContentId>,
    images: Pictures,
    texts: Texts,
    /// Texts of like length, since a batch is padded to its longest.
    sorted: Texts,
    seen: usize,
}

impl Batches {
    fn take(&mut self, row: Missing) {
        self.images
            .extend(row.images.into_iter().filter(|(key, _)| self.met.insert(*key)));
        self.texts
            .extend(row.texts.into_iter().filter(|(key, _)| self.met.insert(*key)));
    }

    /// A batch, if one is full, or if nothing will fill it.
    fn ready(&mut self) -> Option<Work> {
        let ended = self.rows.is_none();
        if self.sorted.is_empty() && (self.texts.len() >= SHARD || ended) {
            let rest = self.texts.split_off(SHARD.min(self.texts.len()));
            self.sorted = std::mem::replace(&mut self.texts, rest);
            self.sorted.sort_by_key(|(_, ids)| match ids {
                Taken::Raw(ids) => ids.len(),
                Taken::Pooled(_) => 0,
            });
        }
        if !self.sorted.is_empty() {
            let rest = self.sorted.split_off(self.batch.min(self.sorted.len()));
            return Some(Work::Texts(std::mem::replace(&mut self.sorted, rest)));
        }
        if self.images.len() >= self.batch || (ended && !self.images.is_empty()) {
            let rest = self.images.split_off(self.batch.min(self.images.len()));
            return Some(Work::Images(std::mem::replace(&mut self.images, rest)));
        }
        None
    }
}

impl Iterator for Batches {
    /// A batch, and the number of rows read before it.
    type Item = Result<(Work, usize)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(work) = self.ready() {
                return Some(Ok((work, self.seen)));
            }
            match self.rows.as_mut()?.next() {
                Some(Ok(batch)) => {
                    self.seen += batch.rows.len() + batch.rejected.len();
                    batch.rows.into_iter().for_each(|row| self.take(row.output));
                }
                Some(Err(error)) => {
                    (self.rows, self.images, self.texts) = (None, Vec::new(), Vec::new());
                    return Some(Err(error));
                }
                None => self.rows = None,
            }
        }
    }
}

/// Features on their way into a store.
struct Written {
    store: Option<Arc<Store>>,
    keys: Vec<ContentId>,
    features: Vec<f32>,
}

impl Written {
    fn new(store: Option<&Arc<Store>>) -> Self {
        Self {
            store: store.cloned(),
            keys: Vec::new(),
            features: Vec::new(),
        }
    }

    fn add(&mut self, keys: Vec<ContentId>, features: Vec<f32>) -> Result<()> {
        self.keys.extend(keys);
        self.features.extend(features);
        if self.keys.len() >= SHARD { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        if let Some(store) = &self.store {
            store.append(&self.keys, &self.features)?;
        }
        self.keys.clear();
        self.features.clear();
        Ok(())
    }
}

/// A batch's keys and features, and whether they are of pictures.
type Computed = (Vec<ContentId>, Vec<f32>, bool);

fn embed(model: &DualEncoder, work: &Work, shapes: Shapes, compute: Compute) -> Result<Computed> {
    let (keys, features, pictures) = match work {
        Work::Images(entries) => {
            let input = images(entries.iter().map(|(_, row)| row), shapes)?;
            let keys = entries.iter().map(|(key, _)| *key).collect();
            (keys, pooled_images(model, &input, compute)?, true)
        }
        Work::Texts(entries) => {
            let input = texts(entries.iter().map(|(_, row)| row), shapes)?;
            let keys = entries.iter().map(|(key, _)| *key).collect();
            (keys, pooled_texts(model, &input, compute)?, false)
        }
    };
    Ok((keys, door(|| values(&features))?, pictures))
}

/// Computes what the stores lack of a table. `note` is told how far it is, now and then.
pub(crate) fn fill(
    work: &Fill<'_>,
    table: &Arc<dyn PairTable>,
    extent: Extent,
    note: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    if work.stores.image.is_none() && work.stores.text.is_none() {
        return Ok(());
    }
    let find = FindMissing {
        reading: work.reading.clone(),
        stores: work.stores.clone(),
        views: Arc::clone(work.views),
        captions: work.captions.clone(),
        extent,
    };
    // A row brings all its views at once, so fewer rows make a batch.
    let rows = work.batch.div_ceil(work.views.kept()).max(1);
    let batches = Batches {
        rows: Some(loader(
            table,
            rows,
            work.reading.workers,
            work.bad_rows,
            Arc::new(find),
        )?),
        batch: work.batch,
        met: HashSet::new(),
        images: Vec::new(),
        texts: Vec::new(),
        sorted: Vec::new(),
        seen: 0,
    };
    let threads = tch::get_num_threads();
    let replicas = Replicas::new(work.model, work.zoo)?;
    let (count, shapes, compute) = (replicas.count(), Shapes::of(work.model), work.compute);
    let computed = ordered(batches, count, count + 1, move |batch| {
        let (work, seen) = batch?;
        let computed = replicas.with(|model| embed(model, &work, shapes, compute))?;
        Ok((computed, seen))
    })?;
    let done = keep(computed, work.stores, &mut |row| {
        note(&format!(
            "computing features of locked towers: row {row} of {}",
            table.rows()
        ))
    });
    // The threads' own settings end with them; what libtorch tells new threads is set back.
    tch::set_num_threads(threads);
    done
}

/// Writes features as they come; `note` is told of the row reached every few seconds.
fn keep(
    computed: impl Iterator<Item = Result<(Computed, usize)>>,
    stores: &Stores,
    note: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut pictures = Written::new(stores.image.as_ref());
    let mut texts = Written::new(stores.text.as_ref());
    let mut told = Instant::now();
    for batch in computed {
        let ((keys, features, of_pictures), row) = batch?;
        if of_pictures { &mut pictures } else { &mut texts }.add(keys, features)?;
        if told.elapsed() > Duration::from_secs(5) {
            note(row)?;
            told = Instant::now();
        }
    }
    pictures.write()?;
    texts.write()
}
