//! Files mapped into memory, the only unsafe code of this crate.
#![allow(unsafe_code, reason = "mapping a file is unsafe: somebody may cut it meanwhile")]

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use clip_core::{Error, Result};

/// A whole file, mapped privately and read-only. Pages are read when they are touched.
///
/// A file that somebody cuts while it is mapped ends the process with SIGBUS; one that somebody rewrites in place
/// shows a mixture. Writers of this project never do either: they write beside and rename.
#[derive(Debug)]
pub(crate) struct MappedFile {
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Mapped(memmap2::Mmap),
    /// What was a file elsewhere, or never one.
    Held(Vec<u8>),
}

impl MappedFile {
    /// Maps a file; an empty one is an error.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        let meta = file.metadata().map_err(|error| Error::io("read", path, error))?;
        if !meta.is_file() {
            return Err(Error::invalid("is not a file of weights").file(path));
        }
        if meta.len() == 0 {
            return Err(Error::invalid("the file is empty")
                .file(path)
                .remedy("copy or download it again"));
        }
        // SAFETY: the mapping is private and read-only, and nothing in this process writes to the file. Another
        // process that cuts or rewrites it breaks the promise of `&[u8]`; the type's documentation says so.
        let map = unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) };
        let map = map.map_err(|error| Error::io("map", path, error))?;
        Ok(Self {
            bytes: Bytes::Mapped(map),
        })
    }

    /// The same of bytes that are in memory already.
    pub(crate) fn held(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Bytes::Held(bytes),
        }
    }

    /// Gives the pages that were touched back to the system. Touched again, they are read again.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes {
            // SAFETY: the bytes stay what they were, since nothing ever wrote to this private mapping: a page that is gone
            // is filled from the file when it is touched. Advice that the system does not take changes nothing.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Held(bytes) => bytes,
        }
    }
}
