//! How many checkpoints a run keeps.

use std::fmt;
use std::str::FromStr;

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How many checkpoints are kept: a number of the newest, or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Keep {
    /// So many of the newest, from 1.
    Newest(usize),
    /// All of them.
    All,
}

impl Default for Keep {
    fn default() -> Self {
        Self::Newest(2)
    }
}

/// As run.toml writes it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Newest(usize),
    Word(String),
}

const WANTED: &str = "\"all\", or a number of checkpoints from 1";

impl TryFrom<Written> for Keep {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        match written {
            Written::Newest(count) => Ok(Self::Newest(count)),
            Written::Word(word) if word == "all" => Ok(Self::All),
            Written::Word(word) => Err(format!("`{word}` is neither {WANTED}")),
        }
    }
}

impl From<Keep> for Written {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::Newest(count) => Self::Newest(count),
            Keep::All => Self::Word("all".into()),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(count) => write!(f, "{count}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(count)) if count > 0 => Ok(Self::Newest(count)),
            _ => Err(Error::invalid(format!("`{text}` is neither {WANTED}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunConfig;

    #[test]
    fn it_is_a_word_or_a_number() {
        let read = |value: &str| RunConfig::from_toml(&format!("keep = {value}"), "run.toml").map(|config| config.keep);
        assert_eq!(read("\"all\"").unwrap(), Keep::All);
        assert_eq!(read("7").unwrap(), Keep::Newest(7));
        for value in ["0", "-3", "\"none\"", "2.5"] {
            assert!(read(value).is_err(), "{value}");
        }
        for keep in [Keep::All, Keep::Newest(7)] {
            assert_eq!(keep.to_string().parse::<Keep>().unwrap(), keep);
            let config = RunConfig {
                keep,
                ..RunConfig::default()
            };
            let again = RunConfig::from_toml(&config.to_toml().unwrap(), "run.toml").unwrap();
            assert_eq!(again.keep, keep);
        }
        assert!("0".parse::<Keep>().is_err() && "some".parse::<Keep>().is_err());
    }
}
