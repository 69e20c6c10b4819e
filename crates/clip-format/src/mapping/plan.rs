//! Works out, from names and shapes alone, which tensor is made of which.

use std::collections::{HashMap, HashSet};

use clip_core::{Error, Result};

use super::{Mapping, Op, Rule, find};
use crate::tensor::{Dtype, TensorInfo};

/// A tensor to make, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Output {
    pub(super) info: TensorInfo,
    pub(super) make: Make,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Make {
    /// The source's bytes, under the output's shape.
    Take(String),
    Transpose(String),
    Concat(Vec<String>),
    /// Rows of a source, from row `.1` on.
    Rows(String, usize),
    Zeros,
    Number(f32),
}

/// What a mapping makes of given tensors.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) outputs: Vec<Output>,
    /// Tensors that no row knows.
    pub(super) unknown: Vec<String>,
    /// Zeros that the other side does not keep; whether they are zero is for the caller to check.
    pub(super) must_be_zero: Vec<String>,
}

impl Plan {
    /// From the file's tensors to the model's. What no row knows, and parts whose siblings are missing, stay visible
    /// under their own names, so that a strict report lists them.
    pub(super) fn load(mapping: &Mapping, tensors: &[TensorInfo]) -> Result<Self> {
        let mut plan = Self::build(&mapping.rules, tensors)?;
        let defaults = mapping.rules.iter().filter(|rule| rule.op == Op::Default);
        for rule in defaults {
            plan.add_default(rule, tensors);
        }
        mapping.rules.iter().for_each(|rule| plan.add_number(rule));
        plan.check_unique()?;
        Ok(plan)
    }

    /// From the model's tensors to the file's.
    pub(super) fn save(mapping: &Mapping, tensors: &[TensorInfo]) -> Result<Self> {
        let inverse: Vec<Rule> = mapping.rules.iter().map(Rule::inverse).collect();
        let defaults: Vec<&Rule> = mapping.rules.iter().filter(|rule| rule.op == Op::Default).collect();
        let is_default = |tensor: &TensorInfo| {
            defaults.iter().any(|rule| {
                rule.model
                    .iter()
                    .any(|pattern| pattern.captures(&tensor.name).is_some())
            })
        };
        let (zeros, others): (Vec<_>, Vec<_>) = tensors.iter().cloned().partition(is_default);
        let mut plan = Self::build(&inverse, &others)?;
        plan.add_counters(&mapping.rules, &others);
        plan.must_be_zero = zeros.into_iter().map(|tensor| tensor.name).collect();
        plan.check_unique()?;
        Ok(plan)
    }

    fn build(rules: &[Rule], tensors: &[TensorInfo]) -> Result<Self> {
        let mut plan = Self::default();
        let mut groups = Groups::default();
        for tensor in tensors {
            let Some((rule, part, captures)) = find(rules, &tensor.name, |rule| &rule.file) else {
                plan.take(tensor);
                plan.unknown.push(tensor.name.clone());
                continue;
            };
            let name = |part: usize| rule.model[part].expand(&captures);
            match rule.op {
                Op::Same | Op::Counter => {
                    plan.push(name(0), tensor, tensor.shape.clone(), Make::Take(tensor.name.clone()))
                }
                Op::Reshape { model: rank, .. } => {
                    let shape = reshape(&tensor.shape, rank);
                    plan.push(name(0), tensor, shape, Make::Take(tensor.name.clone()));
                }
                Op::Transpose => {
                    let &[rows, columns] = tensor.shape.as_slice() else {
                        return Err(no_matrix(tensor));
                    };
                    plan.push(
                        name(0),
                        tensor,
                        vec![columns, rows],
                        Make::Transpose(tensor.name.clone()),
                    );
                }
                Op::Split => plan.split(tensor, (0..rule.model.len()).map(name).collect())?,
                Op::Concat => {
                    let output = name(0);
                    if groups.first(&output) {
                        // The place of the joined tensor is that of its first part.
                        plan.push(output.clone(), tensor, Vec::new(), Make::Zeros);
                    }
                    groups.add(output, part, runs(&rule.file), tensor);
                }
                Op::Drop | Op::Default | Op::Number(_) => {}
            }
        }
        plan.join(groups)?;
        Ok(plan)
    }

    fn push(&mut self, name: String, source: &TensorInfo, shape: Vec<usize>, make: Make) {
        self.outputs.push(Output {
            info: TensorInfo {
                name,
                dtype: source.dtype,
                shape,
            },
            make,
        });
    }

    fn take(&mut self, tensor: &TensorInfo) {
        self.push(
            tensor.name.clone(),
            tensor,
            tensor.shape.clone(),
            Make::Take(tensor.name.clone()),
        );
    }

    fn split(&mut self, tensor: &TensorInfo, names: Vec<String>) -> Result<()> {
        let parts = names.len();
        let rows = tensor.shape.first().copied().unwrap_or(0);
        if tensor.shape.is_empty() || !rows.is_multiple_of(parts) {
            let shape = &tensor.shape;
            return Err(Error::invalid(format!(
                "tensor `{}` {shape:?} cannot be cut in {parts}",
                tensor.name
            )));
        }
        let share = rows / parts;
        for (first, shares) in runs(&names) {
            let mut shape = tensor.shape.clone();
            shape[0] = shares * share;
            let make = Make::Rows(tensor.name.clone(), first * share);
            self.push(names[first].clone(), tensor, shape, make);
        }
        Ok(())
    }

    /// Fills in the joined tensors; parts that miss a sibling come out under their own names instead.
    fn join(&mut self, groups: Groups) -> Result<()> {
        if groups.by_output.is_empty() {
            return Ok(());
        }
        // The first of a name is the place that was kept; a file may hold as many names as it likes.
        let mut places: HashMap<String, usize> = HashMap::with_capacity(self.outputs.len());
        for (at, output) in self.outputs.iter().enumerate() {
            places.entry(output.info.name.clone()).or_insert(at);
        }
        let mut gone = HashSet::new();
        for (name, parts) in groups.by_output {
            let Some(&at) = places.get(&name) else {
                continue;
            };
            let whole: Option<Vec<_>> = parts.iter().map(|(n, part)| Some((*n, part.as_ref()?))).collect();
            let Some(whole) = whole else {
                gone.insert(at);
                for part in parts.iter().filter_map(|(_, part)| part.as_ref()) {
                    self.take(part);
                    self.unknown.push(part.name.clone());
                }
                continue;
            };
            self.outputs[at].info.shape = joined_shape(&whole)?;
            self.outputs[at].make = Make::Concat(whole.iter().map(|(_, part)| part.name.clone()).collect());
        }
        let mut at = 0;
        self.outputs.retain(|_| {
            at += 1;
            !gone.contains(&(at - 1))
        });
        Ok(())
    }

    fn add_default(&mut self, rule: &Rule, tensors: &[TensorInfo]) {
        let mut there: HashSet<String> = self.outputs.iter().map(|output| output.info.name.clone()).collect();
        for tensor in tensors {
            let Some(captures) = rule.file[0].captures(&tensor.name) else {
                continue;
            };
            let name = rule.model[0].expand(&captures);
            let rows = tensor.shape.first().copied();
            // Rows without columns may be more than fit into memory, and there is no model with such.
            let are_there = rows.is_none_or(|rows| rows <= tensor.elements());
            if are_there && there.insert(name.clone()) {
                self.push(name, tensor, rows.into_iter().collect(), Make::Zeros);
            }
        }
    }

    /// Counters that the model does not have: it has counted nothing.
    fn add_counters(&mut self, rules: &[Rule], model: &[TensorInfo]) {
        let mut there: HashSet<String> = self.outputs.iter().map(|output| output.info.name.clone()).collect();
        for tensor in model {
            let counter = rules.iter().find_map(|rule| {
                let captures = rule.beside.as_ref()?.captures(&tensor.name)?;
                Some(rule.file[0].expand(&captures))
            });
            let Some(name) = counter.filter(|name| there.insert(name.clone())) else {
                continue;
            };
            self.outputs.push(Output {
                info: TensorInfo {
                    name,
                    dtype: Dtype::I64,
                    shape: Vec::new(),
                },
                make: Make::Zeros,
            });
        }
    }

    fn add_number(&mut self, rule: &Rule) {
        let Op::Number(value) = rule.op else { return };
        let name = rule.model[0].expand(&[]);
        if !self.outputs.iter().any(|output| output.info.name == name) {
            self.outputs.push(Output {
                info: TensorInfo {
                    name,
                    dtype: Dtype::F32,
                    shape: Vec::new(),
                },
                make: Make::Number(value),
            });
        }
    }

    fn check_unique(&self) -> Result<()> {
        let mut sources: HashMap<&str, &Make> = HashMap::new();
        for output in &self.outputs {
            if let Some(other) = sources.insert(&output.info.name, &output.make) {
                let name = &output.info.name;
                let (one, two) = (other.describe(), output.make.describe());
                return Err(Error::invalid(format!(
                    "two tensors are both `{name}`: {one} and {two}"
                )));
            }
        }
        Ok(())
    }
}

impl Make {
    fn describe(&self) -> String {
        match self {
            Self::Take(name) | Self::Transpose(name) | Self::Rows(name, _) => format!("`{name}`"),
            Self::Concat(names) => format!("`{}`", names.join("`, `")),
            Self::Zeros | Self::Number(_) => "a default".to_owned(),
        }
    }
}

/// Parts of joined tensors, each with its shares, by the name of the whole, in order of appearance.
#[derive(Default)]
struct Groups {
    by_output: Vec<(String, Parts)>,
    places: HashMap<String, usize>,
}

type Parts = Vec<(usize, Option<TensorInfo>)>;

/// Where each run of equal entries begins, and how long it is.
fn runs<T: PartialEq>(entries: &[T]) -> Vec<(usize, usize)> {
    let mut begin = 0;
    let lengths = entries.chunk_by(PartialEq::eq).map(<[T]>::len);
    lengths
        .map(|length| {
            begin += length;
            (begin - length, length)
        })
        .collect()
}

impl Groups {
    fn first(&self, output: &str) -> bool {
        !self.places.contains_key(output)
    }

    /// Adds a tensor that is named at `part`, where a run of equal names begins.
    fn add(&mut self, output: String, part: usize, runs: Vec<(usize, usize)>, tensor: &TensorInfo) {
        let place = *self.places.entry(output.clone()).or_insert_with(|| {
            self.by_output
                .push((output, runs.iter().map(|&(_, shares)| (shares, None)).collect()));
            self.by_output.len() - 1
        });
        if let Some(at) = runs.iter().position(|&(first, _)| first == part) {
            self.by_output[place].1[at].1 = Some(tensor.clone());
        }
    }
}

/// The shape of a whole: its parts have one shape, but for rows, of which each has as many as its shares.
fn joined_shape(parts: &[(usize, &TensorInfo)]) -> Result<Vec<usize>> {
    let (shares, first) = parts[0];
    let mut shape = first.shape.clone();
    let fits = |(own, part): &(usize, &TensorInfo)| {
        part.dtype == first.dtype
            && !part.shape.is_empty()
            && part.shape.get(1..) == first.shape.get(1..)
            && part.shape[0].checked_mul(shares) == first.shape[0].checked_mul(*own)
    };
    // Where another side is 0, a file may claim any number of rows.
    let rows = parts
        .iter()
        .try_fold(0usize, |rows, (_, part)| rows.checked_add(*part.shape.first()?));
    let Some(rows) = rows.filter(|_| parts.iter().all(fits)) else {
        let all: Vec<String> = parts
            .iter()
            .map(|(_, part)| format!("`{}` {:?}", part.name, part.shape))
            .collect();
        return Err(Error::invalid(format!(
            "tensors that belong together do not fit: {}",
            all.join(", ")
        )));
    };
    shape[0] = rows;
    Ok(shape)
}

/// Adds or takes away leading dimensions of 1; a shape that cannot be changed so stays, for the strict report.
fn reshape(shape: &[usize], rank: usize) -> Vec<usize> {
    if shape.len() <= rank {
        return [vec![1; rank - shape.len()], shape.to_vec()].concat();
    }
    let (leading, rest) = shape.split_at(shape.len() - rank);
    if leading.iter().all(|&size| size == 1) {
        rest.to_vec()
    } else {
        shape.to_vec()
    }
}

fn no_matrix(tensor: &TensorInfo) -> Error {
    Error::invalid(format!(
        "tensor `{}` {:?} should be a matrix",
        tensor.name, tensor.shape
    ))
}
