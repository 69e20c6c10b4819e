//! InfoNCE in tiles: the loss and the gradient of the full matrix, in the memory of a tile.
//!
//! Two passes over the tiles of one product, both directions from each tile. The first gathers what a row's and a column's
//! cross-entropy is made of: the largest logit and the sum of exponentials over it (the online log-sum-exp of Milakov and
//! Gimelshein 2018), and the sums of the logits that the target names. The second makes each tile again and with it
//! `softmax − target`, the slope of the logits, whose products with the features are their gradients. The sums are kept in
//! f64, a value a row.

use std::ops::Range;

use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{Context, Features};

use super::super::answers::{Answers, Relations};
use super::super::tiles::{Grid, Product, Slopes, Tile, part};
use super::InfoNceConfig;
use super::soft::Matches;

/// What one direction knows of each row (pictures' rows, or texts' columns), `[batch]`.
struct Side {
    /// The dimension of a tile over which it sums.
    over: i64,
    /// The largest logit so far, f32.
    most: Tensor,
    /// Σ exp(logit − most).
    mass: Tensor,
    /// How many right and wrong answers, and the sums of their logits.
    right: Tensor,
    right_logits: Tensor,
    wrong: Tensor,
    wrong_logits: Tensor,
    /// Σ likeness of the wrong answers, and of likeness · logit.
    alike: Tensor,
    alike_logits: Tensor,
}

/// A tile's logits and what they are to each other.
struct Logits {
    /// With masked places at the least number.
    values: Tensor,
    relations: Relations,
    /// The likeness of wrong answers, elsewhere 0.
    alike: Option<Tensor>,
}

/// What a side's gradient is made of, `[batch]`, f32.
struct Parts {
    over: i64,
    most: Tensor,
    /// The row's weight over its mass.
    softmax: Tensor,
    /// The row's weight times the target of each right and each wrong answer, and of likeness.
    right: Tensor,
    wrong: Tensor,
    alike: Tensor,
}

/// Sums into the rows `range` of a gathered vector.
fn gather(into: &Tensor, range: &Range<i64>, values: &Tensor) {
    let _ = part(into, range).g_add_(values);
}

impl Side {
    fn new(over: i64, weights: &Tensor) -> Self {
        let zeros = || weights.zeros_like();
        Self {
            over,
            most: weights.full_like(f64::from(f32::MIN)).to_kind(Kind::Float),
            mass: zeros(),
            right: zeros(),
            right_logits: zeros(),
            wrong: zeros(),
            wrong_logits: zeros(),
            alike: zeros(),
            alike_logits: zeros(),
        }
    }

    fn sum(&self, values: &Tensor) -> Tensor {
        values.sum_dim_intlist(self.over, false, Kind::Float)
    }

    /// Takes a tile's logits in, of the rows `range`.
    fn take(&self, range: &Range<i64>, logits: &Logits, smooth: bool) {
        let values = &logits.values;
        let Relations { right, masked } = &logits.relations;
        // The masked places, at the least number, would swallow the sum of the others.
        let in_play = masked.as_ref().map(|masked| values.masked_fill(masked, 0.0));
        let in_play = in_play.as_ref().unwrap_or(values);
        if let Some(right) = right {
            gather(&self.right, range, &self.sum(right));
            let logits = self.sum(&(in_play * right));
            gather(&self.right_logits, range, &logits);
            gather(&self.wrong_logits, range, &-logits);
        }
        if smooth {
            let length = values.size()[self.over as usize];
            let _ = part(&self.wrong, range).g_add_scalar_(length);
            for others in [right, masked].into_iter().flatten() {
                gather(&self.wrong, range, &-self.sum(others));
            }
            gather(&self.wrong_logits, range, &self.sum(in_play));
        }
        if let Some(alike) = &logits.alike {
            gather(&self.alike, range, &self.sum(alike));
            gather(&self.alike_logits, range, &self.sum(&(alike * in_play)));
        }
        self.take_mass(range, values);
    }

    fn take_mass(&self, range: &Range<i64>, values: &Tensor) {
        let (mut before, mut mass) = (part(&self.most, range), part(&self.mass, range));
        let most = before.maximum(&values.amax(self.over, false));
        // Where every place of the tile is masked, this is off until the row's own partner comes, whose logit is finite
        // and sends what was gathered to 0.
        let new = (values - most.unsqueeze(self.over)).exp_();
        let _ = mass.g_mul_(&(&before - &most).exp());
        let _ = mass.g_add_(&self.sum(&new));
        before.copy_(&most);
    }

    /// The weighted sum of the rows' cross-entropies, and what the second pass needs.
    fn finish(&self, config: &InfoNceConfig, weights: &Tensor) -> (Tensor, Parts) {
        let there = |sum: &Tensor| sum.gt(0.0).to_kind(Kind::Double);
        let share = there(&self.wrong) * config.label_smoothing;
        let soft = there(&self.alike) * config.soft_targets;
        let right = (1.0 - &share) / self.right.clamp_min(1.0);
        let wrong = &share * (1.0 - &soft) / self.wrong.clamp_min(1.0);
        let alike = &share * soft / self.alike.clamp_min(f64::from(f32::MIN_POSITIVE));
        let losses = &self.most + self.mass.log()
            - &right * &self.right_logits
            - &wrong * &self.wrong_logits
            - &alike * &self.alike_logits;
        // Rows of no weight may be those of other processes, of which little was gathered.
        let none = weights.eq(0.0);
        let float = |values: Tensor| (values * weights).masked_fill(&none, 0.0).to_kind(Kind::Float);
        let parts = Parts {
            over: self.over,
            most: self.most.shallow_clone(),
            softmax: float(self.mass.reciprocal()),
            right: float(right),
            wrong: float(wrong),
            alike: float(alike),
        };
        let loss = (losses * weights).masked_fill(&none, 0.0).sum(Kind::Double);
        (loss, parts)
    }
}

impl Parts {
    /// This direction's slope of a tile, `weight · (softmax − target)`.
    fn slope(&self, range: &Range<i64>, logits: &Logits, smooth: bool) -> Tensor {
        let row = |values: &Tensor| part(values, range).unsqueeze(self.over);
        let mut slope = (&logits.values - row(&self.most)).exp_();
        let _ = slope.g_mul_(&row(&self.softmax));
        if smooth {
            slope -= row(&self.wrong);
        }
        if let Some(right) = &logits.relations.right {
            slope += right * (row(&self.wrong) - row(&self.right));
        }
        if let Some(alike) = &logits.alike {
            slope -= alike * row(&self.alike);
        }
        slope
    }
}

/// One pair of views in tiles.
struct Tiled<'a> {
    config: &'a InfoNceConfig,
    answers: &'a Answers,
    matches: Option<&'a Matches>,
    grid: &'a Grid,
    /// The weights of this process's rows, the others' 0: `[batch]`, f64.
    weights: &'a Tensor,
}

impl Tiled<'_> {
    fn logits(&self, product: &Product, tile: &Tile) -> Logits {
        let relations = self.answers.tile(&tile.images, &tile.texts);
        let alike = self.matches.map(|matches| {
            let mut alike = matches.alike(&tile.images, &tile.texts);
            if let Some(others) = relations.not_wrong() {
                let _ = alike.masked_fill_(&others, 0.0);
            }
            alike
        });
        let mut values = product.logits(tile);
        if let Some(masked) = &relations.masked {
            let _ = values.masked_fill_(masked, f64::from(f32::MIN));
        }
        Logits {
            values,
            relations,
            alike,
        }
    }

    /// The sum over rows and both directions; its gradient is added to `slopes`.
    fn sum(&self, product: &Product, slopes: &mut Slopes) -> Tensor {
        let (images, texts) = (Side::new(1, self.weights), Side::new(0, self.weights));
        let smooth = self.config.label_smoothing > 0.0;
        for tile in self.grid.tiles() {
            let logits = self.logits(product, &tile);
            if tile.own_images {
                images.take(&tile.images, &logits, smooth);
            }
            if tile.own_texts {
                texts.take(&tile.texts, &logits, smooth);
            }
        }
        let (from_images, images) = images.finish(self.config, self.weights);
        let (from_texts, texts) = texts.finish(self.config, self.weights);
        for tile in self.grid.tiles() {
            let logits = self.logits(product, &tile);
            let of_images = tile.own_images.then(|| images.slope(&tile.images, &logits, smooth));
            let of_texts = tile.own_texts.then(|| texts.slope(&tile.texts, &logits, smooth));
            let both = of_images.into_iter().chain(of_texts);
            if let Some(mut slope) = both.reduce(|one, other| one + other) {
                if let Some(masked) = &logits.relations.masked {
                    let _ = slope.masked_fill_(masked, 0.0);
                }
                slopes.add(product, &tile, &slope);
            }
        }
        from_images + from_texts
    }
}

/// The sum over rows of this process, both directions and all pairs of views, as [`full`](super::full) gives it.
pub(super) fn sum(
    config: &InfoNceConfig,
    answers: &Answers,
    matches: Option<&Matches>,
    features: &Features,
    context: &Context<'_>,
    tile: i64,
) -> Tensor {
    let guard = tch::no_grad_guard();
    let rows = &context.rows;
    let weights = context.weights.zeros_like().to_kind(Kind::Double);
    part(&weights, rows).copy_(&part(context.weights, rows));
    let tiled = Tiled {
        config,
        answers,
        matches,
        grid: &Grid::new(answers.batch(), rows, tile),
        weights: &weights,
    };
    let mut value = Tensor::zeros([], (Kind::Double, weights.device()));
    let mut slopes = Slopes::new(features);
    for product in Product::all(features, context.scale) {
        value += tiled.sum(&product, &mut slopes);
    }
    drop(guard);
    slopes.term(&value, features, context.scale, &[])
}
