//! Reading typed values out of a family's JSON, with errors that name the key.

use clip_core::{Error, Result};
use serde_json::{Map, Value};

/// One object of a configuration.
pub(super) struct Keys<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Keys<'a> {
    /// A value that is there and not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A flag.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A number.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A word.
    pub(super) fn word(&self, key: &str) -> Result<Option<&'a str>> {
        self.read(key, "a string", Value::as_str)
    }

    /// One number for all channels, or one for each of three.
    pub(super) fn channels(&self, key: &str) -> Result<Option<[f64; 3]>> {
        self.read(key, "a number or a list of three", |value| match value {
            Value::Array(items) => {
                let items: Option<Vec<f64>> = items.iter().map(Value::as_f64).collect();
                items?.try_into().ok()
            }
            _ => value.as_f64().map(|one| [one; 3]),
        })
    }

    fn read<T>(&self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key)
            .map(|value| read(value).ok_or_else(|| unfit(key, value, wanted)))
            .transpose()
    }
}

/// A whole number of pixels.
pub(super) fn pixels(value: &Value) -> Option<usize> {
    let whole = value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|v| v.fract() == 0.0 && *v >= 0.0)
            .map(|v| v as u64)
    });
    whole.and_then(|number| usize::try_from(number).ok())
}

/// A value that cannot be read.
pub(super) fn unfit(key: &str, value: &Value, wanted: &str) -> Error {
    Error::invalid(format!("`{key}` of the preprocessing configuration is {value}"))
        .remedy(format!("it must be {wanted}"))
}
