//! PyTorch's container before 1.6: a magic number, a protocol version and facts on the machine, each a pickle; the
//! object's pickle; the storages' keys, a pickle; then, for each key, its count of elements and its data.

use std::collections::HashMap;
use std::ops::Range;

use clip_core::{Error, Result};

use super::machine::{self, Arena, Index, Value};
use super::op::malformed;
use super::state::{self, Entry};
use super::{LONGEST_PICKLE, global};
use crate::weights::cut_short;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The tensors of the container.
pub(crate) fn entries(bytes: &[u8]) -> Result<Vec<Entry>> {
    global::refuse_forbidden(bytes, 5)?;
    let pickles = &bytes[..bytes.len().min(LONGEST_PICKLE)];
    let mut at = 0;
    let (arena, magic) = next(pickles, &mut at)?;
    if arena.get(magic) != &Value::Long(&MAGIC) {
        let error = Error::invalid("is a pickle, but none that torch.save wrote");
        return Err(error.remedy("name a .safetensors, .bin, .pt or .pth file of weights"));
    }
    let (arena, version) = next(pickles, &mut at)?;
    if arena.get(version) != &Value::Int(1001) {
        return Err(Error::invalid("is of an unknown version of PyTorch's old container"));
    }
    // Facts on the machine: whether it is little-endian. Every machine that runs PyTorch today is.
    next(pickles, &mut at)?;
    let (arena, object) = next(pickles, &mut at)?;
    let (keys_arena, keys) = next(pickles, &mut at)?;
    let places = storages(bytes, at, &arena, &keys_arena, keys)?;
    state::entries(&arena, object, |storage, length| {
        let found = places.get(storage.key);
        let found = found.ok_or_else(|| Error::invalid(format!("its data {} is missing", storage.key)))?;
        if found.len() < length {
            Err(cut_short(length, found.len()))
        } else {
            Ok(found.clone())
        }
    })
}

fn next<'a>(bytes: &'a [u8], at: &mut usize) -> Result<(Arena<'a>, Index)> {
    let (arena, result, used) = machine::run(&bytes[*at..])?;
    *at += used;
    Ok((arena, result))
}

/// Where each storage's bytes lie, found by walking over them.
fn storages<'a>(
    bytes: &[u8],
    mut at: usize,
    arena: &Arena<'a>,
    keys_arena: &Arena<'a>,
    keys: Index,
) -> Result<HashMap<&'a str, Range<usize>>> {
    let mut sizes = HashMap::new();
    for value in arena.values() {
        if let Value::Storage(storage) = value {
            sizes.insert(storage.key, storage.dtype);
        }
    }
    let Value::List(keys) = keys_arena.get(keys) else {
        return Err(malformed("it lists no storages"));
    };
    let mut places = HashMap::with_capacity(keys.len());
    for &key in keys {
        let Value::Str(key) = *keys_arena.get(key) else {
            return Err(malformed("a storage has no name"));
        };
        let dtype = sizes
            .get(key)
            .copied()
            .ok_or_else(|| malformed("it lists a storage that nothing uses"))?;
        let dtype = dtype.ok_or_else(|| Error::invalid(format!("storage {key} has complex or quantised elements")))?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let count = u64::from_le_bytes(*count.ok_or_else(|| cut_short(at + 8, bytes.len()))?);
        let length = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(dtype.size()));
        let end = length.and_then(|length| (at + 8).checked_add(length));
        let end = end.ok_or_else(|| malformed("the size of a storage overflows"))?;
        if end > bytes.len() {
            return Err(cut_short(end, bytes.len()));
        }
        places.insert(key, at + 8..end);
        at = end;
    }
    Ok(places)
}
