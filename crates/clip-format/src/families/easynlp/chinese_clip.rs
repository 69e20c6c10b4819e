//! EasyNLP's `chinese_clip`: Chinese-CLIP's model, a BERT beside CLIP's vision tower, under a flat config.
//!
//! Hugging Face's Chinese-CLIP has the same `model_type`, but an object for each tower; `embed_dim` tells them apart.

use clip_core::Result;
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::bare::Shapes;
use super::super::flat::{self, BERT_KEYS, HEAD_WIDTH};
use super::super::towers::bert_context;
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::{EASYNLP, default_transform, has_picture_tower, layout, restored, with_config};
use crate::fields::Fields;
use crate::mapping::Mapping;

const NAME: &str = "easynlp-chinese-clip";
const MODEL_TYPE: &str = "chinese_clip";
const PREFIX: &str = "chinese_clip.";

/// `model_type` `chinese_clip` in a flat config.
pub(crate) struct ChineseClip;

impl Family for ChineseClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        EASYNLP
    }

    fn mark(&self) -> &'static str {
        "`model_type` \"chinese_clip\" with `embed_dim`, or a bare file with its tensors"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        let is_flat = |config: &Value| config.get("embed_dim").is_some();
        has_picture_tower(evidence, PREFIX)
            || evidence.model_type() == Some(MODEL_TYPE) && evidence.config().is_some_and(is_flat)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        with_config(evidence, || inferred(evidence), read)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        // Both are read; the first one is written.
        [PREFIX, ""].into_iter().try_fold(Mapping::new(), |mapping, prefix| {
            flat::bert_rows(flat::shared_rows(mapping, prefix, config)?, prefix, config)
        })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let mut own = restored(config, MODEL_TYPE, NAME)?;
        flat::expect_tokenizer(config, NAME, "word_piece")?;
        flat::add(&mut own, flat::restored_bert(config, NAME)?);
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
    flat::expect_keys(fields, &[&["embed_dim"], &BERT_KEYS[..]].concat(), &["model_type"])?;
    let mut config = flat::canonical(fields, HEAD_WIDTH)?;
    let text = flat::bert_config(fields)?;
    config["context_length"] = bert_context(&text).into();
    config["text_config"] = text;
    // A literal `[PAD]` is the pad token, and EasyNLP masks every id that pads, wherever it stands.
    config["tokenizer"] = json!({"type": "word_piece", "flavour": "bert", "lower_case": true, "pad_is_unseen": true});
    Ok(config)
}

/// The config that the shapes of a bare file tell.
fn inferred(evidence: &Evidence<'_>) -> Result<Value> {
    let shapes = Shapes::of(evidence, PREFIX);
    let mut config = flat::inferred_vision(&shapes)?;
    flat::add(&mut config, flat::inferred_bert(&shapes)?);
    Ok(config)
}
