//! The sigmoid loss of SigLIP.

#[cfg(test)]
mod tests;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Device, Kind, Tensor};
use clip_nn::{Context, Features, ModelShape, Objective, ObjectiveKind, Params, Terms, door};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, SameItem};
use super::tiles::{Grid, Product, Slopes, Tile, check_rows, part};

/// Settings of `[objectives.sigmoid]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigmoidConfig {
    /// What rows of the same product are to each other: all of them right answers, left out, or wrong ones.
    pub same_item: SameItem,
    /// Rows and columns of a tile; 0 chooses.
    pub tile: usize,
}

/// The pairwise sigmoid loss (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", algorithm 1): for every
/// picture with every text `−log σ(±(scale · cosine + bias))`, plus for right answers and minus for wrong ones, summed
/// and divided by the number of pairs.
///
/// A picture with a text counts by the mean of their pairs' weights, over the weight of the whole batch, half of it in
/// the slice of either, so that the terms of several processes' slices sum to the loss of the whole. Pictures that carry
/// the concept whose name stands in for a text are left out with it, unless they are right answers. With several views it
/// is the mean over all pairs of an image view and a text view.
///
/// The model needs a bias: without one, the wrong answers, many more than the right ones, rule the first steps.
#[derive(Debug, Clone, Copy)]
pub struct Sigmoid {
    config: SigmoidConfig,
}

/// The tile that is chosen.
const TILE: i64 = 512;
const TILE_ON_ACCELERATOR: i64 = 4096;

/// What has been summed over tiles.
struct Sums {
    loss: Tensor,
    /// The gradient with respect to the bias.
    bias: Tensor,
    slopes: Slopes,
}

impl Sigmoid {
    /// The loss of given settings.
    pub fn new(config: SigmoidConfig) -> Self {
        Self { config }
    }

    fn tile(&self, device: Device) -> i64 {
        match i64::try_from(self.config.tile).unwrap_or(i64::MAX) {
            0 if device == Device::Cpu => TILE,
            0 => TILE_ON_ACCELERATOR,
            tile => tile,
        }
    }
}

/// By what each place of a tile counts: half its picture's weight where the picture is of this process, half its text's
/// likewise.
fn weights(tile: &Tile, context: &Context<'_>) -> Tensor {
    let half = |range, own| part(context.weights, range) * if own { 0.5 } else { 0.0 };
    half(&tile.images, tile.own_images).unsqueeze(1) + half(&tile.texts, tile.own_texts).unsqueeze(0)
}

/// Adds a tile's loss and slopes.
fn add(sums: &mut Sums, product: &Product, tile: &Tile, answers: &Answers, bias: f64, context: &Context<'_>) {
    let relations = answers.tile(&tile.images, &tile.texts);
    let mut weights = weights(tile, context);
    if let Some(masked) = &relations.masked {
        let _ = weights.masked_fill_(masked, 0.0);
    }
    let mut logits = product.logits(tile);
    let _ = logits.g_add_scalar_(bias);
    // −1 for right answers, 1 for wrong ones: the loss is log(1 + exp(sign · logit)).
    let sign = relations
        .right
        .as_ref()
        .map(|right| 1.0 - right.to_kind(Kind::Float) * 2.0);
    if let Some(sign) = &sign {
        let _ = logits.g_mul_(sign);
    }
    let losses = -logits.neg().log_sigmoid();
    sums.loss += (losses * &weights).sum(Kind::Float);
    let mut slope = logits.sigmoid_();
    let _ = slope.g_mul_(&weights);
    if let Some(sign) = &sign {
        let _ = slope.g_mul_(sign);
    }
    sums.bias += slope.sum(Kind::Float);
    sums.slopes.add(product, tile, &slope);
}

impl Objective for Sigmoid {
    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        check_rows(features, context)?;
        let Some(bias) = context.bias else {
            return Err(
                Error::invalid("the model has no bias (`logit_bias`), which the objective `sigmoid` needs").remedy(
                    "start from a model with one, set logit_bias = true in [join] where two towers are joined, or \
                         train with `info_nce`",
                ),
            );
        };
        door(|| {
            let guard = tch::no_grad_guard();
            let answers = Answers::new(context, self.config.same_item);
            let device = context.weights.device();
            let zero = || Tensor::zeros([], (Kind::Double, device));
            let mut sums = Sums {
                loss: zero(),
                bias: zero(),
                slopes: Slopes::new(features),
            };
            let offset = bias.double_value(&[]);
            let grid = Grid::new(answers.batch(), &context.rows, self.tile(device));
            for product in Product::all(features, context.scale) {
                for tile in grid.tiles() {
                    add(&mut sums, &product, &tile, &answers, offset, context);
                }
            }
            drop(guard);
            let Sums {
                loss,
                bias: of_bias,
                slopes,
            } = sums;
            let sum = slopes.term(&loss, features, context.scale, &[(bias, &of_bias)]);
            let views = features.images.len() * features.texts.len();
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            Terms(vec![(Self::NAME, sum / (whole * views as f64))])
        })
    }
}

impl ObjectiveKind for Sigmoid {
    const NAME: &'static str = "sigmoid";

    type Config = SigmoidConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Ok(Self::new(config))
    }
}
