//! Weights held in memory, for this crate's tests.

use std::collections::BTreeMap;

use clip_core::Result;

use crate::tensor::{Dtype, TensorInfo, TensorView, Weights};

/// Named tensors in memory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    tensors: Vec<TensorInfo>,
    data: BTreeMap<String, Vec<u8>>,
}

impl Table {
    /// Tensors of f32.
    pub(crate) fn new<const N: usize>(tensors: [(&str, Vec<usize>, Vec<f32>); N]) -> Self {
        let mut table = Self {
            tensors: Vec::new(),
            data: BTreeMap::new(),
        };
        for (name, shape, values) in tensors {
            table.push(name, shape, &values);
        }
        table
    }

    /// Copies all tensors of a source, sorted by name.
    pub(crate) fn of(source: &dyn Weights) -> Self {
        let mut table = Self {
            tensors: source.tensors().to_vec(),
            data: BTreeMap::new(),
        };
        table.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        for name in source.names() {
            let view = source.view(name).unwrap().unwrap();
            table.data.insert(name.to_owned(), view.data.into_owned());
        }
        table
    }

    /// Less the tensors of some names.
    pub(crate) fn without(mut self, left_out: impl Fn(&str) -> bool) -> Self {
        self.tensors.retain(|tensor| !left_out(&tensor.name));
        self.data.retain(|name, _| !left_out(name));
        self
    }

    pub(crate) fn push(&mut self, name: &str, shape: Vec<usize>, values: &[f32]) {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push_bytes(name, Dtype::F32, shape, data);
    }

    /// Appends a tensor, in place of one of the same name.
    pub(crate) fn push_bytes(&mut self, name: &str, dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) {
        self.tensors.retain(|tensor| tensor.name != name);
        self.tensors.push(TensorInfo {
            name: name.into(),
            dtype,
            shape,
        });
        self.data.insert(name.into(), data);
    }

    /// Takes out a tensor.
    pub(crate) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
        self.data.remove(name);
    }

    /// Gives a tensor another shape, and appends it.
    pub(crate) fn replace(&mut self, name: &str, shape: &[usize]) {
        self.remove(name);
        self.counting(name, shape, 0.25);
    }

    /// Appends an integer scalar.
    pub(crate) fn push_count(&mut self, name: &str, value: i64) {
        self.tensors.push(TensorInfo {
            name: name.into(),
            dtype: Dtype::I64,
            shape: Vec::new(),
        });
        self.data.insert(name.into(), value.to_le_bytes().to_vec());
    }

    /// Appends a tensor whose values count up from `first`, so that every element differs.
    pub(crate) fn counting(&mut self, name: &str, shape: &[usize], first: f32) {
        let values: Vec<f32> = (0..shape.iter().product()).map(|at: usize| first + at as f32).collect();
        self.push(name, shape.to_vec(), &values);
    }
}

impl Weights for Table {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let info = self.tensors.iter().find(|tensor| tensor.name == name);
        Ok(info.map(|info| TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: self.data[name].as_slice().into(),
        }))
    }
}
