//! The start of a safetensors file: its length, and a JSON object that says where each array lies.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use ::safetensors::tensor::Metadata;
use clip_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::elements::Number;
use crate::positioned::read_exact_at;

/// The longest header the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An array that a header describes.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) number: Number,
    pub(crate) shape: Vec<u64>,
    /// First byte and the one behind the last, counted from the end of the header.
    pub(crate) bytes: [u64; 2],
}

/// The first bytes of a file of arrays: padded with spaces to at least `length` bytes and a multiple of 8, so that
/// the arrays are aligned.
pub(crate) fn file_start(entries: &[Entry<'_>], metadata: &BTreeMap<String, String>, length: usize) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    for Entry {
        name,
        number,
        shape,
        bytes,
    } in entries
    {
        let value = json!({ "dtype": number.name(), "shape": shape, "data_offsets": bytes });
        header.insert((*name).to_owned(), value);
    }
    let header = Value::from(header).to_string();
    let padded = (8 + header.len()).max(length).next_multiple_of(8);
    let mut start = ((padded - 8) as u64).to_le_bytes().to_vec();
    start.extend_from_slice(header.as_bytes());
    start.resize(padded, b' ');
    start
}

/// Reads a header and checks it against the file's length; gives it with the place where the arrays start.
///
/// # Errors
/// The file is no safetensors file, or shorter or longer than its header says.
pub(crate) fn read_header(file: &File, path: &Path) -> Result<(Metadata, u64)> {
    let io = |error| Error::io("read", path, error);
    let broken = |what: String| Error::invalid(what).file(path).remedy("write the file again");
    let total = file.metadata().map_err(io)?.len();
    let mut length = [0; 8];
    if total < 8 {
        return Err(broken(format!("this is no safetensors file: it has {total} bytes")));
    }
    read_exact_at(file, &mut length, 0).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > total - 8 {
        return Err(broken(format!(
            "this is no safetensors file, or it was cut: a header of {length} bytes in a file of {total}"
        )));
    }
    let mut header = vec![0; length as usize];
    read_exact_at(file, &mut header, 8).map_err(io)?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| broken(format!("this is no safetensors file: its header is wrong: {error}")).source(error))?;
    let held = total - 8 - length;
    if metadata.data_len() as u64 != held {
        return Err(broken(format!(
            "the file was cut or overwritten: its arrays have {} bytes by the header, and {held} are there",
            metadata.data_len()
        )));
    }
    Ok((metadata, 8 + length))
}
