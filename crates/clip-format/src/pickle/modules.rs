//! The tensors of a traced model: attributes of its objects, named by the path to them.
//!
//! Objects may share parts, so that a short pickle can describe a tree of any size; the walk has bounds of its own, and it
//! does not recurse.

use std::borrow::Cow;

use clip_core::{Error, Result};

use super::machine::{Arena, Index, Tensor, Value};

/// Attributes looked at: a model of a thousand blocks has about a hundred thousand.
const MOST_ATTRIBUTES: usize = 1 << 20;
/// Tensors of a model.
const MOST_TENSORS: usize = 1 << 16;
/// Objects within objects.
const DEEPEST: usize = 64;
/// Bytes of a name.
const LONGEST_NAME: usize = 512;

/// Every tensor attribute of a module and its parts, in order.
pub(super) fn tensors<'v>(arena: &'v Arena<'_>, root: Index) -> Result<Vec<(Cow<'v, str>, Tensor)>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    let mut path = vec![(String::new(), attributes(arena, root).iter())];
    while let Some((prefix, rest)) = path.last_mut() {
        let Some(&(key, value)) = rest.next() else {
            path.pop();
            continue;
        };
        looked_at += 1;
        let (Value::Str(key), value @ (Value::Tensor(_) | Value::Module(_))) = (arena.get(key), arena.get(value))
        else {
            bound(looked_at, MOST_ATTRIBUTES, "attributes")?;
            continue;
        };
        let name = format!("{prefix}{key}");
        bound(looked_at, MOST_ATTRIBUTES, "attributes")?;
        bound(name.len(), LONGEST_NAME, "bytes in the name of a part")?;
        match value {
            Value::Tensor(tensor) => found.push((Cow::Owned(name), *tensor)),
            _ => path.push((format!("{name}."), attributes_of(arena, value).iter())),
        }
        bound(found.len(), MOST_TENSORS, "tensors")?;
        bound(path.len(), DEEPEST, "parts within parts")?;
    }
    Ok(found)
}

fn attributes<'v>(arena: &'v Arena<'_>, object: Index) -> &'v [(Index, Index)] {
    attributes_of(arena, arena.get(object))
}

fn attributes_of<'v>(arena: &'v Arena<'_>, object: &Value<'_>) -> &'v [(Index, Index)] {
    match object {
        Value::Module(Some(state)) => match arena.get(*state) {
            Value::Dict(attributes) => attributes,
            _ => &[],
        },
        _ => &[],
    }
}

fn bound(number: usize, most: usize, what: &str) -> Result<()> {
    if number <= most {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "the traced model has more than {most} {what}, which no CLIP has"
    )))
}
