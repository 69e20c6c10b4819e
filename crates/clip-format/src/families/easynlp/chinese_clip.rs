//! EasyNLP's `chinese_clip`: Chinese-CLIP's model, a BERT beside CLIP's vision tower, under a flat config.
//!
//! Hugging Face's Chinese-CLIP has the same `model_type`, but an object for each tower; `embed_dim` tells them apart.

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::towers::{BERT, BERT_ROWS, bert_context, bert_pooler};
use super::super::{Evidence, Family, Layout};
use super::{canonical, default_transform, expect_fixed, expect_tokenizer, flat_config, layout, restored, shared_rows};
use crate::fields::Fields;
use crate::mapping::Mapping;

const NAME: &str = "easynlp-chinese-clip";
const MODEL_TYPE: &str = "chinese_clip";
const PREFIX: &str = "chinese_clip.";

/// Eps of BERT's norms; no key says so.
const BERT_EPS: f64 = 1e-12;

/// Keys beside those of the vision tower.
const KEYS: [&str; 12] = [
    "embed_dim",
    "vocab_size",
    "text_attention_probs_dropout_prob",
    "text_hidden_act",
    "text_hidden_dropout_prob",
    "text_hidden_size",
    "text_initializer_range",
    "text_intermediate_size",
    "text_max_position_embeddings",
    "text_num_attention_heads",
    "text_num_hidden_layers",
    "text_type_vocab_size",
];

/// `model_type` `chinese_clip` in a flat config.
pub(crate) struct ChineseClip;

impl Family for ChineseClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"chinese_clip\" with `embed_dim`"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some(MODEL_TYPE)
            && evidence
                .config()
                .is_some_and(|config| config.get("embed_dim").is_some())
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = flat_config(evidence, &KEYS)?;
        let mut config = canonical(&fields)?;
        let text = json!({
            "model_type": BERT,
            "vocab_size": fields.required_size("vocab_size")?,
            "hidden_size": fields.required_size("text_hidden_size")?,
            "num_hidden_layers": fields.required_size("text_num_hidden_layers")?,
            "num_attention_heads": fields.required_size("text_num_attention_heads")?,
            "intermediate_size": fields.required_size("text_intermediate_size")?,
            "hidden_act": fields.text("text_hidden_act", "gelu")?,
            "hidden_dropout_prob": fields.number("text_hidden_dropout_prob", 0.1)?,
            "attention_probs_dropout_prob": fields.number("text_attention_probs_dropout_prob", 0.1)?,
            "max_position_embeddings": fields.required_size("text_max_position_embeddings")?,
            "type_vocab_size": fields.required_size("text_type_vocab_size")?,
            "layer_norm_eps": BERT_EPS,
            "pad_token_id": 0,
            "pooling": "cls",
            "initializer_range": fields.number("text_initializer_range", 0.02)?,
        });
        config["context_length"] = bert_context(&text).into();
        config["text_config"] = text;
        config["tokenizer"] = json!({"type": "word_piece", "flavour": "bert", "lower_case": true});
        Ok(config)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        // Files hold a pooler, which nothing reads: the first token is pooled as it is.
        let pooler = bert_pooler(&config["text_config"]);
        [PREFIX, ""]
            .into_iter()
            .try_fold(shared_rows(PREFIX)?, |mapping, prefix| {
                let bert = format!("{prefix}bert.");
                mapping.under(&bert, "text.", BERT_ROWS)?.under(&bert, "text.", pooler)
            })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut own = restored(config, MODEL_TYPE, NAME, BERT)?;
        expect_tokenizer(config, NAME, "word_piece", ("flavour", "bert"))?;
        if config.pointer("/tokenizer/lower_case") == Some(&json!(false)) {
            return Err(super::cannot(NAME, "a tokenizer that keeps capitals"));
        }
        expect_fixed(
            config,
            "text_config",
            NAME,
            &[
                ("layer_norm_eps", BERT_EPS.into()),
                ("pad_token_id", 0.into()),
                ("pooling", "cls".into()),
            ],
        )?;
        let text = Fields::new(config, "config")?.object("text_config")?;
        own["vocab_size"] = text.required_size("vocab_size")?.into();
        for (key, field) in [
            ("text_hidden_size", "hidden_size"),
            ("text_intermediate_size", "intermediate_size"),
            ("text_max_position_embeddings", "max_position_embeddings"),
            ("text_num_attention_heads", "num_attention_heads"),
            ("text_num_hidden_layers", "num_hidden_layers"),
            ("text_type_vocab_size", "type_vocab_size"),
        ] {
            own[key] = text.required_size(field)?.into();
        }
        own["text_hidden_act"] = text.text("hidden_act", "gelu")?.into();
        for (key, field, default) in [
            ("text_attention_probs_dropout_prob", "attention_probs_dropout_prob", 0.1),
            ("text_hidden_dropout_prob", "hidden_dropout_prob", 0.1),
            ("text_initializer_range", "initializer_range", 0.02),
        ] {
            own[key] = text.number(field, default)?.into();
        }
        layout(own, config, transform, NAME)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        default_transform(config)
    }
}
