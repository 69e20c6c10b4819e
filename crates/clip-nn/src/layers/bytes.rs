//! How a linear layer's input becomes bytes.

use clip_torch::{Affine, Bytes, range};
use tch::{Device, Kind, Tensor};

use crate::int8::{InputWatch, Plan};

/// A layer's part in int8: its plan, and who watches what it is given.
#[derive(Debug)]
pub(crate) struct LayerBytes {
    plan: Plan,
    /// What columns are multiplied by before they are bytes, and what the weight's are: the other way round.
    smoothing: Option<[Tensor; 2]>,
    watch: Option<(InputWatch, String)>,
}

impl LayerBytes {
    pub(crate) fn new(plan: Plan, device: Device, watch: Option<(InputWatch, String)>) -> Self {
        let smoothing = match &plan {
            Plan::Known(input) if !input.smoothing.is_empty() => {
                let factors = Tensor::from_slice(&input.smoothing).to_device(device);
                Some([factors.reciprocal(), factors])
            }
            _ => None,
        };
        Self { plan, smoothing, watch }
    }

    /// A layer outside of int8.
    pub(crate) fn none() -> Self {
        Self::new(Plan::Keep, Device::Cpu, None)
    }

    /// Whether the layer multiplies bytes, should the pass ask for it.
    pub(crate) fn is_planned(&self) -> bool {
        self.plan != Plan::Keep
    }

    /// Whether a calibration fits a weight of this many columns.
    pub(crate) fn fits(&self, columns: i64) -> bool {
        match &self.plan {
            Plan::Known(input) => input.fits(columns),
            Plan::Keep | Plan::Measure => true,
        }
    }

    /// The bytes of `factor` times an input, where they are known before it is: another product can then write them.
    pub(crate) fn known(&self, factor: f64) -> Option<Affine> {
        // Bytes of smoothed columns are of other numbers than the product before gives.
        self.calibrated(factor).filter(|_| self.smoothing.is_none())
    }

    /// The bytes of `factor` times a smoothed input by its calibration, if it has one.
    fn calibrated(&self, factor: f64) -> Option<Affine> {
        match &self.plan {
            Plan::Known(input) => Some(Affine::over(input.least * factor, input.greatest * factor)),
            Plan::Keep | Plan::Measure => None,
        }
    }

    /// `factor` times an input as bytes.
    pub(crate) fn of(&self, x: &Tensor, factor: f64) -> clip_torch::Result<Bytes> {
        let x = x.to_kind(Kind::Float);
        let affine = match self.calibrated(factor) {
            Some(affine) => affine,
            // What is not calibrated has no smoothing either.
            None => {
                let (least, greatest) = range(&x)?;
                Affine::over(least, greatest)
            }
        };
        match &self.smoothing {
            Some([columns, _]) => Bytes::of_scaled(&x, columns, affine),
            None => Bytes::of(&x, affine),
        }
    }

    /// What the weight's columns are multiplied by.
    pub(crate) fn columns(&self) -> Option<&Tensor> {
        self.smoothing.as_ref().map(|[_, columns]| columns)
    }

    /// Shows an input to who watches; `x` is `factor` times it.
    pub(crate) fn see(&self, x: &Tensor, factor: f64, weight: impl FnOnce() -> Tensor) {
        if let Some((watch, name)) = &self.watch {
            watch.see(name, &(x / factor), &weight());
        }
    }
}
