//! What several families share: the tensor names of CLIP's and BERT's towers as Hugging Face has them, and their configs.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Map, Value, json};

use crate::fields::Fields;
use crate::mapping::Row;

/// What users call the layouts of Hugging Face's library.
pub(crate) const HUGGING_FACE: &str = "hf";

/// The `model_type` of each tower this crate knows by name.
pub(crate) const CLIP_VISION: &str = "clip_vision_model";
pub(crate) const CLIP_TEXT: &str = "clip_text_model";
pub(crate) const BERT: &str = "bert";
pub(crate) const ROBERTA: &str = "roberta";
pub(crate) const XLM_ROBERTA: &str = "xlm-roberta";
pub(crate) const EFFICIENTNET_LITE0: &str = "efficientnet_lite0";
pub(crate) const MODIFIED_RESNET: &str = "modified_resnet";
pub(crate) const SIGLIP_TEXT: &str = "siglip_text_model";
pub(crate) const SIGLIP_VISION: &str = "siglip_vision_model";

/// Texts for BERT towers are cut at this, as Chinese-CLIP does.
const BERT_CONTEXT: usize = 52;

/// ln(1 / 0.07): how CLIP's temperature starts, as Hugging Face rounds it.
pub(crate) const LOGIT_SCALE: f64 = 2.6592;

/// Ids of CLIP's vocabulary; the last one ends a text.
pub(crate) const CLIP_VOCABULARY: usize = 49408;

/// Hugging Face's `CLIPVisionModel` around its blocks, which are [`ENCODER_ROWS`]. `pre_layrnorm` is their spelling.
pub(crate) const CLIP_VISION_ROWS: &[Row] = &[
    Row::Same {
        file: "embeddings.class_embedding",
        model: "class_embedding",
    },
    Row::Same {
        file: "embeddings.patch_embedding.weight",
        model: "patch_embedding.weight",
    },
    Row::Same {
        file: "embeddings.position_embedding.weight",
        model: "position_embedding",
    },
    Row::Drop {
        file: "embeddings.position_ids",
    },
    Row::Same {
        file: "pre_layrnorm.{n}",
        model: "pre_norm.{n}",
    },
    Row::Same {
        file: "post_layernorm.{n}",
        model: "post_norm.{n}",
    },
];

/// The blocks of Hugging Face's CLIP and SigLIP, of both towers.
pub(crate) const ENCODER_ROWS: &[Row] = &[
    Row::Same {
        file: "encoder.layers.{i}.layer_norm1.{n}",
        model: "blocks.{i}.norm1.{n}",
    },
    Row::Same {
        file: "encoder.layers.{i}.layer_norm2.{n}",
        model: "blocks.{i}.norm2.{n}",
    },
    Row::Concat {
        file: &[
            "encoder.layers.{i}.self_attn.q_proj.{p}",
            "encoder.layers.{i}.self_attn.k_proj.{p}",
            "encoder.layers.{i}.self_attn.v_proj.{p}",
        ],
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "encoder.layers.{i}.self_attn.out_proj.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "encoder.layers.{i}.mlp.fc1.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "encoder.layers.{i}.mlp.fc2.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
];

/// Hugging Face's `BertModel` and `RobertaModel`, without the pooler.
pub(crate) const BERT_ROWS: &[Row] = &[
    Row::Same {
        file: "embeddings.word_embeddings.weight",
        model: "embeddings.word.weight",
    },
    Row::Same {
        file: "embeddings.position_embeddings.weight",
        model: "embeddings.position.weight",
    },
    Row::Same {
        file: "embeddings.token_type_embeddings.weight",
        model: "embeddings.token_type.weight",
    },
    Row::Same {
        file: "embeddings.LayerNorm.{n}",
        model: "embeddings.norm.{n}",
    },
    Row::Drop {
        file: "embeddings.position_ids",
    },
    Row::Drop {
        file: "embeddings.token_type_ids",
    },
    Row::Concat {
        file: &[
            "encoder.layer.{i}.attention.self.query.{p}",
            "encoder.layer.{i}.attention.self.key.{p}",
            "encoder.layer.{i}.attention.self.value.{p}",
        ],
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "encoder.layer.{i}.attention.output.dense.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "encoder.layer.{i}.attention.output.LayerNorm.{n}",
        model: "blocks.{i}.attention.norm.{n}",
    },
    Row::Same {
        file: "encoder.layer.{i}.intermediate.dense.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "encoder.layer.{i}.output.dense.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
    Row::Same {
        file: "encoder.layer.{i}.output.LayerNorm.{n}",
        model: "blocks.{i}.norm.{n}",
    },
];

/// The rows of BERT's pooler: kept where the tower pools with it, dropped where it does not.
pub(crate) fn bert_pooler(text_config: &Value) -> &'static [Row] {
    if text_config.get("pooling").and_then(Value::as_str) == Some("pooler") {
        &[Row::Same {
            file: "pooler.dense.{p}",
            model: "pooler.{p}",
        }]
    } else {
        &[Row::Drop {
            file: "pooler.dense.{p}",
        }]
    }
}

/// Keys of Hugging Face's configs that say nothing about the model.
const NOISE: [&str; 7] = [
    "architectures",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "_name_or_path",
    "gradient_checkpointing",
    "use_cache",
];

/// What a BERT's config means where it says nothing.
pub(crate) struct BertDefaults {
    pub(crate) model_type: &'static str,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) pad_token_id: usize,
}

impl BertDefaults {
    /// Hugging Face's `BertConfig`.
    pub(crate) const BERT: Self = Self {
        model_type: BERT,
        vocab_size: 30522,
        hidden_size: 768,
        intermediate_size: 3072,
        layers: 12,
        heads: 12,
        pad_token_id: 0,
    };
    /// Hugging Face's `RobertaConfig`.
    pub(crate) const ROBERTA: Self = Self {
        model_type: ROBERTA,
        vocab_size: 50265,
        pad_token_id: 1,
        ..Self::BERT
    };
    /// Hugging Face's `XLMRobertaConfig`: RoBERTa's arithmetic.
    pub(crate) const XLM_ROBERTA: Self = Self {
        model_type: XLM_ROBERTA,
        vocab_size: 30522,
        ..Self::ROBERTA
    };

    /// Those of a tower of this type, if it is a BERT.
    pub(crate) fn of(model_type: &str) -> Option<&'static Self> {
        [&Self::BERT, &Self::ROBERTA, &Self::XLM_ROBERTA]
            .into_iter()
            .find(|defaults| defaults.model_type == model_type)
    }
}

/// BERT's config with Hugging Face's names and defaults; what else it holds stays.
pub(crate) fn bert_config(config: &Value, path: &str, pooling: &str) -> Result<Value> {
    bert_config_from(&BertDefaults::BERT, config, path, pooling)
}

/// The same with other defaults.
pub(crate) fn bert_config_from(defaults: &BertDefaults, config: &Value, path: &str, pooling: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[
        ("position_embedding_type", json!("absolute")),
        ("is_decoder", json!(false)),
        ("add_cross_attention", json!(false)),
    ])?;
    let mut known = known(
        &fields,
        defaults.model_type,
        json!({
            "vocab_size": defaults.vocab_size,
            "hidden_size": defaults.hidden_size,
            "num_hidden_layers": defaults.layers,
            "num_attention_heads": defaults.heads,
            "intermediate_size": defaults.intermediate_size,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "attention_probs_dropout_prob": 0.1,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
        }),
    )?;
    known["pad_token_id"] = fields.index("pad_token_id", defaults.pad_token_id)?.into();
    known["pooling"] = pooling.into();
    Ok(with_rest(known, config))
}

/// CLIP's vision config with Hugging Face's names and defaults; what else it holds stays.
pub(crate) fn clip_vision_config(config: &Value, path: &str) -> Result<Value> {
    let fields = Fields::new(config, path)?;
    fields.expect(&[("num_channels", json!(3))])?;
    let known = known(
        &fields,
        CLIP_VISION,
        json!({
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 32,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        }),
    )?;
    Ok(with_rest(known, config))
}

/// The keys of CLIP's text config, likewise, but those of its special ids, which layouts understand differently.
pub(crate) fn clip_text_sizes(fields: &Fields<'_>) -> Result<Value> {
    known(
        fields,
        CLIP_TEXT,
        json!({
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_hidden_layers": 12,
            "num_attention_heads": 8,
            "vocab_size": CLIP_VOCABULARY,
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
        }),
    )
}

/// A tower's type, and its keys with the reference's defaults where the config leaves them out.
pub(crate) fn known(fields: &Fields<'_>, model_type: &str, defaults: Value) -> Result<Value> {
    let mut known = Map::from_iter([("model_type".to_owned(), model_type.into())]);
    known.extend(fields.filled(defaults)?);
    Ok(known.into())
}

/// The known keys first, then what else the config holds.
pub(crate) fn with_rest(mut known: Value, config: &Value) -> Value {
    if let (Value::Object(known), Value::Object(config)) = (&mut known, config) {
        let rest = config.iter().filter(|(key, _)| !NOISE.contains(&key.as_str()));
        rest.for_each(|(key, value)| {
            known.entry(key.clone()).or_insert_with(|| value.clone());
        });
    }
    known
}

/// How many ids a text has at most, before a tokenizer is asked: the positions, or BERT's shorter habit.
pub(crate) fn bert_context(text_config: &Value) -> usize {
    text_positions(text_config).unwrap_or(512).min(BERT_CONTEXT)
}

/// The most ids of a text that a tower has positions for. RoBERTa's begin behind that of the padding.
pub(crate) fn text_positions(text_config: &Value) -> Option<usize> {
    let number = |key: &str| text_config.get(key)?.as_u64()?.try_into().ok();
    let positions: usize = number("max_position_embeddings")?;
    match text_config.get("model_type").and_then(Value::as_str) {
        Some(ROBERTA | XLM_ROBERTA) => {
            let padding = number("pad_token_id").unwrap_or(BertDefaults::ROBERTA.pad_token_id);
            Some(positions.saturating_sub(padding + 1))
        }
        _ => Some(positions),
    }
}

/// A projection without bias.
pub(crate) fn linear() -> Value {
    json!({"type": "linear", "bias": false})
}

/// The projection behind OpenAI's two picture towers: the ResNet's is the last layer of its attention pool, with a bias.
pub(crate) fn image_projection(vision_config: &Value) -> Value {
    json!({"type": "linear", "bias": vision_config["model_type"] == MODIFIED_RESNET})
}

/// A tower of a canonical config.
pub(crate) fn tower<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|tower| tower.is_object())
}

/// The `model_type` of a tower.
pub(crate) fn model_type<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    tower(config, key)?.get("model_type")?.as_str()
}

/// A tower that a layout needs.
pub(crate) fn required_tower<'a>(config: &'a Value, key: &str, family: &str) -> Result<&'a Value> {
    tower(config, key).ok_or_else(|| cannot(family, &format!("a model without `{key}`")))
}

/// Refuses another tower than the layout's.
pub(crate) fn expect_tower(config: &Value, key: &str, wanted: &str, family: &str) -> Result<()> {
    required_tower(config, key, family)?;
    match model_type(config, key) {
        Some(tower) if tower == wanted => Ok(()),
        tower => Err(cannot(
            family,
            &format!("the tower `{}`", tower.unwrap_or("of no type")),
        )),
    }
}

/// The `model_type` of a tower that a config must name.
pub(crate) fn required_type<'a>(tower: &Fields<'a>) -> Result<&'a str> {
    match tower.text("model_type", "")? {
        "" => Err(tower
            .missing("model_type")
            .remedy("say which kind of tower it is: `clipzoo models` lists them")),
        kind => Ok(kind),
    }
}

/// A model that reads texts alone was asked about pictures.
pub(crate) fn no_image_tower() -> Error {
    Error::invalid("the model has no image tower").remedy("name a model that has one")
}

/// The side of the pictures, from the vision tower.
pub(crate) fn image_size(config: &Value) -> Result<usize> {
    let vision = tower(config, "vision_config").ok_or_else(no_image_tower)?;
    Fields::new(vision, "vision_config")?.size("image_size", 224)
}

/// Hugging Face's preprocessing for CLIP at a size.
pub(crate) fn hugging_face_transform(size: usize) -> Result<TransformConfig> {
    TransformConfig::from_json(&json!({
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
    }))
}

/// What a layout cannot express.
pub(crate) fn cannot(family: &str, what: &str) -> Error {
    Error::invalid(format!("the layout `{family}` cannot express {what}")).remedy("save it as `clipzoo`")
}

/// Refuses projections that a layout has no names for.
pub(crate) fn expect_linear(config: &Value, key: &str, family: &str) -> Result<()> {
    expect_projection(config, key, &linear(), family)
}

/// Refuses another projection of pictures than the one behind the tower in OpenAI's names.
pub(crate) fn expect_image_projection(config: &Value, family: &str) -> Result<()> {
    let vision = tower(config, "vision_config").unwrap_or(&Value::Null);
    expect_projection(config, "image_projection", &image_projection(vision), family)
}

fn expect_projection(config: &Value, key: &str, wanted: &Value, family: &str) -> Result<()> {
    let projection = config.get(key).unwrap_or(&Value::Null);
    let linear = projection.get("type").and_then(Value::as_str) == Some("linear");
    let bias = projection.get("bias").and_then(Value::as_bool).unwrap_or(false);
    if linear && wanted["bias"] == bias {
        Ok(())
    } else {
        Err(cannot(family, &format!("the `{key}` {projection}")))
    }
}

/// Refuses similarities that are not scaled and compared by softmax.
pub(crate) fn expect_softmax(config: &Value, family: &str) -> Result<()> {
    let biased = config.get("logit_bias").and_then(Value::as_bool).unwrap_or(false);
    let sigmoid = config.get("probability").and_then(Value::as_str) == Some("sigmoid");
    if biased || sigmoid {
        Err(cannot(family, "a sigmoid model or one with a logit bias"))
    } else {
        Ok(())
    }
}

/// A copy of a tower's config without keys.
pub(crate) fn without(tower: &Value, keys: &[&str]) -> Value {
    let map: Map<String, Value> = match tower {
        Value::Object(map) => map
            .clone()
            .into_iter()
            .filter(|(key, _)| !keys.contains(&key.as_str()))
            .collect(),
        _ => Map::new(),
    };
    Value::Object(map)
}
