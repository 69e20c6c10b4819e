//! `roberta` and `xlm-roberta`: BERT's tower with other positions (Liu et al., 2019).
//!
//! ```text
//! position = pad_token_id + n for the nth token that is no padding, and pad_token_id for padding
//! ```
//!
//! Which tokens are padding is told by their ids, as in the reference, and not by the mask.

use clip_nn::clip_core::Result;
use clip_nn::{Params, Pass, TextBackbone, TextEncoder, Tokens, TowerOutput};
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Map, Value};

use crate::bert::{Bert, BertConfig, Numbering};

/// The fields of a canonical `text_config`: [`BertConfig`]'s, with the defaults of Hugging Face's `RobertaConfig`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RobertaConfig(pub BertConfig);

impl Default for RobertaConfig {
    fn default() -> Self {
        Self(BertConfig {
            vocab_size: 50265,
            pad_token_id: 1,
            ..BertConfig::default()
        })
    }
}

impl<'de> Deserialize<'de> for RobertaConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let Self(defaults) = Self::default();
        for (field, value) in [
            ("vocab_size", defaults.vocab_size),
            ("pad_token_id", defaults.pad_token_id),
        ] {
            fields.entry(field).or_insert(value.into());
        }
        BertConfig::deserialize(Value::Object(fields))
            .map(Self)
            .map_err(D::Error::custom)
    }
}

/// The tower.
#[derive(Debug)]
pub struct Roberta(Bert);

impl TextBackbone for Roberta {
    const MODEL_TYPES: &'static [&'static str] = &["roberta", "xlm-roberta"];

    type Config = RobertaConfig;

    fn build(RobertaConfig(config): RobertaConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        Bert::new(name, config, Numbering::BehindPadding, params).map(Self)
    }
}

impl TextEncoder for Roberta {
    fn width(&self) -> i64 {
        self.0.width()
    }

    fn context_length(&self) -> i64 {
        self.0.context_length()
    }

    fn vocabulary(&self) -> i64 {
        self.0.vocabulary()
    }

    fn pad_id(&self) -> i64 {
        self.0.pad_id()
    }

    fn forward(&self, tokens: &Tokens, pass: Pass) -> TowerOutput {
        self.0.forward(tokens, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bert::behind_padding;
    use clip_nn::tch::{Kind, Tensor};
    use clip_nn::{Fresh, ParamOptions};
    use serde_json::json;

    fn tower(config: Value) -> Result<Roberta> {
        clip_nn::tch::set_num_threads(1);
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        Roberta::build(serde_json::from_value(config).unwrap(), &Params::new(None, options))
    }

    fn small() -> Value {
        json!({
            "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
            "max_position_embeddings": 7, "pooling": "mean",
        })
    }

    #[test]
    fn positions_follow_on_that_of_the_padding() {
        let tower = tower(small()).unwrap();
        assert_eq!((tower.pad_id(), tower.context_length()), (1, 5));
        // A padding id within the text is no token to count, whatever the mask says.
        let ids = Tensor::from_slice(&[5i64, 9, 1, 6, 1, 7, 1, 1, 1, 1]).view([2, 5]);
        let positions = Vec::<Vec<i64>>::try_from(behind_padding(&ids, 1)).unwrap();
        assert_eq!(positions, [[2, 3, 1, 4, 1], [2, 1, 1, 1, 1]]);
    }

    #[test]
    fn padding_changes_nothing() {
        let tower = tower(small()).unwrap();
        let run = |ids: &[i64], tokens: usize| {
            let mask: Vec<bool> = (0..ids.len()).map(|at| at < tokens).collect();
            let shape = [1, ids.len() as i64];
            let given = Tokens {
                ids: Tensor::from_slice(ids).view(shape),
                mask: Tensor::from_slice(&mask).view(shape),
            };
            let pass = Pass {
                tokens: true,
                ..Pass::INFER
            };
            tower.forward(&given, pass).pooled
        };
        let difference = run(&[5, 9, 6], 3) - run(&[5, 9, 6, 1, 1], 3);
        assert!(difference.abs().max().double_value(&[]) < 1e-6);
        assert_eq!(run(&[5, 9], 2).kind(), Kind::Float);
    }

    #[test]
    fn missing_fields_are_roberta_s() {
        let config: RobertaConfig = serde_json::from_value(json!({})).unwrap();
        assert_eq!(config, RobertaConfig::default());
        let config: RobertaConfig = serde_json::from_value(json!({"pad_token_id": 0})).unwrap();
        assert_eq!((config.0.pad_token_id, config.0.vocab_size), (0, 50265));
        let mut short = small();
        short["max_position_embeddings"] = json!(2);
        let error = tower(short).unwrap_err().to_string();
        assert!(error.contains("max_position_embeddings is 2"), "{error}");
    }
}
