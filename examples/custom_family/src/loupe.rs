//! A family of checkpoints in a crate of your own: an invented layout, `loupe`, in one file.
//!
//! # What a family is
//!
//! A family is what a directory of files means: which model they describe, and which tensor is which. It reads no weights
//! and knows no arithmetic. So there are four things to write, and they are the four parts of this file:
//!
//! 1. **How it is recognised**: a predicate over the config's keys. Exactly one family may say yes, so look at a key that
//!    nobody else has.
//! 2. **What its config means**: the canonical config, in which `vision_config` and `text_config` name a backbone each.
//! 3. **Which tensor is which**: rows of data, read one way when a model is opened and the other way when it is saved.
//! 4. **What it writes back**: its own config, for a model that may have come from elsewhere. What it has no word for is
//!    an error that says so.
//!
//! Then `clipzoo::cli(zoo).family(Loupe)?` makes it known (`main.rs` is the whole command with it): every command opens
//! such directories, `train` writes its models in them, `convert --to loupe` makes them of other models, and `models` lists
//! them.
//!
//! # The layout
//!
//! ```text
//! config.json          {"loupe": 1, "space": 512, "picture": {…}, "title": {…}, "light": {…}}
//! model.safetensors    temperature          [1]
//!                      picture/space        [width, space]         x @ P in their code
//!                      picture/patches      [width, 3, patch, patch]
//!                      picture/7/query.bias [width]                block 7
//!                      …
//! ```
//!
//! Two transformers of CLIP's kind with exact GELU and layers four times as wide inside. A layout whose towers nobody here
//! has brings a backbone along: `examples/custom_backbone`.

use clip_format::clip_core::serde_json::{Value, json};
use clip_format::clip_core::{Error, Result};
use clip_format::clip_data::TransformConfig;
use clip_format::{Evidence, Family, Layout, Mapping, Row, VocabularyForm};

/// The invented layout.
pub struct Loupe;

/// Eps of every norm; no key says so.
const EPS: f64 = 1e-5;

// ---------------------------------------------------------------------------------------------------------------------
// 3. Which tensor is which
// ---------------------------------------------------------------------------------------------------------------------

/// Names of the file, names of the model. `{i}` is a number and `{p}` is `weight` or `bias`; both sides hold the same ones,
/// so either name gives the other. The canonical names of CLIP's towers are those that OpenCLIP's family maps to.
const PICTURE: &[Row] = &[
    Row::Same {
        file: "class",
        model: "class_embedding",
    },
    Row::Same {
        file: "places",
        model: "position_embedding",
    },
    Row::Same {
        file: "patches",
        model: "patch_embedding.weight",
    },
    Row::Same {
        file: "first.{p}",
        model: "pre_norm.{p}",
    },
    Row::Same {
        file: "last.{p}",
        model: "post_norm.{p}",
    },
];

const TITLE: &[Row] = &[
    Row::Same {
        file: "words",
        model: "token_embedding.weight",
    },
    Row::Same {
        file: "places",
        model: "position_embedding",
    },
    Row::Same {
        file: "last.{p}",
        model: "final_norm.{p}",
    },
];

/// A block, the same in both towers. Three tensors of the file are one of the model: joined on loading, cut on saving.
const BLOCK: &[Row] = &[
    Row::Same {
        file: "{i}/norm_a.{p}",
        model: "blocks.{i}.norm1.{p}",
    },
    Row::Concat {
        file: &["{i}/query.{p}", "{i}/key.{p}", "{i}/value.{p}"],
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "{i}/mix.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "{i}/norm_b.{p}",
        model: "blocks.{i}.norm2.{p}",
    },
    Row::Same {
        file: "{i}/widen.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "{i}/narrow.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
];

/// What stands between the towers. Their projections are `x @ P`, ours linear layers: the other way round in memory.
const BETWEEN: &[Row] = &[
    Row::Reshape {
        file: "temperature",
        model: "logit_scale",
        file_rank: 1,
        model_rank: 0,
    },
    Row::Transpose {
        file: "picture/space",
        model: "image_projection.weight",
    },
    Row::Transpose {
        file: "title/space",
        model: "text_projection.weight",
    },
    // A counter that their trainer keeps in the file. It is not written back.
    Row::Drop { file: "pairs_seen" },
];

impl Family for Loupe {
    /// The name that `inspect` shows and `convert --to` takes. Several layouts of one project also share a
    /// [`short_name`](Family::short_name).
    fn name(&self) -> &'static str {
        "loupe"
    }

    /// For people, in the list of what is known.
    fn mark(&self) -> &'static str {
        "a config with `loupe`"
    }

    // -----------------------------------------------------------------------------------------------------------------
    // 1. How it is recognised
    // -----------------------------------------------------------------------------------------------------------------

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        evidence.config().is_some_and(|config| config.get("loupe").is_some())
    }

    // -----------------------------------------------------------------------------------------------------------------
    // 2. What its config means
    // -----------------------------------------------------------------------------------------------------------------

    /// A config comes from a file, so nonsense in it must become an error that names the key. `evidence` also has names and
    /// shapes of the tensors, for layouts whose config leaves out what the weights say.
    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let config = evidence
            .config()
            .ok_or_else(|| Error::invalid("the config is missing"))?;
        match config["loupe"].as_u64() {
            Some(1) => {}
            _ => {
                return Err(Error::invalid(format!(
                    "`loupe` is {}, which is not supported",
                    config["loupe"]
                )));
            }
        }
        let words = number(config, "/title/words")?;
        let mut canonical = json!({
            "model_type": "clipzoo",
            "embed_dim": number(config, "/space")?,
            "image_projection": { "type": "linear", "bias": false },
            "text_projection": { "type": "linear", "bias": false },
            "context_length": number(config, "/title/longest")?,
            "vision_config": tower(config, "picture", "clip_vision_model")?,
            "text_config": tower(config, "title", "clip_text_model")?,
            "tokenizer": { "type": "clip_bpe" },
        });
        canonical["vision_config"]["image_size"] = number(config, "/picture/side")?.into();
        canonical["vision_config"]["patch_size"] = number(config, "/picture/patch")?.into();
        let text = &mut canonical["text_config"];
        text["vocab_size"] = words.into();
        text["max_position_embeddings"] = number(config, "/title/longest")?.into();
        text["pooling"] = "argmax".into();
        text["eos_token_id"] = (words - 1).into();
        text["pad_token_id"] = 0.into();
        if let Some(light) = config.get("light") {
            let side = number(config, "/picture/side")?;
            // `transform` is what the model does to pictures; OpenCLIP's form and Hugging Face's are understood.
            canonical["transform"] =
                json!({ "preprocess_cfg": { "size": side, "mean": light["mean"], "std": light["std"] } });
        }
        Ok(canonical)
    }

    /// The rows of the parts above, each under its prefix in the file and in the model.
    fn mapping(&self, _config: &Value) -> Result<Mapping> {
        Mapping::new()
            .under("", "", BETWEEN)?
            .under("picture/", "image.", PICTURE)?
            .under("picture/", "image.", BLOCK)?
            .under("title/", "text.", TITLE)?
            .under("title/", "text.", BLOCK)
    }

    // -----------------------------------------------------------------------------------------------------------------
    // 4. What it writes back
    // -----------------------------------------------------------------------------------------------------------------

    /// `config` is canonical and may be that of any model; `transform` is what it does to pictures.
    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        for (key, only) in [
            ("/vision_config/model_type", json!("clip_vision_model")),
            ("/text_config/model_type", json!("clip_text_model")),
            ("/vision_config/hidden_act", json!("gelu")),
            ("/text_config/hidden_act", json!("gelu")),
            ("/vision_config/layer_norm_eps", json!(EPS)),
            ("/text_config/layer_norm_eps", json!(EPS)),
            ("/text_config/pooling", json!("argmax")),
            ("/image_projection/type", json!("linear")),
            ("/text_projection/type", json!("linear")),
        ] {
            let value = config.pointer(key).unwrap_or(&Value::Null);
            if *value != only {
                return Err(cannot(&format!("`{key}` {value}, only {only}")));
            }
        }
        if config["probability"] == "sigmoid" || config["logit_bias"] == true {
            return Err(cannot("a sigmoid model"));
        }
        let mut own = json!({
            "loupe": 1,
            "space": config["embed_dim"],
            "picture": restored(config, "vision_config")?,
            "title": restored(config, "text_config")?,
        });
        own["picture"]["side"] = config["vision_config"]["image_size"].clone();
        own["picture"]["patch"] = config["vision_config"]["patch_size"].clone();
        own["title"]["words"] = config["text_config"]["vocab_size"].clone();
        own["title"]["longest"] = config["text_config"]["max_position_embeddings"].clone();
        if let Some(transform) = transform {
            let plain = self.default_transform(config)?;
            let lit = TransformConfig {
                mean: transform.mean,
                std: transform.std,
                ..plain.clone()
            };
            if lit != *transform {
                return Err(cannot("this preparation of pictures"));
            }
            if lit != plain {
                own["light"] = json!({ "mean": lit.mean, "std": lit.std });
            }
        }
        Ok(Layout {
            // The ending says the container: `.bin` would be PyTorch's.
            weights: "model.safetensors",
            files: vec![("config.json", own)],
        })
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        Ok(TransformConfig::open_clip(
            number(config, "/vision_config/image_size")? as usize
        ))
    }

    /// Their reader wants the vocabulary as a file, also where the model is used with the bundled one.
    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::VocabTxt
    }
}

/// A positive number at a path of the config.
fn number(config: &Value, path: &str) -> Result<u64> {
    let value = config.pointer(path).unwrap_or(&Value::Null);
    let number = value.as_u64().filter(|number| (1..1 << 24).contains(number));
    number.ok_or_else(|| Error::invalid(format!("`{path}` is {value}; it should be a positive whole number")))
}

fn tower(config: &Value, key: &str, model_type: &str) -> Result<Value> {
    let width = number(config, &format!("/{key}/width"))?;
    Ok(json!({
        "model_type": model_type,
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": number(config, &format!("/{key}/blocks"))?,
        "num_attention_heads": number(config, &format!("/{key}/heads"))?,
        "hidden_act": "gelu",
        "layer_norm_eps": EPS,
    }))
}

fn restored(config: &Value, tower: &str) -> Result<Value> {
    let tower = &config[tower];
    let width = number(tower, "/hidden_size")?;
    if number(tower, "/intermediate_size")? != 4 * width {
        return Err(cannot("layers that are not four times as wide inside"));
    }
    Ok(json!({
        "width": width,
        "blocks": tower["num_hidden_layers"],
        "heads": tower["num_attention_heads"],
    }))
}

fn cannot(what: &str) -> Error {
    Error::invalid(format!("the layout `loupe` cannot express {what}")).remedy("save it as `clipzoo`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({
            "loupe": 1,
            "space": 8,
            "picture": { "width": 16, "blocks": 2, "heads": 2, "side": 16, "patch": 8 },
            "title": { "width": 12, "blocks": 1, "heads": 3, "words": 49408, "longest": 20 },
        })
    }

    fn canonical(config: &Value) -> Result<Value> {
        let beside = |_: &str| Ok(None);
        Loupe.canonical(&Evidence {
            config: Some(("config.json", config)),
            tensors: &[],
            file: "model.safetensors",
            format: clip_format::Format::Safetensors,
            beside: &beside,
        })
    }

    #[test]
    fn a_config_goes_both_ways() {
        let mut own = config();
        for lit in [false, true] {
            if lit {
                own["light"] = json!({ "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25] });
            }
            let ours = canonical(&own).unwrap();
            let transform = match ours.get("transform") {
                Some(form) => TransformConfig::from_json(form).unwrap(),
                None => Loupe.default_transform(&ours).unwrap(),
            };
            let layout = Loupe.restore(&ours, Some(&transform)).unwrap();
            assert_eq!(layout.files, [("config.json", own.clone())]);
        }
    }

    #[test]
    fn names_go_where_the_towers_look() {
        let mapping = Loupe.mapping(&Value::Null).unwrap();
        for (file, model) in [
            ("picture/11/widen.bias", Some("image.blocks.11.mlp.fc1.bias")),
            ("title/words", Some("text.token_embedding.weight")),
            ("title/space", Some("text_projection.weight")),
            // Parts of a tensor have no name of their own, and what is dropped has none.
            ("title/0/query.weight", None),
            ("pairs_seen", None),
        ] {
            assert_eq!(mapping.model_name(file).as_deref(), model, "{file}");
        }
    }

    #[test]
    fn nonsense_is_told_by_its_key() {
        for (key, value) in [
            ("loupe", json!(2)),
            ("space", json!(0)),
            ("picture", json!([])),
            ("title", json!("x")),
        ] {
            let mut wrong = config();
            wrong[key] = value;
            let error = canonical(&wrong).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let mut other = canonical(&config()).unwrap();
        other["text_config"]["hidden_act"] = "quick_gelu".into();
        let error = Loupe.restore(&other, None).unwrap_err().to_string();
        assert!(
            error.contains("cannot express `/text_config/hidden_act` \"quick_gelu\", only \"gelu\""),
            "{error}"
        );
    }
}
