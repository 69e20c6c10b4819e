//! SigLIP in OpenCLIP's layout: a picture tower of timm under `visual.trunk.`, a text tower that looks both ways.
//!
//! Of the picture tower the config has the name alone, so its sizes stand here. Sources: `TimmModel` and `TextTransformer` of
//! open_clip 3.3.0, `vision_transformer.py` and `attention_pool.py` of timm 1.0.31; the model is that of Zhai et al. (2023).

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::hugging_face::siglip_tokenizer;
use super::super::towers::{SIGLIP_TEXT, SIGLIP_VISION, cannot, expect_tower, image_size};
use super::super::{Evidence, Family, Layout};
use super::read::{deny_unknown_text, deny_unknown_vision, eps, intermediate, plain_blocks, tokenizer};
use super::write::text_cfg;
use super::{BLOCKS, HEAD, LOGIT_BIAS, LOGIT_SCALE, NAME as OPEN_CLIP, TEXT};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

const NAME: &str = "open_clip-siglip";
/// Of timm's `VisionTransformer`.
const TIMM_EPS: f64 = 1e-6;
/// Of Hugging Face's `SiglipTextConfig`, where no file of the tokenizer tells: `</s>`.
const USUAL_PAD: usize = 1;
/// The tokenizers of Google's releases by the size of their vocabulary, as OpenCLIP's configs name them. In a directory its
/// own files count, and the name only says that there are some.
const TOKENIZERS: [(usize, &str); 2] = [(32_000, "timm/ViT-B-16-SigLIP"), (256_000, "timm/ViT-B-16-SigLIP2")];

/// A picture tower of timm.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timm {
    name: &'static str,
    patch: usize,
    side: usize,
    width: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    activation: &'static str,
}

const fn timm(name: &'static str, [patch, side]: [usize; 2], size: [usize; 4], activation: &'static str) -> Timm {
    let [width, hidden, layers, heads] = size;
    Timm {
        name,
        patch,
        side,
        width,
        hidden,
        layers,
        heads,
        activation,
    }
}

const BASE: [usize; 4] = [768, 3072, 12, 12];
const LARGE: [usize; 4] = [1024, 4096, 24, 16];
const SO400M: [usize; 4] = [1152, 4304, 27, 16];
const GIANT: [usize; 4] = [1536, 6144, 40, 16];
const GELU: &str = "gelu";
const TANH: &str = "gelu_pytorch_tanh";

/// Every tower that pools by attention and is called SigLIP's. Of one size some have the exact GELU and some its
/// approximation, whatever Google's own have.
#[rustfmt::skip]
const TOWERS: [Timm; 16] = [
    timm("vit_base_patch32_siglip_256", [32, 256], BASE, TANH),
    timm("vit_base_patch16_siglip_224", [16, 224], BASE, GELU),
    timm("vit_base_patch16_siglip_256", [16, 256], BASE, GELU),
    timm("vit_base_patch16_siglip_384", [16, 384], BASE, GELU),
    timm("vit_base_patch16_siglip_512", [16, 512], BASE, GELU),
    timm("vit_large_patch16_siglip_256", [16, 256], LARGE, GELU),
    timm("vit_large_patch16_siglip_384", [16, 384], LARGE, GELU),
    timm("vit_large_patch16_siglip_512", [16, 512], LARGE, TANH),
    timm("vit_so400m_patch14_siglip_224", [14, 224], SO400M, GELU),
    timm("vit_so400m_patch14_siglip_378", [14, 378], SO400M, GELU),
    timm("vit_so400m_patch14_siglip_384", [14, 384], SO400M, GELU),
    timm("vit_so400m_patch16_siglip_256", [16, 256], SO400M, TANH),
    timm("vit_so400m_patch16_siglip_384", [16, 384], SO400M, TANH),
    timm("vit_so400m_patch16_siglip_512", [16, 512], SO400M, TANH),
    timm("vit_giantopt_patch16_siglip_256", [16, 256], GIANT, TANH),
    timm("vit_giantopt_patch16_siglip_384", [16, 384], GIANT, TANH),
];

const TRUNK: &[Row] = &[
    Row::Same {
        file: "patch_embed.proj.{p}",
        model: "patch_embedding.{p}",
    },
    Row::Reshape {
        file: "pos_embed",
        model: "position_embedding",
        file_rank: 3,
        model_rank: 2,
    },
    Row::Same {
        file: "blocks.{i}.norm1.{p}",
        model: "blocks.{i}.norm1.{p}",
    },
    Row::Same {
        file: "blocks.{i}.attn.qkv.{p}",
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "blocks.{i}.attn.proj.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "blocks.{i}.norm2.{p}",
        model: "blocks.{i}.norm2.{p}",
    },
    Row::Same {
        file: "blocks.{i}.mlp.fc1.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "blocks.{i}.mlp.fc2.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
    Row::Same {
        file: "norm.{p}",
        model: "post_norm.{p}",
    },
    Row::Reshape {
        file: "attn_pool.latent",
        model: "head.probe",
        file_rank: 3,
        model_rank: 1,
    },
    Row::Concat {
        file: &["attn_pool.q.{p}", "attn_pool.kv.{p}", "attn_pool.kv.{p}"],
        model: "head.attention.qkv.{p}",
    },
    Row::Same {
        file: "attn_pool.proj.{p}",
        model: "head.attention.out.{p}",
    },
    Row::Same {
        file: "attn_pool.norm.{p}",
        model: "head.norm.{p}",
    },
    Row::Same {
        file: "attn_pool.mlp.fc1.{p}",
        model: "head.mlp.fc1.{p}",
    },
    Row::Same {
        file: "attn_pool.mlp.fc2.{p}",
        model: "head.mlp.fc2.{p}",
    },
];

/// A config whose picture tower is timm's for SigLIP.
pub(crate) struct Siglip;

/// The name of the picture tower, if it is one of SigLIP's in timm.
pub(super) fn timm_name(config: &Value) -> Option<&str> {
    let name = super::model_cfg(config)?
        .pointer("/vision_cfg/timm_model_name")?
        .as_str()?;
    // Those called `gap` pool by the mean, without a head.
    (name.contains("_siglip_") && !name.contains("_gap_")).then_some(name)
}

impl Family for Siglip {
    fn name(&self) -> &'static str {
        NAME
    }

    fn short_name(&self) -> &'static str {
        OPEN_CLIP
    }

    fn mark(&self) -> &'static str {
        "a config with `model_cfg` whose `timm_model_name` is one of SigLIP's"
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.config().is_some_and(|config| timm_name(config).is_some())
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        super::bare::ask_for_siglip(evidence)
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (_, config) = evidence.required_config()?;
        let model = super::model_fields(config)?;
        model.expect(&[("custom_text", json!(true))])?;
        let vision = vision_config(&model.object("vision_cfg")?, timm_name(config).unwrap_or_default())?;
        let dim = model.required_size("embed_dim")?;
        if vision["hidden_size"] != dim {
            return Err(model.wrong(
                "embed_dim",
                &dim.into(),
                "the picture tower's width, since nothing projects it",
            ));
        }
        let activation = if model.flag("quick_gelu", false)? {
            "quick_gelu"
        } else {
            GELU
        };
        let text = model.object("text_cfg")?;
        let (pad, usual) = siglip_tokenizer(evidence.beside)?;
        let pad = match pad {
            Some(pad) => pad,
            None => text.index("pad_id", USUAL_PAD)?,
        };
        let sigmoid = model.get("init_logit_bias").is_some();
        let mut canonical = json!({
            "model_type": "clipzoo",
            "embed_dim": dim,
            "image_projection": {"type": "none"},
            "text_projection": {"type": "linear", "bias": text.flag("proj_bias", false)?},
            "logit_scale_init": model.number("init_logit_scale", LOGIT_SCALE)?,
            "logit_bias": sigmoid,
            "probability": if sigmoid { "sigmoid" } else { "softmax" },
            "context_length": text.size("context_length", 77)?,
            "vision_config": vision,
            "text_config": text_config(&text, activation, pad)?,
            // A tokenizer whose files cannot be followed is said so by these.
            "tokenizer": if usual["type"] == "unsupported" { usual } else { tokenizer(&text)? },
        });
        super::add_transform(&mut canonical, config);
        Ok(canonical)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        Mapping::new()
            .under("", "", HEAD)?
            .under("visual.trunk.", "image.", TRUNK)?
            .under("text.", "text.", TEXT)?
            .under("text.", "text.", BLOCKS)?
            .under("text.", "", super::text_projection(config))
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        expect_tower(config, "vision_config", SIGLIP_VISION, NAME)?;
        expect_tower(config, "text_config", SIGLIP_TEXT, NAME)?;
        let fields = Fields::new(config, "config")?;
        let sigmoid = fields.text("probability", "softmax")? == "sigmoid";
        if sigmoid != fields.flag("logit_bias", false)? {
            return Err(cannot(
                NAME,
                "a sigmoid model without a logit bias, or a softmax model with one",
            ));
        }
        if config["image_projection"] != json!({"type": "none"}) || config["text_projection"]["type"] != "linear" {
            return Err(cannot(NAME, "these projections"));
        }
        let text = fields.object("text_config")?;
        let mut text_cfg = text_cfg(&text, &tokenized(config, text.required_size("vocab_size")?)?)?;
        text_cfg["no_causal_mask"] = true.into();
        text_cfg["pool_type"] = "last".into();
        let mut model = json!({"embed_dim": fields.required_size("embed_dim")?, "custom_text": true});
        match text.text("hidden_act", GELU)? {
            GELU => {}
            TANH => text_cfg["act_kwargs"] = json!({"approximate": "tanh"}),
            "quick_gelu" => model["quick_gelu"] = true.into(),
            other => return Err(cannot(NAME, &format!("the activation `{other}`"))),
        }
        let scale = fields.number("logit_scale_init", LOGIT_SCALE)?;
        if (scale - LOGIT_SCALE).abs() > 1e-4 {
            model["init_logit_scale"] = scale.into();
        }
        if sigmoid {
            model["init_logit_bias"] = LOGIT_BIAS.into();
        }
        model["vision_cfg"] = vision_cfg(&fields.object("vision_config")?)?;
        model["text_cfg"] = text_cfg;
        super::layout(model, transform)
    }

    /// As OpenCLIP tags every release of SigLIP: squashed, to numbers between -1 and 1.
    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        let half = json!([0.5, 0.5, 0.5]);
        TransformConfig::from_json(&json!({"preprocess_cfg": {
            "size": image_size(config)?, "mode": "RGB", "mean": half, "std": half, "interpolation": "bicubic",
            "resize_mode": "squash",
        }}))
    }
}

/// The picture towers of a patch and a side of pictures, a width, a hidden width and a number of layers.
pub(super) fn timm_names([patch, side]: [usize; 2], [width, hidden, layers]: [usize; 3]) -> Vec<&'static str> {
    let fits = |tower: &&Timm| {
        [tower.patch, tower.side] == [patch, side]
            && [tower.width, tower.hidden, tower.layers] == [width, hidden, layers]
    };
    TOWERS.iter().filter(fits).map(|tower| tower.name).collect()
}

/// The canonical picture tower of a name.
fn vision_config(vision: &Fields<'_>, name: &str) -> Result<Value> {
    vision.expect(&[("timm_pool", json!("map")), ("timm_proj", json!("none"))])?;
    deny_unknown_vision(vision)?;
    let Some(tower) = TOWERS.iter().find(|tower| tower.name == name) else {
        let known: Vec<&str> = TOWERS.iter().map(|tower| tower.name).collect();
        let wanted = format!("one of {}", known.join(", "));
        return Err(vision.wrong("timm_model_name", &name.into(), &wanted));
    };
    Ok(json!({
        "model_type": SIGLIP_VISION,
        "hidden_size": tower.width,
        "intermediate_size": tower.hidden,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "image_size": tower.side,
        "patch_size": tower.patch,
        "hidden_act": tower.activation,
        "layer_norm_eps": TIMM_EPS,
    }))
}

/// The name of a canonical picture tower.
fn vision_cfg(vision: &Fields<'_>) -> Result<Value> {
    let sizes = |tower: &Timm| -> Result<bool> {
        Ok(tower.width == vision.required_size("hidden_size")?
            && tower.hidden == vision.required_size("intermediate_size")?
            && tower.layers == vision.required_size("num_hidden_layers")?
            && tower.heads == vision.required_size("num_attention_heads")?
            && tower.patch == vision.required_size("patch_size")?
            && tower.side == vision.required_size("image_size")?)
    };
    let (act, eps) = (
        vision.text("hidden_act", TANH)?,
        vision.number("layer_norm_eps", TIMM_EPS)?,
    );
    for tower in &TOWERS {
        if sizes(tower)? && tower.activation == act && eps == TIMM_EPS {
            return Ok(json!({
                "image_size": tower.side,
                "timm_model_name": tower.name,
                "timm_model_pretrained": false,
                "timm_pool": "map",
                "timm_proj": "none",
            }));
        }
    }
    Err(cannot(
        NAME,
        &format!("this picture tower, since timm has none of its sizes with `{act}`"),
    ))
}

/// The canonical text tower.
fn text_config(text: &Fields<'_>, activation: &str, pad: usize) -> Result<Value> {
    let mut plain = plain_blocks();
    plain.retain(|(key, _)| *key != "act_kwargs");
    text.expect(&[
        ("hf_model_name", Value::Null),
        ("embed_cls", json!(false)),
        ("no_causal_mask", json!(true)),
        ("pool_type", json!("last")),
        ("proj_type", json!("linear")),
    ])?;
    // What is missing is plain for the first two and the last, and is not for the others.
    text.require(&["no_causal_mask", "pool_type"])?;
    text.expect(&plain)?;
    deny_unknown_text(text)?;
    let activation = match text.get("act_kwargs") {
        None => activation,
        Some(kwargs) if *kwargs == json!({"approximate": "tanh"}) && activation == GELU => TANH,
        Some(kwargs) if *kwargs == json!({"approximate": "none"}) && activation == GELU => GELU,
        Some(kwargs) => return Err(text.wrong("act_kwargs", kwargs, "{\"approximate\": \"tanh\"} beside GELU")),
    };
    let width = text.size("width", 512)?;
    Ok(json!({
        "model_type": SIGLIP_TEXT,
        "hidden_size": width,
        "intermediate_size": intermediate(text, width)?,
        "num_hidden_layers": text.size("layers", 12)?,
        "num_attention_heads": text.size("heads", 8)?,
        "vocab_size": text.size("vocab_size", 49408)?,
        "max_position_embeddings": text.size("context_length", 77)?,
        "hidden_act": activation,
        "layer_norm_eps": eps(text)?,
        "pad_token_id": pad,
    }))
}

/// The config with a name for its tokenizer; without one OpenCLIP would take CLIP's.
fn tokenized(config: &Value, vocab_size: usize) -> Result<Value> {
    let mut config = config.clone();
    let tokenizer = &mut config["tokenizer"];
    if tokenizer["type"] != "hugging_face" {
        return Ok(config);
    }
    if tokenizer.get("name").is_none_or(Value::is_null) {
        let known = TOKENIZERS.iter().find(|(size, _)| *size == vocab_size);
        let (_, name) = known.ok_or_else(|| cannot(NAME, "a tokenizer without a name"))?;
        tokenizer["name"] = (*name).into();
    }
    Ok(config)
}
