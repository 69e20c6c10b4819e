//! Hugging Face's `ChineseCLIPModel`: `OFA-Sys/chinese-clip-*`.
//!
//! EasyNLP's Chinese-CLIP has the same `model_type` in a flat config.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::asked::{Tower, ask, projected};
use super::super::flat::expect_tokenizer;
use super::super::towers::{
    BERT, BERT_ROWS, CLIP_VISION, CLIP_VISION_ROWS, ENCODER_ROWS, HUGGING_FACE, bert_config, bert_context, bert_pooler,
    cannot, clip_vision_config, expect_tower, image_size, without,
};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::{TEXT, VISION, squashing};
use crate::mapping::Mapping;

const NAME: &str = "hf-chinese-clip";
const MODEL_TYPE: &str = "chinese_clip";

/// `model_type` `chinese_clip` with an object for each tower.
pub(crate) struct ChineseClip;

impl Family for ChineseClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        HUGGING_FACE
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"chinese_clip\" with `text_config` and `vision_config`"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        let has = |key: &str| evidence.config().is_some_and(|config| config.get(key).is_some());
        evidence.model_type() == Some(MODEL_TYPE) && has("text_config") && has("vision_config") && !has("embed_dim")
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        let own = json!({"model_type": MODEL_TYPE, "projection_dim": projected(evidence)});
        let towers = [
            (TEXT[0], Tower::Bert, "text_model."),
            (VISION[0], Tower::ClipVision, "vision_model."),
        ];
        // A dual encoder of these two towers has the same names; its own config tells.
        let what = "Hugging Face's Chinese-CLIP, or of a vision-text-dual-encoder of the same towers";
        ask(evidence, what, &own, &towers)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = super::config(evidence)?;
        let mut config = super::canonical(&fields)?;
        // The first token is pooled as it is.
        let text = super::tower(&fields, TEXT, |text, path| bert_config(text, path, "cls"))?;
        config["context_length"] = bert_context(&text).into();
        config["vision_config"] = super::tower(&fields, VISION, clip_vision_config)?;
        config["text_config"] = text;
        config["tokenizer"] = json!({"type": "word_piece", "flavour": "bert", "lower_case": true});
        Ok(config)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        super::head()?
            .under("text_model.", "text.", BERT_ROWS)?
            .under("text_model.", "text.", bert_pooler(&config["text_config"]))?
            .under("vision_model.", "image.", CLIP_VISION_ROWS)?
            .under("vision_model.", "image.", ENCODER_ROWS)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        expect_tower(config, "vision_config", CLIP_VISION, NAME)?;
        expect_tower(config, "text_config", BERT, NAME)?;
        expect_tokenizer(config, NAME, "word_piece")?;
        let text = &config["text_config"];
        if text["pooling"] != "cls" {
            return Err(cannot(NAME, &format!("`text_config.pooling` {}", text["pooling"])));
        }
        let mut own = super::restored(config, NAME, MODEL_TYPE, "ChineseCLIPModel")?;
        own["text_config"] = without(text, &["pooling"]);
        own["text_config"]["model_type"] = "chinese_clip_text_model".into();
        own["vision_config"] = config["vision_config"].clone();
        own["vision_config"]["model_type"] = "chinese_clip_vision_model".into();
        super::layout(own, transform)
    }

    /// Squashed to a square, as the `preprocessor_config.json` of every model of OFA-Sys says.
    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        squashing("ChineseCLIPImageProcessor", image_size(config)?)
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::HuggingFace
    }
}
