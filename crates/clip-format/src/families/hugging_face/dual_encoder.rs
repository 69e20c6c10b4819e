//! Hugging Face's `vision-text-dual-encoder`: any two towers under projections without bias.
//!
//! The towers known here are brought to canonical names; a tower of another `model_type` passes through, its config
//! and names as they are, for whoever registered a backbone of that type.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::asked::{OPEN, Tower, ask, projected};
use super::super::towers::{
    BERT_ROWS, BertDefaults, CLIP_TEXT, CLIP_VISION, CLIP_VISION_ROWS, EFFICIENTNET_LITE0, ENCODER_ROWS, HUGGING_FACE,
    SIGLIP_TEXT, SIGLIP_VISION, bert_config_from, bert_context, bert_pooler, cannot, clip_vision_config,
    hugging_face_transform, image_size, model_type, required_tower, required_type, without,
};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::configs::{VIT, siglip_vision_config, vit_config};
use super::rows::{SIGLIP_VISION_ROWS, VIT_ROWS};
use super::squashing;
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = "vision-text-dual-encoder";

/// `model_type` `vision-text-dual-encoder`.
pub(crate) struct DualEncoder;

const ANYTHING: &[Row] = &[Row::Same {
    file: "{*}",
    model: "{*}",
}];

impl Family for DualEncoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        HUGGING_FACE
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"vision-text-dual-encoder\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some(NAME)
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        // Which BERT, and so where positions begin, no names tell.
        let text = json!({"model_type": OPEN, "pad_token_id": OPEN});
        let ask_for = |vision_type: &str, vision: Tower, prefix: &str| {
            let own = json!({
                "model_type": NAME, "projection_dim": projected(evidence), "text_config": text,
                "vision_config": {"model_type": vision_type},
            });
            let towers = [
                ("text_config", Tower::Bert, "text_model."),
                ("vision_config", vision, prefix),
            ];
            ask(evidence, "Hugging Face's vision-text-dual-encoder", &own, &towers)
        };
        // CLIP's tower under the plain prefix is Chinese-CLIP too, and asked for there.
        ask_for(VIT, Tower::Vit, "vision_model.")
            .or_else(|| ask_for(SIGLIP_VISION, Tower::SiglipVision, "vision_model."))
            .or_else(|| ask_for(SIGLIP_VISION, Tower::SiglipVision, "vision_model.vision_model."))
            .or_else(|| ask_for(CLIP_VISION, Tower::ClipVision, "vision_model.vision_model."))
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = super::config(evidence)?;
        let (vision, text) = (vision(&fields)?, text(&fields)?);
        let mut canonical = super::canonical(&fields)?;
        canonical["context_length"] = if is_bert(&text) {
            bert_context(&text)
        } else {
            Fields::new(&text, "text_config")?.size("max_position_embeddings", 512)?
        }
        .into();
        match text["model_type"].as_str() {
            Some("bert") => {
                canonical["tokenizer"] = json!({"type": "word_piece", "flavour": "bert", "lower_case": true});
            }
            // Of several kinds; the tokenizer's own file says which.
            Some(_) if is_bert(&text) => {
                canonical["tokenizer"] = json!({"type": "hugging_face", "cleaning": "hugging_face"});
            }
            _ => {}
        }
        canonical["vision_config"] = vision;
        canonical["text_config"] = text;
        Ok(canonical)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        let mut mapping = super::head()?;
        let text = config.get("text_config").unwrap_or(&Value::Null);
        mapping = if is_bert(text) {
            mapping
                .under("text_model.", "text.", BERT_ROWS)?
                .under("text_model.", "text.", bert_pooler(text))?
        } else {
            mapping.under("text_model.", "text.", ANYTHING)?
        };
        let around = match model_type(config, "vision_config") {
            Some(CLIP_VISION) => CLIP_VISION_ROWS,
            Some(SIGLIP_VISION) => SIGLIP_VISION_ROWS,
            Some(VIT) => return mapping.under("vision_model.", "image.", VIT_ROWS),
            _ => return mapping.under("vision_model.", "image.", ANYTHING),
        };
        // Before its version 5, Hugging Face's library wrapped these towers once more.
        ["vision_model.", "vision_model.vision_model."]
            .into_iter()
            .try_fold(mapping, |mapping, prefix| {
                mapping
                    .under(prefix, "image.", around)?
                    .under(prefix, "image.", ENCODER_ROWS)
            })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let vision = required_tower(config, "vision_config", NAME)?;
        let text = required_tower(config, "text_config", NAME)?;
        let mut own = super::restored(config, NAME, NAME, "VisionTextDualEncoderModel")?;
        // Our names for towers that Hugging Face has under other names or not at all.
        for (key, foreign) in [
            ("text_config", CLIP_TEXT),
            ("text_config", SIGLIP_TEXT),
            ("vision_config", EFFICIENTNET_LITE0),
        ] {
            if model_type(config, key) == Some(foreign) {
                return Err(cannot(NAME, &format!("the tower `{foreign}`")));
            }
        }
        let pooled = |tower: &Value| tower.get("pooling").and_then(Value::as_str) == Some("pooler");
        if is_bert(text) && !pooled(text) {
            return Err(cannot(NAME, "a BERT tower that pools without its pooler"));
        }
        if model_type(config, "vision_config") == Some(VIT) && !pooled(vision) {
            return Err(cannot(NAME, "a ViT tower that pools without its pooler"));
        }
        // Our word, which says what there the class of the tower says.
        let plain = |tower: &Value, ours: bool| {
            if ours {
                without(tower, &["pooling"])
            } else {
                tower.clone()
            }
        };
        own["text_config"] = plain(text, is_bert(text));
        own["vision_config"] = plain(vision, model_type(config, "vision_config") == Some(VIT));
        super::layout(own, transform)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        let size = image_size(config)?;
        match model_type(config, "vision_config") {
            Some(VIT) => squashing("ViTImageProcessor", size),
            Some(SIGLIP_VISION) => squashing("SiglipImageProcessor", size),
            _ => hugging_face_transform(size),
        }
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::HuggingFace
    }
}

fn is_bert(text: &Value) -> bool {
    let model_type = text.get("model_type").and_then(Value::as_str);
    model_type.is_some_and(|model_type| BertDefaults::of(model_type).is_some())
}

/// The vision tower. Hugging Face writes CLIP's either as `clip_vision_model` or as `clip`, whose own config may stand
/// once more inside; SigLIP's likewise.
fn vision(fields: &Fields<'_>) -> Result<Value> {
    let outer = fields.object("vision_config")?;
    let inner = outer.get("vision_config").filter(|inner| inner.is_object());
    let config = inner.or_else(|| fields.get("vision_config")).unwrap_or(&Value::Null);
    match required_type(&outer)? {
        "clip" | CLIP_VISION => clip_vision_config(config, "vision_config"),
        SIGLIP_VISION => siglip_vision_config(config, "vision_config"),
        VIT => vit_config(config, "vision_config"),
        _ => Ok(config.clone()),
    }
}

fn text(fields: &Fields<'_>) -> Result<Value> {
    let config = fields.get("text_config").unwrap_or(&Value::Null);
    match BertDefaults::of(required_type(&fields.object("text_config")?)?) {
        Some(defaults) => bert_config_from(defaults, config, "text_config", "pooler"),
        None => Ok(config.clone()),
    }
}
