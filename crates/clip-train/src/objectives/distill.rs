//! Learning from a teacher's features and from its matches.

#[cfg(test)]
mod tests;

use clip_core::{Error, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{
    Context, Features, Init, ModelShape, Needs, Objective, ObjectiveKind, Params, Role, TeacherFeatures, Terms, View,
    door, unit_rows,
};
use serde::{Deserialize, Serialize};

use super::tiles::{check_rows, part};

/// Settings of `[objectives.distill]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// How much the likeness of features counts; 0 leaves it out.
    pub features: f64,
    /// How much the likeness of matches counts; 0 leaves it out.
    pub logits: f64,
    /// What both models' logits are divided by.
    pub temperature: f64,
    /// Dimensions of the teacher's features; 0: those of the model.
    pub dim: i64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            features: 1.0,
            logits: 1.0,
            temperature: 1.0,
            dim: 0,
        }
    }
}

/// Distillation from a teacher's features of the same pairs.
///
/// `distill_features` is `1 − cos(h(x), t)` of a feature `x` and the teacher's `t`, in the mean over modalities and views.
/// `h` is a linear head of each modality where the teacher has other dimensions, and nothing where it has the same.
/// `distill_logits` is the Kullback–Leibler divergence of the student's softmax over the batch from the teacher's, of
/// `scale · cosine / temperature` each, times temperature² (Hinton et al. 2015), in the mean over both directions and all
/// pairs of views.
///
/// Rows count by the weights of their pairs, over the weight of the whole batch. A text for which a concept's name stands
/// in is not the one that the teacher saw: it is compared with nothing, and stands in no softmax.
#[derive(Debug)]
pub struct Distill {
    config: DistillConfig,
    dim: i64,
    /// Of pictures and of texts, `[teacher dim, dim]`.
    heads: Option<[Tensor; 2]>,
}

impl Distill {
    fn new(config: DistillConfig, own: i64, params: &Params) -> Result<Self> {
        let counts = |value: f64| value.is_finite() && value >= 0.0;
        let wrong = [
            (!counts(config.features), "features of distill is no number from 0"),
            (!counts(config.logits), "logits of distill is no number from 0"),
            (
                config.features + config.logits == 0.0,
                "features and logits of distill are both 0, which leaves nothing",
            ),
            (
                !(config.temperature.is_finite() && config.temperature > 0.0),
                "temperature of distill is not above 0",
            ),
            (
                !(0..=65_536).contains(&config.dim),
                "dim of distill is no number of dimensions",
            ),
        ];
        if let Some((_, what)) = wrong.iter().find(|(wrong, _)| *wrong) {
            return Err(Error::invalid(*what));
        }
        let dim = if config.dim == 0 { own } else { config.dim };
        let head = |name: &str| {
            let init = Init::Normal((own as f64).powf(-0.5));
            params.at(name).tensor("weight", &[dim, own], Role::Weight, init)
        };
        let heads = (dim != own && config.features > 0.0).then(|| [head("image_head"), head("text_head")]);
        Ok(Self { config, dim, heads })
    }

    fn check(&self, teacher: &TeacherFeatures, batch: i64) -> Result<()> {
        for rows in [&teacher.images, &teacher.texts] {
            let shape = rows.size();
            if shape.len() != 2 || shape[0] != batch {
                return Err(Error::internal(format!(
                    "a teacher's features of shape {shape:?} for {batch} pairs"
                )));
            }
            // The logits alone compare within each model.
            if self.config.features > 0.0 && shape[1] != self.dim {
                return Err(Error::invalid(format!(
                    "the teacher's features have {} dimensions, and `distill` expects {}",
                    shape[1], self.dim
                ))
                .remedy(format!("set dim = {} in [objectives.distill]", shape[1])));
            }
        }
        Ok(())
    }

    /// The weighted sum of `1 − cosine` over some views of a modality and the rows of this process.
    fn apart(
        &self,
        views: &[View],
        teacher: &Tensor,
        modality: usize,
        weights: &Tensor,
        context: &Context<'_>,
    ) -> Tensor {
        let mut sum = weights.zeros_like();
        for view in views {
            let own = part(&view.unit, &context.rows);
            let own = match &self.heads {
                Some(heads) => unit_rows(&own.matmul(&heads[modality].tr())),
                None => own,
            };
            let cosines = (own * part(teacher, &context.rows)).sum_dim_intlist(1, false, Kind::Float);
            sum += 1.0 - cosines;
        }
        (sum * weights).sum(Kind::Float)
    }
}

/// Which texts a concept's name stands in for: `[batch]`, boolean; `None` for none.
fn named(context: &Context<'_>) -> Option<Tensor> {
    let named: Vec<bool> = context.captions.iter().map(Option::is_some).collect();
    let any = named.contains(&true);
    any.then(|| Tensor::from_slice(&named).to_device(context.weights.device()))
}

/// The logarithm of a softmax over rows of logits, without the columns that are left out.
fn log_softmax(logits: Tensor, left_out: Option<&Tensor>) -> Tensor {
    let logits = match left_out {
        // Finite, since 0 · −∞ is not a number.
        Some(left_out) => logits.masked_fill(&left_out.unsqueeze(0), f64::from(f32::MIN)),
        None => logits,
    };
    logits.log_softmax(1, Kind::Float)
}

/// Σ weight · KL(teacher ‖ student) over rows of logarithms of softmaxes `[rows, batch]`.
fn divergence(teacher: &Tensor, student: Tensor, weights: &Tensor) -> Tensor {
    let of_row = (teacher.exp() * (teacher - student)).sum_dim_intlist(1, false, Kind::Float);
    (of_row * weights).sum(Kind::Float)
}

impl Distill {
    fn features(
        &self,
        features: &Features,
        teacher: &TeacherFeatures,
        weights: [&Tensor; 2],
        context: &Context<'_>,
    ) -> Tensor {
        let images = self.apart(&features.images, &teacher.images, 0, weights[0], context);
        let texts = self.apart(&features.texts, &teacher.texts, 1, weights[1], context);
        let mean = |sum: Tensor, views: usize| sum / (2 * views) as f64;
        mean(images, features.images.len()) + mean(texts, features.texts.len())
    }

    fn logits(
        &self,
        features: &Features,
        teacher: &TeacherFeatures,
        weights: [&Tensor; 2],
        left_out: Option<&Tensor>,
        context: &Context<'_>,
    ) -> Tensor {
        let temperature = self.config.temperature;
        let rows = |from: &Tensor, to: &Tensor| part(from, &context.rows).matmul(&to.tr()) / temperature;
        let of_teacher = |from, to, left_out| log_softmax(rows(from, to).detach() * teacher.scale, left_out);
        let to_texts = of_teacher(&teacher.images, &teacher.texts, left_out);
        let to_images = of_teacher(&teacher.texts, &teacher.images, None);
        let of_student =
            |from: &View, to: &View, left_out| log_softmax(rows(&from.unit, &to.unit) * context.scale, left_out);
        let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
        for image in &features.images {
            for text in &features.texts {
                sum = sum
                    + divergence(&to_texts, of_student(image, text, left_out), weights[0])
                    + divergence(&to_images, of_student(text, image, None), weights[1]);
            }
        }
        let views = 2 * features.images.len() * features.texts.len();
        sum * (temperature * temperature / views as f64)
    }
}

impl Objective for Distill {
    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        needs.teacher = true;
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        check_rows(features, context)?;
        let Some(teacher) = &features.teacher else {
            return Err(Error::invalid("`distill` has no teacher's features")
                .remedy("name them under `features` in [teacher] of run.toml"));
        };
        self.check(teacher, context.items.len() as i64)?;
        door(|| {
            let named = named(context);
            let of_images = part(context.weights, &context.rows);
            let of_texts = named.as_ref().map_or_else(
                || of_images.shallow_clone(),
                |named| of_images.masked_fill(&part(named, &context.rows), 0.0),
            );
            let weights = [&of_images, &of_texts];
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            let mut terms = Vec::new();
            if self.config.features > 0.0 {
                let sum = self.features(features, teacher, weights, context);
                terms.push(("distill_features", sum * self.config.features / &whole));
            }
            if self.config.logits > 0.0 {
                let sum = self.logits(features, teacher, weights, named.as_ref(), context);
                terms.push(("distill_logits", sum * self.config.logits / &whole));
            }
            Terms(terms)
        })
    }
}

impl ObjectiveKind for Distill {
    const NAME: &'static str = "distill";

    type Config = DistillConfig;

    fn build(config: Self::Config, shape: &ModelShape, params: &Params) -> Result<Self> {
        Self::new(config, shape.dim, params)
    }
}
