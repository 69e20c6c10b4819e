//! A parallel map that keeps the order and holds only so much: what prefetching rests on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use clip_core::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};

/// Applies `f` to the items of `items` on `workers` threads and gives the results in the order of the items, whatever
/// the number of threads. At most `ahead` items are taken from `items` before the first of them is given out; an idle
/// consumer so stops the work. A further thread draws the items.
///
/// A panic in `f` becomes the error of its item; a panic in `items` becomes a last error. Dropping the iterator ends
/// the threads as soon as each has finished the item it works on.
///
/// `workers` and `ahead` count as 1 at least.
///
/// # Errors
/// The system gives no more threads.
///
/// ```
/// let squares = clip_data::ordered(0..5, 2, 4, |x: i32| Ok(x * x))?;
/// assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [0, 1, 4, 9, 16]);
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn ordered<I, O, F>(items: I, workers: usize, ahead: usize, f: F) -> Result<Ordered<O>>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Send + 'static,
    O: Send + 'static,
    F: Fn(I::Item) -> Result<O> + Send + Sync + 'static,
{
    let (workers, ahead) = (workers.max(1), ahead.max(1));
    let stop = Arc::new(Stop::default());
    // A permit for each item under way: the feeder takes one before it draws an item, the consumer gives it back.
    let (permit, permits) = bounded(ahead);
    for _ in 0..ahead {
        permit.send(()).map_err(|_| ended())?;
    }
    // Each item goes to whichever worker is free, with the way back for its result; the ways back stand in order.
    let (work, jobs) = bounded::<(I::Item, Sender<Result<O>>)>(ahead);
    let (promise, promises) = bounded::<Receiver<Result<O>>>(ahead);
    let mut ordered = Ordered {
        permit: Some(permit),
        promises: Some(promises),
        stop: Arc::clone(&stop),
        threads: Vec::new(),
    };
    let f = Arc::new(f);
    for number in 0..workers {
        let (jobs, f, stop) = (jobs.clone(), Arc::clone(&f), Arc::clone(&stop));
        ordered.spawn(format!("worker {number}"), move || run(&jobs, &*f, &stop))?;
    }
    let items = items.into_iter();
    ordered.spawn("feeder".into(), move || feed(items, &permits, &work, &promise, &stop))?;
    Ok(ordered)
}

/// Set when the results are no longer wanted.
#[derive(Debug, Default)]
struct Stop(AtomicBool);

impl Stop {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn feed<T, O>(
    mut items: impl Iterator<Item = T>,
    permits: &Receiver<()>,
    work: &Sender<(T, Sender<Result<O>>)>,
    promise: &Sender<Receiver<Result<O>>>,
    stop: &Stop,
) {
    while permits.recv().is_ok() && !stop.is_set() {
        let (reply, result) = bounded(1);
        // No send below can fail to have room, only to find nobody there: then there is nothing more to do.
        match catch_unwind(AssertUnwindSafe(|| items.next())) {
            Ok(Some(item)) => {
                if promise.send(result).is_err() || work.send((item, reply)).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(panic) => {
                reply.send(Err(Error::from_panic(panic))).ok();
                promise.send(result).ok();
                return;
            }
        }
    }
}

fn run<T, O>(jobs: &Receiver<(T, Sender<Result<O>>)>, f: &impl Fn(T) -> Result<O>, stop: &Stop) {
    while let Ok((item, reply)) = jobs.recv() {
        if stop.is_set() {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(|| f(item))).unwrap_or_else(|panic| Err(Error::from_panic(panic)));
        reply.send(result).ok();
    }
}

fn ended() -> Error {
    Error::internal("a worker thread ended before its work")
}

/// The results of [`ordered`], in the order of the items.
#[derive(Debug)]
pub struct Ordered<O> {
    permit: Option<Sender<()>>,
    promises: Option<Receiver<Receiver<Result<O>>>>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl<O> Ordered<O> {
    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = thread::Builder::new().name(name).spawn(run).map_err(|error| {
            Error::exhausted(format!("cannot start a thread: {error}"))
                .remedy("use fewer --workers")
                .source(error)
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl<O> Iterator for Ordered<O> {
    type Item = Result<O>;

    fn next(&mut self) -> Option<Self::Item> {
        let promise = self.promises.as_ref()?.recv().ok()?;
        let result = promise.recv().unwrap_or_else(|_| Err(ended()));
        // Behind the last item there is no feeder left to take it.
        self.permit.as_ref()?.send(()).ok();
        Some(result)
    }
}

impl<O> Drop for Ordered<O> {
    fn drop(&mut self) {
        self.stop.set();
        // Closing both ends wakes a feeder that waits; it closes the work, which wakes the workers.
        self.permit = None;
        self.promises = None;
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::{Duration, Instant};

    #[test]
    fn the_order_stays_whatever_the_threads() {
        for workers in [1, 2, 7] {
            let results = ordered(0..200u64, workers, 16, |x| {
                thread::sleep(Duration::from_micros(x * 37 % 200));
                Ok(x + 1)
            });
            let results: Vec<u64> = results.unwrap().map(Result::unwrap).collect();
            assert_eq!(results, (1..=200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_more_than_so_many_are_drawn_ahead() {
        for (workers, ahead) in [(1, 1), (2, 5), (7, 3)] {
            let drawn = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&drawn);
            let items = (0..100).inspect(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
            });
            let mut results = ordered(items, workers, ahead, Ok).unwrap();
            let mut most = 0;
            for given in 0..100 {
                if given % 10 == 0 {
                    thread::sleep(Duration::from_millis(5));
                }
                let ahead_now = drawn.load(Ordering::SeqCst) - given;
                assert!(ahead_now <= ahead, "{ahead_now} > {ahead}");
                most = most.max(ahead_now);
                results.next().unwrap().unwrap();
            }
            assert_eq!(most, ahead);
            assert!(results.next().is_none() && results.next().is_none());
        }
    }

    #[test]
    fn a_panic_is_the_error_of_its_item() {
        let results = ordered(0..4, 2, 4, |x| if x == 1 { panic!("item {x} is odd") } else { Ok(x) }).unwrap();
        let results: Vec<_> = results
            .map(|result| result.map_err(|error| error.to_string()))
            .collect();
        assert_eq!(results, [Ok(0), Err("item 1 is odd".into()), Ok(2), Ok(3)]);
        let broken = (0..4).inspect(|&x| assert!(x < 2, "no item {x}"));
        let results: Vec<_> = ordered(broken, 2, 4, Ok)
            .unwrap()
            .map(|r| r.map_err(|e| e.to_string()))
            .collect();
        assert_eq!(results, [Ok(0), Ok(1), Err("no item 2".into())]);
    }

    #[test]
    fn dropping_ends_the_work_at_once() {
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let mut results = ordered(0.., 2, 1000, move |x: u64| {
            thread::sleep(Duration::from_millis(10));
            count.fetch_add(1, Ordering::SeqCst);
            Ok(x)
        })
        .unwrap();
        results.next().unwrap().unwrap();
        let start = Instant::now();
        drop(results);
        // The threads are joined: nothing runs on, and of the queue only what was in hand was finished.
        assert!(start.elapsed() < Duration::from_secs(2));
        let then = done.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(30));
        assert_eq!(done.load(Ordering::SeqCst), then);
        assert!(then < 100, "{then}");
    }
}
