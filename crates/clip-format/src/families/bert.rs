//! A single text tower: Hugging Face's `bert` directory, as sentence-transformers' MiniLM is one.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::towers::{
    BERT_ROWS, HUGGING_FACE, bert_config, bert_context, bert_pooler, cannot, model_type, no_image_tower,
    required_tower, tower, without,
};
use super::{Evidence, Family, Layout, VocabularyForm};
use crate::mapping::{Mapping, Row};

const NAME: &str = "bert";
const POOLING: &str = "1_Pooling/config.json";

/// `model_type` `bert`.
pub(crate) struct Bert;

impl Family for Bert {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        HUGGING_FACE
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"bert\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some("bert")
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (file, config) = evidence.required_config()?;
        let pooling = match config.get("pooling").and_then(Value::as_str) {
            Some(pooling) => pooling,
            None => pooling((evidence.beside)(POOLING)?.as_ref()).map_err(|error| error.file(POOLING))?,
        };
        let text = bert_config(config, file, pooling)?;
        Ok(json!({
            "model_type": "clipzoo",
            "context_length": bert_context(&text),
            "text_config": text,
            "tokenizer": {"type": "word_piece", "flavour": "bert", "lower_case": true},
        }))
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        const HEADS: &[Row] = &[Row::Drop { file: "cls.{*}" }];
        let pooler = bert_pooler(tower(config, "text_config").unwrap_or(&Value::Null));
        // A model saved with a head on top has its tower under `bert.`.
        Mapping::new()
            .under("", "text.", BERT_ROWS)?
            .under("", "text.", pooler)?
            .under("bert.", "text.", BERT_ROWS)?
            .under("bert.", "text.", pooler)?
            .under("", "", HEADS)
    }

    fn restore(&self, config: &Value, _transform: Option<&TransformConfig>) -> Result<Layout> {
        let text = required_tower(config, "text_config", NAME)?;
        if tower(config, "vision_config").is_some() || model_type(config, "text_config") != Some("bert") {
            return Err(cannot(NAME, "anything but a single BERT tower"));
        }
        let pooling = text.get("pooling").and_then(Value::as_str).unwrap_or("mean");
        let mut own = without(text, &["pooling"]);
        own["architectures"] = json!(["BertModel"]);
        let mut files = Vec::new();
        if pooling == "pooler" {
            // sentence-transformers has no word for it, so our own key says so.
            own["pooling"] = pooling.into();
        } else {
            files.push((
                POOLING,
                json!({
                    "word_embedding_dimension": own["hidden_size"],
                    "pooling_mode_cls_token": pooling == "cls",
                    "pooling_mode_mean_tokens": pooling == "mean",
                    "pooling_mode_max_tokens": false,
                    "pooling_mode_mean_sqrt_len_tokens": false,
                }),
            ));
        }
        files.insert(0, ("config.json", own));
        Ok(Layout {
            weights: "model.safetensors",
            files,
        })
    }

    fn default_transform(&self, _config: &Value) -> Result<TransformConfig> {
        Err(no_image_tower())
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::HuggingFace
    }
}

/// How sentence-transformers pools; the mean where nothing is said, as its models do.
fn pooling(config: Option<&Value>) -> Result<&'static str> {
    let Some(config) = config else { return Ok("mean") };
    let named = config.get("pooling_mode").and_then(Value::as_str);
    let flagged = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| **value == true);
    let mut modes = named.into_iter().chain(flagged.filter_map(|(key, _)| {
        let mode = key.strip_prefix("pooling_mode_")?;
        Some(
            mode.strip_suffix("_tokens")
                .or_else(|| mode.strip_suffix("_token"))
                .unwrap_or(mode),
        )
    }));
    match (modes.next(), modes.next()) {
        (None | Some("mean"), None) => Ok("mean"),
        (Some("cls"), None) => Ok("cls"),
        (first, second) => {
            let modes: Vec<&str> = first.into_iter().chain(second).chain(modes).collect();
            Err(
                Error::invalid(format!("pooling by {} is not supported", modes.join(" and ")))
                    .remedy("supported: mean, cls"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_is_read_in_both_spellings() {
        let mode = |config: Value| pooling(Some(&config)).map_err(|error| error.to_string());
        assert_eq!(pooling(None).unwrap(), "mean");
        assert_eq!(
            mode(json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})),
            Ok("cls")
        );
        assert_eq!(mode(json!({"pooling_mode": "mean"})), Ok("mean"));
        let both = json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true});
        assert_eq!(
            mode(both).unwrap_err(),
            "pooling by cls and max is not supported; supported: mean, cls"
        );
        assert!(
            mode(json!({"pooling_mode_mean_sqrt_len_tokens": true}))
                .unwrap_err()
                .contains("mean_sqrt_len")
        );
    }
}
