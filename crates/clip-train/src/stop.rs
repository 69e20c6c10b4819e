//! A wish to end a run early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to end a run early, without losing what it did: whoever holds a clone asks (a handler of Ctrl-C, another thread),
/// and the trainer looks behind each step, makes a checkpoint and ends with an error that says how to go on.
///
/// ```
/// let stop = clip_train::Stop::default();
/// let other = stop.clone();
/// std::thread::spawn(move || other.ask()).join().unwrap();
/// assert!(stop.asked());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the run to end behind its current step. Asking twice changes nothing.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
