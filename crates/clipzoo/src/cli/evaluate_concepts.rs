//! Concepts as queries of `clipzoo evaluate`: their names are embedded, the pictures that carry them are right.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clip_apps::{ConceptQueries, Protocol, Rules};
use clip_core::serde_json::Value;
use clip_core::{ConceptSource, Embedder, Embeddings, Error, PairTable, Result};
use clip_data::{ColumnConcepts, ConceptNames, Table, read_phrases};
use clip_index::PrecisionFigures;
use clip_nn::Pipeline;

use super::args::{TableArgs, note, to_json};
use super::evaluate_report::concept_report;
use super::failure::{Outcome, usage};

/// Flags that say which concepts are asked for, and how.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Concepts")]
pub(crate) struct ConceptArgs {
    /// Concepts that fewer pictures carry are no queries
    #[arg(long, value_name = "N", default_value_t = 1, requires = "concept_column", value_parser = clap::value_parser!(u64).range(1..))]
    concept_min: u64,
    /// Only these concepts are queries: one a line, as the column or as --concept-names calls it
    #[arg(long, value_name = "FILE", requires = "concept_column")]
    concepts_file: Option<PathBuf>,
    /// What the column's codes stand for: a TSV file, code<TAB>name
    #[arg(long, value_name = "FILE", requires = "concept_column")]
    concept_names: Option<PathBuf>,
    /// The text that the model gets for a concept; {} is its name
    #[arg(long, value_name = "TEXT", default_value = "{}", requires = "concept_column")]
    concept_template: String,
}

/// What is asked for, read before the model runs, so that a wrong file costs no time.
pub(crate) struct Wanted {
    source: ColumnConcepts,
    /// The table without its pictures.
    table: Table,
    column: String,
    only: Option<(PathBuf, HashSet<String>)>,
    least: usize,
    template: String,
}

/// Concepts with the embeddings of their names.
pub(crate) struct Asked {
    queries: ConceptQueries,
    names: Embeddings,
}

impl ConceptArgs {
    /// Reads the files of names; `None` where no concepts are asked for.
    pub(crate) fn read(&self, table_args: &TableArgs, table: &Path) -> Outcome<Option<Wanted>> {
        let Some(column) = &table_args.concept_column else {
            return Ok(None);
        };
        if !self.concept_template.contains("{}") {
            let what = format!(
                "--concept-template `{}` has no place for the name",
                self.concept_template
            );
            return usage(what, "write {} where the concept's name belongs");
        }
        let only = |path: &PathBuf| Ok::<_, Error>((path.clone(), read_phrases(path)?.into_iter().collect()));
        Ok(Some(Wanted {
            source: ColumnConcepts {
                names: self.concept_names.as_ref().map(ConceptNames::read).transpose()?,
            },
            table: table_args.open_any(table)?,
            column: column.clone(),
            only: self.concepts_file.as_ref().map(only).transpose()?,
            least: usize::try_from(self.concept_min).unwrap_or(usize::MAX),
            template: self.concept_template.clone(),
        }))
    }
}

impl Wanted {
    /// Finds the concepts of the given rows and embeds their names.
    pub(crate) fn ask(self, pipeline: &Pipeline, rows: &[usize], batch: usize) -> Result<Asked> {
        let queries = self.queries(rows)?;
        let mut names = Embeddings::default();
        for part in queries.concepts().chunks(batch) {
            let texts: Vec<String> = part
                .iter()
                .map(|concept| self.template.replace("{}", &concept.name))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            names.append(&pipeline.embed_texts(&texts)?)?;
        }
        Ok(Asked { queries, names })
    }

    fn queries(&self, rows: &[usize]) -> Result<ConceptQueries> {
        let mut queries = ConceptQueries::default();
        // What the column called the concepts that a list names, to tell what it names in vain.
        let mut met: HashSet<String> = HashSet::new();
        for &row in rows {
            let pair = self.table.get(row)?;
            let mut concepts = self.source.concepts(&pair)?;
            if let Some((_, only)) = &self.only {
                let mut codes = pair.concepts.iter();
                concepts.retain(|concept| {
                    let code = codes.next().map_or("", |code| &code.name);
                    let listed: Vec<&str> = [code, &*concept.name]
                        .into_iter()
                        .filter(|name| only.contains(*name))
                        .collect();
                    met.extend(listed.iter().map(|name| (*name).to_owned()));
                    !listed.is_empty()
                });
            }
            queries.push(concepts)?;
        }
        if let Some((path, only)) = &self.only
            && met.len() < only.len()
        {
            let missing = only.len() - met.len();
            note(&format!(
                "{}: no picture carries {missing} of its {} concepts",
                path.display(),
                only.len()
            ));
        }
        let queries = queries.at_least(self.least);
        if queries.concepts().is_empty() {
            let what = format!("no concept is carried by {} pictures or more", self.least);
            let error = Error::invalid(what).file(self.table.path()).column(&self.column);
            return Err(error.remedy("check the column, --concepts-file and --concept-min"));
        }
        Ok(queries)
    }
}

/// How well the names found their pictures.
pub(crate) struct Found {
    figures: PrecisionFigures,
    group_by: Option<String>,
}

impl Found {
    fn by(figures: PrecisionFigures, rules: &Rules) -> Self {
        Self {
            figures,
            group_by: rules.grouping.as_ref().map(|grouping| grouping.name.clone()),
        }
    }

    /// The figures, with the protocol they are by.
    pub(crate) fn json(&self) -> Result<Value> {
        let mut object = to_json(&self.figures)?;
        object["protocol"] = Protocol::Full.to_string().into();
        if let Some(name) = &self.group_by {
            object["group_by"] = name.as_str().into();
        }
        Ok(object)
    }
}

impl Asked {
    /// Ranks all pictures for each concept.
    pub(crate) fn evaluate(&self, images: &Embeddings, rules: &Rules) -> Result<Found> {
        Ok(Found::by(self.queries.evaluate(&self.names, images, rules)?, rules))
    }

    /// What pictures in a random order come to.
    pub(crate) fn chance(&self, rules: &Rules) -> Result<Found> {
        Ok(Found::by(self.queries.chance(rules)?, rules))
    }

    /// A short table, against chance.
    pub(crate) fn report(&self, found: &Found, rules: &Rules) -> Result<String> {
        Ok(concept_report(&found.figures, &self.chance(rules)?.figures, rules))
    }
}
