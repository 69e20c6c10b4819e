//! Two views of a picture told to predict each other.

use clip_core::{Error, Result};
use clip_nn::layers::Linear;
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{
    Context, Features, Init, ModelShape, Needs, Objective, ObjectiveKind, Params, Pass, Role, Terms, door, unit_rows,
};
use serde::{Deserialize, Serialize};

/// Settings of `[objectives.sim_siam]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimSiamConfig {
    /// Width of the projector's three layers.
    pub projector: i64,
    /// Width between the predictor's two layers.
    pub predictor: i64,
}

impl Default for SimSiamConfig {
    fn default() -> Self {
        Self {
            projector: 1024,
            predictor: 512,
        }
    }
}

/// SimSiam (Chen and He 2021) on the un-normalised features of two views of each picture, as DeCLIP has it:
/// `−(cos(p₁, z₂) + cos(p₂, z₁)) / 2`, with `z` a projector's output, `p` a predictor's output for it, and no gradient
/// through the `z` that is compared with.
///
/// The projector has three linear layers, each followed by batch normalisation, the first two by ReLU too; the predictor
/// has two, between them batch normalisation and ReLU. All statistics are those of the whole (gathered) batch, a view at a
/// time; running ones are not kept, since only training uses these layers. Rows count by the weights of their pairs, over
/// the weight of the whole batch. More views than two are averaged over their pairs. A batch of one pair has no
/// statistics, and gives no term.
#[derive(Debug)]
pub struct SimSiam {
    projector: [(Linear, BatchStatistics); 3],
    predictor: (Linear, BatchStatistics, Linear),
}

/// `(x − mean) / sqrt(variance + 1e-5) · weight + bias` a column, over the rows of the batch.
#[derive(Debug)]
struct BatchStatistics {
    weight: Tensor,
    bias: Tensor,
}

impl BatchStatistics {
    fn new(params: &Params, width: i64) -> Self {
        let take = |name, value| params.tensor(name, &[width], Role::Norm, Init::Constant(value));
        Self {
            weight: take("weight", 1.0),
            bias: take("bias", 0.0),
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let none = None::<&Tensor>;
        x.batch_norm(Some(&self.weight), Some(&self.bias), none, none, true, 0.0, 1e-5, false)
    }
}

/// PyTorch's bounds for a linear layer of so many inputs.
fn init(input: i64) -> Init {
    Init::Uniform((input as f64).powf(-0.5))
}

impl SimSiam {
    fn new(config: SimSiamConfig, dim: i64, params: &Params) -> Result<Self> {
        let SimSiamConfig { projector, predictor } = config;
        for (name, width) in [("projector", projector), ("predictor", predictor)] {
            if !(1..=65_536).contains(&width) {
                return Err(Error::invalid(format!(
                    "{name} of sim_siam is {width}, which is no width from 1 to 65536"
                )));
            }
        }
        // A bias before a batch's mean is taken off would change nothing.
        let layer = |name: &str, at: usize, [input, output]: [i64; 2]| {
            let params = params.at(name).at(at);
            let linear = Linear::without_bias(&params.at("linear"), [input, output], init(input));
            (linear, BatchStatistics::new(&params.at("norm"), output))
        };
        let (linear, norm) = layer("predictor", 0, [projector, predictor]);
        let last = params.at("predictor").at(1).at("linear");
        Ok(Self {
            projector: [
                layer("projector", 0, [dim, projector]),
                layer("projector", 1, [projector, projector]),
                layer("projector", 2, [projector, projector]),
            ],
            predictor: (
                linear,
                norm,
                Linear::new(&last, [predictor, projector], init(predictor)),
            ),
        })
    }

    /// `[batch, dim]` to `z` and `p`, `[batch, projector]` each.
    fn forward(&self, raw: &Tensor) -> [Tensor; 2] {
        let mut z = raw.shallow_clone();
        for (at, (linear, norm)) in self.projector.iter().enumerate() {
            z = norm.forward(&linear.forward(&z, Pass::TRAIN));
            if at < 2 {
                z = z.relu();
            }
        }
        let (first, norm, last) = &self.predictor;
        let hidden = norm.forward(&first.forward(&z, Pass::TRAIN)).relu();
        let p = last.forward(&hidden, Pass::TRAIN);
        [z, p]
    }
}

impl Objective for SimSiam {
    fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        needs.image_views = 2;
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        if features.images.len() < 2 {
            return Err(Error::internal(
                "one view of each picture for sim_siam, which asked for two",
            ));
        }
        if context.keys.len() < 2 {
            return Ok(Terms(Vec::new()));
        }
        door(|| {
            let views: Vec<[Tensor; 2]> = features.images.iter().map(|view| self.forward(&view.raw)).collect();
            let slice = |x: &Tensor| x.narrow(0, context.rows.start, context.rows.end - context.rows.start);
            let cosines = |p: &Tensor, z: &Tensor| {
                let products = unit_rows(&slice(p)) * unit_rows(&slice(&z.detach()));
                products.sum_dim_intlist(1, false, Kind::Float)
            };
            let mut sum = Tensor::zeros([], (Kind::Float, context.weights.device()));
            let mut pairs = 0;
            for (at, [z, p]) in views.iter().enumerate() {
                for [other_z, other_p] in &views[..at] {
                    let both = cosines(p, other_z) + cosines(other_p, z);
                    sum -= (both * slice(context.weights)).sum(Kind::Float);
                    pairs += 1;
                }
            }
            let whole = context.weights.sum(Kind::Float).clamp_min(f64::from(f32::MIN_POSITIVE));
            Terms(vec![(Self::NAME, sum / (whole * f64::from(2 * pairs)))])
        })
    }
}

impl ObjectiveKind for SimSiam {
    const NAME: &'static str = "sim_siam";

    type Config = SimSiamConfig;

    fn build(config: Self::Config, shape: &ModelShape, params: &Params) -> Result<Self> {
        Self::new(config, shape.dim, params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::testing::{Batch, built, drawn, values};
    use clip_nn::{Parameters, View};

    const SHAPE: ModelShape = ModelShape {
        dim: 3,
        image_width: 8,
        text_width: 8,
        vocabulary: 9,
    };

    const CONFIG: &str = r#"{"projector": 4, "predictor": 2}"#;

    const WEIGHTS: [f32; 5] = [1.0, 2.0, 0.5, 0.0, 1.0];

    type Rows = Vec<Vec<f64>>;

    fn linear(x: &Rows, weight: &Rows) -> Rows {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        x.iter()
            .map(|row| weight.iter().map(|weight| dot(row, weight)).collect())
            .collect()
    }

    fn norm(x: &Rows, weight: &Rows, bias: &Rows, relu: bool) -> Rows {
        let n = x.len() as f64;
        let mut y = x.clone();
        for at in 0..x[0].len() {
            let mean = x.iter().map(|row| row[at]).sum::<f64>() / n;
            let variance = x.iter().map(|row| (row[at] - mean).powi(2)).sum::<f64>() / n;
            for row in &mut y {
                row[at] = (row[at] - mean) / (variance + 1e-5).sqrt() * weight[0][at] + bias[0][at];
                row[at] = if relu { row[at].max(0.0) } else { row[at] };
            }
        }
        y
    }

    /// `z` and `p` of un-normalised features.
    fn towers(raw: &Rows, parameters: &Parameters) -> [Rows; 2] {
        let of = |name: &str| {
            values(
                &parameters
                    .iter()
                    .find(|parameter| parameter.name == name)
                    .unwrap()
                    .tensor,
            )
        };
        let layer = |x: &Rows, name: &str, relu: bool| {
            let x = linear(x, &of(&format!("{name}.linear.weight")));
            norm(
                &x,
                &of(&format!("{name}.norm.weight")),
                &of(&format!("{name}.norm.bias")),
                relu,
            )
        };
        let z = layer(&layer(raw, "projector.0", true), "projector.1", true);
        let z = layer(&z, "projector.2", false);
        let mut p = linear(&layer(&z, "predictor.0", true), &of("predictor.1.linear.weight"));
        let bias = of("predictor.1.linear.bias");
        p.iter_mut()
            .for_each(|row| row.iter_mut().zip(&bias[0]).for_each(|(x, bias)| *x += bias));
        [z, p]
    }

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    /// The loss word by word; `fixed` gives the features that are compared with.
    fn by_hand(views: &[Rows; 2], fixed: &[Rows; 2], parameters: &Parameters) -> f64 {
        let [[_, p1], [_, p2]] = views.each_ref().map(|view| towers(view, parameters));
        let [[z1, _], [z2, _]] = fixed.each_ref().map(|view| towers(view, parameters));
        let whole: f32 = WEIGHTS.iter().sum();
        let rows =
            (0..5).map(|row| f64::from(WEIGHTS[row]) * (cosine(&p1[row], &z2[row]) + cosine(&p2[row], &z1[row])));
        -0.5 * rows.sum::<f64>() / f64::from(whole)
    }

    fn run(objective: &SimSiam, raw: &[Tensor], rows: std::ops::Range<i64>) -> Tensor {
        let views = raw.iter().map(|raw| View::new(raw.shallow_clone())).collect();
        let mut pairs = Batch::new(&[0; 5]);
        pairs.weights = Tensor::from_slice(&WEIGHTS);
        let terms = objective.loss(
            &Features::new(views, Vec::new()),
            &pairs.context(&Tensor::from(5f32), rows),
        );
        let mut terms = terms.unwrap().0;
        assert_eq!((terms.len(), terms[0].0), (1, "sim_siam"));
        terms.remove(0).1
    }

    #[test]
    fn the_loss_and_its_gradient_are_the_formulas() {
        let (objective, parameters) = built::<SimSiam>(CONFIG, SHAPE);
        let raw = [drawn(1, 5, 3), drawn(2, 5, 3)].map(|raw| raw.set_requires_grad(true));
        let fixed = raw.each_ref().map(values);
        let loss = run(&objective, &raw, 0..5);
        let (value, wanted) = (loss.double_value(&[]), by_hand(&fixed, &fixed, &parameters));
        assert!((value - wanted).abs() < 1e-5, "{value} against {wanted}");
        loss.backward();
        for (view, raw) in raw.iter().enumerate() {
            for row in 0..5 {
                for at in 0..3 {
                    let moved = |by: f64| {
                        let mut views = fixed.clone();
                        views[view][row][at] += by;
                        by_hand(&views, &fixed, &parameters)
                    };
                    let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let got = raw.grad().double_value(&[row as i64, at as i64]);
                    assert!(
                        (got - wanted).abs() < 1e-4 * wanted.abs().max(1.0),
                        "{got} against {wanted}"
                    );
                }
            }
        }
        assert!(
            parameters
                .trainable()
                .all(|parameter| parameter.tensor.grad().defined())
        );
        assert_eq!(parameters.trainable().count(), 3 * 4 + 2);
    }

    #[test]
    fn slices_sum_to_the_whole_and_one_pair_is_no_batch() {
        let (objective, _) = built::<SimSiam>(CONFIG, SHAPE);
        let raw = [drawn(1, 5, 3), drawn(2, 5, 3)];
        let whole = run(&objective, &raw, 0..5).double_value(&[]);
        let parts = [0..2, 2..3, 3..5].map(|rows| run(&objective, &raw, rows).double_value(&[]));
        assert!((parts.iter().sum::<f64>() - whole).abs() < 1e-6);
        // Three views: the mean over their three pairs.
        let three = [drawn(1, 5, 3), drawn(2, 5, 3), drawn(3, 5, 3)];
        let pairs = [[0, 1], [0, 2], [1, 2]].map(|pair| {
            let pair = pair.map(|view: usize| three[view].shallow_clone());
            run(&objective, &pair, 0..5).double_value(&[])
        });
        assert!((run(&objective, &three, 0..5).double_value(&[]) - pairs.iter().sum::<f64>() / 3.0).abs() < 1e-6);
        let views = |count: i64| (0..count).map(|seed| View::new(drawn(seed, 1, 3))).collect();
        let (pair, scale) = (Batch::new(&[0]), Tensor::from(5f32));
        let one = |count| objective.loss(&Features::new(views(count), Vec::new()), &pair.context(&scale, 0..1));
        assert!(one(2).unwrap().0.is_empty());
        assert!(one(1).is_err());
    }

    #[test]
    fn no_width_is_refused() {
        let config = SimSiamConfig {
            projector: 0,
            ..Default::default()
        };
        let params = Params::new(None, clip_nn::ParamOptions::default());
        assert!(
            SimSiam::build(config, &SHAPE, &params)
                .unwrap_err()
                .what()
                .contains("projector")
        );
    }
}
