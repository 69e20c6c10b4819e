//! EasyNLP's `open_clip`: the e-commerce models in English, CLIP's own towers.

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::open_clip::{BLOCKS, TEXT};
use super::super::towers::CLIP_TEXT;
use super::super::{Evidence, Family, Layout};
use super::{
    CLIP_ACTIVATION, CLIP_EPS, canonical, default_transform, expect_fixed, expect_tokenizer, flat_config, layout,
    restored, shared_rows,
};
use crate::fields::Fields;
use crate::mapping::Mapping;

const NAME: &str = "easynlp-open-clip";
const MODEL_TYPE: &str = "open_clip";
const PREFIX: &str = "open_clip.";

/// Keys beside those of the vision tower.
const KEYS: [&str; 6] = [
    "embed_dim",
    "context_length",
    "vocab_size",
    "transformer_width",
    "transformer_heads",
    "transformer_layers",
];

/// `model_type` `open_clip` in a flat config.
pub(crate) struct OpenClip;

impl Family for OpenClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"open_clip\" in a flat config"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        // Without the parts of OpenCLIP's own config, which some tool may have given the same type.
        let nested = ["model_cfg", "vision_cfg", "text_cfg"];
        evidence.model_type() == Some(MODEL_TYPE)
            && evidence
                .config()
                .is_some_and(|config| nested.iter().all(|key| config.get(key).is_none()))
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let fields = flat_config(evidence, &KEYS)?;
        let mut config = canonical(&fields)?;
        let width = fields.required_size("transformer_width")?;
        let context = fields.required_size("context_length")?;
        let vocab_size = fields.required_size("vocab_size")?;
        config["context_length"] = context.into();
        config["text_config"] = json!({
            "model_type": CLIP_TEXT,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": fields.required_size("transformer_layers")?,
            "num_attention_heads": fields.required_size("transformer_heads")?,
            "vocab_size": vocab_size,
            "max_position_embeddings": context,
            "hidden_act": CLIP_ACTIVATION,
            "layer_norm_eps": CLIP_EPS,
            "pooling": "argmax",
            "eos_token_id": vocab_size - 1,
            "pad_token_id": 0,
        });
        // EasyNLP's tokenizer repairs, unescapes and lowers as OpenCLIP's. Too long a text keeps its end token, as
        // there; EasyNLP cuts it off, and then all such texts have the same features.
        config["tokenizer"] = json!({"type": "clip_bpe", "cleaning": "open_clip"});
        Ok(config)
    }

    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        [PREFIX, ""]
            .into_iter()
            .try_fold(shared_rows(PREFIX)?, |mapping, prefix| {
                mapping.under(prefix, "text.", TEXT)?.under(prefix, "text.", BLOCKS)
            })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut own = restored(config, MODEL_TYPE, NAME, CLIP_TEXT)?;
        expect_tokenizer(config, NAME, "clip_bpe", ("cleaning", "open_clip"))?;
        let text = Fields::new(config, "config")?.object("text_config")?;
        let width = text.required_size("hidden_size")?;
        expect_fixed(
            config,
            "text_config",
            NAME,
            &[
                ("intermediate_size", (4 * width).into()),
                ("hidden_act", CLIP_ACTIVATION.into()),
                ("layer_norm_eps", CLIP_EPS.into()),
                ("pooling", "argmax".into()),
                ("pad_token_id", 0.into()),
            ],
        )?;
        own["context_length"] = text.required_size("max_position_embeddings")?.into();
        own["vocab_size"] = text.required_size("vocab_size")?.into();
        own["transformer_width"] = width.into();
        own["transformer_heads"] = text.required_size("num_attention_heads")?.into();
        own["transformer_layers"] = text.required_size("num_hidden_layers")?.into();
        layout(own, config, transform, NAME)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        default_transform(config)
    }
}
