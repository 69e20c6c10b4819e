//! Hugging Face's `SiglipModel`: SigLIP, and SigLIP 2 at a fixed resolution (Zhai et al., 2023; Tschannen et al., 2025).
//!
//! The picture tower pools by itself and is as wide as the common space; the text tower's head is the projection into it.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::asked::{Tower, ask};
use super::super::flat::expect_tokenizer;
use super::super::towers::{ENCODER_ROWS, HUGGING_FACE, SIGLIP_TEXT, SIGLIP_VISION, cannot, expect_tower, image_size};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::configs::{siglip_text_config, siglip_vision_config};
use super::rows::{CLIP_TEXT_ROWS, SIGLIP_VISION_ROWS};
use super::squashing;
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = "siglip";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TOKENIZER: &str = "tokenizer.json";

/// `model_type` `siglip`.
pub(crate) struct Siglip;

const HEAD: &[Row] = &[
    Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 1,
        model_rank: 0,
    },
    Row::Reshape {
        file: "logit_bias",
        model: "logit_bias",
        file_rank: 1,
        model_rank: 0,
    },
    Row::Same {
        file: "text_model.head.{p}",
        model: "text_projection.{p}",
    },
];

impl Family for Siglip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        HUGGING_FACE
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"siglip\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some("siglip")
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        let towers = [
            ("text_config", Tower::SiglipText, "text_model."),
            ("vision_config", Tower::SiglipVision, "vision_model."),
        ];
        ask(evidence, "Hugging Face's SigLIP", &json!({"model_type": NAME}), &towers)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = super::config(evidence)?;
        let (pad, tokenizer) = tokenizer(evidence.beside)?;
        let empty = json!({});
        let text = fields.get("text_config").unwrap_or(&empty);
        let vision = fields.get("vision_config").unwrap_or(&empty);
        let vision = siglip_vision_config(vision, "vision_config")?;
        let text_fields = Fields::new(text, "text_config")?;
        let head = text_fields.size("projection_size", text_fields.size("hidden_size", 768)?)?;
        if vision["hidden_size"] != head {
            return Err(Error::invalid(format!(
                "texts have {head} dimensions (`text_config.projection_size`) and pictures {} \
                 (`vision_config.hidden_size`)",
                vision["hidden_size"]
            ))
            .remedy("a model of this layout has no projection of pictures, so that the two are equal"));
        }
        let text = siglip_text_config(text, "text_config", pad)?;
        Ok(json!({
            "model_type": "clipzoo",
            "embed_dim": head,
            "image_projection": {"type": "none"},
            "text_projection": {"type": "linear", "bias": true},
            // Where training starts (Zhai et al., 2023); a directory of weights brings its own.
            "logit_scale_init": 10f64.ln(),
            "logit_bias": true,
            "probability": "sigmoid",
            "context_length": text["max_position_embeddings"],
            "vision_config": vision,
            "text_config": text,
            "tokenizer": tokenizer,
        }))
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        Mapping::new()
            .under("", "", HEAD)?
            .under("text_model.", "text.", CLIP_TEXT_ROWS)?
            .under("text_model.", "text.", ENCODER_ROWS)?
            .under("vision_model.", "image.", SIGLIP_VISION_ROWS)?
            .under("vision_model.", "image.", ENCODER_ROWS)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        expect_tower(config, "vision_config", SIGLIP_VISION, NAME)?;
        expect_tower(config, "text_config", SIGLIP_TEXT, NAME)?;
        expect_tokenizer(config, NAME, "hugging_face")?;
        for (key, only) in [
            ("image_projection", json!({"type": "none"})),
            ("text_projection", json!({"type": "linear", "bias": true})),
            ("logit_bias", json!(true)),
            ("probability", json!("sigmoid")),
        ] {
            if config[key] != only {
                return Err(cannot(NAME, &format!("`{key}` {}, only {only}", config[key])));
            }
        }
        let mut text = config["text_config"].clone();
        text["projection_size"] = Fields::new(config, "config")?.required_size("embed_dim")?.into();
        let own = json!({
            "architectures": ["SiglipModel"],
            "model_type": NAME,
            "initializer_factor": 1.0,
            "text_config": text,
            "vision_config": config["vision_config"],
        });
        super::layout(own, transform)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        squashing("SiglipImageProcessor", image_size(config)?)
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::HuggingFace
    }
}

/// The id that texts are padded with, where the tokenizer's files say so, and which tokenizer the model has. SigLIP 2 has
/// another one than SigLIP under the same config, so the files are asked.
pub(crate) fn tokenizer(beside: &dyn Fn(&str) -> Result<Option<Value>>) -> Result<(Option<usize>, Value)> {
    let unsupported = |what: &str| json!({"type": "unsupported", "name": what});
    let usual = json!({"type": "hugging_face", "cleaning": "hugging_face"});
    let Some(config) = beside(TOKENIZER_CONFIG)? else {
        return Ok((None, usual));
    };
    let Some(pad) = config.get("pad_token").and_then(content) else {
        return Ok((None, usual));
    };
    let id = match id_in_config(&config, pad) {
        Some(id) => Some(id),
        // The file is large, so it is read only where the other one does not tell.
        None => beside(TOKENIZER)?.and_then(|json| id_in_json(&json, pad)),
    };
    // Said when a tokenizer is asked for, since weights alone do not need it.
    let rule = match (id, config.get("padding_side").and_then(Value::as_str)) {
        (None, _) => unsupported("one whose pad token has no id in its files"),
        // The last position is pooled.
        (_, Some("left")) => unsupported("one that pads on the left"),
        _ => usual,
    };
    Ok((id, rule))
}

/// A token's text, alone or among its properties.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn id_in_config(config: &Value, pad: &str) -> Option<usize> {
    let added = config.get("added_tokens_decoder")?.as_object()?;
    let found = added.iter().find(|(_, token)| content(token) == Some(pad));
    found.and_then(|(id, _)| id.parse().ok())
}

fn id_in_json(tokenizer: &Value, pad: &str) -> Option<usize> {
    let added = tokenizer.get("added_tokens")?.as_array()?;
    let found = added.iter().find(|token| content(token) == Some(pad));
    found.and_then(|token| token.get("id")?.as_u64()?.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two files say.
    fn says(config: Value, json: Value) -> (Option<usize>, Value) {
        let beside = |name: &str| {
            let value = if name == TOKENIZER { &json } else { &config };
            Ok(Some(value.clone()).filter(|value| !value.is_null()))
        };
        let (pad, rule) = tokenizer(&beside).unwrap();
        (pad, rule["type"].clone())
    }

    #[test]
    fn the_tokenizers_files_say_what_pads() {
        let siglip = json!({
            "pad_token": "</s>",
            "added_tokens_decoder": {"1": {"content": "</s>", "special": true}, "2": {"content": "<unk>"}},
        });
        assert_eq!(says(siglip, Value::Null), (Some(1), json!("hugging_face")));
        let siglip2 = json!({"pad_token": {"content": "<pad>"}, "added_tokens_decoder": {"0": {"content": "<pad>"}}});
        assert_eq!(says(siglip2, Value::Null), (Some(0), json!("hugging_face")));
        // As transformers writes them since its version 5.
        let short = json!({"pad_token": "<pad>", "padding_side": "right"});
        let json = json!({"added_tokens": [{"id": 1, "content": "<eos>"}, {"id": 0, "content": "<pad>"}]});
        assert_eq!(says(short.clone(), json.clone()), (Some(0), json!("hugging_face")));
        assert_eq!(says(short, Value::Null), (None, json!("unsupported")));
        let left = json!({"pad_token": "<pad>", "padding_side": "left"});
        assert_eq!(says(left, json), (Some(0), json!("unsupported")));
        assert_eq!(
            says(json!({"pad_token": null}), Value::Null),
            (None, json!("hugging_face"))
        );
        assert_eq!(says(Value::Null, Value::Null), (None, json!("hugging_face")));
    }
}
