//! What a run knows of concepts beside the queue: their names, and a bank of encoded names.

mod bank;
mod names;

use std::collections::HashMap;
use std::sync::Arc;

use clip_core::{Concept, Error, Id, Result};
use clip_nn::tch::{self, Tensor};
use clip_nn::{BankNeeds, Compute, ConceptBank, DualEncoder, Pass, State, TextInput, door};
use serde_json::{Value, json};

use self::bank::Bank;
use self::names::Names;
pub(crate) use self::names::saved_names;
use crate::groups::locked;
use crate::seeds::{Draw, seed};

/// Turns names of concepts into what the text tower takes, a row a name.
pub trait NameReader: Send {
    /// The input of some names, in order.
    fn read(&self, names: &[Arc<str>]) -> Result<TextInput>;
}

/// Names and bank of a run.
pub(crate) struct Concepts {
    reader: Box<dyn NameReader>,
    names: Names,
    bank: Bank,
    /// Pooled features of names, where the text tower is locked. Each name is computed alone, so that its features do not
    /// depend on the names beside it, which differ in a resumed run.
    pooled: HashMap<Id, Tensor>,
}

impl Concepts {
    /// None yet. At most `most` names are kept beside those in use.
    pub(crate) fn new(reader: Box<dyn NameReader>, most: usize) -> Self {
        Self {
            reader,
            names: Names::new(most),
            bank: Bank::default(),
            pooled: HashMap::new(),
        }
    }

    /// Takes in the names of a batch's concepts, and forgets the ones met longest ago where they grow too many.
    pub(crate) fn meet(&mut self, concepts: &[Concept], live: &[Id], step: u64) {
        for id in self.names.meet(concepts, live, step) {
            self.pooled.remove(&id);
        }
    }

    /// Live concepts for a step, at most `count`: a function of seed, step and live concepts alone. Ascending.
    pub(crate) fn sample(live: &[Id], count: usize, run: u64, step: u64) -> Vec<Id> {
        if live.len() <= count {
            return live.to_vec();
        }
        // Ranks by a hash are a fair draw, and need no generator.
        let mut drawn: Vec<(u64, Id)> = live
            .iter()
            .map(|id| (seed(run, Draw::Concepts, step, id.0), *id))
            .collect();
        drawn.sort_unstable();
        drawn.truncate(count);
        let mut chosen: Vec<Id> = drawn.into_iter().map(|(_, id)| id).collect();
        chosen.sort_unstable();
        chosen
    }

    /// What the text tower takes for some concepts, a row each.
    pub(crate) fn input(&mut self, ids: &[Id], model: &DualEncoder, compute: Compute) -> Result<TextInput> {
        let names = ids.iter().map(|id| self.name(*id)).collect::<Result<Vec<_>>>()?;
        if !locked(model.parameters(), "text") {
            return self.reader.read(&names);
        }
        for (id, name) in ids.iter().zip(names) {
            if !self.pooled.contains_key(id) {
                let _guard = tch::no_grad_guard();
                let input = self.reader.read(&[name])?;
                let pass = Pass { compute, ..Pass::INFER };
                self.pooled.insert(*id, model.encode_texts(&input, pass)?.pooled);
            }
        }
        let rows: Vec<&Tensor> = ids.iter().filter_map(|id| self.pooled.get(id)).collect();
        Ok(TextInput::Pooled(door(|| Tensor::cat(&rows, 0))?))
    }

    /// Whether the name of a concept is known.
    pub(crate) fn knows(&self, id: Id) -> bool {
        self.names.get(id).is_some()
    }

    fn name(&self, id: Id) -> Result<Arc<str>> {
        self.names
            .get(id)
            .ok_or_else(|| Error::internal(format!("concept {} is live and has no name", id.0)))
    }

    /// Refreshes the bank where it is due at `step`.
    pub(crate) fn refresh(
        &mut self,
        needs: BankNeeds,
        live: &[Id],
        model: &DualEncoder,
        compute: Compute,
        step: u64,
    ) -> Result<()> {
        if !step.is_multiple_of(needs.every.max(1)) {
            return Ok(());
        }
        let stale = self.bank.stalest(live, needs.names);
        let mut encoded = Vec::new();
        // As many at once as a small batch, so that a large refresh needs no more memory than a step.
        for ids in stale.chunks(64) {
            let input = self.input(ids, model, compute)?;
            let _guard = tch::no_grad_guard();
            let pass = Pass { compute, ..Pass::INFER };
            let raw = model.encode_texts(&input, pass)?.raw;
            encoded.push(door(|| clip_nn::unit_rows(&raw))?);
        }
        self.bank.update(live, &stale, &encoded, step)
    }

    /// The bank, where it holds a name.
    pub(crate) fn bank(&self) -> Option<&ConceptBank> {
        self.bank.rows()
    }

    pub(crate) fn state(&self) -> Result<State> {
        let (tensors, updated) = self.bank.state()?;
        Ok(State {
            tensors,
            plain: json!({ "names": self.names.state(), "bank": updated }),
        })
    }

    pub(crate) fn restore(&mut self, state: &State, device: tch::Device) -> Result<()> {
        let part = |name: &str| state.plain.get(name).cloned().unwrap_or(Value::Null);
        self.names.restore(part("names"))?;
        self.bank.restore(&state.tensors, part("bank"), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_of_live_concepts_and_changes_with_the_step() {
        let live: Vec<Id> = (0..100).map(|id| Id(3 * id)).collect();
        let sample = Concepts::sample(&live, 10, 7, 3);
        assert_eq!(sample.len(), 10);
        assert!(sample.is_sorted() && sample.iter().all(|id| live.contains(id)));
        assert_eq!(sample, Concepts::sample(&live, 10, 7, 3));
        assert_ne!(sample, Concepts::sample(&live, 10, 7, 4));
        assert_eq!(Concepts::sample(&live[..4], 10, 7, 3), &live[..4]);
    }
}
