//! Finds the state dictionary among a pickle's values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use clip_core::{Error, Result};

use super::machine::{Arena, Index, Storage, Tensor, Value};
use super::modules;
use super::strided::StridedView;
use crate::tensor::TensorInfo;

/// PyTorch's own limit.
const MOST_DIMENSIONS: usize = 64;
/// Tensors of a model. Each gets its own copy of a name and a shape, which in the pickle may be one for all.
pub(super) const MOST_TENSORS: usize = 1 << 16;
/// Bytes of a name.
pub(super) const LONGEST_NAME: usize = 512;

/// One tensor: what it is, how it views its storage, and where in the file that lies.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) info: TensorInfo,
    pub(crate) view: StridedView,
    pub(crate) bytes: Range<usize>,
}

/// The tensors of the result, in the order of the dictionary; `locate` says where a storage's bytes lie.
pub(crate) fn entries(
    arena: &Arena<'_>,
    result: Index,
    locate: impl Fn(&Storage<'_>, usize) -> Result<Range<usize>>,
) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut places = HashMap::new();
    for (name, tensor) in named(arena, result)? {
        let entry = entry(arena, &name, tensor, &locate)
            .map_err(|error| Error::new(error.kind(), format!("tensor `{name}`: {}", error.what())))?;
        // A key that comes twice: the later one counts, as in Python.
        match places.get(&*name) {
            Some(&place) => entries[place] = entry,
            None => {
                places.insert(name, entries.len());
                entries.push(entry);
            }
        }
    }
    if entries.is_empty() {
        return Err(no_state("it holds no named tensors"));
    }
    Ok(entries)
}

/// The tensors and their names: of a state dictionary, or of a traced model.
fn named<'v>(arena: &'v Arena<'_>, result: Index) -> Result<Vec<(Cow<'v, str>, Tensor)>> {
    let state = match arena.get(result) {
        Value::Module(_) => return modules::tensors(arena, result),
        Value::Dict(top) => nested(arena, top).unwrap_or(top),
        _ => return Err(no_state("its top is no dictionary")),
    };
    let mut tensors = Vec::new();
    for &(key, value) in state {
        if let (Value::Str(name), Value::Tensor(tensor)) = (arena.get(key), arena.get(value)) {
            bound(tensors.len() + 1, MOST_TENSORS, "tensors")?;
            bound(name.len(), LONGEST_NAME, "bytes in the name of a tensor")?;
            tensors.push((Cow::Borrowed(*name), *tensor));
        }
    }
    Ok(tensors)
}

pub(super) fn bound(number: usize, most: usize, what: &str) -> Result<()> {
    if number <= most {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "the model has more than {most} {what}, which no CLIP has"
    )))
}

/// The dictionary under `state_dict`, as training checkpoints have it.
fn nested<'v>(arena: &'v Arena<'_>, top: &[(Index, Index)]) -> Option<&'v Vec<(Index, Index)>> {
    let found = top.iter().find(|(key, _)| arena.get(*key) == &Value::Str("state_dict"));
    match found.map(|(_, value)| arena.get(*value)) {
        Some(Value::Dict(state)) => Some(state),
        _ => None,
    }
}

fn entry(
    arena: &Arena<'_>,
    name: &str,
    tensor: Tensor,
    locate: &impl Fn(&Storage<'_>, usize) -> Result<Range<usize>>,
) -> Result<Entry> {
    let Value::Storage(storage) = arena.get(tensor.storage) else {
        return Err(Error::invalid("has no storage"));
    };
    let dtype = storage
        .dtype
        .ok_or_else(|| Error::invalid("has complex or quantised elements"))?;
    // Rank is limited before shapes are copied, since many entries may share one.
    let shape = arena
        .sizes(tensor.sizes, MOST_DIMENSIONS)
        .ok_or_else(|| Error::invalid("has no shape"))?;
    let strides = arena
        .sizes(tensor.strides, MOST_DIMENSIONS)
        .ok_or_else(|| Error::invalid("has no strides"))?;
    let offset = arena
        .size(tensor.offset)
        .and_then(|offset| offset.checked_add(storage.view_offset));
    let offset = offset.ok_or_else(|| Error::invalid("has no offset"))?;
    let length = storage
        .elements
        .checked_mul(dtype.size())
        .ok_or_else(|| Error::invalid("has too large a storage"))?;
    let view = StridedView::new(shape.clone(), strides, offset, storage.elements)?;
    let bytes = locate(storage, length)?;
    Ok(Entry {
        info: TensorInfo {
            name: name.to_owned(),
            dtype,
            shape,
        },
        view,
        bytes,
    })
}

fn no_state(what: &str) -> Error {
    Error::invalid(format!("the file holds no state dictionary: {what}"))
        .remedy("save `model.state_dict()` rather than the model")
}
