//! A checkpoint's identity: the same for the same model in whatever layout, different for any other. And a fingerprint of
//! its weights, which takes no reading of them all.

use clip_core::Result;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::tensor::Weights;

/// Bytes at a tensor's start, middle and end that a fingerprint looks at.
const LOOK: usize = 64;

/// SHA-256, in hex, over the canonical tensors in order of name, the canonical config without vocabulary, transform and
/// facts on the layout, and what the transform does in words. Integers, as a norm's count of batches, are no part of the
/// model.
pub(crate) fn identity(weights: &dyn Weights, config: &Value, transform: &str) -> Result<String> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"clipzoo checkpoint 1");
    let floats = weights.tensors().iter().filter(|tensor| tensor.dtype.is_float());
    let mut names: Vec<&str> = floats.map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    for name in names {
        let Some(view) = weights.view(name)? else { continue };
        part(name.as_bytes());
        part(format!("{} {:?}", view.dtype, view.shape).as_bytes());
        part(&view.data);
    }
    let mut config = config.clone();
    if let Value::Object(config) = &mut config {
        config.remove("transform");
        config.remove("tokenizer");
        config.remove("layout");
    }
    part(sorted(&config).to_string().as_bytes());
    part(transform.as_bytes());
    Ok(hexadecimal(&hash.finalize()))
}

/// SHA-256, in hex, over names, types, shapes and three short pieces of each tensor, in order of name. Training changes
/// every number of a tensor, so that weights which were trained on, or are another model's, have another one.
pub(crate) fn fingerprint(weights: &dyn Weights) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(b"clipzoo fingerprint 1");
    let mut names = weights.names();
    names.sort_unstable();
    for name in names {
        let Some(view) = weights.view(name)? else { continue };
        let about = format!("{name}\n{} {:?}\n", view.dtype, view.shape);
        hash.update((about.len() as u64).to_le_bytes());
        hash.update(about);
        let last = view.data.len().saturating_sub(LOOK);
        for start in [0, last / 2, last] {
            hash.update(&view.data[start..view.data.len().min(start + LOOK)]);
        }
    }
    Ok(hexadecimal(&hash.finalize()))
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same value with keys in alphabetical order, so that their order in a file does not count.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(
                entries
                    .into_iter()
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Table;
    use serde_json::json;

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let weights = Table::new([("a", vec![1], vec![1.0]), ("b", vec![1], vec![2.0])]);
        let turned = Table::new([("b", vec![1], vec![2.0]), ("a", vec![1], vec![1.0])]);
        let other = Table::new([("a", vec![1], vec![1.0]), ("b", vec![1], vec![2.5])]);
        let id = |weights: &Table, config: Value, transform: &str| identity(weights, &config, transform).unwrap();
        let first = id(&weights, json!({"x": 1, "y": {"a": 1, "b": 2}}), "t");
        assert_eq!(first.len(), 64);
        assert_eq!(
            first,
            id(&turned, json!({"y": {"b": 2, "a": 1}, "x": 1, "transform": 3}), "t")
        );
        let mut counted = weights.clone();
        counted.push_count("b.num_batches_tracked", 7);
        assert_eq!(
            first,
            id(
                &counted,
                json!({"x": 1, "y": {"a": 1, "b": 2}, "layout": {"custom_text": true}}),
                "t"
            )
        );
        assert_ne!(first, id(&other, json!({"x": 1, "y": {"a": 1, "b": 2}}), "t"));
        assert_ne!(first, id(&weights, json!({"x": 2, "y": {"a": 1, "b": 2}}), "t"));
        assert_ne!(first, id(&weights, json!({"x": 1, "y": {"a": 1, "b": 2}}), "u"));
    }

    #[test]
    fn a_fingerprint_sees_names_shapes_and_both_ends() {
        let long: Vec<f32> = (0..1000).map(|n| n as f32).collect();
        let of = |name, shape, change: Option<usize>| {
            let mut values = long.clone();
            if let Some(place) = change {
                values[place] += 1.0;
            }
            fingerprint(&Table::new([(name, shape, values), ("b", vec![], vec![2.0])])).unwrap()
        };
        let first = of("a", vec![1000], None);
        assert_eq!(first, of("a", vec![1000], None));
        for other in [of("c", vec![1000], None), of("a", vec![10, 100], None)] {
            assert_ne!(first, other);
        }
        for place in [0, 496, 999] {
            assert_ne!(first, of("a", vec![1000], Some(place)), "{place}");
        }
    }
}
