//! Sentences around a label, since models learned from sentences and not from bare words.

use clip_core::{Error, Result};

/// Where the label goes.
const PLACE: &str = "{}";

/// Says little about the picture, so that it fits most.
const GENERAL: &[&str] = &[
    "A photo of a {}.",
    "A picture that shows a {}.",
    "A close view of a {}.",
    "A {} on a plain background.",
    "One {}, seen from the front.",
    "A simple drawing of a {}.",
    "This is a {}.",
];

/// As shops show what they sell.
const FASHION: &[&str] = &[
    "A photo of a {}.",
    "A product photo of a {} on a white background.",
    "A {} from an online fashion shop.",
    "A {}, laid flat and seen from above.",
    "A model who wears a {}.",
    "The front of a {} in a catalogue of clothes.",
    "A {} for sale.",
];

/// The same for models that read Chinese.
const CHINESE: &[&str] = &[
    "一张{}的照片。",
    "这张图片里有{}。",
    "{}的商品图。",
    "白色背景上的{}。",
    "{}的近景。",
    "网店里出售的{}。",
    "{}",
];

/// The sets there are: their names and sentences.
pub const TEMPLATE_SETS: [(&str, &[&str]); 3] = [("general", GENERAL), ("fashion", FASHION), ("chinese", CHINESE)];

/// Sentences in which `{}` stands for the label. The default is `A photo of a {}.`
///
/// ```
/// use clip_apps::Templates;
/// assert_eq!(Templates::default().fill("red shoe").collect::<Vec<_>>(), ["A photo of a red shoe."]);
/// assert!(Templates::named("chinese")?.sentences().len() > 1);
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    sentences: Vec<String>,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            sentences: vec!["A photo of a {}.".to_owned()],
        }
    }
}

impl Templates {
    /// Sentences of yours.
    ///
    /// # Errors
    /// There is none, or one has no place for the label.
    pub fn new(sentences: Vec<String>) -> Result<Self> {
        if let Some(bad) = sentences.iter().find(|sentence| !sentence.contains(PLACE)) {
            return Err(
                Error::invalid(format!("the template `{bad}` has no place for the label"))
                    .remedy("write {} where the label belongs"),
            );
        }
        if sentences.is_empty() {
            return Err(Error::invalid("there is no template").remedy("give at least one, `{}` alone if need be"));
        }
        Ok(Self { sentences })
    }

    /// A bundled set.
    ///
    /// # Errors
    /// There is none of this name; those there are are listed.
    pub fn named(name: &str) -> Result<Self> {
        let known = || TEMPLATE_SETS.map(|(name, _)| name).join(", ");
        let (_, sentences) = TEMPLATE_SETS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| Error::not_found(format!("there are no templates `{name}`; there are: {}", known())))?;
        Self::new(sentences.iter().map(|&sentence| sentence.to_owned()).collect())
    }

    /// The sentences, `{}` standing for the label.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// The sentences around a label.
    pub fn fill<'a>(&'a self, label: &'a str) -> impl Iterator<Item = String> + 'a {
        self.sentences
            .iter()
            .map(move |sentence| sentence.replace(PLACE, label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_several_sentences_with_a_place_and_no_two_alike() {
        for (name, _) in TEMPLATE_SETS {
            let templates = Templates::named(name).unwrap();
            let mut texts: Vec<String> = templates.fill("包").collect();
            assert!(texts.len() >= 5 && texts.iter().all(|text| text.contains('包') && !text.contains('{')));
            texts.sort();
            texts.dedup();
            assert_eq!(texts.len(), templates.sentences().len(), "{name}");
        }
        let said = Templates::named("furniture").unwrap_err().to_string();
        assert_eq!(
            said,
            "there are no templates `furniture`; there are: general, fashion, chinese"
        );
    }

    #[test]
    fn a_template_needs_a_place() {
        assert!(Templates::new(vec![]).is_err());
        let said = Templates::new(vec!["a {}".into(), "a photo".into()])
            .unwrap_err()
            .to_string();
        assert_eq!(
            said,
            "the template `a photo` has no place for the label; write {} where the label belongs"
        );
    }
}
