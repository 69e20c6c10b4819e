//! Concepts: names and pairs against the prototypes of the feature queue.

mod anchors;
mod config;
mod constants;
mod targets;
#[cfg(test)]
mod tests;

use clip_core::{Id, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{
    BankNeeds, Context, FeatureQueue, Features, Modality, ModelShape, Needs, Objective, ObjectiveKind, Params, Terms,
    View, door,
};

use constants::cross_entropy;
use targets::{Own, Targets};

use super::tiles::check_rows;
use crate::seeds::mix;

pub use config::{Anchors, ConceptPrototypesConfig};

/// How the current pair and the names of concepts match the prototypes of the feature queue, in up to four terms:
///
/// - `concept_text`: a sample of live concepts, their names encoded in this step (gradient), against the same concepts'
///   image prototypes (constants): the mean over both directions of the cross-entropy over the sample.
/// - `pair_image`: the pair's picture (gradient) against the names of all live concepts (the bank, constants):
///   cross-entropy, the target spread evenly over the pair's own concepts.
/// - `pair_text`: its mirror, the pair's text (gradient) against the image prototypes of all live concepts.
/// - `pair_prototype`: the pair's picture against the text prototypes of all live concepts and its text against their
///   image prototypes, the mean of both. The target is spread over the pair's own concepts by softmax of
///   `match / match_tau`, where the match of a pair and a concept is the mean of two cosines, each within one modality
///   (constants): the picture's with the image prototype, and the text's with the text prototype.
///
/// The terms of pairs are means over those pairs that carry a live concept, by their weights; other pairs add nothing.
/// Several views are averaged. Where a concept's name stands in for a pair's text, that concept alone is the text's own.
/// The terms of several processes' slices sum to the loss of the whole: each process counts its rows, and of the sampled
/// names the same share.
///
/// Each term is given, and so reported, with its weight in it: 0.06 at weight 0.03 is a cross-entropy of 2.
///
/// Memory beside the features: `names²` numbers for `concept_text`; the other terms hold a few million similarities at
/// once, however many pairs and concepts there are.
#[derive(Debug, Clone, Copy)]
pub struct ConceptPrototypes {
    config: ConceptPrototypesConfig,
}

/// A batch and the queue that it is compared with.
struct Step<'a> {
    features: &'a Features,
    context: &'a Context<'a>,
    queue: &'a dyn FeatureQueue,
    anchors: Anchors,
}

impl Step<'_> {
    /// Prototypes `[concepts, dim]`, or what stands in for them.
    fn prototypes(&self, of: Modality, concepts: &[Id]) -> Result<Tensor> {
        match self.anchors {
            Anchors::Queue => self.queue.prototypes(of, concepts),
            Anchors::Fixed | Anchors::Random => self.random(concepts),
        }
    }

    fn random(&self, concepts: &[Id]) -> Result<Tensor> {
        let view = self.features.images.iter().chain(&self.features.texts).next();
        let dim = view.and_then(|view| view.unit.size().get(1).copied()).unwrap_or(0);
        let draw = match self.anchors {
            Anchors::Random => mix(self.context.seed ^ mix(self.context.step)),
            Anchors::Queue | Anchors::Fixed => self.context.seed,
        };
        anchors::random(concepts, dim, draw, self.context.weights.device())
    }
}

impl ConceptPrototypes {
    /// The loss of given settings.
    ///
    /// # Errors
    /// A setting out of range.
    pub fn new(config: ConceptPrototypesConfig) -> Result<Self> {
        config.check()?;
        Ok(Self { config })
    }

    fn concept_text(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(names) = step.features.concept_texts.as_ref() else {
            return Ok(None);
        };
        let count = names.ids.len() as i64;
        if count == 0 {
            return Ok(None);
        }
        let prototypes = step.prototypes(Modality::Image, &names.ids)?;
        // This process's share of the names: over all processes, each name once.
        let (rows, batch) = (&step.context.rows, step.context.keys.len().max(1) as i64);
        let (start, end) = (count * rows.start / batch, count * rows.end / batch);
        door(|| {
            let cosines = names.view.unit.matmul(&prototypes.tr()) / self.config.tau;
            let to_prototypes = cosines.narrow(0, start, end - start).log_softmax(1, Kind::Float);
            let to_names = cosines.narrow(1, start, end - start).log_softmax(0, Kind::Float);
            let right =
                to_prototypes.diagonal(start, 0, 1).sum(Kind::Float) + to_names.diagonal(-start, 0, 1).sum(Kind::Float);
            Some(right / (-2.0 * count as f64))
        })
    }

    /// The mean over views of the cross-entropy against constants; nothing where no pair has a target.
    fn against(&self, views: &[View], anchors: &Tensor, targets: &Targets) -> Result<Option<Tensor>> {
        if targets.is_empty() {
            return Ok(None);
        }
        let terms = views
            .iter()
            .map(|view| cross_entropy(&view.unit, anchors, targets, self.config.tau))
            .collect::<Result<Vec<_>>>()?;
        if terms.is_empty() {
            return Ok(None);
        }
        door(|| Some(Tensor::stack(&terms, 0).mean(Kind::Float)))
    }

    fn pair_image(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let Some(bank) = step.context.bank.filter(|bank| !bank.ids.is_empty()) else {
            return Ok(None);
        };
        let targets = Targets::even(Own::of_images(&bank.ids, step.context), step.context)?;
        match step.anchors {
            Anchors::Queue => self.against(&step.features.images, &bank.texts, &targets),
            Anchors::Fixed | Anchors::Random => self.against(&step.features.images, &step.random(&bank.ids)?, &targets),
        }
    }

    fn pair_text(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let live = step.queue.live();
        let own = Own::of_texts(live, step.context);
        if own.is_empty() {
            return Ok(None);
        }
        let targets = Targets::even(own, step.context)?;
        let prototypes = step.prototypes(Modality::Image, live)?;
        self.against(&step.features.texts, &prototypes, &targets)
    }

    fn pair_prototype(&self, step: &Step<'_>) -> Result<Option<Tensor>> {
        let live = step.queue.live();
        let own = [Own::of_images(live, step.context), Own::of_texts(live, step.context)];
        if own.iter().all(Own::is_empty) {
            return Ok(None);
        }
        let image_prototypes = step.prototypes(Modality::Image, live)?;
        let text_prototypes = step.prototypes(Modality::Text, live)?;
        let matched = |own: Own| {
            let image = (&step.features.images[..], &image_prototypes);
            let text = (&step.features.texts[..], &text_prototypes);
            Targets::matched(own, [image, text], self.config.match_tau, step.context)
        };
        let [of_images, of_texts] = own.map(matched);
        let image = self.against(&step.features.images, &text_prototypes, &of_images?)?;
        let text = self.against(&step.features.texts, &image_prototypes, &of_texts?)?;
        match (image, text) {
            (Some(image), Some(text)) => door(|| Some((image + text) / 2.0)),
            (one, other) => one.or(other).map(|term| door(|| term / 2.0)).transpose(),
        }
    }
}

impl Objective for ConceptPrototypes {
    fn needs(&self) -> Needs {
        let ConceptPrototypesConfig {
            concept_text,
            pair_image,
            pair_text,
            pair_prototype,
            names,
            bank_every,
            bank_names,
            ..
        } = self.config;
        let mut needs = Needs::default();
        needs.concepts = [concept_text, pair_image, pair_text, pair_prototype]
            .iter()
            .any(|weight| *weight > 0.0);
        // The bank, too, holds the names of the queue's live concepts.
        needs.queue = needs.concepts;
        needs.concept_texts = if concept_text > 0.0 { names } else { 0 };
        needs.concept_bank = (pair_image > 0.0).then_some(BankNeeds {
            every: bank_every,
            names: bank_names,
        });
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        let Some(queue) = context.queue else {
            return Ok(Terms(Vec::new()));
        };
        let step = Step {
            features,
            context,
            queue,
            anchors: self.config.anchors,
        };
        check_rows(features, context)?;
        type Term = fn(&ConceptPrototypes, &Step<'_>) -> Result<Option<Tensor>>;
        let terms: [(&'static str, f64, Term); 4] = [
            ("concept_text", self.config.concept_text, Self::concept_text),
            ("pair_image", self.config.pair_image, Self::pair_image),
            ("pair_text", self.config.pair_text, Self::pair_text),
            ("pair_prototype", self.config.pair_prototype, Self::pair_prototype),
        ];
        let mut given = Vec::new();
        for (name, weight, term) in terms.into_iter().filter(|(_, weight, _)| *weight > 0.0) {
            if let Some(term) = term(self, &step)? {
                given.push((name, door(|| term * weight)?));
            }
        }
        Ok(Terms(given))
    }
}

impl ObjectiveKind for ConceptPrototypes {
    const NAME: &'static str = "concept_prototypes";

    type Config = ConceptPrototypesConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Self::new(config)
    }
}
