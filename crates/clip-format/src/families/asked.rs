//! A file of weights whose family needs a config that is missing: the error that asks for it and shows what of it the
//! names and shapes of the tensors tell.

use clip_core::{Error, Result};
use serde_json::{Value, json};

use super::Evidence;
use super::bare::{BertShape, Blocks, Shapes};

/// What stands in a shown config where weights tell nothing.
pub(crate) const OPEN: &str = "?";

/// A tower as Hugging Face's library names its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tower {
    /// `CLIPTextModel`.
    ClipText,
    /// `SiglipTextModel`, which brings its projection.
    SiglipText,
    /// `BertModel`, `RobertaModel` and their kin.
    Bert,
    /// `CLIPVisionModel`.
    ClipVision,
    /// `SiglipVisionModel`.
    SiglipVision,
    /// `ViTModel`.
    Vit,
}

impl Tower {
    /// A tensor, under the tower's prefix, that only such a tower has.
    fn mark(self) -> &'static str {
        match self {
            Self::ClipText => "embeddings.token_embedding.weight",
            Self::SiglipText => "head.weight",
            Self::Bert => "embeddings.word_embeddings.weight",
            Self::ClipVision => "embeddings.class_embedding",
            Self::SiglipVision => "head.probe",
            Self::Vit => "embeddings.cls_token",
        }
    }

    /// The tower's config, with questions.
    fn config(self, shapes: &Shapes<'_>) -> Result<Value> {
        let mut config = match self {
            Self::ClipText => text(shapes)?,
            Self::SiglipText => {
                let mut config = text(shapes)?;
                config["projection_size"] = shapes.side("head.weight", 0)?.into();
                config
            }
            Self::Bert => bert(shapes.bert("")?),
            Self::ClipVision => vision(shapes, &clip_names(1))?,
            Self::SiglipVision => vision(shapes, &clip_names(0))?,
            Self::Vit => {
                let mut config = vision(shapes, &VIT)?;
                config["qkv_bias"] = shapes.has("encoder.layer.0.attention.attention.query.bias").into();
                config
            }
        };
        config["num_attention_heads"] = OPEN.into();
        config["hidden_act"] = OPEN.into();
        Ok(config)
    }
}

/// A tower of a layout: its key in the config, what its tensors are named like, and their prefix.
pub(crate) type Part<'a> = (&'a str, Tower, &'a str);

/// The error for a file that stands without a config and has these towers; nothing for other names. `own` is what the
/// config holds beside the towers.
pub(crate) fn ask(evidence: &Evidence<'_>, what: &str, own: &Value, parts: &[Part<'_>]) -> Option<Error> {
    let has = |(_, tower, prefix): &Part<'_>| evidence.shape(&format!("{prefix}{}", tower.mark())).is_some();
    if evidence.config.is_some() || !parts.iter().all(has) {
        return None;
    }
    let filled: Result<Value> = parts.iter().try_fold(own.clone(), |mut config, (key, tower, prefix)| {
        let told = tower.config(&Shapes::of(evidence, prefix))?;
        match config[*key].as_object_mut() {
            // What the family itself says of the tower stays.
            Some(object) => object.extend(told.as_object().cloned().unwrap_or_default()),
            None => config[*key] = told,
        }
        Ok(config)
    });
    Some(match filled {
        Ok(config) => Error::invalid(format!(
            "the weights are those of {what}, but config.json is missing beside them; nothing in weights tells GELU from \
             QuickGELU, nor how many heads of attention there are"
        ))
        .remedy(format!(
            "{ASK}; what the weights tell of it, with \"{OPEN}\" to fill in (`hidden_act` is gelu, quick_gelu or, in SigLIP, \
             gelu_pytorch_tanh; `num_attention_heads` mostly a 64th of `hidden_size`): {config}"
        )),
        Err(error) => error.remedy(ASK),
    })
}

const ASK: &str = "put the model's config.json into the same folder";

/// The dimensions of the common space, as the projection of texts tells them.
pub(crate) fn projected(evidence: &Evidence<'_>) -> Value {
    match evidence.shape("text_projection.weight") {
        Some([embed, _]) => (*embed).into(),
        _ => OPEN.into(),
    }
}

/// The first matrix of a block's two, in the towers of CLIP and SigLIP.
const CLIP_BLOCKS: Blocks = ("encoder.layers.", ".mlp.fc1.weight");

fn text(shapes: &Shapes<'_>) -> Result<Value> {
    let words = "embeddings.token_embedding.weight";
    let (layers, hidden) = shapes.blocks(CLIP_BLOCKS)?;
    Ok(json!({
        "hidden_size": shapes.side(words, 1)?,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "max_position_embeddings": shapes.side("embeddings.position_embedding.weight", 0)?,
        "vocab_size": shapes.side(words, 0)?,
    }))
}

fn bert(shape: BertShape) -> Value {
    json!({
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "vocab_size": shape.vocabulary,
    })
}

/// The names of a picture tower that tell its sizes.
struct PictureNames {
    patches: &'static str,
    /// A table of positions, the side that counts them, and how many there are more than patches.
    positions: (&'static str, usize, usize),
    blocks: Blocks,
}

const fn clip_names(more: usize) -> PictureNames {
    PictureNames {
        patches: "embeddings.patch_embedding.weight",
        positions: ("embeddings.position_embedding.weight", 0, more),
        blocks: CLIP_BLOCKS,
    }
}

const VIT: PictureNames = PictureNames {
    patches: "embeddings.patch_embeddings.projection.weight",
    positions: ("embeddings.position_embeddings", 1, 1),
    blocks: ("encoder.layer.", ".intermediate.dense.weight"),
};

fn vision(shapes: &Shapes<'_>, names: &PictureNames) -> Result<Value> {
    let patch = shapes.side(names.patches, 3)?;
    let (positions, side, more) = names.positions;
    let (layers, hidden) = shapes.blocks(names.blocks)?;
    Ok(json!({
        "hidden_size": shapes.side(names.patches, 0)?,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "image_size": shapes.grid(positions, side, more)?.saturating_mul(patch),
        "patch_size": patch,
    }))
}
