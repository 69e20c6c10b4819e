//! The settings of `[objectives.concept_prototypes]`.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What stands for a concept where features are compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchors {
    /// Its prototypes in the queue, and its encoded name in the bank.
    #[default]
    Queue,
    /// A random unit vector of its own, fixed for the run, in place of all of them: classes without a queue. It still
    /// says which pairs share a concept.
    Fixed,
    /// A random unit vector drawn anew for each step: a control. What it gains is no knowledge of concepts.
    Random,
}

/// Settings of `[objectives.concept_prototypes]`.
///
/// A term of weight 0 is not computed, and nothing is asked for on its behalf.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConceptPrototypesConfig {
    /// Weight of the term that matches concepts' names with their image prototypes.
    pub concept_text: f64,
    /// Weight of the term that matches a pair's picture with the names of its concepts.
    pub pair_image: f64,
    /// Weight of the term that matches a pair's text with the image prototypes of its concepts.
    pub pair_text: f64,
    /// Weight of the term that matches a pair with its concepts' prototypes of the other modality.
    pub pair_prototype: f64,
    /// Names of live concepts that are encoded in a step.
    pub names: usize,
    /// What cosines are divided by.
    pub tau: f64,
    /// What matches are divided by where `pair_prototype` spreads its target over a pair's own concepts.
    pub match_tau: f64,
    /// Steps between refreshes of the bank of names.
    pub bank_every: u64,
    /// Names encoded in a refresh of the bank.
    pub bank_names: usize,
    /// What stands for a concept.
    pub anchors: Anchors,
}

impl Default for ConceptPrototypesConfig {
    fn default() -> Self {
        Self {
            concept_text: 0.03,
            pair_image: 0.03,
            pair_text: 0.0,
            pair_prototype: 0.0,
            names: 64,
            tau: 0.1,
            match_tau: 0.1,
            bank_every: 4,
            bank_names: 256,
            anchors: Anchors::Queue,
        }
    }
}

impl ConceptPrototypesConfig {
    /// Names encoded in a step: their similarities are a square that is held whole.
    const MOST_NAMES: usize = 4096;

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: &dyn std::fmt::Display, range: &str| {
            Err(
                Error::invalid(format!("{name} of concept_prototypes is {value}, which is not {range}"))
                    .remedy("correct it in run.toml"),
            )
        };
        for (name, weight) in [
            ("concept_text", self.concept_text),
            ("pair_image", self.pair_image),
            ("pair_text", self.pair_text),
            ("pair_prototype", self.pair_prototype),
        ] {
            if !(weight.is_finite() && weight >= 0.0) {
                return wrong(name, &weight, "a number from 0");
            }
        }
        for (name, tau) in [("tau", self.tau), ("match_tau", self.match_tau)] {
            if !(tau.is_finite() && tau > 0.0) {
                return wrong(name, &tau, "a number above 0");
            }
        }
        if !(1..=Self::MOST_NAMES).contains(&self.names) {
            return wrong("names", &self.names, "from 1 to 4096");
        }
        if self.bank_every == 0 {
            return wrong("bank_every", &self.bank_every, "a number of steps from 1");
        }
        if self.bank_names == 0 {
            return wrong("bank_names", &self.bank_names, "a number of names from 1");
        }
        Ok(())
    }
}
