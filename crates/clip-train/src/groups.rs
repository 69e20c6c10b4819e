//! Which parameters decay, which are locked, and at which share of the rate each learns.

use std::collections::BTreeMap;

use clip_core::{Error, Result};
use clip_nn::{Parameter, Parameters, Role};
use serde::{Deserialize, Serialize};

/// Which parameters weight decay leaves alone. In run.toml a rule's name, or a list of strings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum NoDecay {
    /// `open_clip`: fewer than two dimensions, norms, biases, the temperature.
    #[default]
    OpenClip,
    /// `easynlp`: names that contain `bias` or `LayerNorm.weight`; CLIP's own norms, the class token and the temperature
    /// do decay.
    Easynlp,
    /// Parameters whose canonical name contains one of these.
    Containing(Vec<String>),
}

/// A rule as run.toml writes it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Rule(String),
    Containing(Vec<String>),
}

impl TryFrom<Written> for NoDecay {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Rule(name) if name == "open_clip" => Ok(Self::OpenClip),
            Written::Rule(name) if name == "easynlp" => Ok(Self::Easynlp),
            Written::Rule(name) => Err(format!(
                "unknown rule `{name}`: it is `open_clip`, `easynlp`, or a list of strings"
            )),
            Written::Containing(parts) => Ok(Self::Containing(parts)),
        }
    }
}

impl From<NoDecay> for Written {
    fn from(rule: NoDecay) -> Self {
        match rule {
            NoDecay::OpenClip => Self::Rule("open_clip".into()),
            NoDecay::Easynlp => Self::Rule("easynlp".into()),
            NoDecay::Containing(parts) => Self::Containing(parts),
        }
    }
}

impl NoDecay {
    /// Whether weight decay leaves a parameter alone.
    pub fn spares(&self, parameter: &Parameter) -> bool {
        match self {
            Self::OpenClip => {
                parameter.tensor.dim() < 2 || matches!(parameter.role, Role::Norm | Role::Bias | Role::Scale)
            }
            Self::Easynlp => {
                parameter.role == Role::Bias
                    || parameter.name.contains("bias")
                    || parameter.name.contains("LayerNorm.weight")
            }
            Self::Containing(parts) => parts.iter().any(|part| parameter.name.contains(part.as_str())),
        }
    }
}

/// Whether a canonical name is `prefix` or lies below it.
pub(crate) fn under(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// An error for the first prefix that no parameter has.
pub(crate) fn check_prefixes<'a>(
    what: &str,
    prefixes: impl IntoIterator<Item = &'a str>,
    parameters: &Parameters,
) -> Result<()> {
    for prefix in prefixes {
        if !parameters.iter().any(|parameter| under(&parameter.name, prefix)) {
            let mut tops: Vec<&str> = parameters
                .iter()
                .filter_map(|parameter| parameter.name.split('.').next())
                .collect();
            tops.dedup();
            return Err(Error::invalid(format!(
                "{what} names `{prefix}`, which no parameter of the model begins with"
            ))
            .remedy(format!("name one of {}, or what lies below them", tops.join(", "))));
        }
    }
    Ok(())
}

/// Locks every parameter under one of `prefixes`: it keeps its value.
pub(crate) fn lock(parameters: &Parameters, prefixes: &[String]) -> Result<()> {
    check_prefixes("lock", prefixes.iter().map(String::as_str), parameters)?;
    parameters.lock(|parameter| prefixes.iter().any(|prefix| under(&parameter.name, prefix)));
    Ok(())
}

/// Whether no parameter under `prefix` is trained.
pub(crate) fn locked(parameters: &Parameters, prefix: &str) -> bool {
    !parameters.trainable().any(|parameter| under(&parameter.name, prefix))
}

/// The share of the rate of a parameter: that of the longest prefix that fits, else 1.
pub(crate) fn rate_of(name: &str, rates: &BTreeMap<String, f64>) -> f64 {
    let fitting = rates.iter().filter(|(prefix, _)| under(name, prefix));
    fitting
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(1.0, |(_, rate)| *rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::tch::{Device, Kind, Tensor};

    fn parameter(name: &str, shape: &[i64], role: Role) -> Parameter {
        Parameter {
            name: name.into(),
            tensor: Tensor::zeros(shape, (Kind::Float, Device::Cpu)),
            role,
            layer: None,
        }
    }

    #[test]
    fn the_rules_differ_where_the_references_do() {
        let list = [
            parameter("image.blocks.0.mlp.fc1.weight", &[4, 4], Role::Weight),
            parameter("image.blocks.0.mlp.fc1.bias", &[4], Role::Bias),
            parameter("image.blocks.0.norm1.weight", &[4], Role::Norm),
            parameter("text.embeddings.LayerNorm.weight", &[4], Role::Norm),
            parameter("image.class_embedding", &[4], Role::Embedding),
            parameter("image.position_embedding", &[4, 4], Role::Embedding),
            parameter("logit_scale", &[], Role::Scale),
        ];
        let spared = |rule: &NoDecay| list.iter().map(|p| rule.spares(p)).collect::<Vec<_>>();
        assert_eq!(spared(&NoDecay::OpenClip), [false, true, true, true, true, false, true]);
        assert_eq!(
            spared(&NoDecay::Easynlp),
            [false, true, false, true, false, false, false]
        );
        let named = NoDecay::Containing(vec!["position".into()]);
        assert_eq!(spared(&named), [false, false, false, false, false, true, false]);
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        assert!(under("image.blocks.0", "image") && under("logit_scale", "logit_scale"));
        assert!(!under("image_projection.weight", "image"));
        let rates = BTreeMap::from([("image".to_owned(), 0.1), ("image.blocks.1".to_owned(), 0.5)]);
        assert_eq!(rate_of("image.blocks.1.weight", &rates), 0.5);
        assert_eq!(rate_of("image.blocks.11.weight", &rates), 0.1);
        assert_eq!(rate_of("text.blocks.1", &rates), 1.0);
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for (rule, text) in [
            (NoDecay::OpenClip, r#""open_clip""#),
            (NoDecay::Easynlp, r#""easynlp""#),
            (NoDecay::Containing(vec!["ln".into()]), r#"["ln"]"#),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), text);
            assert_eq!(serde_json::from_str::<NoDecay>(text).unwrap(), rule);
        }
        assert!(serde_json::from_str::<NoDecay>(r#""other""#).is_err());
    }
}
