//! Writing on a thread of its own, so that a model does not wait for a disk.

use std::thread::{self, JoinHandle};

use clip_core::{Error, FeatureRows, FeatureSink, Result};
use crossbeam_channel::{Sender, bounded};

/// Appends that may wait for the disk before the one who appends waits too. Each is a window of rows, so a few are plenty.
const WAITING: usize = 2;

/// Writes into `sink` on a thread of its own. What goes wrong there comes out of the next append, or of the commit.
///
/// # Errors
/// The system gives no more threads.
pub fn write_behind(sink: Box<dyn FeatureSink>) -> Result<Box<dyn FeatureSink>> {
    let (rows, inbox) = bounded::<FeatureRows>(WAITING);
    let run = move || {
        let mut sink = sink;
        while let Ok(rows) = inbox.recv() {
            sink.append(rows)?;
        }
        Ok(sink)
    };
    let thread = thread::Builder::new()
        .name("writer".into())
        .spawn(run)
        .map_err(|error| Error::exhausted(format!("cannot start a thread: {error}")).source(error))?;
    Ok(Box::new(Behind {
        rows: Some(rows),
        thread: Some(thread),
    }))
}

struct Behind {
    rows: Option<Sender<FeatureRows>>,
    thread: Option<JoinHandle<Result<Box<dyn FeatureSink>>>>,
}

impl Behind {
    /// Waits for the thread, and gives the sink back.
    fn end(&mut self) -> Result<Box<dyn FeatureSink>> {
        // Without a sender the thread writes what waits and ends.
        self.rows = None;
        let thread = self
            .thread
            .take()
            .ok_or_else(|| Error::internal("the writer has ended"))?;
        thread.join().unwrap_or_else(|panic| Err(Error::from_panic(panic)))
    }
}

impl FeatureSink for Behind {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        match &self.rows {
            Some(sender) if sender.send(rows).is_ok() => Ok(()),
            // The thread is gone, and says why.
            _ => self.end().and(Err(Error::internal("the writer has ended"))),
        }
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.end()?.commit()
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.rows = None;
        // The sink goes with the thread, so that nothing is left behind once this returns.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the numbers of rows, refuses number 5, and notes its commit and its end.
    struct Log(Arc<Mutex<Vec<String>>>);

    impl FeatureSink for Log {
        fn append(&mut self, rows: FeatureRows) -> Result<()> {
            if rows.first == 5 {
                return Err(Error::invalid("no room"));
            }
            self.0.lock().unwrap().push(rows.first.to_string());
            Ok(())
        }

        fn commit(self: Box<Self>) -> Result<()> {
            self.0.lock().unwrap().push("commit".into());
            Ok(())
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            self.0.lock().unwrap().push("end".into());
        }
    }

    fn row(first: u64) -> FeatureRows {
        FeatureRows {
            first,
            ..FeatureRows::default()
        }
    }

    #[test]
    fn rows_keep_their_order_and_the_commit_is_last() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut sink = write_behind(Box::new(Log(Arc::clone(&log)))).unwrap();
        (0..5).for_each(|first| sink.append(row(first)).unwrap());
        sink.commit().unwrap();
        assert_eq!(*log.lock().unwrap(), ["0", "1", "2", "3", "4", "commit", "end"]);
    }

    #[test]
    fn an_error_comes_out_and_a_dropped_writer_ends_its_sink() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut sink = write_behind(Box::new(Log(Arc::clone(&log)))).unwrap();
        let error = (0..1000).find_map(|first| sink.append(row(first)).err()).unwrap();
        assert_eq!(error.what(), "no room");
        assert!(sink.append(row(6)).is_err() && sink.commit().is_err());
        assert_eq!(*log.lock().unwrap(), ["0", "1", "2", "3", "4", "end"]);
        let mut sink = write_behind(Box::new(Log(Arc::clone(&log)))).unwrap();
        sink.append(row(7)).unwrap();
        drop(sink);
        assert_eq!(log.lock().unwrap().last().unwrap(), "end");
        assert!(!log.lock().unwrap().contains(&"commit".to_owned()));
    }
}
