//! Nearest neighbours of the queue as right answers, as DeCLIP has them.

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;

use std::ops::Range;

use clip_core::{Error, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{
    Asking, Context, FeatureQueue, Features, Modality, ModelShape, Needs, Objective, ObjectiveKind, Params, Terms,
    View, door, unit_rows, with_gradient,
};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, SameItem};

/// Neighbours that may be pooled.
const MOST_NEIGHBOURS: usize = 256;

/// Logits in memory at a time: 16 MiB.
const TILE: i64 = 1 << 22;

/// Whose neighbours are matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directions {
    /// Pictures with the neighbours of texts.
    #[default]
    ImageToText,
    /// And texts with the neighbours of pictures: the mean of the two.
    Both,
}

/// Settings of `[objectives.nearest_neighbour]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NearestNeighbourConfig {
    /// How many neighbours make one target, from 1.
    pub top_k: usize,
    /// With several: they count by the softmax of their cosine over this.
    pub tau: f64,
    /// Whose neighbours are matched.
    pub directions: Directions,
    /// What the neighbours of rows of the same product are to each other.
    pub same_item: SameItem,
}

impl Default for NearestNeighbourConfig {
    fn default() -> Self {
        Self {
            top_k: 1,
            tau: 0.1,
            directions: Directions::ImageToText,
            same_item: SameItem::Positive,
        }
    }
}

/// Cross-entropy of pictures over the neighbours of the batch's texts (DeCLIP, Li et al. 2022, "nearest-neighbor
/// supervision").
///
/// Each text is looked up in the queue of texts as it was before the batch. Its `top_k` nearest, weighed by
/// `softmax(cosine / tau)` and brought to unit length, are one constant that stands in for the text; with `top_k = 1` it is
/// the neighbour itself, and the loss is DeCLIP's. The temperature is the one of the contrastive loss. A row without any
/// neighbour is no answer and adds nothing; while the queue is empty there is no term. Rows count by their pairs' weights
/// over the weight of all rows that have a neighbour. With several views it is the mean over all pairs of an image view and
/// a text view.
#[derive(Debug, Clone, Copy)]
pub struct NearestNeighbour {
    config: NearestNeighbourConfig,
}

/// What stands in for a view's rows.
struct Targets {
    /// Unit rows `[batch, dim]`, constants; zeros without a neighbour.
    unit: Tensor,
    /// Whether there is a neighbour, `[batch]`, boolean.
    there: Tensor,
}

impl NearestNeighbour {
    /// The loss of given settings.
    pub fn new(config: NearestNeighbourConfig) -> Result<Self> {
        if !(1..=MOST_NEIGHBOURS).contains(&config.top_k) {
            return Err(
                Error::invalid(format!("top_k of nearest_neighbour is {}", config.top_k))
                    .remedy(format!("choose a number from 1 to {MOST_NEIGHBOURS}")),
            );
        }
        if !(config.tau > 0.0 && config.tau.is_finite()) {
            return Err(Error::invalid(format!("tau of nearest_neighbour is {}", config.tau))
                .remedy("choose a number above 0, such as 0.1"));
        }
        Ok(Self { config })
    }

    /// What stands in for each view's rows. All views are looked up together, in one pass through the queue.
    fn targets(
        &self,
        of: Modality,
        views: &[View],
        queue: &dyn FeatureQueue,
        context: &Context<'_>,
    ) -> Result<Vec<Targets>> {
        let queries = door(|| Tensor::cat(&views.iter().map(|view| view.unit.detach()).collect::<Vec<_>>(), 0))?;
        let (keys, items) = (context.keys.repeat(views.len()), context.items.repeat(views.len()));
        let asking = Asking {
            keys: &keys,
            items: &items,
        };
        let found = queue.neighbours(of, &queries, asking, self.config.top_k)?;
        door(|| {
            let unit = pooled(&found.rows, &found.similarity, self.config.tau);
            let there = found.similarity.select(1, 0).isneginf().logical_not();
            let batch = context.items.len() as i64;
            (0i64..)
                .zip(views)
                .map(|(view, _)| Targets {
                    unit: unit.narrow(0, view * batch, batch),
                    there: there.narrow(0, view * batch, batch),
                })
                .collect()
        })
    }

    /// One direction and all its pairs of views, before it is divided by how many they are.
    fn direction(
        &self,
        from: Direction<'_>,
        queue: &dyn FeatureQueue,
        answers: &Answers,
        context: &Context<'_>,
    ) -> Result<Tensor> {
        let targets = self.targets(from.of, from.partners, queue, context)?;
        door(|| {
            let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
            for view in from.views {
                for target in &targets {
                    sum += cross_entropy(view, target, from.of, answers, context);
                }
            }
            sum
        })
    }
}

/// One direction of the loss.
struct Direction<'a> {
    /// The rows that are matched.
    views: &'a [View],
    /// Those whose neighbours stand in for them.
    partners: &'a [View],
    /// The partners' modality.
    of: Modality,
}

/// Rows `[rows, k, dim]` by the softmax of their cosines `[rows, k]`, as unit rows `[rows, dim]`.
fn pooled(rows: &Tensor, similarity: &Tensor, tau: f64) -> Tensor {
    if rows.size()[1] == 1 {
        // A unit row already, to the bit.
        return rows.squeeze_dim(1);
    }
    // A row without any neighbour would be a softmax over nothing, which is not a number; its rows are zeros anyhow.
    let none = similarity.narrow(1, 0, 1).isneginf();
    let shares = (similarity / tau).masked_fill(&none, 0.0).softmax(1, Kind::Float);
    unit_rows(&shares.unsqueeze(1).bmm(rows).squeeze_dim(1))
}

/// The cross-entropy of this process's rows of a view over what stands in for their partners, with its gradient.
///
/// The targets are constants, so the gradient is written down: with `p` the softmax and `t` the target of a row of weight
/// `w`, it is `w (p − t)` in the logits. So no more than a tile of logits is in memory, whatever the batch.
fn cross_entropy(view: &View, target: &Targets, of: Modality, answers: &Answers, context: &Context<'_>) -> Tensor {
    let batch = answers.batch();
    let counted = context.weights * target.there.to_kind(Kind::Float);
    let counted = &counted / counted.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
    let (unit, scale) = (view.unit.detach(), context.scale.detach());
    let absent = target.there.logical_not().unsqueeze(0);
    let mut value = Tensor::zeros([], (Kind::Float, unit.device()));
    let (unit_slope, mut scale_slope) = (unit.zeros_like(), value.zeros_like());
    let own = &context.rows;
    for start in own.clone().step_by((TILE / batch.max(1)).max(1) as usize) {
        let rows = start..own.end.min(start + (TILE / batch.max(1)).max(1));
        let part = |tensor: &Tensor| tensor.narrow(0, rows.start, rows.end - rows.start);
        let (right, masked) = relations(answers, &rows, of, unit.device());
        let masked = masked.map_or_else(|| absent.shallow_clone(), |masked| masked.logical_or(&absent));
        let right = right.logical_and(&masked.logical_not()).to_kind(Kind::Float);
        let spread = &right / right.sum_dim_intlist(1, true, Kind::Float).clamp_min(1.0);
        let cosines = part(&unit).matmul(&target.unit.tr());
        // Finite, since 0 · −∞ in the products below is not a number; far enough to vanish in the softmax.
        let logits = (&cosines * &scale).masked_fill(&masked, f64::from(f32::MIN));
        let logs = logits.log_softmax(1, Kind::Float);
        let weights = part(&counted);
        value -= (&logs * &spread).sum_dim_intlist(1, false, Kind::Float).dot(&weights);
        let slopes = (logs.exp() - spread) * weights.unsqueeze(1);
        part(&unit_slope).copy_(&(slopes.matmul(&target.unit) * &scale));
        scale_slope += (slopes * cosines).sum(Kind::Float);
    }
    with_gradient(&value, &[(&view.unit, &unit_slope), (context.scale, &scale_slope)])
}

/// Which partners are right for some rows and which are left out, `[rows, batch]`, boolean.
fn relations(answers: &Answers, rows: &Range<i64>, of: Modality, device: Device) -> (Tensor, Option<Tensor>) {
    let all = 0..answers.batch();
    let relations = match of {
        Modality::Text => answers.tile(rows, &all),
        Modality::Image => answers.tile(&all, rows).transposed(),
    };
    // A row's own partner is right, so there is an answer.
    let none = || Tensor::zeros([rows.end - rows.start, answers.batch()], (Kind::Bool, device));
    (relations.right.unwrap_or_else(none), relations.masked)
}

impl Objective for NearestNeighbour {
    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        needs.queue = true;
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        let Some(queue) = context.queue else {
            return Err(Error::internal("nearest_neighbour was given no queue"));
        };
        if queue.filled() == 0 || context.items.is_empty() {
            return Ok(Terms(Vec::new()));
        }
        let answers = Answers::new(context, self.config.same_item);
        let texts = Direction {
            views: &features.images,
            partners: &features.texts,
            of: Modality::Text,
        };
        let mut sum = self.direction(texts, queue, &answers, context)?;
        let mut pairs = features.images.len() * features.texts.len();
        if self.config.directions == Directions::Both {
            let images = Direction {
                views: &features.texts,
                partners: &features.images,
                of: Modality::Image,
            };
            let other = self.direction(images, queue, &answers, context)?;
            sum = door(|| sum + other)?;
            pairs *= 2;
        }
        door(|| Terms(vec![(Self::NAME, sum / pairs as f64)]))
    }
}

impl ObjectiveKind for NearestNeighbour {
    const NAME: &'static str = "nearest_neighbour";

    type Config = NearestNeighbourConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Self::new(config)
    }
}
