//! Computes what stores of locked towers lack of a table, before the first step.
//!
//! All features are on disk before any is used, so that a resumed run reads the very bits that the run before it used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clip_core::{Pair, PairTable, Result};
use clip_data::{BadRows, Prepare};
use clip_nn::DualEncoder;
use clip_nn::door;
use clip_nn::tch::Kind;

use super::Reading;
use super::collate::{Shapes, images, texts};
use super::pass::{pooled_images, pooled_texts, values};
use super::row::{Stores, Taken};
use super::source::loader;
use super::store::{ContentId, Store, text_content};
use crate::views::Views;

/// Entries of one file of a store.
const SHARD: usize = 1024;

/// What a fill works with.
pub(crate) struct Fill<'a> {
    pub(crate) model: &'a DualEncoder,
    pub(crate) reading: &'a Reading,
    pub(crate) stores: &'a Stores,
    pub(crate) views: &'a Arc<Views>,
    /// Rows computed at once.
    pub(crate) batch: usize,
    pub(crate) compute: Kind,
    pub(crate) bad_rows: BadRows,
}

/// Which entries of a pair are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every text, every picture, every view: what training may draw.
    Everything,
    /// The first text and the first picture as it is: what an evaluation takes.
    First,
}

/// The entries of a pair that the stores lack.
struct Missing {
    images: Vec<(ContentId, Vec<f32>)>,
    texts: Vec<(ContentId, Vec<u32>)>,
}

struct FindMissing {
    reading: Reading,
    stores: Stores,
    views: Arc<Views>,
    extent: Extent,
}

impl FindMissing {
    fn images(&self, pair: &Pair, store: &Store) -> Result<Vec<(ContentId, Vec<f32>)>> {
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
                    missing.push((content, self.reading.pixels(pair, which, &self.views, change)?));
                }
            }
        }
        Ok(missing)
    }

    fn texts(&self, pair: &Pair, store: &Store) -> Result<Vec<(ContentId, Vec<u32>)>> {
        let count = match self.extent {
            Extent::Everything => pair.texts.len(),
            Extent::First => pair.texts.len().min(1),
        };
        let mut missing = Vec::new();
        for which in 0..count {
            let ids = self.reading.ids(pair, which)?;
            let content = text_content(&ids);
            if !store.contains(content) {
                missing.push((content, ids));
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

/// Entries on their way into a store.
struct Queue<R> {
    store: Option<Arc<Store>>,
    /// Made ready, not yet computed.
    waiting: Vec<(ContentId, R)>,
    /// Computed, not yet written.
    keys: Vec<ContentId>,
    features: Vec<f32>,
}

impl<R> Queue<R> {
    fn new(store: &Option<Arc<Store>>) -> Self {
        Self {
            store: store.clone(),
            waiting: Vec::new(),
            keys: Vec::new(),
            features: Vec::new(),
        }
    }

    fn push(&mut self, entries: Vec<(ContentId, R)>) {
        let Some(store) = &self.store else { return };
        for (key, row) in entries {
            // Several rows may hold the same picture or text.
            let known = store.contains(key) || self.keys.contains(&key) || self.waiting.iter().any(|(k, _)| *k == key);
            if !known {
                self.waiting.push((key, row));
            }
        }
    }

    /// Computes up to `batch` of the entries that wait longest.
    fn compute(&mut self, batch: usize, embed: impl FnOnce(&[(ContentId, R)]) -> Result<Vec<f32>>) -> Result<()> {
        let rest = self.waiting.split_off(batch.min(self.waiting.len()));
        let now = std::mem::replace(&mut self.waiting, rest);
        self.features.extend(embed(&now)?);
        self.keys.extend(now.iter().map(|(key, _)| *key));
        Ok(())
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

impl Fill<'_> {
    fn images(&self, queue: &mut Queue<Vec<f32>>, all: bool) -> Result<()> {
        let shapes = Shapes::of(self.model);
        while queue.waiting.len() >= self.batch || (all && !queue.waiting.is_empty()) {
            queue.compute(self.batch, |entries| {
                let rows: Vec<Taken<Vec<f32>>> = entries.iter().map(|(_, row)| Taken::Raw(row.clone())).collect();
                let features = pooled_images(self.model, &images(rows.iter(), shapes)?, self.compute)?;
                door(|| values(&features))
            })?;
            if queue.keys.len() >= SHARD {
                queue.write()?;
            }
        }
        if all { queue.write() } else { Ok(()) }
    }

    fn texts(&self, queue: &mut Queue<Vec<u32>>, all: bool) -> Result<()> {
        let shapes = Shapes::of(self.model);
        while queue.waiting.len() >= SHARD || (all && !queue.waiting.is_empty()) {
            // Texts of like length are computed together, since a batch is padded to its longest.
            let many = queue.waiting.len().min(SHARD);
            queue.waiting[..many].sort_by_key(|(_, ids)| ids.len());
            let mut left = many;
            while left > 0 {
                let batch = self.batch.min(left);
                left -= batch;
                queue.compute(batch, |entries| {
                    let rows: Vec<Taken<Vec<u32>>> = entries.iter().map(|(_, row)| Taken::Raw(row.clone())).collect();
                    let features = pooled_texts(self.model, &texts(rows.iter(), shapes)?, self.compute)?;
                    door(|| values(&features))
                })?;
            }
            queue.write()?;
        }
        Ok(())
    }
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
        extent,
    };
    // A row brings all its views at once, so fewer rows make a batch.
    let batch = work.batch.div_ceil(work.views.kept()).max(1);
    let rows = loader(table, batch, work.reading.workers, work.bad_rows, Arc::new(find))?;
    let (mut pictures, mut texts) = (Queue::new(&work.stores.image), Queue::new(&work.stores.text));
    let (mut seen, mut computed, mut told) = (0, 0, Instant::now());
    for batch in rows {
        let batch = batch?;
        seen += batch.rows.len() + batch.rejected.len();
        for row in batch.rows {
            computed += row.output.images.len() + row.output.texts.len();
            pictures.push(row.output.images);
            texts.push(row.output.texts);
        }
        work.images(&mut pictures, false)?;
        work.texts(&mut texts, false)?;
        if computed > 0 && told.elapsed() > Duration::from_secs(5) {
            note(&format!(
                "computing features of locked towers: row {seen} of {}",
                table.rows()
            ))?;
            told = Instant::now();
        }
    }
    work.images(&mut pictures, true)?;
    work.texts(&mut texts, true)
}
