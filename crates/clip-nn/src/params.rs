//! A cursor over the names of a model's tensors, in place of tch's `VarStore`.
//!
//! `VarStore` draws random numbers for every weight before it loads one, renames a duplicate in silence, has no stable
//! order and takes over the file's type. Here a tensor is loaded where there is one and initialised only where a model
//! starts fresh; each name is given out once; the order is the order of building; the type is ours.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use clip_core::{Error, Id, Result};
use tch::{Device, Kind, Tensor};

use crate::fit::{Absent, Fit, Misshapen};
use crate::int8::{InputWatch, Int8};
use crate::layers::{Adapter, LayerBytes, Lora};
use crate::parameters::{Parameter, Parameters};

/// Where loaded tensors come from.
pub trait WeightSource {
    /// The names there are.
    fn names(&self) -> Vec<String>;

    /// The tensor of a name, `None` where there is none. Its type and device are the caller's to choose.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>>;

    /// Lets go of the memory that the tensors' values take until they are read again, where that can be done. A layer calls
    /// it when it has made its own copy.
    fn release(&self) -> Option<Release> {
        None
    }
}

/// How the memory behind loaded tensors is let go of.
#[derive(Clone)]
pub struct Release(Arc<dyn Fn() + Send + Sync>);

impl Release {
    /// By a function that may be called at any time.
    pub fn new(release: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(release))
    }

    pub(crate) fn call(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release")
    }
}

/// What a parameter is: decides weight decay, rates and locks, which read this and not names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// A matrix or a convolution kernel.
    Weight,
    /// Added to a layer's output.
    Bias,
    /// Scale or shift of a norm.
    Norm,
    /// A table of vectors: tokens, positions, the class token.
    Embedding,
    /// The temperature or the bias of the similarities.
    Scale,
    /// Never trained: statistics.
    Buffer,
    /// A thin matrix beside a locked weight ([`Lora`]); no part of the written model.
    Adapter,
}

/// How a tensor starts where nothing is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All one value.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform between −bound and bound.
    Uniform(f64),
}

/// Which tensors may start fresh; any other that is missing is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fresh {
    /// None: the strict rule for checkpoints.
    #[default]
    Nothing,
    /// All: a model from scratch.
    Everything,
    /// Those whose names begin so, at a dot: `["image_projection", "logit_scale"]`.
    Under(Vec<String>),
}

/// How parameters are made.
#[derive(Debug, Clone)]
pub struct ParamOptions {
    /// Where they live.
    pub device: Device,
    /// Decides the values of fresh ones, each by its name: order does not matter.
    pub seed: u64,
    /// Which may start fresh.
    pub fresh: Fresh,
    /// Whether they are for training: copied out of mapped files, with gradients. Otherwise loaded tensors may lie in
    /// the mapped file.
    pub trainable: bool,
    /// Adapters beside the towers' linear layers, whose weights are then locked.
    pub lora: Option<Lora>,
    /// What the towers' linear layers do in passes of [`Compute::Int8`](crate::Compute::Int8).
    pub int8: Int8,
    /// Sees what the towers' linear layers are given, for a calibration.
    pub watch: Option<InputWatch>,
}

impl Default for ParamOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            seed: 0,
            fresh: Fresh::Nothing,
            trainable: false,
            lora: None,
            int8: Int8::Uncalibrated,
            watch: None,
        }
    }
}

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
    /// zeros stand in, and [`finish`](Self::finish) reports everything at once.
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
                Tensor::zeros(shape, (Kind::Float, shared.options.device))
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

impl Fresh {
    fn allows(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Under(prefixes) => prefixes.iter().any(|prefix| {
                name.strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    struct File(BTreeMap<String, Tensor>);

    impl WeightSource for File {
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }

        fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
            Ok(self.0.get(name).map(Tensor::shallow_clone))
        }
    }

    fn file(names: &[(&str, &[i64])]) -> Option<Box<dyn WeightSource>> {
        let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Half, Device::Cpu));
        Some(Box::new(File(
            names
                .iter()
                .map(|(name, shape)| ((*name).to_owned(), ones(shape)))
                .collect(),
        )))
    }

    #[test]
    fn one_report_lists_everything() {
        let params = Params::new(file(&[("a", &[2]), ("b", &[3]), ("z", &[1])]), ParamOptions::default());
        let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
        let _ = params.tensor("b", &[4], Role::Weight, Init::Normal(1.0));
        let _ = params
            .at("c")
            .tensor("weight", &[5, 5], Role::Weight, Init::Normal(1.0));
        let kept = params.clone();
        let error = params.finish().unwrap_err();
        assert_eq!(kept.fit().unexpected, ["z"]);
        assert_eq!(kept.fit().missing[0].shape, [5, 5]);
        assert_eq!(
            (&kept.fit().misshapen[0].file, &kept.fit().misshapen[0].model),
            (&vec![3], &vec![4])
        );
        assert_eq!(
            error.to_string(),
            "the weights do not fit the model: missing (1): c.weight [5, 5]; wrong (1): b is [3] in the file, [4] in \
             the model; unexpected (1): z; compare the config with the weights (`clipzoo inspect`)"
        );
    }

    #[test]
    fn what_is_disregarded_is_neither_wanted_nor_unexpected() {
        for names in [&[("a", &[2i64] as &[i64])][..], &[("a", &[2]), ("b.count", &[])]] {
            let params = Params::new(file(names), ParamOptions::default());
            let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
            params.at("b").disregard("count");
            assert_eq!(params.finish().unwrap().iter().count(), 1);
        }
    }

    #[test]
    fn half_weights_are_widened_and_a_name_is_given_once() {
        let params = Params::new(file(&[("a", &[2])]), ParamOptions::default());
        assert_eq!(
            params.tensor("a", &[2], Role::Weight, Init::Normal(1.0)).kind(),
            Kind::Float
        );
        let _ = params.tensor("a", &[2], Role::Weight, Init::Normal(1.0));
        assert!(params.finish().unwrap_err().what().contains("a: asked for twice"));
    }

    #[test]
    fn fresh_values_depend_on_name_and_seed_alone() {
        let draw = |seed, names: &[&str]| {
            let options = ParamOptions {
                fresh: Fresh::Under(vec!["head".into()]),
                seed,
                ..Default::default()
            };
            let params = Params::new(None, options).at("head");
            names
                .iter()
                .for_each(|name| drop(params.tensor(name, &[4], Role::Weight, Init::Normal(1.0))));
            let parameters = params.finish().unwrap();
            Vec::<f32>::try_from(parameters.iter().last().unwrap().tensor.detach()).unwrap()
        };
        assert_eq!(draw(1, &["weight"]), draw(1, &["bias", "weight"]));
        assert_ne!(draw(1, &["weight"]), draw(2, &["weight"]));
    }
}
