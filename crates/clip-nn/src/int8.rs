//! Which linear layers multiply bytes, and what their inputs were seen to be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// What is known of a model's linear layers for [`Compute::Int8`](crate::Compute::Int8), by their names as
/// `image.blocks.0.attention.qkv`. `clipzoo calibrate` writes one beside a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The layers that multiply bytes; all others stay as they are without int8.
    pub layers: BTreeMap<String, LayerInput>,
}

/// What a layer's input is over a sample of a user's own rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerInput {
    /// The least value, after smoothing.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
    /// What each of its columns is divided by, and the weight's multiplied by, before both become bytes: so that a few
    /// wide columns do not take the steps of all others (SmoothQuant, Xiao et al., 2022). Empty: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub smoothing: Vec<f32>,
}

impl LayerInput {
    /// Whether it may be of a layer whose weight `[output, columns]` has so many columns.
    pub fn fits(&self, columns: i64) -> bool {
        self.smoothing.is_empty() || self.smoothing.len() as i64 == columns
    }
}

/// How linear layers find what they multiply as bytes.
#[derive(Debug, Clone, Default)]
pub enum Int8 {
    /// The layers that are known to hold: an image tower's, a text tower's MLPs. Ranges are taken of each batch, so that a
    /// row's features depend a little on the rows beside it.
    #[default]
    Uncalibrated,
    /// Those of a calibration, with its ranges: a row's features are its own.
    Calibrated(Arc<Calibration>),
}

/// What a single layer does under int8.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// As without it.
    Keep,
    /// Bytes by the range of each batch.
    Measure,
    /// Bytes by a known range.
    Known(LayerInput),
}

impl Int8 {
    /// Bits that a weight has on this processor: 8, or 7 where sums of more would saturate.
    pub fn weight_bits() -> u32 {
        clip_torch::QuantisedMatrix::weight_bits()
    }

    /// The plan of a layer.
    pub(crate) fn plan(&self, name: &str) -> Plan {
        match self {
            Self::Calibrated(calibration) => calibration
                .layers
                .get(name)
                .map_or(Plan::Keep, |input| Plan::Known(input.clone())),
            // Attention of a text tower may cost more than 5 in 10,000 of a cosine, the rest seldom does.
            Self::Uncalibrated => {
                let last = name.rsplit('.').next().unwrap_or_default();
                if name.starts_with("image.") || (name.starts_with("text.") && matches!(last, "fc1" | "fc2")) {
                    Plan::Measure
                } else {
                    Plan::Keep
                }
            }
        }
    }
}

/// Sees the inputs of all linear layers of the towers.
#[derive(Debug, Clone, Default)]
pub struct InputWatch(Arc<Mutex<BTreeMap<String, Seen>>>);

/// What was seen of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The least and the greatest value of each input column.
    pub columns: Vec<(f32, f32)>,
    /// The greatest magnitude of each column of the weight.
    pub weight: Vec<f32>,
}

impl InputWatch {
    /// What was seen so far, by the layers' names.
    pub fn seen(&self) -> BTreeMap<String, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees an input `[.., columns]` of a layer with a weight `[output, columns]`.
    pub(crate) fn see(&self, name: &str, x: &Tensor, weight: &Tensor) {
        let _guard = tch::no_grad_guard();
        let columns = weight.size()[1];
        let rows = x.detach().to_kind(Kind::Float).reshape([-1, columns]);
        if rows.numel() == 0 {
            return;
        }
        let list = |tensor: Tensor| Vec::<f32>::try_from(tensor).unwrap_or_default();
        let (least, greatest) = (list(rows.amin([0], false)), list(rows.amax([0], false)));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(name.to_owned()).or_insert_with(|| Seen {
            columns: vec![(f32::INFINITY, f32::NEG_INFINITY); columns as usize],
            weight: list(weight.detach().abs().amax([0], false)),
        });
        for ((low, high), (a, b)) in seen.columns.iter_mut().zip(least.into_iter().zip(greatest)) {
            *low = low.min(a);
            *high = high.max(b);
        }
    }
}

impl Seen {
    /// A layer's input from what was seen; smoothed where `smooth` says so: columns divided by `a^½ / w^½` with `a` the
    /// greatest magnitude of the column and `w` the weight's (SmoothQuant with α = ½).
    pub fn input(&self, smooth: bool) -> LayerInput {
        let smoothing: Vec<f32> = if smooth {
            let factor = |(&(low, high), &weight): (&(f32, f32), &f32)| {
                let widest = low.abs().max(high.abs());
                // A column that is always 0, on either side, is left alone.
                if widest > 0.0 && weight > 0.0 {
                    (widest / weight).sqrt().clamp(1e-4, 1e4)
                } else {
                    1.0
                }
            };
            self.columns.iter().zip(&self.weight).map(factor).collect()
        } else {
            Vec::new()
        };
        let divided = |at: usize, value: f32| f64::from(value) / smoothing.get(at).map_or(1.0, |&by| f64::from(by));
        let mut input = LayerInput {
            least: 0.0,
            greatest: 0.0,
            smoothing: Vec::new(),
        };
        for (at, &(low, high)) in self.columns.iter().enumerate() {
            input.least = input.least.min(divided(at, low));
            input.greatest = input.greatest.max(divided(at, high));
        }
        LayerInput { smoothing, ..input }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_shares_a_wide_column_with_the_weight() {
        let watch = InputWatch::default();
        let weight = Tensor::from_slice(&[1f32, -1.0, 0.25, 1.0]).view([2, 2]);
        watch.see(
            "layer",
            &Tensor::from_slice(&[-100f32, 1.0, 50.0, 3.0]).view([2, 2]),
            &weight,
        );
        watch.see("layer", &Tensor::from_slice(&[4f32, -4.0]).view([1, 1, 2]), &weight);
        let seen = &watch.seen()["layer"];
        assert_eq!(seen.columns, [(-100.0, 50.0), (-4.0, 3.0)]);
        assert_eq!(seen.weight, [1.0, 1.0]);
        let plain = seen.input(false);
        assert_eq!((plain.least, plain.greatest, plain.smoothing.len()), (-100.0, 50.0, 0));
        let smooth = seen.input(true);
        assert_eq!(smooth.smoothing, [10.0, 2.0]);
        assert_eq!((smooth.least, smooth.greatest), (-10.0, 5.0));
    }

    #[test]
    fn without_calibration_the_layers_that_hold_are_taken() {
        let plan = |name: &str| Int8::Uncalibrated.plan(name);
        assert_eq!(plan("image.blocks.0.attention.qkv"), Plan::Measure);
        assert_eq!(plan("text.blocks.0.mlp.fc1"), Plan::Measure);
        assert_eq!(plan("text.blocks.0.attention.qkv"), Plan::Keep);
        assert_eq!(plan("image_projection"), Plan::Keep);
    }
}
