//! Where the concepts of pairs come from.

use std::path::PathBuf;
use std::sync::Arc;

use clip_core::{ConceptSource, Error, Result};
use clip_data::{ColumnConcepts, ConceptNames, NoConcepts, PhraseConcepts};
use serde::{Deserialize, Serialize};

/// A source of concepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConceptSourceKind {
    /// The table's column (`data.concept_column`), where one is named.
    #[default]
    Column,
    /// Phrases of a list, looked for in the pair's texts.
    Phrases,
    /// None: no pair carries a concept.
    None,
}

/// Where the concepts of pairs come from, and how their names are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConceptsConfig {
    /// The source.
    pub source: ConceptSourceKind,
    /// The phrase list (`clipzoo concepts` proposes one), where `source` is `phrases`.
    pub phrases: Option<PathBuf>,
    /// A table of two columns, code and name, where the column holds codes.
    pub names: Option<PathBuf>,
    /// What the text tower reads for a concept: `{}` stands for its name.
    pub template: String,
}

impl Default for ConceptsConfig {
    fn default() -> Self {
        Self {
            source: ConceptSourceKind::default(),
            phrases: None,
            names: None,
            template: "{}".into(),
        }
    }
}

impl ConceptsConfig {
    /// Opens the source.
    ///
    /// # Errors
    /// Its files cannot be read, or hold what makes no sense.
    pub fn open(&self) -> Result<Arc<dyn ConceptSource>> {
        Ok(match (self.source, &self.phrases) {
            (ConceptSourceKind::None, _) => Arc::new(NoConcepts),
            (ConceptSourceKind::Phrases, Some(file)) => Arc::new(PhraseConcepts::read(file)?),
            _ => Arc::new(ColumnConcepts {
                names: self.names.as_ref().map(ConceptNames::read).transpose()?,
            }),
        })
    }

    pub(super) fn check(&self) -> Result<()> {
        if !self.template.contains("{}") {
            return Err(Error::invalid("concepts.template holds no `{}` for the name")
                .remedy("write it as \"a photo of a {}\""));
        }
        match (self.source, &self.phrases) {
            (ConceptSourceKind::Phrases, None) => {
                Err(Error::invalid("concepts.source is `phrases`, and none are named")
                    .remedy("set concepts.phrases to a list of phrases, which `clipzoo concepts` proposes"))
            }
            (ConceptSourceKind::Column | ConceptSourceKind::None, Some(_)) => Err(Error::invalid(
                "concepts.phrases is set, and concepts.source is not `phrases`",
            )
            .remedy("set source = \"phrases\", or leave the list out")),
            _ => Ok(()),
        }
    }
}
