//! Orders of a table's rows: pure permutations, so that a position is one number.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::{Error, Id, Pair, PairSource, PairStream, PairTable, Plan, Position, Result};

/// In which order an epoch visits the rows of a table: a pure function of table and plan.
pub trait Order: Send + Sync {
    /// The row numbers of all processes, in order. May leave rows out; never repeats one.
    fn rows(&self, table: &dyn PairTable, plan: &Plan) -> Result<Vec<u64>>;
}

/// The rows as they stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct InOrder;

/// All rows, in an order drawn by seed and epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shuffle;

/// Drawn like [`Shuffle`], but no batch holds two rows of equal value in a column; rows without a value fit anywhere.
/// A short last batch may remain, and where one value has more rows than there are batches, its surplus rows sit out
/// the epoch (another epoch draws others).
#[derive(Debug, Clone)]
pub struct UniqueBy {
    /// The column, usually the item's.
    pub column: String,
}

/// Drawn like [`Shuffle`], but with a probability a whole batch comes from one value of a column: hard negatives.
#[derive(Debug, Clone)]
pub struct BatchBy {
    /// The column, usually the category's.
    pub column: String,
    /// The share of batches drawn from one value, 0 to 1.
    pub probability: f64,
}

fn generator(plan: &Plan) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(plan.seed ^ plan.epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn shuffled(rows: usize, rng: &mut ChaCha8Rng) -> Vec<u64> {
    let mut order: Vec<u64> = (0..rows as u64).collect();
    order.shuffle(rng);
    order
}

impl Order for InOrder {
    fn rows(&self, table: &dyn PairTable, _: &Plan) -> Result<Vec<u64>> {
        Ok((0..table.rows() as u64).collect())
    }
}

impl Order for Shuffle {
    fn rows(&self, table: &dyn PairTable, plan: &Plan) -> Result<Vec<u64>> {
        Ok(shuffled(table.rows(), &mut generator(plan)))
    }
}

impl Order for UniqueBy {
    fn rows(&self, table: &dyn PairTable, plan: &Plan) -> Result<Vec<u64>> {
        let order = shuffled(table.rows(), &mut generator(plan));
        let batch = plan.batch.max(1);
        // Rows that clash with the batch being filled wait; the longest waiting is tried first in the next batch.
        let mut waiting: VecDeque<(u64, Option<Id>)> = VecDeque::new();
        let mut fresh = order
            .into_iter()
            .map(|row| Ok((row, table.label(row as usize, &self.column)?)));
        let mut taken = Vec::with_capacity(table.rows());
        loop {
            let mut values = HashSet::new();
            let mut filled = 0;
            let mut kept = VecDeque::new();
            while filled < batch {
                let next = match waiting.pop_front() {
                    Some(row) => row,
                    None => match fresh.next() {
                        Some(row) => row?,
                        None => break,
                    },
                };
                if next.1.is_none_or(|value| values.insert(value)) {
                    taken.push(next.0);
                    filled += 1;
                } else {
                    kept.push_back(next);
                }
            }
            kept.append(&mut waiting);
            waiting = kept;
            if filled < batch {
                // What is left clashes with every batch that could still be filled.
                return Ok(taken);
            }
        }
    }
}

impl BatchBy {
    /// How many whole batches of one value the table gives, at most: none where no value has as many rows as a batch.
    ///
    /// # Errors
    /// As [`PairTable::label`].
    pub fn possible(&self, table: &dyn PairTable, batch: usize) -> Result<usize> {
        let mut counts: HashMap<Id, usize> = HashMap::new();
        for row in 0..table.rows() {
            if let Some(value) = table.label(row, &self.column)? {
                *counts.entry(value).or_default() += 1;
            }
        }
        Ok(counts.values().map(|rows| rows / batch.max(1)).sum())
    }

    /// How many of them are asked for in an epoch.
    pub fn wanted(&self, rows: usize, batch: usize) -> usize {
        ((rows / batch.max(1)) as f64 * self.probability.clamp(0.0, 1.0)).round() as usize
    }
}

impl Order for BatchBy {
    fn rows(&self, table: &dyn PairTable, plan: &Plan) -> Result<Vec<u64>> {
        let mut rng = generator(plan);
        let batch = plan.batch.max(1);
        let mut groups: HashMap<Id, Vec<u64>> = HashMap::new();
        let mut rest = Vec::new();
        for row in shuffled(table.rows(), &mut rng) {
            match table.label(row as usize, &self.column)? {
                Some(value) => groups.entry(value).or_default().push(row),
                None => rest.push(row),
            }
        }
        // A value's full batches are candidates; the drawn share of them stays whole, all else is mixed.
        let mut whole = Vec::new();
        let mut values: Vec<Id> = groups.keys().copied().collect();
        values.sort_unstable();
        for value in values {
            let rows = groups.remove(&value).unwrap_or_default();
            let mut chunks = rows.chunks_exact(batch);
            whole.extend(chunks.by_ref().map(<[u64]>::to_vec));
            rest.extend_from_slice(chunks.remainder());
        }
        whole.shuffle(&mut rng);
        let wanted = self.wanted(table.rows(), batch);
        let surplus = whole.split_off(wanted.min(whole.len()));
        rest.extend(surplus.into_iter().flatten());
        rest.shuffle(&mut rng);
        let tail = rest.split_off(rest.len() - rest.len() % batch);
        let mut batches: Vec<Vec<u64>> = rest.chunks_exact(batch).map(<[u64]>::to_vec).chain(whole).collect();
        batches.shuffle(&mut rng);
        Ok(batches.into_iter().flatten().chain(tail).collect())
    }
}

/// A table read in an order: the [`PairSource`] of tables, JSONL files and folders.
///
/// With several processes, each takes its slice of every batch: row `i` of a batch goes to rank `i * world / batch`.
#[derive(Clone)]
pub struct Shuffled {
    table: Arc<dyn PairTable>,
    order: Arc<dyn Order>,
}

impl Shuffled {
    /// Reads `table` in `order`.
    pub fn new(table: Arc<dyn PairTable>, order: Arc<dyn Order>) -> Self {
        Self { table, order }
    }
}

impl PairSource for Shuffled {
    fn pairs(&self) -> Option<u64> {
        Some(self.table.rows() as u64)
    }

    fn start(&self, plan: Plan, from: &Position) -> Result<Box<dyn PairStream>> {
        let (world, batch) = (plan.world as usize, plan.batch);
        if world == 0 || plan.rank >= plan.world || batch == 0 || !batch.is_multiple_of(world) {
            return Err(Error::invalid(format!(
                "rank {} of {world} with {batch} pairs a batch: the batch must divide evenly over the processes",
                plan.rank
            )));
        }
        let rows = self.order.rows(&*self.table, &plan)?;
        let rows = if world == 1 {
            rows
        } else {
            let share = batch / world;
            let own = plan.rank as usize * share..(plan.rank as usize + 1) * share;
            rows.into_iter()
                .enumerate()
                .filter(|(at, _)| own.contains(&(at % batch)))
                .map(|(_, row)| row)
                .collect()
        };
        let taken = usize::try_from(from.taken).unwrap_or(usize::MAX).min(rows.len());
        Ok(Box::new(TableStream {
            table: Arc::clone(&self.table),
            rows,
            taken,
        }))
    }
}

struct TableStream {
    table: Arc<dyn PairTable>,
    rows: Vec<u64>,
    taken: usize,
}

impl Iterator for TableStream {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = *self.rows.get(self.taken)?;
        self.taken += 1;
        Some(self.table.get(row as usize))
    }
}

impl PairStream for TableStream {
    fn reached(&self) -> Position {
        Position {
            taken: self.taken as u64,
            state: serde_json::Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A table whose only column groups rows by the given numbers; 0 is an empty cell.
    struct Groups(Vec<u64>);

    impl PairTable for Groups {
        fn rows(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<Pair> {
            Err(Error::internal(format!("row {index} is never opened")))
        }

        fn label(&self, index: usize, _: &str) -> Result<Option<Id>> {
            Ok(Some(self.0[index]).filter(|&group| group > 0).map(Id))
        }
    }

    fn plan(seed: u64, batch: usize) -> Plan {
        Plan {
            seed,
            epoch: 0,
            rank: 0,
            world: 1,
            batch,
        }
    }

    proptest! {
        #[test]
        fn unique_by_never_repeats_a_value_in_a_batch(
            groups in prop::collection::vec(0u64..6, 0..60), batch in 1usize..9, seed: u64,
        ) {
            let table = Groups(groups);
            let order = UniqueBy { column: "item".into() };
            let rows = order.rows(&table, &plan(seed, batch)).unwrap();
            prop_assert_eq!(rows.iter().collect::<HashSet<_>>().len(), rows.len());
            for rows in rows.chunks(batch) {
                let values: Vec<u64> = rows.iter().map(|&r| table.0[r as usize]).filter(|&v| v > 0).collect();
                prop_assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len());
            }
            // Rows without a value fit anywhere, so none of them is ever left out.
            let loose = table.0.iter().filter(|&&v| v == 0).count();
            prop_assert_eq!(rows.iter().filter(|&&r| table.0[r as usize] == 0).count(), loose);
        }

        #[test]
        fn batch_by_keeps_every_row(
            groups in prop::collection::vec(0u64..4, 0..60), batch in 1usize..9, seed: u64, probability in 0.0..1.0,
        ) {
            let order = BatchBy { column: "category".into(), probability };
            let mut rows = order.rows(&Groups(groups.clone()), &plan(seed, batch)).unwrap();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..groups.len() as u64).collect::<Vec<_>>());
        }

        #[test]
        fn a_shuffle_depends_on_seed_and_epoch_alone(rows in 2usize..50, seed: u64) {
            let table = Groups(vec![0; rows]);
            let first = Shuffle.rows(&table, &plan(seed, 4)).unwrap();
            prop_assert_eq!(&first, &Shuffle.rows(&table, &plan(seed, 8)).unwrap());
            let mut sorted = first;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..rows as u64).collect::<Vec<_>>());
        }
    }

    #[test]
    fn half_the_batches_come_from_one_value() {
        let table = Groups((0..64).map(|row| 1 + row % 4).collect());
        let rows = BatchBy {
            column: "category".into(),
            probability: 0.5,
        }
        .rows(&table, &plan(1, 8))
        .unwrap();
        let pure = rows
            .chunks(8)
            .filter(|rows| rows.iter().all(|&r| table.0[r as usize] == table.0[rows[0] as usize]));
        assert_eq!(pure.count(), 4);
    }

    #[test]
    fn ranks_share_a_batch() {
        let source = Shuffled::new(Arc::new(Groups(vec![0; 8])), Arc::new(InOrder));
        let mut rank = source
            .start(
                Plan {
                    rank: 1,
                    world: 2,
                    ..plan(0, 4)
                },
                &Position::default(),
            )
            .unwrap();
        let rows = std::iter::from_fn(|| rank.next()).map(|row| row.unwrap_err().to_string());
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [2, 3, 6, 7].map(|row| format!("row {row} is never opened"))
        );
        assert_eq!(rank.reached().taken, 4);
    }
}
