//! A cursor over the names of a model's tensors, in place of tch's `VarStore`.
//!
//! `VarStore` draws random numbers for every weight before it loads one, renames a duplicate in silence, has no stable
//! order and takes over the file's type. Here a tensor is loaded where there is one and initialised only where a model
//! starts fresh; each name is given out once; the order is the order of building; the type is ours.

mod options;
mod source;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use clip_core::{Error, Id, Result};
use tch::{Device, Kind, Tensor};

use crate::fit::{Absent, Fit, Misshapen};
use crate::layers::{Adapter, LayerBytes};
use crate::parameters::{Parameter, Parameters};

pub use options::{Fresh, Init, ParamOptions, Role};
pub use source::{Release, WeightSource};

struct Shared {
    source: Option<Box<dyn WeightSource>>,
    options: ParamOptions,
    parameters: Vec<Parameter>,
    seen: BTreeSet<String>,
    /// What does not fit, less what nobody asked for.
    fit: Fit,
    /// Adapters by the name of the weight they stand beside.
    adapters: BTreeMap<String, Adapter>,
    /// What the layers that could have an adapter are called.
    adaptable: BTreeSet<String>,
}

/// A cursor over names. Clones and [`at`](Self::at) share one list; not `Send`, since it lives only while building.
///
/// ```
/// use clip_nn::{Fresh, Init, ParamOptions, Params, Role};
/// let params = Params::new(None, ParamOptions { fresh: Fresh::Everything, ..Default::default() });
/// let weight = params.at("blocks").at(0).tensor("weight", &[4, 3], Role::Weight, Init::Normal(0.02));
/// assert_eq!(weight.size(), [4, 3]);
/// assert_eq!(params.finish()?.iter().next().unwrap().name, "blocks.0.weight");
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Params {
    shared: Rc<RefCell<Shared>>,
    prefix: String,
    layer: Option<u32>,
    /// Whether it is a tower's, so that its layers may have adapters.
    tower: bool,
}

impl Params {
    /// A cursor at the root.
    pub fn new(source: Option<Box<dyn WeightSource>>, options: ParamOptions) -> Self {
        let shared = Shared {
            source,
            options,
            parameters: Vec::new(),
            seen: BTreeSet::new(),
            fit: Fit::default(),
            adapters: BTreeMap::new(),
            adaptable: BTreeSet::new(),
        };
        Self {
            shared: Rc::new(RefCell::new(shared)),
            prefix: String::new(),
            layer: None,
            tower: false,
        }
    }

    /// The cursor one name deeper.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        Self {
            prefix: self.full(&name.to_string()),
            ..self.clone()
        }
    }

    /// The cursor with a depth noted: 0 for embeddings, `i + 1` for block `i`; what follows the last block has none.
    /// Layer-wise rates and locks read it.
    #[must_use]
    pub fn layer(&self, layer: u32) -> Self {
        Self {
            layer: Some(layer),
            ..self.clone()
        }
    }

    /// The cursor of a tower: where adapters are asked for, its layers get them and its weights are locked.
    pub(crate) fn tower(&self, name: &str) -> Self {
        Self {
            tower: true,
            ..self.at(name)
        }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// The tensor of a name, f32, of exactly this shape. Never fails: what is missing or of a wrong shape is noted,
    /// zeros, which are not to be written to, stand in, and [`finish`](Self::finish) reports everything at once.
    pub fn tensor(&self, name: &str, shape: &[i64], role: Role, init: Init) -> Tensor {
        let name = self.full(name);
        let mut shared = self.shared.borrow_mut();
        if !shared.seen.insert(name.clone()) {
            shared.fit.faults.push(format!("{name}: asked for twice"));
        }
        let tensor = match shared.load(&name, shape) {
            Found::Loaded(tensor) => tensor,
            Found::Fresh => draw(&name, shape, init, &shared.options),
            Found::Fault(fault) => {
                match fault {
                    Fault::Missing(tensor) => shared.fit.missing.push(tensor),
                    Fault::Misshapen(tensor) => shared.fit.misshapen.push(tensor),
                    Fault::Unread(text) => shared.fit.faults.push(text),
                }
                // One number in memory, whatever a wrong config asks for: nobody computes with it.
                Tensor::zeros([], (Kind::Float, shared.options.device)).expand(shape, false)
            }
        };
        let locked = self.tower && shared.options.lora.is_some();
        let tensor = tensor.set_requires_grad(shared.options.trainable && role != Role::Buffer && !locked);
        let kept = tensor.shallow_clone();
        shared.parameters.push(Parameter {
            name,
            tensor: kept,
            role,
            layer: self.layer,
        });
        tensor
    }

    /// Notes a name that a file may have and the model has no use for, so that the strict report does not call it
    /// unexpected.
    pub fn disregard(&self, name: &str) {
        let name = self.full(name);
        self.shared.borrow_mut().seen.insert(name);
    }

    /// What a layer calls when it has made its own copy of a loaded weight, which stays where it was.
    pub(crate) fn release(&self) -> Option<Release> {
        let shared = self.shared.borrow();
        let loaded = !shared.options.trainable && shared.options.device == Device::Cpu;
        shared.source.as_ref().filter(|_| loaded)?.release()
    }

    /// This cursor's linear layer in int8; outside of towers none is.
    pub(crate) fn bytes(&self) -> LayerBytes {
        if !self.tower {
            return LayerBytes::none();
        }
        let options = &self.shared.borrow().options;
        let watch = options.watch.clone().map(|watch| (watch, self.prefix.clone()));
        LayerBytes::new(options.int8.plan(&self.prefix), options.device, watch)
    }

    /// The adapter of this cursor's linear layer, if one is asked for: `lora_a` `[rank, input]`, drawn by its name, and
    /// `lora_b` `[output, rank]`, zero. They are never loaded with the model.
    pub(crate) fn adapter(&self, [input, output]: [i64; 2]) -> Option<Adapter> {
        let mut shared = self.shared.borrow_mut();
        let lora = shared.options.lora.clone().filter(|_| self.tower)?;
        let layer = self.prefix.rsplit('.').next().unwrap_or_default().to_owned();
        let asked = lora.targets.contains(&layer);
        shared.adaptable.insert(layer);
        if !asked {
            return None;
        }
        // As PyTorch starts a linear layer: uniform within 1 / √inputs.
        let spread = Init::Uniform((input.max(1) as f64).powf(-0.5));
        let mut make = |part: &str, shape: [i64; 2], init| {
            let name = self.full(part);
            let tensor = draw(&name, &shape, init, &shared.options).set_requires_grad(shared.options.trainable);
            shared.parameters.push(Parameter {
                name,
                tensor: tensor.shallow_clone(),
                role: Role::Adapter,
                layer: self.layer,
            });
            tensor
        };
        let adapter = Adapter {
            a: make("lora_a", [lora.rank, input], spread),
            b: make("lora_b", [output, lora.rank], Init::Constant(0.0)),
            scale: lora.alpha / lora.rank as f64,
        };
        shared.adapters.insert(self.full("weight"), adapter.share());
        Some(adapter)
    }

    /// How what was asked for so far fits the weights. A clone that was kept tells it of a build that failed, too.
    pub fn fit(&self) -> Fit {
        let shared = self.shared.borrow();
        let names = shared.source.as_ref().map(|source| source.names()).unwrap_or_default();
        Fit {
            unexpected: names.into_iter().filter(|name| !shared.seen.contains(name)).collect(),
            ..shared.fit.clone()
        }
    }

    /// Ends building: all parameters in the order they were asked for, or one error that lists everything missing, of a
    /// wrong shape, and unexpected. An adapter for a layer that no tower has is an error as well.
    pub fn finish(self) -> Result<Parameters> {
        self.fit().check()?;
        let mut shared = self.shared.borrow_mut();
        shared.check_targets()?;
        let adapters = std::mem::take(&mut shared.adapters);
        Ok(Parameters::new(std::mem::take(&mut shared.parameters), adapters))
    }
}

enum Found {
    Loaded(Tensor),
    Fresh,
    Fault(Fault),
}

enum Fault {
    Missing(Absent),
    Misshapen(Misshapen),
    Unread(String),
}

impl Shared {
    fn check_targets(&self) -> Result<()> {
        let targets = self.options.lora.iter().flat_map(|lora| &lora.targets);
        let unknown = targets.into_iter().find(|target| !self.adaptable.contains(*target));
        unknown.map_or(Ok(()), |target| {
            let known: Vec<&str> = self.adaptable.iter().map(String::as_str).collect();
            Err(Error::invalid(format!(
                "lora targets `{target}`, and the towers have no such linear layer"
            ))
            .remedy(format!("known: {}", known.join(", "))))
        })
    }

    fn load(&self, name: &str, shape: &[i64]) -> Found {
        let found = match &self.source {
            Some(source) => source.tensor(name),
            None => Ok(None),
        };
        match found {
            Ok(Some(tensor)) if tensor.size() == shape => {
                let tensor = tensor.to_device(self.options.device).to_kind(Kind::Float);
                // Mapped memory is for inference only: training writes.
                Found::Loaded(if self.options.trainable { tensor.copy() } else { tensor })
            }
            Ok(Some(tensor)) => Found::Fault(Fault::Misshapen(Misshapen {
                name: name.to_owned(),
                file: tensor.size(),
                model: shape.to_vec(),
            })),
            Ok(None) if self.options.fresh.allows(name) => Found::Fresh,
            Ok(None) => Found::Fault(Fault::Missing(Absent {
                name: name.to_owned(),
                shape: shape.to_vec(),
            })),
            Err(error) => Found::Fault(Fault::Unread(format!("{name}: {error}"))),
        }
    }
}

/// A fresh tensor. Each name has a seed of its own, so that values do not depend on what else is built.
fn draw(name: &str, shape: &[i64], init: Init, options: &ParamOptions) -> Tensor {
    // The generator is the process's: a model that another thread builds must not draw between seed and numbers.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    let _guard = tch::no_grad_guard();
    tch::manual_seed((Id::of(name).0 ^ options.seed) as i64);
    // Drawn on the CPU and moved, so that a GPU run starts from the same numbers.
    let mut tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let _ = match init {
        Init::Constant(value) => tensor.fill_(value),
        Init::Normal(deviation) => tensor.normal_(0.0, deviation),
        Init::Uniform(bound) => tensor.uniform_(-bound, bound),
    };
    tensor.to_device(options.device)
}
