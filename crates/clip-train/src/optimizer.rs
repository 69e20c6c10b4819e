//! AdamW and its relatives over the trainable parameters, in their order, with a state that can be saved.

use std::collections::{BTreeMap, HashMap};

use clip_core::{Error, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Parameter, door};
use clip_torch::{AdamW, clear_gradients, fused_adamw};
use serde::{Deserialize, Serialize};

use crate::depth::LayerDecay;
use crate::groups::{NoDecay, rate_of};

/// How a gradient becomes a change of the weights. `rate` is the rate of the step, `m` and `v` the averages of the gradient
/// and of its square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// `adamw` (Loshchilov, Hutter 2019), as `torch.optim.AdamW`: both averages corrected for their start at zero, decay
    /// beside them.
    #[default]
    #[serde(rename = "adamw")]
    AdamW,
    /// `adam` (Kingma, Ba 2015), as `torch.optim.Adam`: the same with the decay inside the gradient.
    Adam,
    /// `bert_adam`, as BERT was trained: AdamW whose averages are not corrected, so that the first steps are small.
    BertAdam,
    /// `sgd`, as `torch.optim.SGD`: `m = beta1 * m + gradient`, a change of `rate * m`, decay inside the gradient.
    Sgd,
}

/// Settings of the optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerConfig {
    /// How a gradient becomes a change.
    pub algorithm: Algorithm,
    /// Decay of the two averages; the first is the momentum of SGD, which has no second.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub eps: f64,
    /// How much of a weight a step of rate 1 takes away.
    pub weight_decay: f64,
    /// Which parameters do not decay.
    pub no_decay: NoDecay,
    /// Shares of the rate by prefix of the name.
    pub rates: BTreeMap<String, f64>,
    /// Shares of the rate by depth, by which those by prefix are multiplied.
    pub layer_decay: LayerDecay,
}

struct Slot {
    name: String,
    parameter: Tensor,
    average: Tensor,
    /// Of no elements where the algorithm has no second average.
    square: Tensor,
    /// How many updates it had; an f32 scalar, since the fused operator reads one.
    steps: Tensor,
}

/// Parameters that share decay and rate.
struct Group {
    weight_decay: f64,
    rate: f64,
    slots: Vec<usize>,
}

/// So many updates that the averages' correction for their start at zero is 1 to the last bit of an f64.
const SETTLED: f64 = 1e9;

/// The optimizer, in one fused operator a group.
pub struct Optimizer {
    algorithm: Algorithm,
    slots: Vec<Slot>,
    groups: Vec<Group>,
    betas: [f64; 2],
    eps: f64,
}

impl Optimizer {
    /// An optimizer of the given parameters with averages of zero.
    pub fn new<'a>(parameters: impl IntoIterator<Item = &'a Parameter>, config: &OptimizerConfig) -> Result<Self> {
        door(|| {
            let mut slots = Vec::new();
            let mut groups: Vec<Group> = Vec::new();
            for parameter in parameters {
                let spared = config.no_decay.spares(parameter);
                let weight_decay = if spared { 0.0 } else { config.weight_decay };
                let rate = rate_of(&parameter.name, &config.rates) * config.layer_decay.share(parameter);
                let group = groups
                    .iter_mut()
                    .find(|g| g.weight_decay == weight_decay && g.rate == rate);
                match group {
                    Some(group) => group.slots.push(slots.len()),
                    None => groups.push(Group {
                        weight_decay,
                        rate,
                        slots: vec![slots.len()],
                    }),
                }
                let tensor = &parameter.tensor;
                let square = match config.algorithm {
                    Algorithm::Sgd => Tensor::zeros([0], (Kind::Float, tensor.device())),
                    _ => tensor.detach().zeros_like(),
                };
                slots.push(Slot {
                    name: parameter.name.clone(),
                    parameter: tensor.shallow_clone(),
                    average: tensor.detach().zeros_like(),
                    square,
                    steps: Tensor::zeros([], (Kind::Float, tensor.device())),
                });
            }
            Self {
                algorithm: config.algorithm,
                slots,
                groups,
                betas: config.betas,
                eps: config.eps,
            }
        })
    }

    /// How many tensors it trains.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it trains nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Lets go of every gradient, so that its memory is free while a step's activations are held. What the next step does
    /// not reach has none and stays as it is: also right behind a resume, which knows of no gradients.
    pub fn clear_gradients(&self) -> Result<()> {
        let parameters: Vec<Tensor> = self.slots.iter().map(|slot| slot.parameter.shallow_clone()).collect();
        clear_gradients(&parameters)
            .map_err(|error| Error::internal(format!("letting go of gradients: {error}")).source(error))
    }

    /// The gradients there are, in the parameters' order; they share memory with the parameters' own.
    pub fn gradients(&self) -> Result<Vec<Tensor>> {
        door(|| {
            let gradients = self.slots.iter().map(|slot| slot.parameter.grad());
            gradients.filter(Tensor::defined).collect()
        })
    }

    /// One update at rate `rate`. Parameters that no gradient reached stay as they are, undecayed, as in torch.
    pub fn step(&mut self, rate: f64) -> Result<()> {
        for group in &self.groups {
            let used: Vec<(&Slot, Tensor)> = door(|| {
                let slots = group.slots.iter().map(|&slot| &self.slots[slot]);
                let pairs = slots.map(|slot| (slot, slot.parameter.grad()));
                pairs.filter(|(_, gradient)| gradient.defined()).collect()
            })?;
            if used.is_empty() {
                continue;
            }
            // The operator wants the number of this step and leaves it to the caller to count.
            door(|| {
                let _guard = clip_nn::tch::no_grad_guard();
                used.iter()
                    .for_each(|(slot, _)| drop(slot.steps.shallow_clone().g_add_scalar_(1)));
            })?;
            let decay = match self.algorithm {
                Algorithm::AdamW | Algorithm::BertAdam => group.weight_decay,
                Algorithm::Adam | Algorithm::Sgd => {
                    decay_inside(&used, group.weight_decay)?;
                    0.0
                }
            };
            match self.algorithm {
                Algorithm::Sgd => self.descend(&used, rate * group.rate)?,
                _ => self.fused(&used, rate * group.rate, decay)?,
            }
        }
        Ok(())
    }

    /// The update of Adam's kind, with the decay beside the averages.
    fn fused(&self, used: &[(&Slot, Tensor)], rate: f64, decay: f64) -> Result<()> {
        let column = |pick: fn(&Slot) -> &Tensor| -> Vec<Tensor> {
            used.iter().map(|(slot, _)| pick(slot).shallow_clone()).collect()
        };
        let gradients: Vec<Tensor> = used.iter().map(|(_, gradient)| gradient.shallow_clone()).collect();
        let steps = match self.algorithm {
            Algorithm::BertAdam => door(|| {
                column(|slot| &slot.steps)
                    .iter()
                    .map(|n| n.full_like(SETTLED))
                    .collect()
            })?,
            _ => column(|slot| &slot.steps),
        };
        let tensors = AdamW {
            parameters: &column(|slot| &slot.parameter),
            gradients: &gradients,
            averages: &column(|slot| &slot.average),
            squares: &column(|slot| &slot.square),
            steps: &steps,
        };
        let [beta1, beta2] = self.betas;
        fused_adamw(&tensors, rate, beta1, beta2, decay, self.eps)
            .map_err(|error| Error::internal(format!("the optimizer's step: {error}")).source(error))
    }

    /// The update of SGD.
    fn descend(&self, used: &[(&Slot, Tensor)], rate: f64) -> Result<()> {
        door(|| {
            let _guard = clip_nn::tch::no_grad_guard();
            for (slot, gradient) in used {
                let _ = slot
                    .average
                    .shallow_clone()
                    .g_mul_scalar_(self.betas[0])
                    .g_add_(gradient);
                let change = slot.average.g_mul_scalar(-rate);
                let _ = slot.parameter.shallow_clone().g_add_(&change);
            }
        })
    }

    /// Its state, by name: `NAME/average`, `NAME/square`, `NAME/steps`.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let three = |slot: &Slot| {
            [
                (format!("{}/average", slot.name), slot.average.shallow_clone()),
                (format!("{}/square", slot.name), slot.square.shallow_clone()),
                (format!("{}/steps", slot.name), slot.steps.shallow_clone()),
            ]
        };
        self.slots.iter().flat_map(three).collect()
    }

    /// Takes a saved state over. It must be of the same parameters; nothing changes where it is not.
    pub fn restore(&mut self, state: &HashMap<String, Tensor>) -> Result<()> {
        let own = self.state();
        let fits = |(name, tensor): &(String, Tensor)| state.get(name).is_some_and(|t| t.size() == tensor.size());
        if let Some((name, tensor)) = own.iter().find(|entry| !fits(entry)) {
            return Err(Error::invalid(format!(
                "the checkpoint holds no `{name}` of shape {:?}: it was made with other trained parameters",
                tensor.size()
            ))
            .remedy("resume with the same model, locks and objectives"));
        }
        if own.len() != state.len() {
            return Err(Error::invalid(format!(
                "the checkpoint holds {} tensors of the optimizer, this run has {}",
                state.len(),
                own.len()
            ))
            .remedy("resume with the same model, locks and objectives"));
        }
        door(|| {
            let _guard = clip_nn::tch::no_grad_guard();
            for (name, tensor) in &own {
                if let Some(saved) = state.get(name) {
                    tensor.shallow_clone().copy_(saved);
                }
            }
        })
    }

    /// Where its parameters live; the CPU if there are none.
    pub fn device(&self) -> Device {
        self.slots.first().map_or(Device::Cpu, |slot| slot.parameter.device())
    }
}

/// Adds `decay` of each weight to its gradient.
fn decay_inside(used: &[(&Slot, Tensor)], decay: f64) -> Result<()> {
    if decay == 0.0 {
        return Ok(());
    }
    door(|| {
        let _guard = clip_nn::tch::no_grad_guard();
        for (slot, gradient) in used {
            let _ = gradient.shallow_clone().g_add_(&slot.parameter.g_mul_scalar(decay));
        }
    })
}

#[cfg(test)]
mod tests;
