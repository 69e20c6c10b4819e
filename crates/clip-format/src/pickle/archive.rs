//! PyTorch's zip container: `NAME/data.pkl` and `NAME/data/KEY` for each storage, all stored uncompressed.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use clip_core::{Error, Result};
use zip::{CompressionMethod, ZipArchive};

use super::machine::Value;
use super::state::{self, Entry};
use super::{LONGEST_PICKLE, global, machine};
use crate::weights::cut_short;

/// The tensors of the container, and whether it holds a traced model.
pub(crate) fn entries(bytes: &[u8]) -> Result<(Vec<Entry>, bool)> {
    let mut archive = match ZipArchive::new(Cursor::new(bytes)) {
        Ok(archive) => archive,
        Err(error) => {
            refuse_forbidden_at_start(bytes)?;
            let what = format!("the container is damaged or cut short ({} bytes): {error}", bytes.len());
            return Err(Error::invalid(what).remedy("copy or download it again"));
        }
    };
    refuse_forbidden(&mut archive, bytes)?;
    let files = stored_files(&mut archive, bytes.len())?;
    let (root, pickle) = pickle(&files)?;
    if files
        .get(format!("{root}byteorder").as_str())
        .is_some_and(|order| &bytes[order.clone()] == b"big")
    {
        return Err(Error::invalid(
            "the file was written on a big-endian machine, which is not supported",
        ));
    }
    if pickle.len() > LONGEST_PICKLE {
        return Err(Error::exhausted(format!(
            "its data.pkl is longer than {LONGEST_PICKLE} bytes"
        )));
    }
    let (arena, result, _) = machine::run(&bytes[pickle])?;
    let script = matches!(arena.get(result), Value::Module(_));
    let entries = state::entries(&arena, result, |storage, length| {
        let name = format!("{root}data/{}", storage.key);
        let found = files
            .get(name.as_str())
            .ok_or_else(|| Error::invalid(format!("its data {name} is missing")))?;
        if found.len() < length {
            Err(cut_short(length, found.len()))
        } else {
            Ok(found.clone())
        }
    })?;
    Ok((entries, script))
}

/// Looks at every `data.pkl` whose bytes can be found, before anything else of the container can be an error.
fn refuse_forbidden(archive: &mut ZipArchive<Cursor<&[u8]>>, bytes: &[u8]) -> Result<()> {
    // A directory may name the same bytes again and again: all together are looked at no longer than one.
    let mut left = LONGEST_PICKLE;
    let mut is_lost = false;
    for index in 0..archive.len() {
        let is_pickle = matches!(archive.name_for_index(index), Some(Ok(name)) if root(&name).is_some());
        if !is_pickle {
            continue;
        }
        let Ok(file) = archive.by_index_raw(index) else {
            is_lost = true;
            continue;
        };
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            continue;
        }
        let start = file.data_start().and_then(|start| usize::try_from(start).ok());
        let rest = start.and_then(|start| bytes.get(start..)).unwrap_or_default();
        let length = usize::try_from(file.compressed_size()).unwrap_or(usize::MAX);
        let length = length.min(rest.len()).min(left);
        global::refuse_forbidden(&rest[..length], 1)?;
        left -= length;
    }
    if is_lost {
        refuse_forbidden_at_start(bytes)?;
    }
    Ok(())
}

/// PyTorch writes `data.pkl` first, so that even a container without its directory tells what it asks for.
fn refuse_forbidden_at_start(bytes: &[u8]) -> Result<()> {
    let length = |at: usize| {
        bytes
            .get(at..at + 2)
            .map_or(0, |two| usize::from(u16::from_le_bytes([two[0], two[1]])))
    };
    // A local header has 30 bytes, then the name and an extra field, whose lengths stand at 26 and 28.
    let (name, extra) = (length(26), length(28));
    let is_pickle = bytes.get(30..30 + name).is_some_and(|name| name.ends_with(b"data.pkl"));
    match bytes.get(30 + name + extra..) {
        Some(pickle) if is_pickle => global::refuse_forbidden(pickle, 1),
        _ => Ok(()),
    }
}

/// Where each file's bytes lie. Compressed files are refused: PyTorch never writes them, and their sizes are only
/// claims.
fn stored_files(archive: &mut ZipArchive<Cursor<&[u8]>>, total: usize) -> Result<HashMap<String, Range<usize>>> {
    let damaged = |error: zip::result::ZipError| Error::invalid(format!("the container is damaged: {error}"));
    let mut files = HashMap::with_capacity(archive.len());
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?.into_owned();
        let plain = file.compression() == CompressionMethod::Stored && !file.encrypted();
        if !plain {
            // Source code of a traced model may be compressed; only what we read must not be.
            let inner = name.split_once('/').map_or(&*name, |(_, inner)| inner);
            if [&*name, inner]
                .into_iter()
                .any(|name| name == "data.pkl" || name.starts_with("data/"))
            {
                return Err(Error::invalid(format!(
                    "{name} is compressed or encrypted, as PyTorch never writes it"
                )));
            }
            continue;
        }
        let start = file.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(usize::try_from(file.compressed_size()).ok()?));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= total)) else {
            return Err(Error::invalid(format!("{name} lies outside the container")));
        };
        files.insert(name, start..end);
    }
    Ok(files)
}

/// The folder of the container, if this is the name of its `data.pkl`.
fn root(name: &str) -> Option<&str> {
    let root = name.strip_suffix("data.pkl")?;
    let one_level = root.is_empty() || root.strip_suffix('/').is_some_and(|folder| !folder.contains('/'));
    one_level.then_some(root)
}

/// The folder of the container and its `data.pkl`.
fn pickle(files: &HashMap<String, Range<usize>>) -> Result<(String, Range<usize>)> {
    let named = |(name, range): (&String, &Range<usize>)| Some((root(name)?.to_owned(), range.clone()));
    let mut found = files.iter().filter_map(named);
    let error = |what| Error::invalid(what).remedy("name a file that torch.save wrote");
    let first = found.next().ok_or_else(|| error("the zip file holds no data.pkl"))?;
    if found.next().is_some() {
        Err(error("the zip file holds several data.pkl"))
    } else {
        Ok(first)
    }
}
