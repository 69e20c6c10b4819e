//! The average of two models' weights.

use std::path::Path;
use std::sync::Arc;

use clip_format::{Checkpoint, Dtype, Extras, Families, TensorInfo, TensorView, Weights, save};
use clip_nn::clip_core::{Error, Result};
use clip_nn::{DualEncoder, ParamOptions, Params, Zoo};
use serde_json::Value;

use crate::source::CheckpointWeights;

/// How many differences a message lists.
const LISTED: usize = 12;

/// Two models of one config, whose weights can be averaged: `(1 - alpha) * first + alpha * second`, as WiSE-FT does to
/// keep what a model knew before it was fine-tuned (Wortsman et al., Robust fine-tuning of zero-shot models, 2022).
///
/// Buffers are averaged as weights are; integers must be equal. Weights may be stored in different float types.
#[derive(Debug)]
pub struct Average {
    first: Checkpoint,
    second: Arc<dyn Weights>,
    infos: Vec<TensorInfo>,
}

impl Average {
    /// Opens two models and checks that they match by config, names, shapes and vocabulary.
    ///
    /// # Errors
    /// They do not: the message lists what differs.
    pub fn open(first: impl AsRef<Path>, second: impl AsRef<Path>, families: &Families) -> Result<Self> {
        let one = Checkpoint::open(&first, families)?;
        let other = Checkpoint::open(&second, families)?;
        let mut found = Vec::new();
        configs("", &without_transform(&one), &without_transform(&other), &mut found);
        transforms(&one, &other, &mut found)?;
        vocabularies(&one, &other, &mut found)?;
        let infos = tensors(one.weights(), other.weights(), &mut found)?;
        if !found.is_empty() {
            let more = found.len().saturating_sub(LISTED);
            found.truncate(LISTED);
            if more > 0 {
                found.push(format!("and {more} more"));
            }
            return Err(Error::invalid(format!(
                "{} and {} are not two states of one model: {}",
                first.as_ref().display(),
                second.as_ref().display(),
                found.join("; ")
            ))
            .remedy("average a model and what was trained from it"));
        }
        Ok(Self {
            second: other.share_weights(),
            first: one,
            infos,
        })
    }

    /// The first model's layout.
    pub fn family(&self) -> &str {
        self.first.family()
    }

    /// Writes the average to `directory`, whole or not at all, in the first model's layout, or in our own where that cannot
    /// express it. Gives the layout's name.
    ///
    /// # Errors
    /// `alpha` is not within 0 to 1; a file cannot be read or written.
    pub fn save(&self, alpha: f64, directory: &Path, families: &Families) -> Result<&'static str> {
        let (weights, checkpoint) = (self.weights(alpha)?, &self.first);
        let transform = checkpoint.transform_config()?;
        let family = families.for_saving(checkpoint.family(), checkpoint.config(), Some(&transform))?;
        let extras = Extras {
            transform: Some(&transform),
            vocabulary: &checkpoint.vocabulary_files(),
        };
        save(directory, &*family, checkpoint.config(), &weights, extras)?;
        Ok(family.name())
    }

    /// The average as a model; texts are cut at `context_length` tokens where given.
    ///
    /// # Errors
    /// `alpha` is not within 0 to 1; the zoo does not know a backbone, or the weights do not fit it.
    pub fn model(
        &self,
        alpha: f64,
        zoo: &Zoo,
        params: ParamOptions,
        context_length: Option<usize>,
    ) -> Result<DualEncoder> {
        let config = crate::open::with_context(self.first.config().clone(), context_length);
        let source = CheckpointWeights(Arc::new(self.weights(alpha)?));
        DualEncoder::build(&config, zoo, Params::new(Some(Box::new(source)), params))
    }

    fn weights(&self, alpha: f64) -> Result<Averaged> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::invalid(format!("an average at {alpha}")).remedy("use a share from 0 to 1"));
        }
        Ok(Averaged {
            first: self.first.share_weights(),
            second: Arc::clone(&self.second),
            infos: self.infos.clone(),
            alpha,
        })
    }
}

/// Averaged tensors, each made when it is asked for.
struct Averaged {
    first: Arc<dyn Weights>,
    second: Arc<dyn Weights>,
    infos: Vec<TensorInfo>,
    alpha: f64,
}

impl Weights for Averaged {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let (Some(first), Some(second)) = (self.first.view(name)?, self.second.view(name)?) else {
            return Ok(None);
        };
        if !first.dtype.is_float() {
            // They were found equal when the two were opened.
            return Ok(Some(first));
        }
        let (one, other) = (first.to_f32()?, second.to_f32()?);
        let values = one.into_iter().zip(other);
        let bytes: Vec<u8> = values
            .flat_map(|(one, other)| between(one, other, self.alpha).to_le_bytes())
            .collect();
        Ok(Some(TensorView {
            dtype: Dtype::F32,
            shape: first.shape,
            data: bytes.into(),
        }))
    }
}

/// `(1 - alpha) * one + alpha * other`, in f64: exactly `one` at 0, `other` at 1, and themselves where they are equal.
fn between(one: f32, other: f32, alpha: f64) -> f32 {
    if one == other {
        return one;
    }
    ((1.0 - alpha) * f64::from(one) + alpha * f64::from(other)) as f32
}

/// A canonical config less what it says of pictures: a layout may say the same in more words when it is written.
fn without_transform(checkpoint: &Checkpoint) -> Value {
    let mut config = checkpoint.config().clone();
    if let Some(config) = config.as_object_mut() {
        config.shift_remove("transform");
    }
    config
}

/// Where two configs differ, by the path of their keys.
fn configs(path: &str, one: &Value, other: &Value, found: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(added) {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                configs(&path, &value(one), &value(other), found);
            }
        }
        // 1 and 1.0 are one number.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        _ if one == other => {}
        _ => found.push(format!("config `{path}` is {one} and {other}")),
    }
}

fn transforms(one: &Checkpoint, other: &Checkpoint, found: &mut Vec<String>) -> Result<()> {
    if one.transform()?.describe() != other.transform()?.describe() {
        found.push("pictures are prepared differently".into());
    }
    Ok(())
}

/// Vocabulary files of one name must have one content.
fn vocabularies(one: &Checkpoint, other: &Checkpoint, found: &mut Vec<String>) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| Error::io("read", path, error));
    for path in one.vocabulary_files() {
        let theirs = other.directory().join(path.file_name().unwrap_or_default());
        if theirs.is_file() && read(&path)? != read(&theirs)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            found.push(format!("`{name}` differs"));
        }
    }
    Ok(())
}

/// The tensors of the average, and where the two models' differ.
fn tensors(one: &dyn Weights, other: &dyn Weights, found: &mut Vec<String>) -> Result<Vec<TensorInfo>> {
    let theirs: std::collections::HashMap<&str, &TensorInfo> =
        other.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
    let ours: std::collections::HashSet<&str> = one.names().into_iter().collect();
    let mut infos = Vec::new();
    for info in one.tensors() {
        let name = &info.name;
        let Some(second) = theirs.get(name.as_str()) else {
            found.push(format!("only the first has `{name}`"));
            continue;
        };
        if info.shape != second.shape {
            found.push(format!("`{name}` is {:?} and {:?}", info.shape, second.shape));
        } else if info.dtype.is_float() != second.dtype.is_float() {
            found.push(format!("`{name}` is {} and {}", info.dtype, second.dtype));
        } else if !info.dtype.is_float() && integers(one, name)? != integers(other, name)? {
            found.push(format!("the integers of `{name}` differ"));
        }
        let dtype = if info.dtype.is_float() { Dtype::F32 } else { info.dtype };
        infos.push(TensorInfo { dtype, ..info.clone() });
    }
    let added = other.names().into_iter().filter(|name| !ours.contains(name));
    found.extend(added.map(|name| format!("only the second has `{name}`")));
    Ok(infos)
}

/// Integers of any width, so that i32 and i64 of one value are equal.
fn integers(weights: &dyn Weights, name: &str) -> Result<Vec<i64>> {
    let view = weights.view(name)?;
    let view = view.ok_or_else(|| Error::internal(format!("tensor `{name}` was announced and is not there")))?;
    let size = view.dtype.size();
    let signed = !matches!(view.dtype, Dtype::U8 | Dtype::Bool);
    let value = |bytes: &[u8]| {
        let fill = if signed && bytes.last().is_some_and(|byte| *byte >= 0x80) {
            0xff
        } else {
            0
        };
        let mut whole = [fill; 8];
        whole[..size].copy_from_slice(bytes);
        i64::from_le_bytes(whole)
    };
    Ok(view.data.chunks_exact(size).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ends_and_equal_weights_are_exact() {
        for (one, other) in [(0.1f32, -7.3e-5), (1e30, 3.0), (0.1, 0.1), (-0.0, 0.0)] {
            assert_eq!(between(one, other, 0.0), one);
            assert_eq!(between(one, other, 1.0), other);
            let middle = f64::from(one) * 0.25 + f64::from(other) * 0.75;
            assert_eq!(between(one, other, 0.75), middle as f32);
        }
        // 0.1 is no f32: an average of equal weights is that weight all the same.
        assert_eq!(between(0.1, 0.1, 0.3), 0.1);
    }

    #[test]
    fn differences_of_configs_have_paths() {
        let mut found = Vec::new();
        let one = json!({ "a": { "b": 1, "c": [1] }, "d": 1e-5, "e": "x" });
        let other = json!({ "a": { "b": 1.0, "c": [2] }, "d": 0.00001, "f": true });
        configs("", &one, &other, &mut found);
        let wanted = [
            "config `a.c` is [1] and [2]",
            "config `e` is \"x\" and null",
            "config `f` is null and true",
        ];
        assert_eq!(found, wanted);
    }
}
