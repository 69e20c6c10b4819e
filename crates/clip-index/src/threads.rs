//! On how many threads.

use std::num::NonZeroUsize;

use clip_core::{Error, Result};

/// How scores are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Threads to use; `None`: those of rayon's global pool, by default one a core.
    pub threads: Option<NonZeroUsize>,
}

impl Options {
    /// With a given number of threads; 0 stands for the default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = NonZeroUsize::new(threads);
        self
    }

    /// Runs `work` in a pool of the wanted size.
    pub(crate) fn install<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let Some(threads) = self.threads else { return Ok(work()) };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .thread_name(|thread| format!("clipzoo-score-{thread}"))
            .build()
            .map_err(|error| Error::exhausted(format!("cannot start {threads} threads: {error}")).source(error))?;
        Ok(pool.install(work))
    }
}
