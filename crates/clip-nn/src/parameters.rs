//! The parameters of a built model, in the order of building.

use std::cell::Cell;
use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::Role;
use crate::layers::Adapter;

/// One tensor of a model.
#[derive(Debug)]
pub struct Parameter {
    /// Its canonical name.
    pub name: String,
    /// The tensor; the model's layers hold shallow clones of it.
    pub tensor: Tensor,
    /// What it is.
    pub role: Role,
    /// Its depth, where the backbone noted one.
    pub layer: Option<u32>,
}

/// All parameters of a model. Owned by the model, in the order they were built, which is the order of gradients, norms
/// and files.
#[derive(Debug, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
    /// By the name of the weight that each stands beside.
    adapters: BTreeMap<String, Adapter>,
    /// Whether weights are exported without their adapters.
    apart: Cell<bool>,
}

impl Parameters {
    pub(crate) fn new(list: Vec<Parameter>, adapters: BTreeMap<String, Adapter>) -> Self {
        Self {
            list,
            adapters,
            apart: Cell::new(false),
        }
    }

    /// All of them, buffers and adapters included.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// Those that training changes.
    pub fn trainable(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter().filter(|parameter| parameter.tensor.requires_grad())
    }

    /// Locks every parameter that `choose` picks: it keeps its value and collects no gradient.
    pub fn lock(&self, choose: impl Fn(&Parameter) -> bool) {
        for parameter in self.list.iter().filter(|parameter| choose(parameter)) {
            let _ = parameter.tensor.set_requires_grad(false);
        }
    }

    /// Names and tensors to write to a file, without gradients, f32. Adapters are merged into their weights, so that
    /// what is written is an ordinary model.
    pub fn exported(&self) -> impl Iterator<Item = (&str, Tensor)> {
        let written = self.list.iter().filter(|parameter| parameter.role != Role::Adapter);
        written.map(|parameter| {
            let adapter = self.adapters.get(&parameter.name).filter(|_| !self.apart.get());
            let tensor = match adapter {
                Some(adapter) => adapter.merged(&parameter.tensor),
                None => parameter.tensor.detach(),
            };
            (parameter.name.as_str(), tensor.to_kind(Kind::Float))
        })
    }

    /// Runs something for which [`exported`](Self::exported) leaves the weights as they are and the adapters out: what
    /// a run needs that goes on later, with the adapters kept beside.
    pub fn without_adapters<T>(&self, run: impl FnOnce() -> T) -> T {
        let before = self.apart.replace(true);
        let result = run();
        self.apart.set(before);
        result
    }

    /// How many numbers the model has, buffers and adapters left out.
    pub fn count(&self) -> u64 {
        let beside = |parameter: &&Parameter| matches!(parameter.role, Role::Buffer | Role::Adapter);
        let sizes = self.list.iter().filter(|parameter| !beside(parameter));
        sizes.map(|parameter| parameter.tensor.numel() as u64).sum()
    }
}
