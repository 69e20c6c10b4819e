//! Batches of prepared rows, read ahead on worker threads.

use std::fmt;
use std::sync::Arc;
use std::thread;

use clip_core::{Concept, Error, Id, Origin, Pair, PairSource, PairStream, Plan, Position, Result};

use crate::ordered::{Ordered, ordered};

/// Makes one row ready: decodes and transforms its picture, turns its text into tokens. Runs on several threads.
pub trait Prepare: Send + Sync {
    /// What a row becomes.
    type Output: Send;

    /// Makes a row ready. `index` is its place in the epoch among the rows of this process, from 0, refused rows
    /// counted: what chance (augmentation, the choice of a text) may depend on besides the pair's key, so that a
    /// resumed epoch draws the same.
    ///
    /// # Errors
    /// The row cannot be used. The loader adds file and row.
    fn prepare(&self, pair: &Pair, index: u64) -> Result<Self::Output>;
}

/// What is done with a row that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadRows {
    /// The run stops at the first, naming it.
    #[default]
    Stop,
    /// It is left out and listed; the rows behind it move up.
    Skip,
}

/// What happens to rows that do not fill a last batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastBatch {
    /// They are a short batch.
    #[default]
    Short,
    /// They are left out, as contrastive training wants: a smaller batch has fewer negatives.
    Drop,
}

/// How a [`Loader`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Threads that prepare rows; one more reads them.
    pub workers: usize,
    /// Rows under way or ready at most, which bounds the memory. Two batches let one be prepared while one is used.
    pub ahead: usize,
    /// What is done with bad rows.
    pub bad_rows: BadRows,
    /// What is done with a short last batch.
    pub last: LastBatch,
}

impl LoaderOptions {
    /// As many workers as the machine has cores, two batches of `batch` rows ahead, a stop at the first bad row.
    pub fn for_batch(batch: usize) -> Self {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        Self {
            workers,
            ahead: 2 * batch.max(1),
            bad_rows: BadRows::default(),
            last: LastBatch::default(),
        }
    }
}

/// A row made ready, with what objectives need to know of its pair.
#[derive(Debug, Clone)]
pub struct Prepared<O> {
    /// The pair's key.
    pub key: Id,
    /// Its product.
    pub item: Option<Id>,
    /// Its concepts.
    pub concepts: Vec<Concept>,
    /// Its weight in the loss.
    pub weight: f32,
    /// Where it came from.
    pub origin: Origin,
    /// What [`Prepare::prepare`] made of it.
    pub output: O,
}

/// The rows of one step for one process, in order; never empty.
#[derive(Debug, Clone)]
pub struct Batch<O> {
    /// `plan.batch / plan.world` rows; fewer at most in the last batch of an epoch.
    pub rows: Vec<Prepared<O>>,
    /// Where to go on from behind this batch.
    pub reached: Position,
    /// The rows refused on the way to this batch.
    pub rejected: Vec<Error>,
}

/// Gives the batches of an epoch, prepared ahead on several threads: the same ones whatever the number of threads, and
/// the same ones behind a [`Position`] as in the epoch that reached it.
///
/// An error ends it. Dropping it ends its threads.
pub struct Loader<O> {
    rows: Option<Ordered<Row<O>>>,
    share: usize,
    bad_rows: BadRows,
    last: LastBatch,
    reached: Position,
    rejected: Vec<Error>,
}

/// A row behind the workers: what came of it, and the position behind it.
type Row<O> = (Result<Prepared<O>>, Position);

impl<O: Send + 'static> Loader<O> {
    /// Starts an epoch of `source`, or goes on with it from a position.
    ///
    /// # Errors
    /// The source cannot start, the plan's batch does not divide over its processes, or no thread can be had.
    pub fn start(
        source: &dyn PairSource,
        plan: Plan,
        from: &Position,
        options: LoaderOptions,
        prepare: Arc<dyn Prepare<Output = O>>,
    ) -> Result<Self> {
        let world = plan.world as usize;
        if plan.batch == 0 || world == 0 || !plan.batch.is_multiple_of(world) {
            let what = format!("{} pairs a batch do not divide over {world} processes", plan.batch);
            return Err(Error::invalid(what).remedy("choose another --batch-size"));
        }
        let pairs = Pairs(source.start(plan, from)?);
        let rows = ordered(
            pairs,
            options.workers,
            options.ahead,
            move |(pair, reached): (Result<Pair>, Position)| {
                // The error is wrapped once more, so that it travels with its position.
                let index = reached.taken.saturating_sub(1);
                Ok((pair.and_then(|pair| prepared(pair, index, &*prepare)), reached))
            },
        )?;
        Ok(Self {
            rows: Some(rows),
            share: plan.batch / world,
            bad_rows: options.bad_rows,
            last: options.last,
            reached: from.clone(),
            rejected: Vec::new(),
        })
    }

    /// The position behind the last batch; at the end of the epoch, behind its last row.
    pub fn reached(&self) -> &Position {
        &self.reached
    }

    /// At the end of an epoch: the refused rows behind its last batch.
    pub fn rejected_behind(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.rejected)
    }

    /// Up to a batch of good rows, and the position behind them.
    fn fill(&mut self) -> Result<(Vec<Prepared<O>>, Position)> {
        let mut good = Vec::with_capacity(self.share.min(4096));
        let mut position = self.reached.clone();
        while good.len() < self.share
            && let Some(row) = self.rows.as_mut().and_then(Iterator::next)
        {
            let (row, reached) = row?;
            position = reached;
            match row {
                Ok(row) => good.push(row),
                Err(error) if self.bad_rows == BadRows::Skip => self.rejected.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok((good, position))
    }
}

impl<O: Send + 'static> Iterator for Loader<O> {
    type Item = Result<Batch<O>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.as_ref()?;
        let (rows, reached) = match self.fill() {
            Ok(filled) => filled,
            Err(error) => {
                self.rows = None;
                return Some(Err(error));
            }
        };
        self.reached = reached.clone();
        if rows.len() < self.share {
            self.rows = None;
        }
        if rows.is_empty() || (rows.len() < self.share && self.last == LastBatch::Drop) {
            return None;
        }
        Some(Ok(Batch {
            rows,
            reached,
            rejected: std::mem::take(&mut self.rejected),
        }))
    }
}

impl<O> fmt::Debug for Loader<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("share", &self.share)
            .field("reached", &self.reached)
            .finish_non_exhaustive()
    }
}

/// The pairs of a stream, each with the position behind it.
struct Pairs(Box<dyn PairStream>);

impl Iterator for Pairs {
    type Item = (Result<Pair>, Position);

    fn next(&mut self) -> Option<Self::Item> {
        let pair = self.0.next()?;
        Some((pair, self.0.reached()))
    }
}

fn prepared<O: Send>(pair: Pair, index: u64, prepare: &dyn Prepare<Output = O>) -> Result<Prepared<O>> {
    // Caught here and not around the thread, so that a panic too is the error of its row.
    let prepare = std::panic::AssertUnwindSafe(|| prepare.prepare(&pair, index));
    let output = std::panic::catch_unwind(prepare).unwrap_or_else(|panic| Err(Error::from_panic(panic)));
    let output = output.map_err(|error| at_row(error, &pair.origin))?;
    let Pair {
        key,
        item,
        concepts,
        weight,
        origin,
        ..
    } = pair;
    Ok(Prepared {
        key,
        item,
        concepts,
        weight,
        origin,
        output,
    })
}

/// Names the row of a pair in an error that came of it. Where the error names another file (a picture beside the
/// table), that name moves into the sentence: the row is what the user has to find.
pub fn at_row(error: Error, origin: &Origin) -> Error {
    let place = error.place();
    let Some(other) = place.file.as_ref().filter(|file| **file != *origin.file) else {
        return error.file(&*origin.file).row(origin.row);
    };
    let mut named = Error::new(error.kind(), format!("`{}`: {}", other.display(), error.what()))
        .file(&*origin.file)
        .row(origin.row);
    if let Some(column) = &place.column {
        named = named.column(column.clone());
    }
    if let Some(remedy) = error.remedy_text() {
        named = named.remedy(remedy);
    }
    named.source(error)
}

#[cfg(test)]
mod tests;
