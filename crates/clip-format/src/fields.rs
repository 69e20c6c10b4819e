//! Reading a config's keys with their defaults, and messages that name the key.

use clip_core::{Error, Result};
use serde_json::{Map, Value};

/// A config's object, and how messages call it.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: &'a str,
}

impl<'a> Fields<'a> {
    /// The object itself; anything else is an error.
    pub(crate) fn new(value: &'a Value, path: &'a str) -> Result<Self> {
        let map = value
            .as_object()
            .ok_or_else(|| Error::invalid(format!("`{path}` should be an object")))?;
        Ok(Self { map, path })
    }

    /// The object under a key, which must be there.
    pub(crate) fn object(&self, key: &'a str) -> Result<Self> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        Fields::new(value, key)
    }

    /// A key's value; null counts as absent, as the references have it.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A positive number that fits a dimension.
    pub(crate) fn size(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        // No dimension of any model comes near the limit; it keeps products of a few of them from overflowing.
        let number = value.as_u64().filter(|number| (1..1 << 24).contains(number));
        number
            .map(|number| number as usize)
            .ok_or_else(|| self.wrong(key, value, "a positive whole number"))
    }

    /// A size that must be there.
    pub(crate) fn required_size(&self, key: &str) -> Result<usize> {
        self.require(&[key])?;
        self.size(key, 0)
    }

    /// Refuses a config that lacks one of the keys, for layouts without defaults.
    pub(crate) fn require(&self, keys: &[&str]) -> Result<()> {
        match keys.iter().find(|key| self.get(key).is_none()) {
            None => Ok(()),
            Some(key) => Err(self.missing(key)),
        }
    }

    /// Whether a key is there, null included.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The error of a key that must be there.
    pub(crate) fn missing(&self, key: &str) -> Error {
        Error::invalid(format!("{} is missing", self.name(key)))
    }

    /// A whole number, 0 included.
    pub(crate) fn index(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_u64().filter(|&number| number < 1 << 32);
        number
            .map(|number| number as usize)
            .ok_or_else(|| self.wrong(key, value, "a whole number"))
    }

    /// A number.
    pub(crate) fn number(&self, key: &str, default: f64) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_f64().ok_or_else(|| self.wrong(key, value, "a number"))
    }

    /// true or false.
    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false"))
    }

    /// A text.
    pub(crate) fn text(&self, key: &str, default: &'a str) -> Result<&'a str> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_str().ok_or_else(|| self.wrong(key, value, "a text"))
    }

    /// A table of defaults with the config's own values in their places, each read as what its default is: a whole number
    /// as a size, another number, a switch, a text.
    pub(crate) fn filled(&self, defaults: Value) -> Result<Map<String, Value>> {
        let Value::Object(mut filled) = defaults else {
            return Err(Error::internal("the defaults of a config are no object"));
        };
        for (key, value) in &mut filled {
            if self.get(key).is_none() {
                continue;
            }
            *value = match value {
                Value::Number(number) if number.is_u64() => self.size(key, 0)?.into(),
                Value::Number(_) => self.number(key, 0.0)?.into(),
                Value::Bool(_) => self.flag(key, false)?.into(),
                _ => self.text(key, "")?.into(),
            };
        }
        Ok(filled)
    }

    /// Refuses keys that nobody here reads: they may change the model.
    pub(crate) fn deny_unknown(&self, known: &[&str]) -> Result<()> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Error::invalid(format!("{} is unknown", self.name(key)))
                .remedy("take it out if it does not change the model")),
        }
    }

    /// Refuses values that ask for a part that is not built.
    pub(crate) fn expect(&self, plain: &[(&str, Value)]) -> Result<()> {
        for (key, plain) in plain {
            if let Some(value) = self.get(key)
                && value != plain
            {
                return Err(
                    Error::invalid(format!("{} is {value}, which is not supported", self.name(key)))
                        .remedy(format!("supported: {plain}")),
                );
            }
        }
        Ok(())
    }

    pub(crate) fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Error {
        Error::invalid(format!("{} is {value}; it should be {wanted}", self.name(key)))
    }

    fn name(&self, key: &str) -> String {
        format!("`{}.{key}`", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in_and_what_is_there_is_of_their_kind() {
        let value = json!({"width": 3, "dropout": 0, "bias": false, "act": null, "mine": 1});
        let fill = |defaults| Fields::new(&value, "config").unwrap().filled(defaults);
        let filled = fill(json!({"act": "gelu", "width": 8, "depth": 2, "dropout": 0.1, "bias": true})).unwrap();
        let keys: Vec<&String> = filled.keys().collect();
        assert_eq!(keys, ["act", "width", "depth", "dropout", "bias"]);
        let want = json!({"act": "gelu", "width": 3, "depth": 2, "dropout": 0.0, "bias": false});
        assert_eq!(Value::Object(filled), want);
        for (key, default) in [("dropout", json!(1)), ("width", json!("x")), ("width", json!(true))] {
            let error = fill(json!({key: default})).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`config.{key}` is ")), "{error}");
        }
    }

    #[test]
    fn messages_name_the_key() {
        let value = json!({"width": -3, "layers": [1, 2], "name": "x", "nothing": null});
        let fields = Fields::new(&value, "vision_cfg").unwrap();
        let text = |error: Error| error.to_string();
        assert_eq!(
            text(fields.size("width", 1).unwrap_err()),
            "`vision_cfg.width` is -3; it should be a positive whole number"
        );
        assert_eq!(fields.size("nothing", 7).unwrap(), 7);
        assert_eq!(
            text(fields.required_size("depth").unwrap_err()),
            "`vision_cfg.depth` is missing"
        );
        assert!(text(fields.deny_unknown(&["width", "layers", "name"]).unwrap_err()).contains("`vision_cfg.nothing`"));
        let error = text(fields.expect(&[("name", json!("y"))]).unwrap_err());
        assert_eq!(
            error,
            "`vision_cfg.name` is \"x\", which is not supported; supported: \"y\""
        );
        fields
            .expect(&[("nothing", json!(false)), ("absent", json!(1))])
            .unwrap();
    }
}
