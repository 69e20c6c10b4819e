//! What a run minimises: the weighted sum of the objectives that run.toml names.

mod answers;
mod concept_prototypes;
mod distill;
mod info_nce;
mod masked_language;
mod multi_view;
mod nearest_neighbour;
#[cfg(test)]
mod parity;
mod sigmoid;
mod sim_siam;
#[cfg(test)]
mod testing;
mod tiles;

use std::collections::BTreeMap;

use clip_core::{Error, Kind, Result};
use clip_nn::tch::{Device, Tensor};
use clip_nn::{
    BankNeeds, Context, DualEncoder, Features, Fresh, ModelShape, Needs, Objective, ParamOptions, Parameters, Params,
    Zoo, door,
};
use serde_json::{Map, Value};

use crate::config::RunConfig;
use crate::config::read::unknown_in;

pub use answers::SameItem;
pub use concept_prototypes::{Anchors, ConceptPrototypes, ConceptPrototypesConfig};
pub use distill::{Distill, DistillConfig};
pub use info_nce::{InfoNce, InfoNceConfig};
pub use masked_language::{MaskedLanguage, MaskedLanguageConfig};
pub use multi_view::MultiView;
pub use nearest_neighbour::{Directions, NearestNeighbour, NearestNeighbourConfig};
pub use sigmoid::{Sigmoid, SigmoidConfig};
pub use sim_siam::{SimSiam, SimSiamConfig};

/// Adds our objectives to a zoo.
pub fn register(zoo: &mut Zoo) -> Result<()> {
    zoo.objective::<InfoNce>()?;
    zoo.objective::<Sigmoid>()?;
    zoo.objective::<Distill>()?;
    zoo.objective::<ConceptPrototypes>()?;
    zoo.objective::<NearestNeighbour>()?;
    zoo.objective::<MultiView>()?;
    zoo.objective::<SimSiam>()?;
    zoo.objective::<MaskedLanguage>()?;
    Ok(())
}

struct Part {
    weight: f64,
    /// Steps before which it counts nothing.
    start: u64,
    objective: Box<dyn Objective>,
}

/// Terms of a loss by name.
pub type TermValues = Vec<(&'static str, f64)>;

/// The objectives of a run, with their weights and their own parameters.
pub struct Objectives {
    parts: Vec<Part>,
    parameters: Parameters,
}

/// The tables `[objectives.NAME]` of run.toml: `weight`, `start` (the steps before which the objective counts nothing, while
/// a queue fills), and the objective's own settings beside them.
pub type ObjectiveTables = BTreeMap<String, Map<String, Value>>;

/// Says in which table of run.toml a setting stands that an objective cannot use.
fn of_table(name: &str, error: Error) -> Error {
    match error.kind() {
        Kind::Invalid if error.place().file.is_none() => error.file(format!("[objectives.{name}]")),
        _ => error,
    }
}

/// When and how much an objective counts.
struct Share {
    weight: f64,
    start: u64,
}

/// Takes `weight` (default 1) and `start` (default 0) out of an objective's table; the rest are its own settings.
fn split(name: &str, table: &Map<String, Value>) -> Result<(Share, Value)> {
    let wrong = |what: String| of_table(name, Error::invalid(what));
    let mut own = table.clone();
    let start = match own.shift_remove("start") {
        None => 0,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| wrong(format!("start is {value}, which is no number of steps")))?,
    };
    let weight = match own.shift_remove("weight") {
        None => 1.0,
        Some(value) => value.as_f64().filter(|weight| *weight >= 0.0).ok_or_else(|| {
            // What JSON has no number for is null there.
            let value = if value.is_null() {
                "inf or nan".into()
            } else {
                value.to_string()
            };
            wrong(format!("weight is {value}, which is no finite number from 0"))
        })?,
    };
    Ok((Share { weight, start }, Value::Object(own)))
}

/// The tables with every default written out.
pub(crate) fn resolve(tables: &ObjectiveTables, zoo: &Zoo) -> Result<ObjectiveTables> {
    let mut resolved = BTreeMap::new();
    for (name, table) in tables {
        let (share, own) = split(name, table)?;
        let mut whole = Map::from_iter([
            ("weight".to_owned(), share.weight.into()),
            ("start".to_owned(), share.start.into()),
        ]);
        let own = (zoo.objectives().get(name)?.resolve)(&own)
            .map_err(|error| unknown_in(name, error.what()).unwrap_or(error))?;
        if let Value::Object(own) = own {
            whole.extend(own);
        }
        resolved.insert(name.clone(), whole);
    }
    Ok(resolved)
}

/// What two objectives ask for, where one of them may not ask.
fn both<T>(one: Option<T>, other: Option<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(join(one, other)),
        (one, other) => one.or(other),
    }
}

impl Objectives {
    /// Builds the objectives of a run. One of weight 0 is left out, so that it changes nothing.
    pub fn build(tables: &ObjectiveTables, zoo: &Zoo, shape: &ModelShape, seed: u64, device: Device) -> Result<Self> {
        let options = ParamOptions {
            device,
            seed,
            fresh: Fresh::Everything,
            trainable: true,
            ..ParamOptions::default()
        };
        let params = Params::new(None, options);
        let mut parts = Vec::new();
        for (name, table) in tables {
            let (share, own) = split(name, table)?;
            let entry = zoo.objectives().get(name)?;
            // Its layers are made here, in widths that a user chose.
            let objective = door(|| (entry.build)(&own, shape, &params.at(name)))
                .flatten()
                .map_err(|error| of_table(name, error))?;
            if share.weight > 0.0 {
                parts.push(Part {
                    weight: share.weight,
                    start: share.start,
                    objective,
                });
            }
        }
        if parts.is_empty() {
            return Err(
                Error::invalid("no objective has a weight above 0, so there is nothing to train")
                    .remedy("add a table `[objectives.info_nce]`"),
            );
        }
        Ok(Self {
            parts,
            parameters: params.finish()?,
        })
    }

    /// Those of a run's settings, on the model's device.
    pub(crate) fn of_run(config: &RunConfig, model: &DualEncoder, zoo: &Zoo) -> Result<Self> {
        let device = model.logit_scale().device();
        Self::build(&config.objectives, zoo, &model.shape(), config.seed, device)
    }

    /// Parameters of the objectives' own, under the objectives' names.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What all of them together ask of the trainer.
    pub fn needs(&self) -> Needs {
        self.needs_at(u64::MAX)
    }

    /// What those ask that count at a step.
    pub fn needs_at(&self, step: u64) -> Needs {
        let mut needs = Needs::default();
        for part in self.parts.iter().filter(|part| step >= part.start) {
            let own = part.objective.needs();
            needs.image_views = needs.image_views.max(own.image_views);
            needs.text_views = needs.text_views.max(own.text_views);
            needs.concepts |= own.concepts;
            needs.queue |= own.queue;
            needs.concept_texts = needs.concept_texts.max(own.concept_texts);
            needs.concept_bank = both(needs.concept_bank, own.concept_bank, |a, b| BankNeeds {
                every: a.every.min(b.every),
                names: a.names.max(b.names),
            });
            needs.masked_text = both(needs.masked_text, own.masked_text, f64::max);
            needs.teacher |= own.teacher;
        }
        needs
    }

    /// The weighted sum, a scalar with graph, and the value of each term before it is weighted. No sum where no objective
    /// has anything to say of the batch.
    pub fn loss(&self, features: &Features, context: &Context<'_>) -> Result<(Option<Tensor>, TermValues)> {
        let mut total: Option<Tensor> = None;
        let mut values = Vec::new();
        for part in self.parts.iter().filter(|part| context.step >= part.start) {
            for (name, term) in part.objective.loss(features, context)?.0 {
                values.push((name, term.double_value(&[])));
                // Weight 1 is the usual case, and then the sum is the term itself to the bit.
                let term = if part.weight == 1.0 { term } else { term * part.weight };
                total = Some(total.map_or_else(|| term.shallow_clone(), |total| total + &term));
            }
        }
        Ok((total, values))
    }
}
