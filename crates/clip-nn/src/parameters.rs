//! The parameters of a built model, in the order of building.

use tch::{Kind, Tensor};

use crate::Role;

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
}

impl Parameters {
    pub(crate) fn new(list: Vec<Parameter>) -> Self {
        Self { list }
    }

    /// All of them, buffers included.
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

    /// Names and tensors to write to a file, without gradients, f32.
    pub fn exported(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.list
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter.tensor.detach().to_kind(Kind::Float)))
    }

    /// How many numbers they hold, buffers left out.
    pub fn count(&self) -> u64 {
        let sizes = self.list.iter().filter(|parameter| parameter.role != Role::Buffer);
        sizes.map(|parameter| parameter.tensor.numel() as u64).sum()
    }
}
