//! Pairs with the concepts that a source finds in them, and concepts' names as the text tower takes them.

use std::sync::Arc;

use clip_core::{Concept, ConceptSource, Id, Pair, PairTable, Result, Tokenizer};
use clip_nn::{TextInput, pad};

use super::Shapes;
use crate::concepts::NameReader;

/// A table whose pairs carry what a source says.
pub(crate) struct WithConcepts {
    pub(crate) table: Arc<dyn PairTable>,
    pub(crate) source: Arc<dyn ConceptSource>,
}

impl PairTable for WithConcepts {
    fn rows(&self) -> usize {
        self.table.rows()
    }

    fn get(&self, index: usize) -> Result<Pair> {
        let mut pair = self.table.get(index)?;
        pair.concepts = self.source.concepts(&pair)?;
        Ok(pair)
    }

    fn label(&self, index: usize, column: &str) -> Result<Option<Id>> {
        self.table.label(index, column)
    }
}

/// Reads names of concepts by a template.
pub(crate) struct TemplateNames {
    /// `{}` stands for the name.
    pub(crate) template: String,
    pub(crate) tokenizer: Arc<dyn Tokenizer>,
    pub(crate) shapes: Shapes,
}

impl NameReader for TemplateNames {
    fn read(&self, names: &[Arc<str>]) -> Result<TextInput> {
        let texts: Vec<String> = names.iter().map(|name| self.template.replace("{}", name)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let tokens = self.tokenizer.encode(&texts)?;
        Ok(TextInput::Tokens(pad(&tokens, self.shapes.pad, self.shapes.device)?))
    }
}

/// Which pairs' texts are names of concepts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captions {
    /// The share of pairs with concepts whose text is one of the concepts' names.
    pub(crate) share: f64,
    /// `{}` stands for the name.
    pub(crate) template: Arc<str>,
}

impl Captions {
    /// The text that stands for a concept.
    pub(crate) fn text(&self, concept: &Concept) -> String {
        self.template.replace("{}", &concept.name)
    }
}
