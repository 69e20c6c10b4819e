//! From a tower's width to the common space.

use clip_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{Activation, Dropout, Linear};
use crate::{Init, Params, Pass, Role, door};

/// What stands between a tower and the common space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ProjectionConfig {
    /// Nothing: the tower is as wide as the space.
    None,
    /// `x Wᵀ` (+ bias): CLIP's.
    Linear {
        /// Whether it has a bias.
        #[serde(default)]
        bias: bool,
    },
    /// `fc2(dropout(gelu(fc1(x))))`, for towers that are locked.
    Mlp {
        /// Width between the two layers.
        hidden: i64,
        /// Share of the hidden values dropped in training.
        #[serde(default)]
        dropout: f64,
        /// Whether `(x − mean) / scale` comes first, with statistics of the training set: a tower that was trained alone
        /// may give features of any size.
        #[serde(default)]
        standardise: bool,
    },
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self::Linear { bias: false }
    }
}

/// A projection `[batch, width] -> [batch, dim]`.
#[derive(Debug)]
pub struct Projection {
    form: Form,
    width: i64,
}

#[derive(Debug)]
enum Form {
    None,
    Linear(Box<Linear>),
    Mlp {
        statistics: Option<Statistics>,
        fc1: Box<Linear>,
        dropout: Dropout,
        fc2: Box<Linear>,
    },
}

#[derive(Debug)]
struct Statistics {
    mean: Tensor,
    scale: Tensor,
}

impl Projection {
    /// Takes its weights from `params`: `weight` (and `bias`), or `fc1`, `fc2` (and the buffers `mean`, `scale`).
    pub fn new(config: &ProjectionConfig, width: i64, dim: i64, params: &Params) -> Result<Self> {
        let spread = |width: i64| Init::Normal((width as f64).powf(-0.5));
        let form = match *config {
            ProjectionConfig::None if width == dim => Form::None,
            ProjectionConfig::None => {
                return Err(Error::invalid(format!(
                    "no projection from a tower of width {width} to a space of {dim} dimensions"
                ))
                .remedy("make embed_dim the tower's width, or give the tower a projection"));
            }
            ProjectionConfig::Linear { bias: true } => {
                Form::Linear(Box::new(Linear::new(params, [width, dim], spread(width))))
            }
            ProjectionConfig::Linear { bias: false } => {
                Form::Linear(Box::new(Linear::without_bias(params, [width, dim], spread(width))))
            }
            ProjectionConfig::Mlp {
                hidden,
                dropout,
                standardise,
            } => {
                check(hidden, dropout)?;
                let buffer = |name, value| params.tensor(name, &[width], Role::Buffer, Init::Constant(value));
                Form::Mlp {
                    statistics: standardise.then(|| Statistics {
                        mean: buffer("mean", 0.0),
                        scale: buffer("scale", 1.0),
                    }),
                    fc1: Box::new(Linear::new(&params.at("fc1"), [width, hidden], spread(width))),
                    dropout: Dropout::new(dropout),
                    fc2: Box::new(Linear::new(&params.at("fc2"), [hidden, dim], spread(hidden))),
                }
            }
        };
        Ok(Self { form, width })
    }

    /// `[batch, width] -> [batch, dim]`, f32.
    pub fn forward(&self, pooled: &Tensor, pass: Pass) -> Tensor {
        match &self.form {
            Form::None => pooled.shallow_clone(),
            Form::Linear(linear) => linear.forward(pooled, pass),
            Form::Mlp {
                statistics,
                fc1,
                dropout,
                fc2,
            } => {
                let x = match statistics {
                    Some(Statistics { mean, scale }) => (pooled - mean) / scale,
                    None => pooled.shallow_clone(),
                };
                let hidden = Activation::Gelu.forward(&fc1.forward(&x, pass));
                fc2.forward(&dropout.forward(&hidden, pass), pass)
            }
        }
    }

    /// Whether it standardises features first, and so waits for [`set_statistics`](Self::set_statistics).
    pub fn standardises(&self) -> bool {
        matches!(
            self.form,
            Form::Mlp {
                statistics: Some(_),
                ..
            }
        )
    }

    /// Sets what features are standardised with, `[width]` each, in place. An error where the projection does not
    /// standardise, or a scale is not above 0.
    pub fn set_statistics(&self, mean: &Tensor, scale: &Tensor) -> Result<()> {
        let Form::Mlp {
            statistics: Some(kept), ..
        } = &self.form
        else {
            return Err(Error::invalid("statistics for a projection that does not standardise")
                .remedy("give it `{ \"type\": \"mlp\", \"standardise\": true }`"));
        };
        let shape = [self.width];
        if mean.size() != shape || scale.size() != shape {
            return Err(Error::invalid(format!(
                "statistics of shapes {:?} and {:?} for a tower of width {}",
                mean.size(),
                scale.size(),
                self.width
            )));
        }
        door(|| {
            let _guard = tch::no_grad_guard();
            // Also refuses NaN, which is not above 0.
            if scale.gt(0.0).all().int64_value(&[]) == 0 {
                return Err(Error::invalid("a scale of 0 or below").remedy("add a small number to it"));
            }
            let set = |kept: &Tensor, value: &Tensor| kept.shallow_clone().copy_(&value.to_kind(Kind::Float));
            set(&kept.mean, mean);
            set(&kept.scale, scale);
            Ok(())
        })?
    }
}

fn check(hidden: i64, dropout: f64) -> Result<()> {
    if hidden < 1 {
        return Err(Error::invalid(format!("a projection with {hidden} hidden values")));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(Error::invalid(format!("a projection with dropout {dropout}")).remedy("0 or more, below 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::testing::{assert_close, built, wave};

    fn projection(config: &str, width: i64, dim: i64) -> Result<Projection> {
        let config = serde_json::from_str(config).unwrap();
        built(|params| Projection::new(&config, width, dim, params)).0
    }

    // With `wave` as in testing.rs, x = wave(0.3, 2, 3), the buffers being the first two parameters:
    // x = (x - wave(0.1, 3)) / wave(0.17, 3)
    // print(F.linear(F.gelu(F.linear(x, wave(0.24, 4, 3), wave(0.31, 4))), wave(0.38, 2, 4), wave(0.45, 2)))
    const MLP: [f32; 4] = [9.455593, 7.075467, 21.433325, 15.130035];

    #[test]
    fn an_mlp_standardises_first() {
        let config = r#"{"type": "mlp", "hidden": 4, "dropout": 0.5, "standardise": true}"#;
        let projection = projection(config, 3, 2).unwrap();
        assert!(projection.standardises());
        let x = wave(0.3, &[2, 3]);
        assert_close(&projection.forward(&x, Pass::INFER), &MLP, 1e-5);
        projection
            .set_statistics(&wave(0.1, &[3]), &Tensor::from_slice(&[2f64, 2.0, 2.0]))
            .unwrap();
        let halved = (&x - wave(0.1, &[3])) / 2.0 * wave(0.17, &[3]) + wave(0.1, &[3]);
        projection.set_statistics(&wave(0.1, &[3]), &wave(0.17, &[3])).unwrap();
        let expected = projection.forward(&halved, Pass::INFER);
        projection
            .set_statistics(&wave(0.1, &[3]), &Tensor::from_slice(&[2f32, 2.0, 2.0]))
            .unwrap();
        let difference = (projection.forward(&x, Pass::INFER) - expected).abs().max();
        assert!(difference.double_value(&[]) < 1e-5);
    }

    #[test]
    fn statistics_that_do_not_fit_are_refused() {
        let mlp = r#"{"type": "mlp", "hidden": 4, "standardise": true}"#;
        let projection_mlp = projection(mlp, 3, 2).unwrap();
        let one = wave(0.3, &[3]);
        assert!(projection_mlp.set_statistics(&one, &(&one * 0.0)).is_err());
        assert!(projection_mlp.set_statistics(&one, &(&one * f64::NAN)).is_err());
        assert!(projection_mlp.set_statistics(&one, &wave(0.3, &[2])).is_err());
        let linear = projection(r#"{"type": "linear"}"#, 3, 2).unwrap();
        assert!(linear.set_statistics(&one, &one).is_err());
    }

    #[test]
    fn none_passes_through_where_widths_agree() {
        let x = wave(0.3, &[2, 3]);
        assert_eq!(
            projection(r#"{"type": "none"}"#, 3, 3)
                .unwrap()
                .forward(&x, Pass::INFER),
            x
        );
        let error = projection(r#"{"type": "none"}"#, 3, 2).unwrap_err();
        assert!(error.what().contains("width 3 to a space of 2"), "{error}");
        assert!(projection(r#"{"type": "mlp", "hidden": 0}"#, 3, 2).is_err());
        assert!(projection(r#"{"type": "mlp", "hidden": 2, "dropout": 1.0}"#, 3, 2).is_err());
    }
}
