//! Hugging Face's `vision-text-dual-encoder`: any two towers under projections without bias.
//!
//! The towers known here are brought to canonical names; a tower of another `model_type` passes through, its config
//! and names as they are, for whoever registered a backbone of that type.

use clip_core::{Error, Result};
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::towers::{
    BERT, BERT_ROWS, CLIP_TEXT, CLIP_VISION, CLIP_VISION_ROWS, EFFICIENTNET_LITE0, LOGIT_SCALE, bert_config,
    bert_context, bert_pooler, cannot, clip_vision_config, expect_linear, expect_softmax, hugging_face_transform,
    image_size, linear, model_type, required_tower, without,
};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = "vision-text-dual-encoder";

/// `model_type` `vision-text-dual-encoder`.
pub(crate) struct DualEncoder;

const HEAD: &[Row] = &[
    Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 0,
        model_rank: 0,
    },
    Row::Same {
        file: "visual_projection.weight",
        model: "image_projection.weight",
    },
    Row::Same {
        file: "text_projection.weight",
        model: "text_projection.weight",
    },
];

const ANYTHING: &[Row] = &[Row::Same {
    file: "{*}",
    model: "{*}",
}];

impl Family for DualEncoder {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"vision-text-dual-encoder\""
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.model_type() == Some(NAME)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (file, config) = evidence.config.ok_or_else(|| Error::invalid("the config is missing"))?;
        let fields = Fields::new(config, file)?;
        let (vision, text) = (vision(&fields)?, text(&fields)?);
        let mut canonical = json!({
            "model_type": "clipzoo",
            "embed_dim": fields.size("projection_dim", 512)?,
            "image_projection": linear(),
            "text_projection": linear(),
            "logit_scale_init": fields.number("logit_scale_init_value", LOGIT_SCALE)?,
            "logit_bias": false,
            "probability": "softmax",
        });
        let positions = Fields::new(&text, "text_config")?.size("max_position_embeddings", 512)?;
        let is_bert = text["model_type"] == BERT;
        canonical["context_length"] = if is_bert { bert_context(&text) } else { positions }.into();
        canonical["vision_config"] = vision;
        canonical["text_config"] = text;
        if is_bert {
            canonical["tokenizer"] = json!({"type": "word_piece", "flavour": "bert", "lower_case": true});
        }
        Ok(canonical)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        let mut mapping = Mapping::new().under("", "", HEAD)?;
        mapping = match model_type(config, "text_config") {
            Some(BERT) => {
                let text = required_tower(config, "text_config", NAME)?;
                mapping
                    .under("text_model.", "text.", BERT_ROWS)?
                    .under("text_model.", "text.", bert_pooler(text))?
            }
            _ => mapping.under("text_model.", "text.", ANYTHING)?,
        };
        match model_type(config, "vision_config") {
            // Before its version 5, Hugging Face's library wrapped the tower once more.
            Some(CLIP_VISION) => mapping.under("vision_model.", "image.", CLIP_VISION_ROWS)?.under(
                "vision_model.vision_model.",
                "image.",
                CLIP_VISION_ROWS,
            ),
            _ => mapping.under("vision_model.", "image.", ANYTHING),
        }
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let vision = required_tower(config, "vision_config", NAME)?;
        let text = required_tower(config, "text_config", NAME)?;
        for key in ["image_projection", "text_projection"] {
            expect_linear(config, key, NAME)?;
        }
        expect_softmax(config, NAME)?;
        // Our names for towers that Hugging Face has under other names or not at all.
        for (key, foreign) in [("text_config", CLIP_TEXT), ("vision_config", EFFICIENTNET_LITE0)] {
            if model_type(config, key) == Some(foreign) {
                return Err(cannot(NAME, &format!("the tower `{foreign}`")));
            }
        }
        let pooling = text.get("pooling").and_then(Value::as_str);
        if model_type(config, "text_config") == Some(BERT) && pooling != Some("pooler") {
            return Err(cannot(NAME, "a BERT tower that pools without its pooler"));
        }
        let own = json!({
            "architectures": ["VisionTextDualEncoderModel"],
            "logit_scale_init_value": config.get("logit_scale_init").cloned().unwrap_or(LOGIT_SCALE.into()),
            "model_type": NAME,
            "projection_dim": Fields::new(config, "config")?.required_size("embed_dim")?,
            "text_config": without(text, &["pooling"]),
            "vision_config": vision,
        });
        let mut files = vec![("config.json", own)];
        if let Some(transform) = transform {
            files.push(("preprocessor_config.json", transform.to_json(ConfigForm::HuggingFace)?));
        }
        Ok(Layout {
            weights: "model.safetensors",
            files,
        })
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        hugging_face_transform(image_size(config)?)
    }
}

/// The vision tower. Hugging Face writes CLIP's either as `clip_vision_model` or as `clip`, whose own config may stand
/// once more inside.
fn vision(fields: &Fields<'_>) -> Result<Value> {
    let outer = fields.object("vision_config")?;
    let kind = outer.text("model_type", "")?;
    let inner = outer.get("vision_config").filter(|inner| inner.is_object());
    let config = inner.or_else(|| fields.get("vision_config")).unwrap_or(&Value::Null);
    match kind {
        "" => Err(Error::invalid("`vision_config.model_type` is missing")),
        "clip" | CLIP_VISION => clip_vision_config(config, "vision_config"),
        _ => Ok(config.clone()),
    }
}

fn text(fields: &Fields<'_>) -> Result<Value> {
    let config = fields.get("text_config").unwrap_or(&Value::Null);
    match fields.object("text_config")?.text("model_type", "")? {
        "" => Err(Error::invalid("`text_config.model_type` is missing")),
        BERT => bert_config(config, "text_config", "pooler"),
        _ => Ok(config.clone()),
    }
}
