//! By which protocol queries are ranked, by name: figures of different protocols cannot be compared.

use std::fmt;
use std::str::FromStr;

use clip_core::{Error, Id, Result};
use clip_index::{Cuts, Options};
use serde::{Serialize, Serializer};

/// What each query is ranked among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// All rows of the gallery: `full`.
    #[default]
    Full,
    /// One right row and others of its category, drawn by a seed: `sampled:100`, as many papers on fashion report.
    Sampled {
        /// How many others.
        others: u32,
    },
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Sampled { others } => write!(f, "sampled:{others}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let others = |number: &str| number.parse().ok().filter(|others: &u32| *others > 0);
        match (text, text.strip_prefix("sampled:").and_then(others)) {
            ("full", _) => Ok(Self::Full),
            (_, Some(others)) => Ok(Self::Sampled { others }),
            _ => Err(Error::invalid(format!("there is no protocol `{text}`")).remedy("use full or sampled:100")),
        }
    }
}

impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A label of each text and of each image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// By text.
    pub texts: Vec<u64>,
    /// By image.
    pub images: Vec<u64>,
}

impl Labels {
    /// Of texts and images with known labels; all rows without one share one.
    pub fn shared(texts: &[Option<Id>], images: &[Option<Id>]) -> Self {
        let side = |rows: &[Option<Id>]| rows.iter().map(|id| id.map_or(0, |id| id.0)).collect();
        Self {
            texts: side(texts),
            images: side(images),
        }
    }

    /// Of texts and images with known labels; a row without one stands for itself.
    pub fn own(texts: &[Option<Id>], images: &[Option<Id>]) -> Self {
        Self {
            texts: own(texts, "a text alone"),
            images: own(images, "an image alone"),
        }
    }

    pub(crate) fn check(&self, what: &str, texts: usize, images: usize) -> Result<()> {
        let (left, right) = (self.texts.len(), self.images.len());
        if (left, right) == (texts, images) {
            return Ok(());
        }
        let what = format!("{what} of {left} texts and {right} images for {texts} texts and {images} images");
        Err(Error::invalid(what).remedy("check that both come from the same table"))
    }
}

/// The labels of rows; one without a label gets one that no other row of this name has.
pub(crate) fn own(rows: &[Option<Id>], alone: &str) -> Vec<u64> {
    let label = |(row, id): (u64, &Option<Id>)| id.unwrap_or_else(|| Id::of_row(alone, row)).0;
    (0..).zip(rows).map(label).collect()
}

/// Rows that count once together, by the best score among them: the pictures of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// What the groups are by: a column's name.
    pub name: String,
    /// The group of each row.
    pub labels: Labels,
}

/// How an evaluation ranks, and what it reports.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Down to which ranks.
    pub cuts: Cuts,
    /// What each query is ranked among.
    pub protocol: Protocol,
    /// Decides what [`Protocol::Sampled`] draws.
    pub seed: u64,
    /// What [`Protocol::Sampled`] draws from: rows of equal labels.
    pub categories: Option<Labels>,
    /// Ranks groups of the gallery's rows instead of rows: images for texts, texts for images.
    pub grouping: Option<Grouping>,
    /// How scores are computed.
    pub options: Options,
}

impl Rules {
    /// Whether they make sense together and fit so many rows.
    pub(crate) fn check(&self, texts: usize, images: usize) -> Result<()> {
        if let Some(grouping) = &self.grouping {
            grouping.labels.check("groups", texts, images)?;
        }
        if let Some(categories) = &self.categories {
            categories.check("categories", texts, images)?;
        }
        if let Protocol::Sampled { .. } = self.protocol {
            let protocol = self.protocol;
            if self.grouping.is_some() {
                return Err(Error::invalid(format!("{protocol} draws rows, not groups of them"))
                    .remedy("rank groups in the full gallery"));
            }
            if self.categories.is_none() {
                return Err(
                    Error::invalid(format!("{protocol} draws within categories, and none are given"))
                        .remedy("say of which category each row is"),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (name, protocol) in [
            ("full", Protocol::Full),
            ("sampled:100", Protocol::Sampled { others: 100 }),
        ] {
            assert_eq!(name.parse::<Protocol>().unwrap(), protocol);
            assert_eq!(protocol.to_string(), name);
            assert_eq!(serde_json::to_value(protocol).unwrap(), name);
        }
        for name in [
            "",
            "Full",
            "sampled",
            "sampled:",
            "sampled:0",
            "sampled:-3",
            "sampled:x",
        ] {
            assert!(name.parse::<Protocol>().is_err(), "{name}");
        }
    }

    #[test]
    fn rows_without_a_label_are_alone_or_together() {
        let rows = [None, Some(Id(7)), None];
        let own = Labels::own(&rows, &rows);
        assert_eq!((own.texts[1], own.images[1]), (7, 7));
        let mut all: Vec<u64> = own.texts.iter().chain(&own.images).copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
        let shared = Labels::shared(&rows, &rows);
        assert_eq!((shared.texts[0], shared.texts[0]), (shared.texts[2], shared.images[0]));
    }

    #[test]
    fn rules_that_do_not_fit_are_refused() {
        let labels = Labels {
            texts: vec![1, 2],
            images: vec![1],
        };
        let grouping = Some(Grouping {
            name: "item".into(),
            labels: labels.clone(),
        });
        let sampled = Protocol::Sampled { others: 9 };
        let what = |rules: Rules| rules.check(2, 1).map_err(|error| error.what().to_owned());
        let rules = Rules {
            grouping: grouping.clone(),
            ..Rules::default()
        };
        assert!(rules.check(2, 1).is_ok());
        assert!(rules.check(1, 1).unwrap_err().what().starts_with("groups of 2 texts"));
        let none = Rules {
            protocol: sampled,
            ..Rules::default()
        };
        assert_eq!(
            what(none).unwrap_err(),
            "sampled:9 draws within categories, and none are given"
        );
        let both = Rules {
            protocol: sampled,
            grouping,
            categories: Some(labels),
            ..Rules::default()
        };
        assert_eq!(what(both).unwrap_err(), "sampled:9 draws rows, not groups of them");
    }
}
