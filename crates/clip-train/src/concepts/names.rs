//! Names of the concepts met lately.

use std::collections::BTreeMap;
use std::sync::Arc;

use clip_core::{Concept, Error, Id, Result};
use serde_json::Value;

/// Names by concept, each with the step at which it was met last. At most so many, those of live concepts apart.
pub(super) struct Names {
    most: usize,
    known: BTreeMap<Id, (Arc<str>, u64)>,
}

impl Names {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            known: BTreeMap::new(),
        }
    }

    pub(super) fn get(&self, id: Id) -> Option<Arc<str>> {
        self.known.get(&id).map(|(name, _)| Arc::clone(name))
    }

    /// Takes names in. Where they are twice too many, those met longest ago go, unless their concepts are live (`live` is
    /// ascending). Gives those that go.
    pub(super) fn meet(&mut self, concepts: &[Concept], live: &[Id], step: u64) -> Vec<Id> {
        for Concept { id, name } in concepts {
            let (known, met) = self.known.entry(*id).or_insert_with(|| (Arc::clone(name), step));
            if known != name {
                known.clone_from(name);
            }
            *met = step;
        }
        if self.known.len() <= 2 * self.most + live.len() {
            return Vec::new();
        }
        let mut idle: Vec<(u64, Id)> = self
            .known
            .iter()
            .filter(|(id, _)| live.binary_search(id).is_err())
            .map(|(id, (_, met))| (*met, *id))
            .collect();
        idle.sort_unstable();
        let surplus = idle.len().saturating_sub(self.most);
        let gone: Vec<Id> = idle.into_iter().take(surplus).map(|(_, id)| id).collect();
        for id in &gone {
            self.known.remove(id);
        }
        gone
    }

    pub(super) fn state(&self) -> Value {
        let rows = self.known.iter();
        rows.map(|(id, (name, met))| serde_json::json!([id.0, **name, met]))
            .collect()
    }

    pub(super) fn restore(&mut self, state: Value) -> Result<()> {
        self.known = read(state)?;
        Ok(())
    }
}

fn read(state: Value) -> Result<BTreeMap<Id, (Arc<str>, u64)>> {
    let rows: Vec<(u64, String, u64)> = serde_json::from_value(state)
        .map_err(|error| Error::invalid(format!("names of concepts in a checkpoint: {error}")).source(error))?;
    let known = rows.into_iter().map(|(id, name, met)| (Id(id), (name.into(), met)));
    Ok(known.collect())
}

/// The names in a saved state; none where there is no state.
pub(crate) fn saved_names(state: Option<&Value>) -> Result<BTreeMap<Id, Arc<str>>> {
    let known = state.map_or_else(|| Ok(BTreeMap::new()), |state| read(state.clone()))?;
    Ok(known.into_iter().map(|(id, (name, _))| (id, name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concept(id: u64) -> Concept {
        Concept {
            id: Id(id),
            name: format!("n{id}").into(),
        }
    }

    #[test]
    fn names_met_longest_ago_go_and_live_ones_stay() {
        let mut names = Names::new(2);
        for step in 0..6 {
            names.meet(&[concept(step)], &[Id(0)], step);
        }
        assert!(names.get(Id(0)).is_some() && names.get(Id(1)).is_none() && names.get(Id(5)).is_some());
        let mut other = Names::new(2);
        other.restore(names.state()).unwrap();
        assert_eq!(other.known, names.known);
    }
}
