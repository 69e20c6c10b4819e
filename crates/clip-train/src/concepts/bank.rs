//! A bank of encoded names: constants, refreshed a few at a time.

use std::cmp::Ordering;

use clip_core::{Error, Id, Result};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{ConceptBank, door};
use serde_json::{Value, json};

const TEXTS: &str = "bank/texts";
const IDS: &str = "bank/ids";

/// Encoded names, and the step at which each was encoded.
#[derive(Default)]
pub(super) struct Bank {
    rows: Option<ConceptBank>,
    updated: Vec<u64>,
}

impl Bank {
    pub(super) fn rows(&self) -> Option<&ConceptBank> {
        self.rows.as_ref()
    }

    fn place(&self, id: Id) -> Option<usize> {
        self.rows.as_ref()?.ids.binary_search(&id).ok()
    }

    /// The live concepts to encode next: those not in the bank, then those encoded longest ago. Ascending.
    pub(super) fn stalest(&self, live: &[Id], count: usize) -> Vec<Id> {
        let mut ranked: Vec<(Option<u64>, Id)> = live
            .iter()
            .map(|id| (self.place(*id).map(|at| self.updated[at]), *id))
            .collect();
        ranked.sort_unstable();
        ranked.truncate(count);
        let mut ids: Vec<Id> = ranked.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }

    /// Puts rows of `fresh` (ascending; `encoded` joined) in, and drops what is not live (ascending).
    pub(super) fn update(&mut self, live: &[Id], fresh: &[Id], encoded: &[Tensor], step: u64) -> Result<()> {
        let old = self.rows.take();
        let (mut ids, mut updated) = (Vec::new(), Vec::new());
        // Rows of the old bank, then the fresh ones: where each kept row comes from.
        let before = old.as_ref().map_or(0, |bank| bank.ids.len());
        let mut from = Vec::new();
        for id in live {
            let place = match fresh.binary_search(id) {
                Ok(at) => Some((before + at, step)),
                Err(_) => old.as_ref().and_then(|bank| {
                    let at = bank.ids.binary_search(id).ok()?;
                    Some((at, self.updated[at]))
                }),
            };
            if let Some((at, when)) = place {
                ids.push(*id);
                updated.push(when);
                from.push(at as i64);
            }
        }
        self.updated = updated;
        if ids.is_empty() {
            return Ok(());
        }
        let texts = door(|| {
            let _guard = tch::no_grad_guard();
            let parts: Vec<&Tensor> = old.iter().map(|bank| &bank.texts).chain(encoded).collect();
            let whole = Tensor::cat(&parts, 0);
            whole.index_select(0, &Tensor::from_slice(&from).to_device(whole.device()))
        })?;
        self.rows = Some(ConceptBank { ids, texts });
        Ok(())
    }

    /// Tensors and steps, for a checkpoint.
    pub(super) fn state(&self) -> Result<(Vec<(String, Tensor)>, Value)> {
        let Some(ConceptBank { ids, texts }) = &self.rows else {
            return Ok((Vec::new(), Value::Null));
        };
        // 64 bits either way: the sign is only how they are read.
        let numbers: Vec<i64> = ids.iter().map(|id| id.0 as i64).collect();
        let ids = door(|| Tensor::from_slice(&numbers))?;
        let tensors = vec![(TEXTS.to_owned(), texts.shallow_clone()), (IDS.to_owned(), ids)];
        Ok((tensors, json!(self.updated)))
    }

    pub(super) fn restore(&mut self, tensors: &[(String, Tensor)], updated: Value, device: Device) -> Result<()> {
        *self = Self::default();
        let find = |name: &str| tensors.iter().find(|(key, _)| key == name).map(|(_, tensor)| tensor);
        let (Some(texts), Some(ids)) = (find(TEXTS), find(IDS)) else {
            return Ok(());
        };
        let wrong = || Error::invalid("the bank of concept names in a checkpoint is inconsistent");
        let updated: Vec<u64> = serde_json::from_value(updated).map_err(|error| wrong().source(error))?;
        let numbers = door(|| Vec::<i64>::try_from(&ids.to_kind(Kind::Int64)))?.map_err(|_| wrong())?;
        let ids: Vec<Id> = numbers.into_iter().map(|id| Id(id as u64)).collect();
        let ascending = ids.windows(2).all(|pair| pair[0].cmp(&pair[1]) == Ordering::Less);
        if !ascending || updated.len() != ids.len() || texts.size().first() != Some(&(ids.len() as i64)) {
            return Err(wrong());
        }
        let texts = door(|| texts.to_device(device))?;
        self.updated = updated;
        self.rows = Some(ConceptBank { ids, texts });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f32) -> Tensor {
        Tensor::from_slice(&[value, 1.0]).view([1, 2])
    }

    #[test]
    fn the_stalest_come_first_and_the_dead_go() {
        let mut bank = Bank::default();
        let ids = |list: &[u64]| -> Vec<Id> { list.iter().copied().map(Id).collect() };
        let live = ids(&[2, 5, 9]);
        assert_eq!(bank.stalest(&live, 2), ids(&[2, 5]));
        bank.update(&live, &ids(&[2, 5]), &[row(2.0), row(5.0)], 0).unwrap();
        assert_eq!(bank.stalest(&live, 2), ids(&[2, 9]));
        bank.update(&live, &ids(&[2, 9]), &[row(20.0), row(9.0)], 4).unwrap();
        // 5 was encoded longest ago.
        assert_eq!(bank.stalest(&live, 1), ids(&[5]));
        let values = |bank: &Bank| Vec::<f32>::try_from(bank.rows().unwrap().texts.select(1, 0)).unwrap();
        assert_eq!(values(&bank), [20.0, 5.0, 9.0]);
        bank.update(&ids(&[5, 9]), &[], &[], 8).unwrap();
        assert_eq!(values(&bank), [5.0, 9.0]);
        let (tensors, plain) = bank.state().unwrap();
        let mut other = Bank::default();
        other.restore(&tensors, plain, Device::Cpu).unwrap();
        assert_eq!(
            (values(&other), other.updated.clone()),
            (values(&bank), bank.updated.clone())
        );
        bank.update(&[], &[], &[], 9).unwrap();
        assert!(bank.rows().is_none());
    }
}
