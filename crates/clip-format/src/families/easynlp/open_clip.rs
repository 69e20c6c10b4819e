//! EasyNLP's `open_clip`: the e-commerce models in English, CLIP's own towers.

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::bare::{Shapes, usual_heads};
use super::super::flat::{self, CLIP_ACTIVATION, CLIP_EPS, HEAD_WIDTH};
use super::super::open_clip::{BLOCKS, TEXT};
use super::super::towers::{CLIP_TEXT, expect_tower};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::{EASYNLP, default_transform, has_picture_tower, layout, restored, with_config};
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

    fn short_name(&self) -> &'static str {
        EASYNLP
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"open_clip\" in a flat config, or a bare file with its tensors"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        // Without the parts of OpenCLIP's own config, which some tool may have given the same type.
        let nested = ["model_cfg", "vision_cfg", "text_cfg"];
        let is_flat = |config: &Value| nested.iter().all(|key| config.get(key).is_none());
        has_picture_tower(evidence, PREFIX)
            || evidence.model_type() == Some(MODEL_TYPE) && evidence.config().is_some_and(is_flat)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        with_config(evidence, || inferred(evidence), read)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        // Both are read; the first one is written.
        [PREFIX, ""].into_iter().try_fold(Mapping::new(), |mapping, prefix| {
            flat::shared_rows(mapping, prefix, config)?
                .under(prefix, "text.", TEXT)?
                .under(prefix, "text.", BLOCKS)
        })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut own = restored(config, MODEL_TYPE, NAME)?;
        expect_tower(config, "text_config", CLIP_TEXT, NAME)?;
        flat::expect_tokenizer(config, NAME, "clip_bpe")?;
        let text = Fields::new(config, "config")?.object("text_config")?;
        let width = text.required_size("hidden_size")?;
        let vocab_size = text.required_size("vocab_size")?;
        // Where the end token is the largest id, the first largest id is the first end token.
        let by_end = text.text("pooling", "argmax")? == "eos" && text.index("eos_token_id", 2)? + 1 == vocab_size;
        let pooling: &[_] = if by_end { &[] } else { &[("pooling", "argmax".into())] };
        flat::expect_fixed(config, "text_config", NAME, pooling)?;
        flat::expect_fixed(
            config,
            "text_config",
            NAME,
            &[
                ("intermediate_size", (4 * width).into()),
                ("hidden_act", CLIP_ACTIVATION.into()),
                ("layer_norm_eps", CLIP_EPS.into()),
            ],
        )?;
        own["context_length"] = text.required_size("max_position_embeddings")?.into();
        own["vocab_size"] = vocab_size.into();
        own["transformer_width"] = width.into();
        own["transformer_heads"] = text.required_size("num_attention_heads")?.into();
        own["transformer_layers"] = text.required_size("num_hidden_layers")?.into();
        layout(own, config, transform, NAME)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        default_transform(config)
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::VocabTxt
    }
}

/// The canonical config of a flat one.
fn read(fields: &Fields<'_>) -> Result<Value> {
    flat::expect_keys(fields, &KEYS, &["model_type"])?;
    let mut config = flat::canonical(fields, HEAD_WIDTH)?;
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

/// The config that the shapes of a bare file tell.
fn inferred(evidence: &Evidence<'_>) -> Result<Value> {
    let shapes = Shapes::of(evidence, PREFIX);
    let mut config = flat::inferred_vision(&shapes)?;
    let text = shapes.clip_text("")?;
    flat::add(
        &mut config,
        json!({
            "context_length": text.context,
            "vocab_size": text.vocabulary,
            "transformer_width": text.width,
            "transformer_heads": usual_heads(text.width, "the text tower")?,
            "transformer_layers": text.layers,
        }),
    );
    Ok(config)
}
