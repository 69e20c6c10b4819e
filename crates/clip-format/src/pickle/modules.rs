//! The tensors of a traced model: attributes of its objects, named by the path to them.
//!
//! Objects may share parts, so that a short pickle can describe a tree of any size; the walk has bounds of its own, and it
//! does not recurse.

use std::borrow::Cow;

use clip_core::Result;

use super::machine::{Arena, Index, Tensor, Value};
use super::state::{LONGEST_NAME, MOST_TENSORS, bound};

/// Attributes looked at: a model of a thousand blocks has about a hundred thousand.
const MOST_ATTRIBUTES: usize = 1 << 20;
/// Objects within objects.
const DEEPEST: usize = 64;

/// Every tensor attribute of a module and its parts, in order.
pub(super) fn tensors<'v>(arena: &'v Arena<'_>, root: Index) -> Result<Vec<(Cow<'v, str>, Tensor)>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    let mut path = vec![(String::new(), attributes(arena, arena.get(root)).iter())];
    while let Some((prefix, rest)) = path.last_mut() {
        let Some(&(key, value)) = rest.next() else {
            path.pop();
            continue;
        };
        looked_at += 1;
        bound(looked_at, MOST_ATTRIBUTES, "attributes")?;
        let Value::Str(key) = arena.get(key) else { continue };
        match arena.get(value) {
            Value::Tensor(tensor) => {
                bound(found.len() + 1, MOST_TENSORS, "tensors")?;
                found.push((Cow::Owned(named(prefix, key)?), *tensor));
            }
            part @ Value::Module(_) => {
                let inside = named(prefix, key)? + ".";
                bound(path.len() + 1, DEEPEST, "parts within parts")?;
                path.push((inside, attributes(arena, part).iter()));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn named(prefix: &str, key: &str) -> Result<String> {
    bound(prefix.len() + key.len(), LONGEST_NAME, "bytes in the name of a part")?;
    Ok(format!("{prefix}{key}"))
}

/// What hangs at an object; nothing where its state is no dictionary.
fn attributes<'v>(arena: &'v Arena<'_>, object: &Value<'_>) -> &'v [(Index, Index)] {
    let Value::Module(Some(state)) = object else { return &[] };
    match arena.get(*state) {
        Value::Dict(attributes) => attributes,
        _ => &[],
    }
}
