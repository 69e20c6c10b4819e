//! Chinese-CLIP's own layout: a BERT beside CLIP's picture tower, a flat config in two files.
//!
//! `vision.json` and `text.json` are the two configs that cn_clip keeps under its own names (`ViT-B-16.json`,
//! `RoBERTa-wwm-ext-base-chinese.json`) and merges. A released file, `clip_cn_*.pt`, comes without them, in
//! OFA-Sys's repositories beside Hugging Face's form of the model, whose config.json is not for it. Source of keys, names
//! and defaults: `CLIP` and `create_model` of cn_clip 1.6.0.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::bare::Shapes;
use super::flat::{self, BERT_KEYS, HEAD_WIDTH};
use super::towers::{bert_context, cannot, image_size};
use super::{Evidence, Family, Layout};
use crate::fields::Fields;
use crate::locate::is_chinese_clip;
use crate::mapping::Mapping;

const NAME: &str = "chinese_clip";
const VISION: &str = "vision.json";
const TEXT: &str = "text.json";

/// Names under `visual.` and `bert.`, without a config.json or in a file that takes none.
pub(crate) struct ChineseClip;

impl Family for ChineseClip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn mark(&self) -> &'static str {
        "tensors under `visual.` and `bert.`, beside vision.json and text.json or in a clip_cn_*.pt"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        let has = |name: &str| evidence.shape(name).is_some();
        evidence.config.is_none() && has("visual.conv1.weight") && has("bert.embeddings.word_embeddings.weight")
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (vision, text) = (vision(evidence)?, text(evidence)?);
        let (vision, text) = (Fields::new(&vision, VISION)?, Fields::new(&text, TEXT)?);
        flat::expect_keys(&vision, &["embed_dim"], &["vision_head_width"])?;
        text.require(&BERT_KEYS)?;
        text.deny_unknown(&BERT_KEYS)?;
        let mut config = flat::canonical(&vision, vision.size("vision_head_width", HEAD_WIDTH)?)?;
        let text = flat::bert_config(&text)?;
        config["context_length"] = bert_context(&text).into();
        config["text_config"] = text;
        config["tokenizer"] = json!({"type": "word_piece", "flavour": "chinese_clip", "lower_case": true});
        Ok(config)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        flat::bert_rows(flat::shared_rows(Mapping::new(), "", config)?, "", config)
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        let (mut vision, [heads, width]) = flat::restored_vision(config, NAME)?;
        flat::expect_tokenizer(config, NAME, "word_piece")?;
        if heads != (width / HEAD_WIDTH).max(1) {
            if !width.is_multiple_of(heads) {
                return Err(cannot(NAME, "heads that do not divide the width"));
            }
            vision["vision_head_width"] = (width / heads).into();
        }
        let text = flat::restored_bert(config, NAME)?;
        let default = self.default_transform(config)?;
        // Chinese-CLIP reads no other container, and takes a model's name from the command line, not from the file.
        let files = vec![(VISION, vision), (TEXT, text)];
        flat::layout("clip_cn_model.pt", files, [transform, Some(&default)], NAME)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        Ok(TransformConfig::chinese_clip(image_size(config)?))
    }
}

/// The picture tower's config: the file's, or what shapes and conventions say.
fn vision(evidence: &Evidence<'_>) -> Result<Value> {
    if let Some(vision) = (evidence.beside)(VISION)? {
        return Ok(vision);
    }
    let inferred = flat::inferred_vision(&Shapes::of(evidence, ""));
    let mut vision = inferred.map_err(|error| error.remedy(ask(VISION)))?;
    let known = is_chinese_clip(evidence.file)
        .then(|| released_head_width(&vision))
        .flatten();
    if let Some(head_width) = known {
        vision["vision_head_width"] = head_width.into();
        return Ok(vision);
    }
    vision["vision_head_width"] = "?".into();
    Err(asked(VISION, "the heads of the picture tower", &vision))
}

/// The heads of the released picture towers, told by their width: only ViT-H/14, 1280 wide, has others than of 64. Other
/// widths are nobody's that is known.
fn released_head_width(vision: &Value) -> Option<usize> {
    match vision["vision_width"].as_u64()? {
        1280 => Some(80),
        width => (vision["vision_layers"].is_array() || width.is_multiple_of(64)).then_some(HEAD_WIDTH),
    }
}

/// The BERT's config, likewise.
fn text(evidence: &Evidence<'_>) -> Result<Value> {
    if let Some(text) = (evidence.beside)(TEXT)? {
        return Ok(text);
    }
    let shapes = Shapes::of(evidence, "");
    match flat::inferred_bert(&shapes) {
        Ok(text) if is_chinese_clip(evidence.file) => Ok(text),
        _ => {
            let mut text = flat::bert_sizes(&shapes).map_err(|error| error.remedy(ask(TEXT)))?;
            text["text_num_attention_heads"] = "?".into();
            Err(asked(TEXT, "the heads of the text tower", &text))
        }
    }
}

fn asked(file: &str, what: &str, known: &Value) -> Error {
    Error::invalid(format!(
        "the weights are Chinese-CLIP's, but {file} is missing beside them, and weights do not tell {what}"
    ))
    .remedy(format!(
        "{}; what the weights tell of it, with \"?\" to fill in: {known}",
        ask(file)
    ))
}

fn ask(file: &str) -> String {
    format!("put cn_clip's config of that tower there as {file}")
}
