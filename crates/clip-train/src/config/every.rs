//! How often something happens in a run.

use std::fmt;
use std::str::FromStr;

use clip_core::{Error, Result};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How often something happens: `"epoch"`, or a number of steps. It happens at the end of the run too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Every {
    /// At the end of each epoch.
    #[default]
    Epoch,
    /// After so many steps, from 1.
    Steps(u64),
}

const WANTED: &str = "\"epoch\", or a number of steps from 1";

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch => f.write_str("epoch"),
            Self::Steps(steps) => write!(f, "{steps}"),
        }
    }
}

impl FromStr for Every {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("epoch", _) => Ok(Self::Epoch),
            (_, Ok(steps)) if steps > 0 => Ok(Self::Steps(steps)),
            _ => Err(Error::invalid(format!("`{text}` is neither {WANTED}"))),
        }
    }
}

impl Serialize for Every {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Epoch => serializer.serialize_str("epoch"),
            Self::Steps(steps) => serializer.serialize_u64(*steps),
        }
    }
}

struct Wanted;

impl Visitor<'_> for Wanted {
    type Value = Every;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WANTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Every, E> {
        match text {
            "epoch" => Ok(Every::Epoch),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, steps: u64) -> std::result::Result<Every, E> {
        match steps {
            0 => Err(E::invalid_value(de::Unexpected::Unsigned(0), &self)),
            _ => Ok(Every::Steps(steps)),
        }
    }

    fn visit_i64<E: de::Error>(self, steps: i64) -> std::result::Result<Every, E> {
        match u64::try_from(steps) {
            Ok(steps) => self.visit_u64(steps),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(steps), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunConfig;

    #[test]
    fn it_is_a_word_or_a_number() {
        let read = |value: &str| {
            let config = RunConfig::from_toml(&format!("checkpoint_every = {value}"), "run.toml");
            config.map(|config| config.checkpoint_every)
        };
        assert_eq!(read("\"epoch\"").unwrap(), Every::Epoch);
        assert_eq!(read("40").unwrap(), Every::Steps(40));
        for value in ["0", "-3", "\"never\"", "2.5", "true"] {
            let error = read(value).unwrap_err().to_string();
            assert!(
                error.starts_with("run.toml, row 1: ") && error.contains("number of steps"),
                "{error}"
            );
        }
        for every in [Every::Epoch, Every::Steps(7)] {
            assert_eq!(every.to_string().parse::<Every>().unwrap(), every);
        }
        assert!("0".parse::<Every>().is_err());
    }
}
