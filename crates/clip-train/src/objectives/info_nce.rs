//! InfoNCE, the loss of CLIP.

use clip_core::{Error, Id, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Context, Features, ModelShape, Objective, ObjectiveKind, Params, Terms, View, door};
use serde::{Deserialize, Serialize};

/// What rows of the same product are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameItem {
    /// All of them are right answers: the target is spread evenly over them.
    #[default]
    Positive,
    /// A pair's own partner is the right answer, the others of its product are left out of the softmax.
    Mask,
    /// A pair's own partner is the right answer, the others of its product are wrong ones, as for OpenCLIP.
    Negative,
}

/// Settings of `[objectives.info_nce]`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfoNceConfig {
    /// How much of the target goes to the wrong answers, 0 to below 1.
    pub label_smoothing: f64,
    /// What rows of the same product are to each other.
    pub same_item: SameItem,
}

/// Symmetric InfoNCE (Radford et al. 2021, figure 3): the mean over both directions of the cross-entropy of
/// `scale · cosine` over the batch.
///
/// With `P` the right answers of a row (its own partner, and its product's where `same_item` says so), `W` the wrong
/// ones and `ε` the label smoothing, the target is `(1 − ε) / |P|` on each of `P` and `ε / |W|` on each of `W`; without wrong
/// answers there is no smoothing. Rows count by the weights of their pairs, over the weight of the whole batch, so that
/// the terms of several processes' slices sum to the loss of the whole. With several views it is the mean over all pairs
/// of an image view and a text view.
#[derive(Debug, Clone, Copy)]
pub struct InfoNce {
    config: InfoNceConfig,
}

/// How a row's target is spread over the batch, for the rows of this process: `[rows, batch]`.
struct Target {
    spread: Tensor,
    masked: Option<Tensor>,
}

impl InfoNce {
    /// The loss of given settings.
    pub fn new(config: InfoNceConfig) -> Result<Self> {
        if !(0.0..1.0).contains(&config.label_smoothing) {
            return Err(Error::invalid(format!(
                "label_smoothing of info_nce is {}, which is not from 0 to below 1",
                config.label_smoothing
            )));
        }
        Ok(Self { config })
    }

    fn target(&self, context: &Context<'_>) -> Target {
        let (batch, rows) = (context.items.len() as i64, &context.rows);
        let own = Tensor::eye(batch, (Kind::Float, context.weights.device()));
        let own = own.narrow(0, rows.start, rows.end - rows.start);
        let same = match self.config.same_item {
            SameItem::Negative => None,
            SameItem::Positive | SameItem::Mask => same_items(context, &own),
        };
        let (right, masked) = match (same, self.config.same_item) {
            (Some(same), SameItem::Mask) => {
                let masked = same.logical_and(&own.eq(0.0));
                (own, Some(masked))
            }
            (Some(same), _) => (same.to_kind(Kind::Float), None),
            (None, _) => (own, None),
        };
        let spread = &right / right.sum_dim_intlist(1, true, Kind::Float);
        let smoothing = self.config.label_smoothing;
        if smoothing == 0.0 {
            return Target { spread, masked };
        }
        let mut wrong = right.eq(0.0).to_kind(Kind::Float);
        if let Some(masked) = &masked {
            wrong = wrong.masked_fill(masked, 0.0);
        }
        let many = wrong.sum_dim_intlist(1, true, Kind::Float);
        // A row without wrong answers keeps its whole target.
        let share = many.gt(0.0).to_kind(Kind::Float) * smoothing;
        let spread = spread * (1.0 - &share) + wrong * (share / many.clamp_min(1.0));
        Target { spread, masked }
    }

    fn direction(from: &View, to: &View, target: &Target, context: &Context<'_>) -> Tensor {
        let rows = from
            .unit
            .narrow(0, context.rows.start, context.rows.end - context.rows.start);
        let mut logits = rows.matmul(&to.unit.tr()) * context.scale;
        if let Some(masked) = &target.masked {
            // Finite, since 0 · −∞ in the product below is not a number; far enough to vanish in the softmax.
            logits = logits.masked_fill(masked, f64::from(f32::MIN));
        }
        let losses = (&target.spread * logits.log_softmax(1, Kind::Float)).sum_dim_intlist(1, false, Kind::Float);
        let weights = context
            .weights
            .narrow(0, context.rows.start, context.rows.end - context.rows.start);
        -(losses * weights).sum(Kind::Float)
    }
}

/// True where two rows are of one product, the row itself included: `[rows, batch]`; `None` if no two are.
fn same_items(context: &Context<'_>, own: &Tensor) -> Option<Tensor> {
    let mut sorted: Vec<Id> = context.items.iter().flatten().copied().collect();
    sorted.sort_unstable();
    if sorted.windows(2).all(|pair| pair[0] != pair[1]) {
        return None;
    }
    // Rows of no known product get numbers of their own.
    let numbers: Vec<i64> = (0i64..)
        .zip(context.items)
        .map(|(row, item)| match item {
            Some(item) => sorted.partition_point(|other| other < item) as i64,
            None => -1 - row,
        })
        .collect();
    let numbers = Tensor::from_slice(&numbers).to_device(own.device());
    let rows = numbers.narrow(0, context.rows.start, context.rows.end - context.rows.start);
    Some(rows.unsqueeze(1).eq_tensor(&numbers.unsqueeze(0)))
}

impl Objective for InfoNce {
    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        let batch = context.items.len() as i64;
        for view in features.images.iter().chain(&features.texts) {
            if view.unit.size().first() != Some(&batch) {
                return Err(Error::internal(format!(
                    "features of shape {:?} for {batch} pairs",
                    view.unit.size()
                )));
            }
        }
        door(|| {
            let target = self.target(context);
            let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
            for image in &features.images {
                for text in &features.texts {
                    sum = sum
                        + Self::direction(image, text, &target, context)
                        + Self::direction(text, image, &target, context);
                }
            }
            let views = 2 * features.images.len() * features.texts.len();
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            Terms(vec![(Self::NAME, sum / (whole * views as f64))])
        })
    }
}

impl ObjectiveKind for InfoNce {
    const NAME: &'static str = "info_nce";

    type Config = InfoNceConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Self::new(config)
    }
}
