//! Batches for the tests of objectives.

use std::ops::Range;

use clip_core::Id;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Context, Fresh, ModelShape, ObjectiveKind, ParamOptions, Parameters, Params};

/// What is known of a batch beside its features.
pub(super) struct Batch {
    pub(super) items: Vec<Option<Id>>,
    pub(super) keys: Vec<Id>,
    pub(super) concepts: Vec<Vec<Id>>,
    pub(super) captions: Vec<Option<Id>>,
    pub(super) weights: Tensor,
}

impl Batch {
    /// Pairs of given products, 0 for none known.
    pub(super) fn new(items: &[u64]) -> Self {
        Self {
            items: items.iter().map(|&item| Some(Id(item)).filter(|id| id.0 > 0)).collect(),
            keys: (0..items.len() as u64).map(Id).collect(),
            concepts: vec![Vec::new(); items.len()],
            captions: vec![None; items.len()],
            weights: Tensor::ones([items.len() as i64], (Kind::Float, Device::Cpu)),
        }
    }

    pub(super) fn context<'a>(&'a self, scale: &'a Tensor, rows: Range<i64>) -> Context<'a> {
        Context {
            rows,
            keys: &self.keys,
            items: &self.items,
            concepts: &self.concepts,
            captions: &self.captions,
            weights: &self.weights,
            scale,
            bias: None,
            queue: None,
            bank: None,
            step: 0,
            seed: 0,
        }
    }
}

/// Numbers drawn by a seed, `[rows, dim]`.
pub(super) fn drawn(seed: i64, rows: i64, dim: i64) -> Tensor {
    clip_nn::tch::manual_seed(seed);
    Tensor::randn([rows, dim], (Kind::Float, Device::Cpu))
}

/// All values of a tensor of two dimensions, a row each; of one, as one row.
pub(super) fn values(tensor: &Tensor) -> Vec<Vec<f64>> {
    let width = tensor.size().last().copied().unwrap_or(1) as usize;
    let flat: Vec<f64> = Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap();
    flat.chunks(width.max(1)).map(<[f64]>::to_vec).collect()
}

/// An objective of given settings with its own parameters, drawn anew; norms' too, which would start at 0 and 1.
pub(super) fn built<O: ObjectiveKind>(config: &str, shape: ModelShape) -> (O, Parameters) {
    let options = ParamOptions {
        fresh: Fresh::Everything,
        trainable: true,
        ..Default::default()
    };
    let params = Params::new(None, options);
    let objective = O::build(serde_json::from_str(config).unwrap(), &shape, &params).unwrap();
    let parameters = params.finish().unwrap();
    let _guard = clip_nn::tch::no_grad_guard();
    for (at, parameter) in (50i64..).zip(parameters.iter()) {
        clip_nn::tch::manual_seed(at);
        let values = parameter.tensor.randn_like();
        parameter.tensor.shallow_clone().copy_(&values);
    }
    (objective, parameters)
}
