//! How further views of texts are changed.

use std::path::PathBuf;

use clip_core::Result;
use clip_data::{Synonyms, TextAugment};
use serde::{Deserialize, Serialize};

/// How further views of a text are changed, where an objective asks for several views of each: the first stays as it is. A
/// pair's texts take turns before one of them is changed. See [`TextAugment`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextAugmentation {
    /// How many times two words change places, as a share of a text's words; 0 for never.
    pub swap: f64,
    /// How likely each word is dropped; 0 for never.
    pub drop: f64,
    /// A table of synonyms, `word<TAB>synonym<TAB>…`; words are replaced only where one is given.
    pub synonyms: Option<PathBuf>,
}

impl Default for TextAugmentation {
    fn default() -> Self {
        let TextAugment { swap, drop, .. } = TextAugment::default();
        Self {
            swap,
            drop,
            synonyms: None,
        }
    }
}

impl TextAugmentation {
    pub(super) fn check(&self) -> Result<()> {
        self.shares().check()
    }

    fn shares(&self) -> TextAugment {
        TextAugment {
            swap: self.swap,
            drop: self.drop,
            synonyms: None,
        }
    }

    /// Reads the table of synonyms.
    pub(crate) fn open(&self) -> Result<TextAugment> {
        Ok(TextAugment {
            synonyms: self.synonyms.as_ref().map(Synonyms::read).transpose()?,
            ..self.shares()
        })
    }
}
