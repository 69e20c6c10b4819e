//! Weights seen through a mapping.

use std::collections::HashMap;

use clip_core::{Error, Result};

use super::Mapping;
use super::plan::{Make, Plan};
use crate::tensor::{TensorInfo, TensorView, Weights};

/// Weights under other names and layouts. Nothing is copied but what must be: transposed, joined and cut tensors,
/// one at a time, when they are asked for.
#[derive(Debug)]
pub struct Remapped<W> {
    source: W,
    tensors: Vec<TensorInfo>,
    makes: HashMap<String, (usize, Make)>,
    unknown: Vec<String>,
}

impl<W: AsWeights> Remapped<W> {
    /// A file's tensors under canonical names. What the mapping does not know stays visible under its own name.
    pub fn load(mapping: &Mapping, source: W) -> Result<Self> {
        let plan = Plan::load(mapping, source.weights().tensors())?;
        Ok(Self::new(source, plan))
    }

    /// A model's tensors under a file's names. A tensor that the mapping does not know, or one that the file has no
    /// place for and that is not zero, is an error that names it.
    pub fn save(mapping: &Mapping, source: W) -> Result<Self> {
        let plan = Plan::save(mapping, source.weights().tensors())?;
        if !plan.unknown.is_empty() {
            let names = plan.unknown.join("`, `");
            return Err(Error::invalid(format!("the layout has no place for `{names}`")));
        }
        for name in &plan.must_be_zero {
            let view = source.weights().view(name)?;
            if view.is_some_and(|view| view.data.iter().any(|&byte| byte != 0)) {
                return Err(Error::invalid(format!(
                    "the layout has no place for `{name}`, which is no longer zero"
                )));
            }
        }
        Ok(Self::new(source, plan))
    }

    /// Names of the source that no row knows, and parts whose siblings are missing: visible under their own names.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    fn new(source: W, plan: Plan) -> Self {
        let tensors = plan.outputs.iter().map(|output| output.info.clone()).collect();
        let makes = plan.outputs.into_iter().enumerate();
        let makes = makes
            .map(|(at, output)| (output.info.name, (at, output.make)))
            .collect();
        Self {
            source,
            tensors,
            makes,
            unknown: plan.unknown,
        }
    }

    fn source_view(&self, name: &str) -> Result<TensorView<'_>> {
        let view = self.source.weights().view(name)?;
        view.ok_or_else(|| Error::internal(format!("tensor `{name}` was announced and is not there")))
    }
}

impl<W: AsWeights> Weights for Remapped<W> {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn view(&self, name: &str) -> Result<Option<TensorView<'_>>> {
        let Some((at, make)) = self.makes.get(name) else {
            return Ok(None);
        };
        let info = &self.tensors[*at];
        let data = match make {
            Make::Take(source) => self.source_view(source)?.data,
            Make::Transpose(source) => transpose(&self.source_view(source)?).into(),
            Make::Concat(sources) => {
                let mut whole = Vec::with_capacity(info.bytes());
                for source in sources {
                    whole.extend_from_slice(&self.source_view(source)?.data);
                }
                whole.into()
            }
            Make::Rows(source, first) => {
                let view = self.source_view(source)?;
                // Where there are no elements the other sides may be of any size.
                let row = view.data.len().checked_div(view.shape[0]).unwrap_or(0);
                let begin = first * row;
                view.data[begin..begin + info.bytes()].to_vec().into()
            }
            Make::Zeros => vec![0; info.bytes()].into(),
            Make::Number(value) => value.to_le_bytes().to_vec().into(),
        };
        Ok(Some(TensorView {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data,
        }))
    }

    fn release(&self) {
        self.source.weights().release();
    }
}

/// Whatever holds weights: a borrow while saving, a shared handle while a model is open.
pub trait AsWeights: Send + Sync {
    /// The weights held.
    fn weights(&self) -> &dyn Weights;
}

impl AsWeights for &dyn Weights {
    fn weights(&self) -> &dyn Weights {
        *self
    }
}

impl AsWeights for std::sync::Arc<dyn Weights> {
    fn weights(&self) -> &dyn Weights {
        &**self
    }
}

/// The bytes of a matrix `[rows, columns]` as `[columns, rows]`.
fn transpose(view: &TensorView<'_>) -> Vec<u8> {
    let &[rows, columns] = view.shape.as_slice() else {
        return view.data.to_vec();
    };
    // No rows of any number of columns: nothing to go through.
    if view.data.is_empty() {
        return Vec::new();
    }
    match view.dtype.size() {
        1 => transpose_sized::<1>(&view.data, rows, columns),
        2 => transpose_sized::<2>(&view.data, rows, columns),
        4 => transpose_sized::<4>(&view.data, rows, columns),
        _ => transpose_sized::<8>(&view.data, rows, columns),
    }
}

fn transpose_sized<const N: usize>(data: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let elements = data.as_chunks::<N>().0;
    let mut out = Vec::with_capacity(data.len());
    for column in 0..columns {
        (0..rows).for_each(|row| out.extend_from_slice(&elements[row * columns + column]));
    }
    out
}
