//! Which concepts a pair carries: a column, a phrase list, none.

mod names;
mod phrases;
mod plurals;
mod propose;

use clip_core::{Concept, ConceptSource, Pair, Result};

pub use names::ConceptNames;
pub use phrases::{PhraseConcepts, read_phrases};
pub use propose::{PhraseCounts, ProposedPhrase, TitleLanguage, TitlePhrases};

/// No pair carries a concept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoConcepts;

impl ConceptSource for NoConcepts {
    fn concepts(&self, _: &Pair) -> Result<Vec<Concept>> {
        Ok(Vec::new())
    }
}

/// The concepts that the table's column gave.
///
/// With names, a concept is called by the name of its code and keeps the id of the code; a code without a name is its
/// own name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnConcepts {
    /// What the column's codes stand for.
    pub names: Option<ConceptNames>,
}

impl ConceptSource for ColumnConcepts {
    fn concepts(&self, pair: &Pair) -> Result<Vec<Concept>> {
        let mut concepts = pair.concepts.clone();
        if let Some(names) = &self.names {
            for concept in &mut concepts {
                if let Some(name) = names.shared(&concept.name) {
                    concept.name = name.clone();
                }
            }
        }
        Ok(concepts)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use clip_core::{Id, Origin};

    use super::*;

    #[test]
    fn a_name_leaves_the_codes_id() {
        let concept = |name: &str| Concept {
            id: Id::of(name),
            name: name.into(),
        };
        let pair = Pair {
            key: Id(1),
            item: None,
            texts: vec!["a dress".into()],
            images: Vec::new(),
            concepts: vec![concept("c1"), concept("c2")],
            weight: 1.0,
            origin: Origin {
                file: Arc::new(PathBuf::from("t.tsv")),
                row: 1,
            },
        };
        assert_eq!(ColumnConcepts::default().concepts(&pair).unwrap(), pair.concepts);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "c2\t连衣裙\n").unwrap();
        let source = ColumnConcepts {
            names: Some(ConceptNames::read(file.path()).unwrap()),
        };
        let named = source.concepts(&pair).unwrap();
        assert_eq!(named[0], concept("c1"));
        assert_eq!((named[1].id, &*named[1].name), (Id::of("c2"), "连衣裙"));
        assert!(NoConcepts.concepts(&pair).unwrap().is_empty());
    }
}
