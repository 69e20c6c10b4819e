//! The weights' moving average over steps, which is evaluated and written in their place.

use clip_core::Result;
use clip_nn::tch::{self, Tensor};
use clip_nn::{Parameters, door};

struct Slot {
    name: String,
    weight: Tensor,
    shadow: Tensor,
}

/// An exponential moving average of every trained weight of a model: `shadow ← decay · shadow + (1 − decay) · weight`
/// after each good step, from the weights that the run began with (Polyak, Juditsky 1992, as timm and OpenCLIP use it).
pub(crate) struct Ema {
    slots: Vec<Slot>,
    decay: f64,
}

impl Ema {
    /// An average that starts at the weights as they are, or none where the decay is 0. Holds one more copy of them.
    pub(crate) fn of(parameters: &Parameters, decay: f64) -> Result<Option<Self>> {
        if decay == 0.0 {
            return Ok(None);
        }
        let slots = door(|| {
            let slots = parameters.trainable().map(|parameter| Slot {
                name: parameter.name.clone(),
                weight: parameter.tensor.shallow_clone(),
                shadow: parameter.tensor.detach().copy(),
            });
            slots.collect()
        })?;
        Ok(Some(Self { slots, decay }))
    }

    /// Takes the weights of a step in.
    pub(crate) fn update(&self) -> Result<()> {
        door(|| {
            let _guard = tch::no_grad_guard();
            for Slot { weight, shadow, .. } in &self.slots {
                let _ = shadow.shallow_clone().lerp_(weight, 1.0 - self.decay);
            }
        })
    }

    fn swap(&self) -> Result<()> {
        door(|| {
            let _guard = tch::no_grad_guard();
            for Slot { weight, shadow, .. } in &self.slots {
                let kept = weight.detach().copy();
                weight.shallow_clone().copy_(shadow);
                shadow.shallow_clone().copy_(&kept);
            }
        })
    }

    /// The averages by the names of their weights.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.slots.iter().map(|slot| (slot.name.as_str(), &slot.shadow))
    }
}

/// Runs something with the averages, if there are any, in the model, and puts the weights back, to the bit.
pub(crate) fn averaged<T>(ema: Option<&Ema>, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(ema) = ema else {
        return run();
    };
    ema.swap()?;
    let result = run();
    ema.swap()?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::Kind;
    use clip_nn::{Fresh, Init, ParamOptions, Params, Role};

    #[test]
    fn it_follows_the_formula_and_gives_the_weights_back() {
        let options = ParamOptions {
            fresh: Fresh::Everything,
            trainable: true,
            ..ParamOptions::default()
        };
        let params = Params::new(None, options);
        let weight = params.tensor("weight", &[3], Role::Weight, Init::Normal(1.0));
        let locked = params.tensor("locked", &[2], Role::Weight, Init::Normal(1.0));
        let parameters = params.finish().unwrap();
        parameters.lock(|parameter| parameter.name == "locked");
        let ema = Ema::of(&parameters, 0.9).unwrap().unwrap();
        let values = |tensor: &Tensor| Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double)).unwrap();
        let mut wanted = values(&weight);
        for step in 1..5 {
            let _guard = tch::no_grad_guard();
            let _ = weight.shallow_clone().g_add_scalar_(f64::from(step));
            ema.update().unwrap();
            for (wanted, weight) in wanted.iter_mut().zip(values(&weight)) {
                *wanted = 0.9 * *wanted + 0.1 * weight;
            }
        }
        let (raw, fixed) = (weight.copy(), locked.copy());
        let seen = averaged(Some(&ema), || Ok(values(&weight))).unwrap();
        for (seen, wanted) in seen.iter().zip(&wanted) {
            assert!((seen - wanted).abs() < 1e-6, "{seen} against {wanted}");
        }
        assert!(weight.equal(&raw) && locked.equal(&fixed));
        assert!(averaged(Some(&ema), || Err::<(), _>(clip_core::Error::invalid("no"))).is_err());
        assert!(weight.equal(&raw));
        assert_eq!(ema.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["weight"]);
    }
}
