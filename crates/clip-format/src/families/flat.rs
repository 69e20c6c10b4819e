//! Flat configs, which EasyNLP's two layouts and Chinese-CLIP's own share: every key of both towers beside each other,
//! OpenAI's tensor names for the picture tower.

use clip_core::Result;
use clip_data::{ConfigForm, TransformConfig};
use serde_json::{Value, json};

use super::bare::{Shapes, Vision, usual_heads};
use super::open_clip::{HEAD, LOGIT_SCALE, TEXT_PROJECTION, with_image};
use super::towers::{
    BERT, BERT_ROWS, CLIP_VISION, MODIFIED_RESNET, bert_pooler, cannot, expect_image_projection, expect_linear,
    expect_softmax, expect_tower, image_projection, linear, model_type, required_tower,
};
use super::{Layout, resnet};
use crate::fields::Fields;
use crate::mapping::Mapping;
use crate::preprocess::PREPROCESSOR;

/// A head of attention in the picture tower is this wide where no key says so.
pub(super) const HEAD_WIDTH: usize = 64;
/// Eps of the norms of CLIP's towers.
pub(super) const CLIP_EPS: f64 = 1e-5;
/// The only activation of CLIP's towers.
pub(super) const CLIP_ACTIVATION: &str = "quick_gelu";
/// Eps of BERT's norms; no key says so.
const BERT_EPS: f64 = 1e-12;

/// Keys of the picture tower.
const VISION_KEYS: [&str; 4] = ["image_resolution", "vision_layers", "vision_width", "vision_patch_size"];

/// Keys of a BERT.
pub(super) const BERT_KEYS: [&str; 11] = [
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

/// Refuses a config without exactly these keys and those of the picture tower: the references hand all of them to their
/// model by name, so one missing or one more is an error there too. A ResNet's patches are null.
pub(super) fn expect_keys(fields: &Fields<'_>, keys: &[&str], optional: &[&str]) -> Result<()> {
    let all = [&VISION_KEYS[..], keys].concat();
    let is_resnet = resnet::stages(fields, "vision_layers")?.is_some();
    let may_be_null = |key: &&str| is_resnet && *key == "vision_patch_size";
    let wanted: Vec<&str> = all.iter().copied().filter(|key| !may_be_null(key)).collect();
    fields.require(&wanted)?;
    if !fields.has("vision_patch_size") {
        return Err(fields.missing("vision_patch_size"));
    }
    fields.deny_unknown(&[&all[..], optional].concat())
}

/// A canonical config without its text.
pub(super) fn canonical(fields: &Fields<'_>, head_width: usize) -> Result<Value> {
    let vision = vision_config(fields, head_width)?;
    Ok(json!({
        "model_type": "clipzoo",
        "embed_dim": fields.required_size("embed_dim")?,
        "image_projection": image_projection(&vision),
        "text_projection": linear(),
        "logit_scale_init": LOGIT_SCALE,
        "logit_bias": false,
        "probability": "softmax",
        "vision_config": vision,
    }))
}

fn vision_config(fields: &Fields<'_>, head_width: usize) -> Result<Value> {
    let width = fields.required_size("vision_width")?;
    let size = fields.required_size("image_resolution")?;
    if let Some(layers) = resnet::stages(fields, "vision_layers")? {
        return Ok(resnet::tower(layers, width, size, head_width));
    }
    let heads = width / head_width;
    if heads == 0 || !width.is_multiple_of(heads) {
        let wanted = format!("a multiple of {head_width}, the width of a head");
        return Err(fields.wrong("vision_width", &width.into(), &wanted));
    }
    Ok(json!({
        "model_type": CLIP_VISION,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": fields.required_size("vision_layers")?,
        "num_attention_heads": heads,
        "image_size": size,
        "patch_size": fields.required_size("vision_patch_size")?,
        "hidden_act": CLIP_ACTIVATION,
        "layer_norm_eps": CLIP_EPS,
    }))
}

/// The canonical BERT.
pub(super) fn bert_config(fields: &Fields<'_>) -> Result<Value> {
    Ok(json!({
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
    }))
}

/// The rows of the picture tower and of what stands between the towers, under a prefix.
pub(super) fn shared_rows(mapping: Mapping, prefix: &str, config: &Value) -> Result<Mapping> {
    let mapping = mapping.under(prefix, "", HEAD)?.under(prefix, "", TEXT_PROJECTION)?;
    with_image(mapping, prefix, config)
}

/// The rows of a BERT under `bert.` behind a prefix. Files may hold a pooler, which nothing reads: the first token is
/// pooled as it is.
pub(super) fn bert_rows(mapping: Mapping, prefix: &str, config: &Value) -> Result<Mapping> {
    let bert = format!("{prefix}bert.");
    let pooler = bert_pooler(&config["text_config"]);
    mapping.under(&bert, "text.", BERT_ROWS)?.under(&bert, "text.", pooler)
}

/// The keys of the picture tower and `embed_dim`, from a canonical config, beside the number of heads and the width they
/// share; an error names what a flat config cannot express.
pub(super) fn restored_vision(config: &Value, family: &str) -> Result<(Value, [usize; 2])> {
    expect_image_projection(config, family)?;
    expect_linear(config, "text_projection", family)?;
    expect_softmax(config, family)?;
    required_tower(config, "vision_config", family)?;
    let fields = Fields::new(config, "config")?;
    let vision = fields.object("vision_config")?;
    let (keys, heads) = match model_type(config, "vision_config") {
        Some(CLIP_VISION) => restored_transformer(config, &vision, family)?,
        Some(MODIFIED_RESNET) => (
            json!({
                "vision_layers": resnet::stages(&vision, "layers")?,
                "vision_width": vision.required_size("width")?,
                "vision_patch_size": null,
            }),
            resnet::heads(&vision)?,
        ),
        tower => {
            let tower = tower.unwrap_or("of no type");
            return Err(cannot(family, &format!("the tower `{tower}`")));
        }
    };
    let mut own = json!({
        "embed_dim": fields.required_size("embed_dim")?,
        "image_resolution": vision.required_size("image_size")?,
    });
    for key in ["vision_layers", "vision_width", "vision_patch_size"] {
        own[key] = keys[key].clone();
    }
    Ok((own, heads))
}

fn restored_transformer(config: &Value, vision: &Fields<'_>, family: &str) -> Result<(Value, [usize; 2])> {
    let width = vision.required_size("hidden_size")?;
    expect_fixed(
        config,
        "vision_config",
        family,
        &[
            ("intermediate_size", (4 * width).into()),
            ("hidden_act", CLIP_ACTIVATION.into()),
            ("layer_norm_eps", CLIP_EPS.into()),
        ],
    )?;
    let keys = json!({
        "vision_layers": vision.required_size("num_hidden_layers")?,
        "vision_width": width,
        "vision_patch_size": vision.required_size("patch_size")?,
    });
    Ok((keys, [vision.required_size("num_attention_heads")?, width]))
}

/// The keys of a BERT; an error names what they cannot express.
pub(super) fn restored_bert(config: &Value, family: &str) -> Result<Value> {
    expect_tower(config, "text_config", BERT, family)?;
    if config.pointer("/tokenizer/lower_case") == Some(&json!(false)) {
        return Err(cannot(family, "a tokenizer that keeps capitals"));
    }
    expect_fixed(
        config,
        "text_config",
        family,
        &[
            ("layer_norm_eps", BERT_EPS.into()),
            ("pad_token_id", 0.into()),
            ("pooling", "cls".into()),
        ],
    )?;
    let text = Fields::new(config, "config")?.object("text_config")?;
    let mut own = json!({"vocab_size": text.required_size("vocab_size")?});
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
    Ok(own)
}

/// Refuses values that the reference's code fixes: no key of the layout could say another.
pub(super) fn expect_fixed(config: &Value, tower: &str, family: &str, fixed: &[(&str, Value)]) -> Result<()> {
    for (key, only) in fixed {
        let value = &config[tower][*key];
        if value != only {
            return Err(cannot(family, &format!("`{tower}.{key}` {value}, only {only}")));
        }
    }
    Ok(())
}

/// Refuses a tokenizer of another kind than the layout's. How its own code cleans a text and what it makes of a literal
/// `[CLS]` no key says, and nothing but rare texts tells the difference.
pub(super) fn expect_tokenizer(config: &Value, family: &str, kind: &str) -> Result<()> {
    match config.get("tokenizer").filter(|tokenizer| !tokenizer.is_null()) {
        Some(tokenizer) if tokenizer.get("type") != Some(&json!(kind)) => {
            Err(cannot(family, &format!("the tokenizer {tokenizer}")))
        }
        _ => Ok(()),
    }
}

/// The layout's files, and the preparation of pictures in a file of its own where it is not the layout's.
pub(super) fn layout(
    weights: &'static str,
    mut files: Vec<(&'static str, Value)>,
    [transform, default]: [Option<&TransformConfig>; 2],
    family: &str,
) -> Result<Layout> {
    if let Some(transform) = transform
        && Some(transform) != default
    {
        let form = transform
            .to_json(ConfigForm::HuggingFace)
            .or_else(|_| transform.to_json(ConfigForm::OpenClip))
            .map_err(|error| cannot(family, "this preparation of pictures").source(error))?;
        files.push((PREPROCESSOR, form));
    }
    Ok(Layout { weights, files })
}

/// The picture tower's keys, as the shapes of a bare file tell them.
pub(super) fn inferred_vision(shapes: &Shapes<'_>) -> Result<Value> {
    let mut keys = match shapes.vision()? {
        Vision::Transformer {
            width,
            layers,
            patch,
            image_size,
            ..
        } => json!({
            "image_resolution": image_size, "vision_layers": layers, "vision_width": width, "vision_patch_size": patch,
        }),
        Vision::ResNet {
            width,
            layers,
            image_size,
        } => json!({
            "image_resolution": image_size, "vision_layers": layers, "vision_width": width, "vision_patch_size": null,
        }),
    };
    keys["embed_dim"] = shapes.side("text_projection", 1)?.into();
    Ok(keys)
}

/// BERT's keys, likewise, with heads as wide as in every published BERT.
pub(super) fn inferred_bert(shapes: &Shapes<'_>) -> Result<Value> {
    let mut keys = bert_sizes(shapes)?;
    let width = shapes.bert("bert.")?.width;
    keys["text_num_attention_heads"] = usual_heads(width, "the text tower")?.into();
    Ok(keys)
}

/// BERT's keys without its heads. What is no size is Google's, as in all of these models.
pub(super) fn bert_sizes(shapes: &Shapes<'_>) -> Result<Value> {
    let bert = shapes.bert("bert.")?;
    Ok(json!({
        "vocab_size": bert.vocabulary,
        "text_attention_probs_dropout_prob": 0.1,
        "text_hidden_act": "gelu",
        "text_hidden_dropout_prob": 0.1,
        "text_hidden_size": bert.width,
        "text_initializer_range": 0.02,
        "text_intermediate_size": bert.hidden,
        "text_max_position_embeddings": bert.positions,
        "text_num_hidden_layers": bert.layers,
        "text_type_vocab_size": bert.types,
    }))
}

/// Adds the keys of one object to another.
pub(super) fn add(config: &mut Value, more: Value) {
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        config.extend(more);
    }
}
