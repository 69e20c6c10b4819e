//! A ranking loss on the hardest wrong answers, as a crate of its own.
//!
//! One file adds it: settings, `impl Objective` (what it asks for, and the loss), `impl ObjectiveKind` (its name, and how it
//! is made). `zoo.objective::<HardNegative>()?` registers it, and `[objectives.hard_negative]` in run.toml turns it on,
//! with `weight` and `start` beside its own settings.

use clip_nn::clip_core::{Error, Result};
use clip_nn::serde::{Deserialize, Serialize};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Context, Features, ModelShape, Objective, ObjectiveKind, Params, Terms, View, door};

/// Settings of `[objectives.hard_negative]`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(crate = "clip_nn::serde", default, deny_unknown_fields)]
pub struct HardNegativeConfig {
    /// By how much a right answer's cosine should be above every wrong one's.
    pub margin: f64,
}

impl Default for HardNegativeConfig {
    fn default() -> Self {
        Self { margin: 0.2 }
    }
}

/// The hinge on the hardest wrong answer of the batch (Faghri et al. 2018, "VSE++"): for each pair the sum over both
/// directions of `max(0, margin + hardest wrong cosine − right cosine)`, the mean over pairs by their weights.
///
/// Answers of the same product are not wrong. It knows no temperature, and a pair that is right by the margin adds nothing,
/// so it is a term beside `info_nce` rather than instead of it: from a model that knows nothing it may bring all features
/// to one point.
#[derive(Debug, Clone, Copy)]
pub struct HardNegative {
    margin: f64,
}

/// Below every cosine by more than any margin.
const NO_ANSWER: f64 = -10.0;

impl HardNegative {
    /// The summed hinge of this process's rows, `from` them to the whole batch.
    fn direction(&self, from: &View, to: &View, right: &Tensor, context: &Context<'_>) -> Tensor {
        let rows = slice(&from.unit, context);
        let cosines = rows.matmul(&to.unit.tr());
        let own = cosines.diagonal(context.rows.start, 0, 1);
        let hardest = cosines.masked_fill(right, NO_ANSWER).amax([1], false);
        let hinge = (hardest - own + self.margin).relu();
        (hinge * slice(context.weights, context)).sum(Kind::Float)
    }
}

/// This process's rows.
fn slice(tensor: &Tensor, context: &Context<'_>) -> Tensor {
    tensor.narrow(0, context.rows.start, context.rows.end - context.rows.start)
}

/// True where an answer is no wrong one, the pair's own or of the same product: `[rows, batch]`.
fn right(context: &Context<'_>) -> Tensor {
    let batch = context.items.len() as i64;
    let rows = context.rows.start as usize..context.rows.end as usize;
    let mut values = Vec::with_capacity(rows.len() * context.items.len());
    for row in rows.clone() {
        for (other, item) in context.items.iter().enumerate() {
            values.push(row == other || (item.is_some() && *item == context.items[row]));
        }
    }
    Tensor::from_slice(&values)
        .view([rows.len() as i64, batch])
        .to_device(context.weights.device())
}

impl Objective for HardNegative {
    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        // Operators panic on libtorch's errors; the door makes them ours.
        door(|| {
            let right = right(context);
            let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
            for image in &features.images {
                for text in &features.texts {
                    sum = sum
                        + self.direction(image, text, &right, context)
                        + self.direction(text, image, &right, context);
                }
            }
            let views = features.images.len() * features.texts.len();
            // Over the weight of the whole batch, so that the terms of several processes' rows sum to the loss of all.
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            Terms(vec![(Self::NAME, sum / (whole * views as f64))])
        })
    }
}

impl ObjectiveKind for HardNegative {
    const NAME: &'static str = "hard_negative";

    type Config = HardNegativeConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        if !(0.0..=2.0).contains(&config.margin) {
            return Err(Error::invalid(format!(
                "margin of hard_negative is {}, which no difference of cosines from 0 to 2 can be",
                config.margin
            )));
        }
        Ok(Self { margin: config.margin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::clip_core::Id;
    use clip_nn::tch::{self, Device};
    use std::ops::Range;

    const ITEMS: [Option<Id>; 5] = [Some(Id(1)), None, Some(Id(1)), Some(Id(2)), None];

    const WEIGHTS: [f32; 5] = [1.0, 2.0, 0.5, 0.0, 1.0];

    fn rows(seed: i64) -> Tensor {
        tch::manual_seed(seed);
        Tensor::randn([5, 4], (Kind::Float, Device::Cpu))
    }

    fn run(images: &[Tensor], texts: &[Tensor], rows: Range<i64>) -> Tensor {
        let keys: Vec<Id> = (0..5).map(Id).collect();
        let (weights, scale) = (Tensor::from_slice(&WEIGHTS), Tensor::from(5f32));
        let context = Context {
            rows,
            keys: &keys,
            items: &ITEMS,
            concepts: &vec![Vec::new(); 5],
            captions: &[None; 5],
            weights: &weights,
            scale: &scale,
            bias: None,
            queue: None,
            bank: None,
            step: 0,
            seed: 0,
        };
        let views = |raw: &[Tensor]| raw.iter().map(|raw| View::new(raw.shallow_clone())).collect();
        let objective = HardNegative { margin: 0.4 };
        let Terms(mut terms) = objective
            .loss(&Features::new(views(images), views(texts)), &context)
            .unwrap();
        terms.remove(0).1
    }

    /// The loss word by word.
    fn by_hand(image: &Tensor, text: &Tensor) -> f64 {
        let cosines = clip_nn::unit_rows(image).matmul(&clip_nn::unit_rows(text).tr());
        let at = |image: usize, text: usize| cosines.double_value(&[image as i64, text as i64]);
        let wrong = |row: usize| {
            (0..5).filter(move |&other| row != other && (ITEMS[row].is_none() || ITEMS[row] != ITEMS[other]))
        };
        let hinge = |row: usize| {
            let texts = wrong(row).map(|other| at(row, other)).fold(f64::MIN, f64::max);
            let images = wrong(row).map(|other| at(other, row)).fold(f64::MIN, f64::max);
            (0.4 + texts - at(row, row)).max(0.0) + (0.4 + images - at(row, row)).max(0.0)
        };
        let sum: f64 = (0..5).map(|row| f64::from(WEIGHTS[row]) * hinge(row)).sum();
        sum / f64::from(WEIGHTS.iter().sum::<f32>())
    }

    #[test]
    fn it_is_the_formula_over_views_and_slices() {
        let ([one, two], [three, four]) = ([rows(1), rows(2)], [rows(3), rows(4)]);
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} and {b}");
        let value = |images: &[Tensor], texts: &[Tensor], rows| run(images, texts, rows).double_value(&[]);
        let (images, texts) = ([one, two], [three, four]);
        let mut mean = 0.0;
        for image in &images {
            for text in &texts {
                mean += by_hand(image, text) / 4.0;
            }
        }
        assert!(mean > 0.1, "{mean}");
        close(value(&images, &texts, 0..5), mean);
        let parts = [0..1, 1..3, 3..5].map(|rows| value(&images, &texts, rows));
        close(parts.iter().sum(), mean);
    }

    #[test]
    fn its_gradient_leads_down() {
        let mut images = rows(1).set_requires_grad(true);
        let texts = [rows(3)];
        let before = run(&[images.shallow_clone()], &texts, 0..5);
        before.backward();
        let step = images.grad() * 0.01;
        tch::no_grad(|| images -= &step);
        let after = run(&[images.shallow_clone()], &texts, 0..5);
        assert!(after.double_value(&[]) < before.double_value(&[]));
    }

    #[test]
    fn a_batch_without_wrong_answers_costs_nothing() {
        let keys = [Id(0)];
        let (weights, scale) = (Tensor::from_slice(&[1f32]), Tensor::from(5f32));
        let context = Context {
            rows: 0..1,
            keys: &keys,
            items: &[None],
            concepts: &[Vec::new()],
            captions: &[None],
            weights: &weights,
            scale: &scale,
            bias: None,
            queue: None,
            bank: None,
            step: 0,
            seed: 0,
        };
        let view = |seed| vec![View::new(rows(seed).narrow(0, 0, 1).set_requires_grad(true))];
        let features = Features::new(view(1), view(2));
        let loss = &HardNegative { margin: 2.0 }.loss(&features, &context).unwrap().0[0].1;
        loss.backward();
        assert_eq!(loss.double_value(&[]), 0.0);
        assert_eq!(features.images[0].raw.grad().abs().max().double_value(&[]), 0.0);
    }
}
