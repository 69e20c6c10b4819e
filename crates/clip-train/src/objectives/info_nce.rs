//! InfoNCE, the loss of CLIP.

mod full;
mod soft;
#[cfg(test)]
mod tests;
mod tiled;

use clip_core::{Error, Result};
use clip_nn::tch::{Device, Kind};
use clip_nn::{Context, Features, ModelShape, Needs, Objective, ObjectiveKind, Params, Terms, door};
use serde::{Deserialize, Serialize};

use super::answers::{Answers, SameItem};
use super::tiles::check_rows;
use soft::Matches;

/// Settings of `[objectives.info_nce]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfoNceConfig {
    /// How much of the target goes to the wrong answers, 0 to below 1.
    pub label_smoothing: f64,
    /// What rows of the same product are to each other.
    pub same_item: SameItem,
    /// The share of the smoothing that goes to the wrong answers by how alike their pairs match the prototypes of the
    /// feature queue, and not evenly; 0 to 1.
    pub soft_targets: f64,
    /// The temperature of the match with the prototypes.
    pub soft_tau: f64,
    /// Rows and columns of a tile; one that holds the batch is the full matrix. 0 chooses: the full matrix up to 1,024
    /// pairs, tiles of 512 above; on an accelerator 4,096 for both.
    pub tile: usize,
}

impl Default for InfoNceConfig {
    fn default() -> Self {
        Self {
            label_smoothing: 0.0,
            same_item: SameItem::default(),
            soft_targets: 0.0,
            soft_tau: 0.1,
            tile: 0,
        }
    }
}

/// The most pairs whose full matrix is made where `tile` is 0, and the tile of larger batches. On a processor tiles are
/// faster as soon as a matrix leaves its caches (docs/results/benches.md); on an accelerator a small tile costs
/// no less than its launches.
const CHOSEN: [i64; 2] = [1024, 512];
const CHOSEN_ON_ACCELERATOR: [i64; 2] = [4096, 4096];

/// Symmetric InfoNCE (Radford et al. 2021, figure 3): the mean over both directions of the cross-entropy of
/// `scale · cosine` over the batch.
///
/// With `P` the right answers of a row (its own partner, and its product's where `same_item` says so), `W` the wrong
/// ones and `ε` the label smoothing, the target is `(1 − ε) / |P|` on each of `P` and `ε / |W|` on each of `W`; without wrong
/// answers there is no smoothing. Pictures that carry the concept whose name stands in for a text are no wrong answers to
/// it: unless they are right ones, they and the text are left out of each other's softmax. Rows count by the weights of
/// their pairs, over the weight of the whole batch, so that the terms of several processes' slices sum to the loss of the
/// whole. With several views it is the mean over all pairs of an image view and a text view.
///
/// With `soft_targets` the share `σ` of `ε` is spread over `W` in proportion to `⟨m, m'⟩`, the inner product of two pairs'
/// match distributions: softmax(cosines to the live concepts' prototypes / `soft_tau`), of pictures among the prototypes of
/// pictures, of texts among those of texts, the mean of both. They are constants. Without live concepts all is even.
///
/// A large batch is worked in tiles, in the memory of one: the same loss and gradient up to rounding.
#[derive(Debug, Clone, Copy)]
pub struct InfoNce {
    config: InfoNceConfig,
}

impl InfoNce {
    /// The loss of given settings.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(config: InfoNceConfig) -> Result<Self> {
        let wrong = |name: &str, value: f64, range: &str| {
            Err(Error::invalid(format!(
                "{name} of info_nce is {value}, which is not {range}"
            )))
        };
        if !(0.0..1.0).contains(&config.label_smoothing) {
            return wrong("label_smoothing", config.label_smoothing, "from 0 to below 1");
        }
        if !(0.0..=1.0).contains(&config.soft_targets) {
            return wrong("soft_targets", config.soft_targets, "from 0 to 1");
        }
        if !(config.soft_tau.is_finite() && config.soft_tau > 0.0) {
            return wrong("soft_tau", config.soft_tau, "above 0");
        }
        if config.soft_targets > 0.0 && config.label_smoothing == 0.0 {
            return Err(
                Error::invalid("soft_targets of info_nce shares out label smoothing, and there is none")
                    .remedy("set label_smoothing above 0 as well"),
            );
        }
        Ok(Self { config })
    }

    /// The size of the tiles for a batch; `None` for the full matrix.
    fn tile(&self, batch: i64, device: Device) -> Option<i64> {
        let [most, tile] = match i64::try_from(self.config.tile).unwrap_or(i64::MAX) {
            0 if device == Device::Cpu => CHOSEN,
            0 => CHOSEN_ON_ACCELERATOR,
            tile => [tile, tile],
        };
        (batch > most).then_some(tile)
    }
}

impl Objective for InfoNce {
    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        needs.queue = self.config.soft_targets > 0.0;
        needs.concepts = needs.queue;
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        check_rows(features, context)?;
        door(|| {
            let answers = Answers::new(context, self.config.same_item);
            let matches = if self.config.soft_targets > 0.0 {
                Matches::new(features, context, self.config.soft_tau)?
            } else {
                None
            };
            let (config, matches) = (&self.config, matches.as_ref());
            let sum = match self.tile(answers.batch(), context.weights.device()) {
                None => full::sum(config, &answers, matches, features, context),
                Some(tile) => tiled::sum(config, &answers, matches, features, context, tile),
            };
            let views = 2 * features.images.len() * features.texts.len();
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            Ok(Terms(vec![(Self::NAME, sum / (whole * views as f64))]))
        })?
    }
}

impl ObjectiveKind for InfoNce {
    const NAME: &'static str = "info_nce";

    type Config = InfoNceConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Self::new(config)
    }
}
