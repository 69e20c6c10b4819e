//! Training pairs out of a table.

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

use clip_core::{Error, InOrder, Order, PairTable, Plan, Position, Result, Shuffled};
use clip_data::{BadRows, LastBatch, Loader, LoaderOptions, Prepare, Rejects};

use super::Reading;
use super::choice::Purpose;
use super::collate::{Shapes, batch};
use super::concepts::Captions;
use super::row::{Inputs, Masking, PrepareInputs, Stores};
use super::teacher::Teacher;
use crate::batch::{Batch, BatchSource, BatchStream};
use crate::views::Views;

/// Rows read ahead: two batches, but no more than fit in a few hundred megabytes of pixels.
fn ahead(batch: usize) -> usize {
    (2 * batch).min(1024)
}

/// A loader over a whole table, in its order.
pub(crate) fn loader<O: Send + 'static>(
    table: &Arc<dyn PairTable>,
    batch: usize,
    workers: usize,
    bad_rows: BadRows,
    prepare: Arc<dyn Prepare<Output = O>>,
) -> Result<Loader<O>> {
    let plan = Plan {
        seed: 0,
        epoch: 0,
        rank: 0,
        world: 1,
        batch,
    };
    let options = LoaderOptions {
        workers,
        bad_rows,
        ahead: ahead(batch),
        ..LoaderOptions::for_batch(batch)
    };
    let source = Shuffled::new(Arc::clone(table), Arc::new(InOrder));
    Loader::start(&source, plan, &Position::default(), options, prepare)
}

/// A table's pairs, epoch after epoch.
pub(crate) struct TableSource {
    pub(crate) table: Arc<dyn PairTable>,
    pub(crate) order: Arc<dyn Order>,
    pub(crate) reading: Reading,
    pub(crate) stores: Stores,
    pub(crate) views: Arc<Views>,
    /// Views of pictures and of texts that the objectives ask for.
    pub(crate) wanted: [usize; 2],
    pub(crate) captions: Captions,
    /// How texts are masked, where an objective asks for it.
    pub(crate) masking: Option<Masking>,
    pub(crate) teacher: Option<Arc<Teacher>>,
    pub(crate) shapes: Shapes,
    pub(crate) seed: u64,
    pub(crate) batch: usize,
    pub(crate) last: LastBatch,
    pub(crate) bad_rows: BadRows,
    pub(crate) rejects: Arc<Mutex<Rejects>>,
    /// Pairs of the first epoch, once they were counted: an order may read a label of every row for it.
    pub(crate) taken: OnceCell<u64>,
}

struct TableStream {
    loader: Loader<Inputs>,
    shapes: Shapes,
    rejects: Arc<Mutex<Rejects>>,
    ended: bool,
}

impl TableSource {
    fn plan(&self, epoch: u64) -> Plan {
        Plan {
            seed: self.seed,
            epoch,
            rank: 0,
            world: 1,
            batch: self.batch,
        }
    }
}

impl BatchSource for TableSource {
    fn pairs(&self) -> Option<u64> {
        // An order may leave rows out: schedules count what the first epoch takes, which the others are close to. An
        // order that fails says why when the epoch starts.
        let count = || {
            let taken = self.order.rows(&*self.table, &self.plan(0)).map(|rows| rows.len());
            taken.unwrap_or_else(|_| self.table.rows()) as u64
        };
        Some(*self.taken.get_or_init(count))
    }

    fn start(&mut self, epoch: u64, from: &Position) -> Result<Box<dyn BatchStream + '_>> {
        let plan = self.plan(epoch);
        let options = LoaderOptions {
            workers: self.reading.workers,
            bad_rows: self.bad_rows,
            last: self.last,
            ahead: ahead(self.batch),
        };
        let prepare = PrepareInputs {
            reading: self.reading.clone(),
            stores: self.stores.clone(),
            views: Arc::clone(&self.views),
            purpose: Purpose::Train { seed: self.seed, epoch },
            wanted: self.wanted,
            captions: self.captions.clone(),
            masking: self.masking.clone(),
            teacher: self.teacher.clone(),
        };
        let source = Shuffled::new(Arc::clone(&self.table), Arc::clone(&self.order));
        Ok(Box::new(TableStream {
            loader: Loader::start(&source, plan, from, options, Arc::new(prepare))?,
            shapes: self.shapes,
            rejects: Arc::clone(&self.rejects),
            ended: false,
        }))
    }
}

/// Adds refused rows to the list beside the output.
pub(crate) fn list(rejects: &Mutex<Rejects>, rejected: &[Error]) -> Result<()> {
    let mut list = rejects.lock().unwrap_or_else(PoisonError::into_inner);
    rejected.iter().try_for_each(|error| list.push(error))
}

impl BatchStream for TableStream {
    fn next(&mut self) -> Result<Option<Batch>> {
        if let Some(loaded) = self.loader.next().transpose()? {
            list(&self.rejects, &loaded.rejected)?;
            return batch(&loaded, self.shapes).map(Some);
        }
        let behind = self.loader.rejected_behind();
        if self.ended || behind.is_empty() {
            return Ok(None);
        }
        // Rows refused behind the last batch are told by a batch of no pairs.
        self.ended = true;
        list(&self.rejects, &behind)?;
        Ok(Some(Batch {
            position: self.loader.reached().clone(),
            refused: behind.len() as u64,
            ..Batch::default()
        }))
    }
}
