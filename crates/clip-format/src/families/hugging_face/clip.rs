//! Hugging Face's `CLIPModel`: `openai/clip-vit-*` and what was converted to it.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::asked::{Tower, ask, projected};
use super::super::easynlp::has_names_of_two_towers;
use super::super::flat::expect_tokenizer;
use super::super::towers::{
    CLIP_TEXT, CLIP_VISION, CLIP_VISION_ROWS, ENCODER_ROWS, HUGGING_FACE, cannot, clip_vision_config, expect_tower,
    hugging_face_transform, image_size, without,
};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::configs::{LEGACY_EOS, clip_text_config};
use super::rows::CLIP_TEXT_ROWS;
use super::{TEXT, VISION};
use crate::fields::Fields;
use crate::mapping::Mapping;

const NAME: &str = "hf-clip";

/// `model_type` `clip`.
pub(crate) struct Clip;

impl Family for Clip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        HUGGING_FACE
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"clip\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        // EasyNLP writes the same type beside towers of other names.
        let own = ["text_model.", "vision_model."];
        let named = |prefix: &&str| evidence.tensors.iter().any(|tensor| tensor.name.starts_with(*prefix));
        evidence.model_type() == Some("clip") && (own.iter().any(named) || !has_names_of_two_towers(evidence))
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        let own = json!({"model_type": "clip", "projection_dim": projected(evidence)});
        let towers = [
            (TEXT[0], Tower::ClipText, "text_model."),
            (VISION[0], Tower::ClipVision, "vision_model."),
        ];
        ask(evidence, "Hugging Face's CLIP", &own, &towers)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = super::config(evidence)?;
        let mut config = super::canonical(&fields)?;
        let text = super::tower(&fields, TEXT, clip_text_config)?;
        config["context_length"] = text["max_position_embeddings"].clone();
        config["vision_config"] = super::tower(&fields, VISION, clip_vision_config)?;
        config["text_config"] = text;
        config["tokenizer"] = json!({"type": "clip_bpe", "cleaning": "hugging_face"});
        Ok(config)
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        super::head()?
            .under("text_model.", "text.", CLIP_TEXT_ROWS)?
            .under("text_model.", "text.", ENCODER_ROWS)?
            .under("vision_model.", "image.", CLIP_VISION_ROWS)?
            .under("vision_model.", "image.", ENCODER_ROWS)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        expect_tower(config, "vision_config", CLIP_VISION, NAME)?;
        expect_tower(config, "text_config", CLIP_TEXT, NAME)?;
        expect_tokenizer(config, NAME, "clip_bpe")?;
        let mut own = super::restored(config, NAME, "clip", "CLIPModel")?;
        let text = &config["text_config"];
        let fields = Fields::new(text, "text_config")?;
        let mut text = without(text, &["pooling"]);
        match (
            fields.text("pooling", "argmax")?,
            fields.index("eos_token_id", LEGACY_EOS)?,
        ) {
            ("argmax", _) => text["eos_token_id"] = LEGACY_EOS.into(),
            ("eos", eos) if eos != LEGACY_EOS => {}
            (pooling, eos) => return Err(cannot(NAME, &format!("pooling by `{pooling}` at the id {eos}"))),
        }
        own["text_config"] = text;
        own["vision_config"] = config["vision_config"].clone();
        super::layout(own, transform)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        hugging_face_transform(image_size(config)?)
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::HuggingFace
    }
}
