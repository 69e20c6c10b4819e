//! Small JSON files: config, preprocessor, index.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clip_core::{Error, Result};
use serde_json::Value;

/// No JSON file beside weights is longer; an index of a hundred thousand tensors is about 10 MB.
const LIMIT: u64 = 64 << 20;

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let file = File::open(path).map_err(|error| Error::io("read", path, error))?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("read", path, error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::exhausted(format!("the JSON file is longer than {LIMIT} bytes")).file(path));
    }
    // Some editors write a byte order mark, which is no JSON.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    serde_json::from_slice(text).map_err(|error| Error::invalid(format!("is not JSON: {error}")).file(path))
}
