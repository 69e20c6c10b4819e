//! The loader: the same batches whatever the threads, resumption, bad rows, bounds.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clip_core::{EncodedImage, PairTable, Shuffle, Shuffled};

use super::*;

/// `rows` pairs, of which those in `bad` cannot be read; counts the reads.
struct Numbers {
    rows: usize,
    bad: Vec<usize>,
    read: Arc<AtomicUsize>,
}

impl PairTable for Numbers {
    fn rows(&self) -> usize {
        self.rows
    }

    fn get(&self, index: usize) -> Result<Pair> {
        self.read.fetch_add(1, Ordering::SeqCst);
        let origin = Origin {
            file: Arc::new(PathBuf::from("n.tsv")),
            row: index as u64 + 1,
        };
        if self.bad.contains(&index) {
            return Err(Error::invalid("bad").file(&*origin.file).row(origin.row));
        }
        Ok(Pair {
            key: Id(index as u64),
            item: None,
            texts: vec![index.to_string().into()],
            images: vec![EncodedImage::File("x.png".into())],
            concepts: Vec::new(),
            weight: 1.0,
            origin,
        })
    }

    fn label(&self, _: usize, column: &str) -> Result<Option<Id>> {
        Err(Error::invalid(format!("no {column}")))
    }
}

/// Takes a while that differs by row, and fails where the row ends in 7.
struct Slow;

impl Prepare for Slow {
    type Output = (u64, String);

    fn prepare(&self, pair: &Pair, index: u64) -> Result<Self::Output> {
        thread::sleep(Duration::from_micros(pair.key.0 * 53 % 300));
        match pair.key.0 {
            13 => panic!("thirteen"),
            key if key % 10 == 7 => Err(Error::invalid("seven")
                .file("x.png")
                .column("image")
                .remedy("take eight")),
            _ => Ok((index, pair.texts[0].to_string())),
        }
    }
}

fn plan(batch: usize) -> Plan {
    Plan {
        seed: 3,
        epoch: 1,
        rank: 0,
        world: 1,
        batch,
    }
}

fn options(workers: usize) -> LoaderOptions {
    LoaderOptions {
        workers,
        ahead: 9,
        bad_rows: BadRows::Skip,
        last: LastBatch::Short,
    }
}

fn source(rows: usize, bad: &[usize]) -> (Shuffled, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let table = Numbers {
        rows,
        bad: bad.to_vec(),
        read: Arc::clone(&read),
    };
    (Shuffled::new(Arc::new(table), Arc::new(Shuffle)), read)
}

/// What can be seen of a batch.
type Seen = (Vec<(u64, String)>, u64, Vec<String>);

fn batches(source: &Shuffled, plan: Plan, from: &Position, options: LoaderOptions) -> Vec<Seen> {
    let loader = Loader::start(source, plan, from, options, Arc::new(Slow)).unwrap();
    let seen = |batch: Result<Batch<(u64, String)>>| {
        let batch = batch.unwrap();
        let rejected = batch.rejected.iter().map(ToString::to_string).collect();
        (
            batch.rows.into_iter().map(|row| row.output).collect(),
            batch.reached.taken,
            rejected,
        )
    };
    loader.map(seen).collect()
}

#[test]
fn the_batches_are_the_same_whatever_the_threads() {
    let (source, _) = source(100, &[4, 5, 6]);
    let one = batches(&source, plan(8), &Position::default(), options(1));
    // 100 rows, 3 unreadable, 1 panics, 10 refused: 86 good ones, each in full batches but the last.
    assert_eq!(
        one.iter().map(|batch| batch.0.len()).collect::<Vec<_>>(),
        [vec![8; 10], vec![6]].concat()
    );
    let rejected: usize = one.iter().map(|batch| batch.2.len()).sum();
    assert_eq!(rejected, 14);
    for workers in [2, 7] {
        assert_eq!(batches(&source, plan(8), &Position::default(), options(workers)), one);
    }
}

#[test]
fn from_each_position_the_rest_is_the_same() {
    let (source, _) = source(60, &[20, 21]);
    let all = batches(&source, plan(4), &Position::default(), options(3));
    for (done, batch) in all.iter().enumerate() {
        let from = Position {
            taken: batch.1,
            ..Position::default()
        };
        assert_eq!(batches(&source, plan(4), &from, options(2)), all[done + 1..]);
    }
}

#[test]
fn processes_share_a_batch() {
    let (source, _) = source(16, &[]);
    let ranks = [0, 1].map(|rank| {
        batches(
            &source,
            Plan {
                rank,
                world: 2,
                ..plan(8)
            },
            &Position::default(),
            options(2),
        )
    });
    assert!(ranks.iter().all(|batches| batches[0].0.len() == 4));
    let error = Loader::start(
        &source,
        Plan { world: 3, ..plan(8) },
        &Position::default(),
        options(1),
        Arc::new(Slow),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "8 pairs a batch do not divide over 3 processes; choose another --batch-size"
    );
}

#[test]
fn the_first_bad_row_stops_and_is_named() {
    let (source, _) = source(20, &[]);
    let stop = LoaderOptions {
        bad_rows: BadRows::Stop,
        ..options(3)
    };
    let mut loader = Loader::start(&source, plan(20), &Position::default(), stop, Arc::new(Slow)).unwrap();
    let error = loader.next().unwrap().unwrap_err();
    // Which of the two bad rows comes first, the shuffle says; what it says of them is fixed.
    let messages = [
        "n.tsv, row 14: thirteen",
        "n.tsv, row 8, column `image`: `x.png`: seven; take eight",
    ];
    assert!(
        messages.contains(&error.to_string().as_str()) || error.to_string().starts_with("n.tsv, row 18"),
        "{error}"
    );
    assert!(loader.next().is_none());
}

#[test]
fn a_short_last_batch_can_be_left_out() {
    let (source, _) = source(10, &[]);
    let dropping = LoaderOptions {
        last: LastBatch::Drop,
        ..options(2)
    };
    let mut loader = Loader::start(&source, plan(4), &Position::default(), dropping, Arc::new(Slow)).unwrap();
    let mut rejected: Vec<Error> = Vec::new();
    let mut rows = 0;
    for batch in loader.by_ref() {
        let batch = batch.unwrap();
        rows += batch.rows.len();
        rejected.extend(batch.rejected);
    }
    rejected.extend(loader.rejected_behind());
    assert_eq!((rows, loader.reached().taken), (8, 10));
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        rejected[0].to_string(),
        "n.tsv, row 8, column `image`: `x.png`: seven; take eight"
    );
}

#[test]
fn it_reads_no_further_ahead_than_told() {
    let (source, read) = source(500, &[]);
    let mut loader = Loader::start(&source, plan(10), &Position::default(), options(3), Arc::new(Slow)).unwrap();
    let batch = loader.next().unwrap().unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(read.load(Ordering::SeqCst) as u64, batch.reached.taken + 9);
    drop(loader);
    thread::sleep(Duration::from_millis(5));
    assert_eq!(read.load(Ordering::SeqCst) as u64, batch.reached.taken + 9);
}
