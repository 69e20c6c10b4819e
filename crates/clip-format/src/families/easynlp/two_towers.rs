//! EasyNLP's `huggingface_clip`: a RoBERTa beside CLIP's vision tower, each under its own prefix.
//!
//! There are two: the one that EasyNLP writes today, and that of its first releases (2022), which it no longer reads. Both
//! have an object of config for each tower, with defaults of EasyNLP's own; only the names of the tensors tell them
//! apart, and from Hugging Face's CLIP, whose `model_type` they share.

use clip_core::{Error, Result};
use clip_data::TransformConfig;
use serde_json::{Value, json};

use super::super::asked::{OPEN, Tower, ask, projected};
use super::super::flat::{CLIP_EPS, expect_fixed, expect_tokenizer};
use super::super::hugging_face::PROJECTIONS;
use super::super::towers::{
    BERT_ROWS, BertDefaults, CLIP_VISION, CLIP_VISION_ROWS, ENCODER_ROWS, LOGIT_SCALE, ROBERTA, bert_config_from,
    bert_context, bert_pooler, cannot, clip_vision_config, expect_softmax, expect_tower, without,
};
use super::super::{Evidence, Family, Layout, VocabularyForm};
use super::{EASYNLP, default_transform, layout};
use crate::fields::Fields;
use crate::mapping::{Mapping, Row};

/// The types that EasyNLP writes or means; it takes any other for this layout too, but other programs have theirs.
const MODEL_TYPES: [&str; 2] = ["clip", "huggingface_clip"];

/// What `text_config` means where it says nothing: a Chinese RoBERTa-large.
const DEFAULTS: BertDefaults = BertDefaults {
    model_type: ROBERTA,
    vocab_size: 21128,
    hidden_size: 1024,
    intermediate_size: 4096,
    layers: 24,
    heads: 16,
    pad_token_id: 0,
};

/// One of the two layouts.
pub(crate) struct TwoTowers {
    name: &'static str,
    short_name: &'static str,
    mark: &'static str,
    /// What the names of each tower begin with.
    text: &'static str,
    vision: &'static str,
    /// Projections and temperature.
    head: &'static [Row],
    /// Whether the projections have a bias.
    bias: bool,
    /// Dimensions of the temperature in a new file.
    scale_rank: usize,
}

const HEAD: &[Row] = &[
    Row::Same {
        file: "vision_projection.{p}",
        model: "image_projection.{p}",
    },
    Row::Same {
        file: "text_projection.{p}",
        model: "text_projection.{p}",
    },
];

/// EasyNLP starts a temperature that the file does not have.
const STARTED: &[Row] = &[Row::Number {
    model: "logit_scale",
    value: super::super::open_clip::LOGIT_SCALE as f32,
}];

/// The temperature, as a scalar and as a vector of one; the first row that knows a name writes it.
const SCALE: [&[Row]; 2] = [
    &[Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 0,
        model_rank: 0,
    }],
    &[Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 1,
        model_rank: 0,
    }],
];

impl TwoTowers {
    /// What EasyNLP writes.
    pub(crate) const NOW: Self = Self {
        name: "easynlp-hf",
        short_name: EASYNLP,
        mark: "`text_config`, `vision_config`, and tensors under `text_encoder.` and `vision_encoder.`",
        text: "text_encoder.",
        vision: "vision_encoder.",
        head: HEAD,
        bias: true,
        scale_rank: 1,
    };

    /// What its first releases wrote.
    pub(crate) const OF_2022: Self = Self {
        name: "easynlp-hf-2022",
        // EasyNLP no longer reads it, so nobody means it who says EasyNLP.
        short_name: "easynlp-hf-2022",
        mark: "`text_config`, `vision_config`, and tensors under `roberta.` and `vit.`",
        text: "roberta.",
        vision: "vit.",
        head: PROJECTIONS,
        bias: false,
        scale_rank: 0,
    };

    fn has_names(&self, evidence: &Evidence<'_>) -> bool {
        let any = |prefix: &str| evidence.tensors.iter().any(|tensor| tensor.name.starts_with(prefix));
        any(self.text) && any(self.vision)
    }

    fn projection(&self) -> Value {
        json!({"type": "linear", "bias": self.bias})
    }
}

/// Whether the tensors are called as in either of the two layouts.
pub(crate) fn has_names_of_two_towers(evidence: &Evidence<'_>) -> bool {
    TwoTowers::NOW.has_names(evidence) || TwoTowers::OF_2022.has_names(evidence)
}

impl Family for TwoTowers {
    fn name(&self) -> &'static str {
        self.name
    }

    fn short_name(&self) -> &'static str {
        self.short_name
    }

    fn mark(&self) -> &'static str {
        self.mark
    }

    fn recognises(&self, evidence: &Evidence<'_>) -> bool {
        let towers = |config: &Value| {
            let model_type = config.get("model_type").filter(|model_type| !model_type.is_null());
            model_type.is_none_or(|model_type| MODEL_TYPES.iter().any(|known| model_type == known))
                && ["text_config", "vision_config"]
                    .iter()
                    .all(|key| config.get(key).is_some_and(Value::is_object))
        };
        evidence.config().is_some_and(towers) && self.has_names(evidence)
    }

    fn asks(&self, evidence: &Evidence<'_>) -> Option<Error> {
        let vision = format!("{}vision_model.", self.vision);
        let own = json!({
            "model_type": MODEL_TYPES[1], "projection_dim": projected(evidence), "text_config": {"pad_token_id": OPEN},
        });
        [self.text.to_owned(), format!("{}roberta.", self.text)]
            .iter()
            .find_map(|text| {
                let towers = [
                    ("text_config", Tower::Bert, text.as_str()),
                    ("vision_config", Tower::ClipVision, vision.as_str()),
                ];
                ask(evidence, "EasyNLP's huggingface_clip", &own, &towers)
            })
    }

    fn canonical(&self, evidence: &Evidence<'_>) -> Result<Value> {
        let (file, config) = evidence.required_config()?;
        let fields = Fields::new(config, file)?;
        let given = |key| fields.object(key).map(|_| &config[key]);
        let text = bert_config_from(&DEFAULTS, given("text_config")?, "text_config", "pooler")?;
        let mut vision = clip_vision_config(given("vision_config")?, "vision_config")?;
        // EasyNLP reads another from no config: its norms have PyTorch's.
        vision["layer_norm_eps"] = CLIP_EPS.into();
        // EasyNLP writes 512 whatever the model's is.
        let dim = match evidence.shape("text_projection.weight") {
            Some(&[dim, _]) => dim,
            _ => fields.size("projection_dim", 512)?,
        };
        let mut canonical = json!({
            "model_type": "clipzoo",
            "embed_dim": dim,
            "image_projection": self.projection(),
            "text_projection": self.projection(),
            "logit_scale_init": fields.number("logit_scale_init_value", LOGIT_SCALE)?,
            "logit_bias": false,
            "probability": "softmax",
            "context_length": bert_context(&text),
            "vision_config": vision,
            "text_config": text,
            "tokenizer": {"type": "word_piece", "flavour": "bert", "lower_case": true},
        });
        // Files have the temperature in either form; it goes back as it came.
        if let Some(rank) = evidence.shape("logit_scale").map(<[usize]>::len)
            && rank != self.scale_rank
        {
            canonical["layout"] = json!({"logit_scale_rank": rank});
        }
        Ok(canonical)
    }

    fn mapping(&self, config: &Value) -> Result<Mapping> {
        let rank = config.pointer("/layout/logit_scale_rank").and_then(Value::as_u64);
        let rank = rank.map_or(self.scale_rank, |rank| rank.min(1) as usize);
        let vision = format!("{}vision_model.", self.vision);
        let mapping = Mapping::new()
            .under("", "", SCALE[rank])?
            .under("", "", STARTED)?
            .under("", "", self.head)?
            .under(&vision, "image.", CLIP_VISION_ROWS)?
            .under(&vision, "image.", ENCODER_ROWS)?;
        // A RoBERTa that was saved with a head on top has its own prefix besides.
        [self.text.to_owned(), format!("{}roberta.", self.text)]
            .iter()
            .try_fold(mapping, |mapping, text| {
                mapping
                    .under(text, "text.", BERT_ROWS)?
                    .under(text, "text.", bert_pooler(&config["text_config"]))
            })
    }

    fn restore(&self, config: &Value, transform: Option<&TransformConfig>) -> Result<Layout> {
        expect_tower(config, "vision_config", CLIP_VISION, self.name)?;
        expect_tower(config, "text_config", ROBERTA, self.name)?;
        expect_softmax(config, self.name)?;
        for key in ["image_projection", "text_projection"] {
            if config[key] != self.projection() {
                return Err(cannot(self.name, &format!("the `{key}` {}", config[key])));
            }
        }
        expect_fixed(
            config,
            "vision_config",
            self.name,
            &[("layer_norm_eps", CLIP_EPS.into())],
        )?;
        expect_fixed(config, "text_config", self.name, &[("pooling", "pooler".into())])?;
        expect_tokenizer(config, self.name, "word_piece")?;
        let fields = Fields::new(config, "config")?;
        let own = json!({
            "model_type": MODEL_TYPES[0],
            "projection_dim": fields.required_size("embed_dim")?,
            "logit_scale_init_value": fields.number("logit_scale_init", LOGIT_SCALE)?,
            "text_config": without(&config["text_config"], &["model_type", "pooling"]),
            "vision_config": without(&config["vision_config"], &["model_type"]),
        });
        layout(own, config, transform, self.name)
    }

    fn default_transform(&self, config: &Value) -> Result<TransformConfig> {
        default_transform(config)
    }

    fn vocabulary(&self) -> VocabularyForm {
        VocabularyForm::VocabTxt
    }
}
