//! Masked words guessed from the words around them.

use std::ops::Range;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{
    Context, Features, Init, MaskedText, ModelShape, Needs, Objective, ObjectiveKind, Params, Role, Terms, door,
    with_gradient,
};
use serde::{Deserialize, Serialize};

/// Scores of words held at once.
const TILE: i64 = 1 << 23;

/// Settings of `[objectives.masked_language]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaskedLanguageConfig {
    /// The share of a text's tokens that are masked.
    pub share: f64,
}

impl Default for MaskedLanguageConfig {
    fn default() -> Self {
        Self { share: 0.15 }
    }
}

/// Masked language modelling (Devlin et al. 2019, BERT) beside the contrast, as DeCLIP has it: at the masked places alone,
/// the cross-entropy of a linear head over the vocabulary, the mean over places. The terms of several processes' slices
/// sum to the loss of the whole: each counts the share of the places that its rows are of the batch.
///
/// The scores `[places, vocabulary]` are never held whole: the gradient is made by hand, some places at a time.
#[derive(Debug)]
pub struct MaskedLanguage {
    share: f64,
    /// `[vocabulary, text width]`.
    weight: Tensor,
    /// `[vocabulary]`.
    bias: Tensor,
}

impl MaskedLanguage {
    fn new(config: MaskedLanguageConfig, shape: &ModelShape, params: &Params) -> Result<Self> {
        let share = config.share;
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::invalid(format!(
                "share of masked_language is {share}, which is not above 0 and up to 1"
            )));
        }
        if shape.vocabulary < 1 {
            return Err(Error::invalid(
                "the text tower has no vocabulary that masked_language could guess from",
            ));
        }
        let init = Init::Normal((shape.text_width as f64).powf(-0.5));
        Ok(Self {
            share,
            weight: params.tensor("weight", &[shape.vocabulary, shape.text_width], Role::Weight, init),
            bias: params.tensor("bias", &[shape.vocabulary], Role::Bias, Init::Constant(0.0)),
        })
    }

    /// The loss of some places over `whole` places, and its gradient with respect to features, weight and bias.
    fn gradients(&self, masked: &MaskedText, places: Range<i64>, whole: i64) -> (Tensor, [Tensor; 3]) {
        let _guard = tch::no_grad_guard();
        let tile = (TILE / self.weight.size()[0]).max(1);
        let mut value = Tensor::zeros([], (Kind::Float, masked.features.device()));
        let [of_features, mut of_weight, mut of_bias] =
            [&masked.features, &self.weight, &self.bias].map(Tensor::zeros_like);
        let mut start = places.start;
        while start < places.end {
            let length = tile.min(places.end - start);
            let features = masked.features.narrow(0, start, length);
            let targets = masked.targets.narrow(0, start, length).unsqueeze(1);
            let logs = features
                .linear(&self.weight, Some(&self.bias))
                .log_softmax(1, Kind::Float);
            value -= logs.gather(1, &targets, false).sum(Kind::Float) / whole as f64;
            // d/dscore of −log softmax(score)[target] is softmax − 1 at the target.
            let ones = targets.ones_like().to_kind(Kind::Float);
            let slope = logs.exp().scatter_add(1, &targets, &-ones) / whole as f64;
            of_features.narrow(0, start, length).copy_(&slope.matmul(&self.weight));
            of_weight += slope.tr().matmul(&features);
            of_bias += slope.sum_dim_intlist(0, false, Kind::Float);
            start += length;
        }
        (value, [of_features, of_weight, of_bias])
    }
}

impl Objective for MaskedLanguage {
    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        needs.masked_text = Some(self.share);
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        let Some(masked) = &features.masked_text else {
            return Ok(Terms(Vec::new()));
        };
        let places = masked.targets.numel() as i64;
        if masked.features.size() != [places, self.weight.size()[1]] {
            return Err(Error::internal(format!(
                "features of shape {:?} for {places} masked places",
                masked.features.size()
            )));
        }
        if places == 0 {
            return Ok(Terms(Vec::new()));
        }
        let (rows, batch) = (&context.rows, context.keys.len().max(1) as i64);
        let share = places * rows.start / batch..places * rows.end / batch;
        door(|| {
            let (value, gradients) = self.gradients(masked, share, places);
            let [of_features, of_weight, of_bias] = &gradients;
            let gradients = [
                (&masked.features, of_features),
                (&self.weight, of_weight),
                (&self.bias, of_bias),
            ];
            Terms(vec![(Self::NAME, with_gradient(&value, &gradients))])
        })
    }
}

impl ObjectiveKind for MaskedLanguage {
    const NAME: &'static str = "masked_language";

    type Config = MaskedLanguageConfig;

    fn build(config: Self::Config, shape: &ModelShape, params: &Params) -> Result<Self> {
        Self::new(config, shape, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::testing::{Batch, built, drawn, values};

    fn shape(vocabulary: i64) -> ModelShape {
        ModelShape {
            dim: 3,
            image_width: 8,
            text_width: 4,
            vocabulary,
        }
    }

    fn run(objective: &MaskedLanguage, features: &Tensor, targets: &[i64], rows: Range<i64>) -> Terms {
        let mut all = Features::new(Vec::new(), Vec::new());
        all.masked_text = Some(MaskedText {
            features: features.shallow_clone(),
            targets: Tensor::from_slice(targets),
        });
        let scale = Tensor::from(5f32);
        objective
            .loss(&all, &Batch::new(&[0; 6]).context(&scale, rows))
            .unwrap()
    }

    /// The mean of `−log softmax(W x + b)[target]`.
    fn by_hand(features: &[Vec<f64>], weight: &[Vec<f64>], bias: &[f64], targets: &[i64]) -> f64 {
        let rows = features.iter().zip(targets).map(|(x, &target)| {
            let score = |word: usize| x.iter().zip(&weight[word]).map(|(x, w)| x * w).sum::<f64>() + bias[word];
            let sum: f64 = (0..bias.len()).map(|word| score(word).exp()).sum();
            sum.ln() - score(target as usize)
        });
        rows.sum::<f64>() / targets.len() as f64
    }

    #[test]
    fn the_loss_and_all_three_gradients_are_the_formulas() {
        let (objective, parameters) = built::<MaskedLanguage>("{}", shape(7));
        assert_eq!(objective.needs().masked_text, Some(0.15));
        let features = drawn(1, 5, 4).set_requires_grad(true);
        let targets = [6, 0, 3, 3, 1];
        let (x, w, b) = (values(&features), values(&objective.weight), values(&objective.bias));
        let Terms(terms) = run(&objective, &features, &targets, 0..6);
        assert_eq!(terms[0].0, "masked_language");
        let (value, wanted) = (terms[0].1.double_value(&[]), by_hand(&x, &w, &b[0], &targets));
        assert!((value - wanted).abs() < 1e-5, "{value} against {wanted}");
        terms[0].1.backward();
        let step = 1e-6;
        for (leaf, which) in [(&features, 0), (&objective.weight, 1), (&objective.bias, 2)] {
            let gradient = values(&leaf.grad());
            for (row, gradients) in gradient.iter().enumerate() {
                for (at, got) in gradients.iter().enumerate() {
                    let moved = |by: f64| {
                        let mut tensors = [x.clone(), w.clone(), b.clone()];
                        tensors[which][row][at] += by;
                        let [x, w, b] = &tensors;
                        by_hand(x, w, &b[0], &targets)
                    };
                    let wanted = (moved(step) - moved(-step)) / (2.0 * step);
                    assert!(
                        (got - wanted).abs() < 1e-5,
                        "{which} {row} {at}: {got} against {wanted}"
                    );
                }
            }
        }
        assert_eq!(parameters.trainable().count(), 2);
    }

    #[test]
    fn tiles_and_slices_sum_to_the_whole() {
        // 70,000 words and 300 places are three tiles.
        let (objective, parameters) = built::<MaskedLanguage>("{}", shape(70_000));
        let features = drawn(1, 300, 4).set_requires_grad(true);
        let targets: Vec<i64> = (0..300).map(|at| at * 233).collect();
        let scores = features.linear(&objective.weight, Some(&objective.bias));
        let plain = scores.cross_entropy_for_logits(&Tensor::from_slice(&targets));
        plain.backward();
        let leaves = || {
            let parameters = parameters.iter().map(|parameter| parameter.tensor.shallow_clone());
            parameters.chain([features.shallow_clone()])
        };
        let wanted: Vec<Tensor> = leaves().map(|leaf| leaf.grad().copy()).collect();
        leaves().for_each(|leaf| drop(leaf.grad().zero_()));
        let mut sum = 0.0;
        for rows in [0..1, 1..4, 4..6] {
            let term = run(&objective, &features, &targets, rows).0.remove(0).1;
            term.backward();
            sum += term.double_value(&[]);
        }
        assert!((sum - plain.double_value(&[])).abs() < 1e-4, "{sum}");
        for (leaf, wanted) in leaves().zip(&wanted) {
            let off = (leaf.grad() - wanted).abs().max().double_value(&[]);
            assert!(off < 1e-6, "{off}");
        }
    }

    #[test]
    fn nothing_masked_is_no_term_and_wrong_settings_are_refused() {
        let (objective, _) = built::<MaskedLanguage>("{}", shape(7));
        assert!(run(&objective, &drawn(1, 0, 4), &[], 0..6).0.is_empty());
        let (none, scale) = (Features::new(Vec::new(), Vec::new()), Tensor::from(5f32));
        let terms = objective.loss(&none, &Batch::new(&[0]).context(&scale, 0..1));
        assert!(terms.unwrap().0.is_empty());
        for share in [0.0, -0.1, 1.1, f64::NAN] {
            let params = Params::new(None, clip_nn::ParamOptions::default());
            assert!(MaskedLanguage::build(MaskedLanguageConfig { share }, &shape(7), &params).is_err());
        }
    }
}
