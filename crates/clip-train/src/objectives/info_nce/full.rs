//! InfoNCE over the full matrix, by autograd.

use std::ops::Range;

use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Context, Features, View};

use super::super::answers::{Answers, Relations};
use super::super::tiles::part;
use super::InfoNceConfig;
use super::soft::Matches;

/// How each row's target is spread over its answers, `[rows, batch]`.
struct Target {
    spread: Tensor,
    masked: Option<Tensor>,
}

impl Target {
    fn new(
        relations: Relations,
        alike: Option<&Tensor>,
        shape: [i64; 2],
        config: &InfoNceConfig,
        like: &Tensor,
    ) -> Self {
        let options = (Kind::Float, like.device());
        let right = relations
            .right
            .as_ref()
            .map_or_else(|| Tensor::zeros(shape, options), |right| right.to_kind(Kind::Float));
        let spread = &right / right.sum_dim_intlist(1, true, Kind::Float);
        if config.label_smoothing == 0.0 {
            return Self {
                spread,
                masked: relations.masked,
            };
        }
        let wrong = relations.not_wrong().map_or_else(
            || Tensor::ones(shape, options),
            |others| others.logical_not().to_kind(Kind::Float),
        );
        let many = wrong.sum_dim_intlist(1, true, Kind::Float);
        // A row without wrong answers keeps its whole target.
        let share = many.gt(0.0).to_kind(Kind::Float) * config.label_smoothing;
        let mut even = &wrong / many.clamp_min(1.0);
        if let Some(alike) = alike {
            let alike = alike * &wrong;
            let sum = alike.sum_dim_intlist(1, true, Kind::Float);
            let soft = sum.gt(0.0).to_kind(Kind::Float) * config.soft_targets;
            even = even * (1.0 - &soft) + alike / sum.clamp_min(f64::from(f32::MIN_POSITIVE)) * soft;
        }
        Self {
            spread: spread * (1.0 - &share) + even * share,
            masked: relations.masked,
        }
    }

    /// The weighted sum of the rows' cross-entropies.
    fn cross_entropy(&self, logits: &Tensor, weights: &Tensor) -> Tensor {
        let logits = match &self.masked {
            // Finite, since 0 · −∞ in the product below is not a number; far enough to vanish in the softmax.
            Some(masked) => logits.masked_fill(masked, f64::from(f32::MIN)),
            None => logits.shallow_clone(),
        };
        let losses = (&self.spread * logits.log_softmax(1, Kind::Float)).sum_dim_intlist(1, false, Kind::Float);
        -(losses * weights).sum(Kind::Float)
    }
}

/// `scale · cosine` of a slice of one modality with all of the other, `[rows, batch]`.
fn logits(from: &View, to: &View, rows: &Range<i64>, scale: &Tensor) -> Tensor {
    part(&from.unit, rows).matmul(&to.unit.tr()) * scale
}

/// The sum over rows of this process, both directions and all pairs of views.
pub(super) fn sum(
    config: &InfoNceConfig,
    answers: &Answers,
    matches: Option<&Matches>,
    features: &Features,
    context: &Context<'_>,
) -> Tensor {
    let (batch, rows) = (answers.batch(), &context.rows);
    let (all, shape) = (0..batch, [rows.end - rows.start, batch]);
    let alike = matches.map(|matches| matches.alike(rows, &all));
    let target = |relations| Target::new(relations, alike.as_ref(), shape, config, context.weights);
    let to_texts = target(answers.tile(rows, &all));
    let to_images = target(answers.tile(&all, rows).transposed());
    let weights = part(context.weights, rows);
    let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
    for image in &features.images {
        for text in &features.texts {
            let from_images = logits(image, text, rows, context.scale);
            // Of a whole batch, the one is the other turned.
            let from_texts = if *rows == all {
                from_images.tr()
            } else {
                logits(text, image, rows, context.scale)
            };
            sum = sum + to_texts.cross_entropy(&from_images, &weights) + to_images.cross_entropy(&from_texts, &weights);
        }
    }
    sum
}
