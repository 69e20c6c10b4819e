//! A file of weights without a config: what the names and shapes of its tensors say about the model.
//!
//! They say every dimension. They do not say how wide heads of attention are, nor which activation bends between two
//! layers: another one runs as well and gives other features. A family takes those from a convention that holds for all
//! files of its kind, or asks for the config.

use std::collections::HashMap;

use clip_core::{Error, Modality, Result};
use clip_data::feature_name;

use super::{Evidence, resnet};
use crate::tensor::TensorInfo;

/// Heads of attention in CLIP's own towers and in published BERTs are this wide.
const USUAL_HEAD: usize = 64;

/// The number of heads where their width is the usual one, which the caller knows of its kind of file.
pub(crate) fn usual_heads(width: usize, tower: &str) -> Result<usize> {
    if width.is_multiple_of(USUAL_HEAD) {
        return Ok(width / USUAL_HEAD);
    }
    Err(Error::invalid(format!(
        "{tower} is {width} wide, which heads of {USUAL_HEAD} do not share: the weights do not tell how many heads it has"
    )))
}

/// The error for weights without a config whose names no family knows.
pub(super) fn of_no_family(evidence: &Evidence<'_>) -> Error {
    let features = [Modality::Text, Modality::Image].map(feature_name);
    let are_features = |tensor: &TensorInfo| features.contains(&tensor.name.as_str());
    if !evidence.tensors.is_empty() && evidence.tensors.iter().all(are_features) {
        return Error::invalid("this is a file of features, not a model")
            .remedy("`clipzoo evaluate --text-features FILE --image-features FILE` ranks them");
    }
    Error::invalid("there is no config beside the weights, and their names fit no family")
        .remedy("add the model's open_clip_config.json or config.json; `clipzoo models` lists what is known")
}

/// What stands before and behind a block's number in the name of its matrix into the hidden layer.
pub(crate) type Blocks = (&'static str, &'static str);

/// The tensors under a prefix.
pub(crate) struct Shapes<'a> {
    shapes: HashMap<&'a str, &'a [usize]>,
    prefix: &'a str,
}

/// OpenAI's picture tower under `visual.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vision {
    Transformer {
        width: usize,
        layers: usize,
        patch: usize,
        image_size: usize,
        hidden: usize,
    },
    ResNet {
        width: usize,
        layers: [usize; 4],
        image_size: usize,
    },
}

/// OpenAI's text tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClipText {
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) vocabulary: usize,
    pub(crate) context: usize,
}

/// A BERT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BertShape {
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) hidden: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    pub(crate) types: usize,
}

impl<'a> Shapes<'a> {
    /// Of the evidence's tensors, those under a prefix.
    pub(crate) fn of(evidence: &Evidence<'a>, prefix: &'a str) -> Self {
        let own = evidence.tensors.iter();
        let own = own.filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor.shape.as_slice())));
        Self {
            shapes: own.collect(),
            prefix,
        }
    }

    fn find(&self, name: &str) -> Option<&'a [usize]> {
        self.shapes.get(name).copied()
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The length of one side of a tensor.
    pub(crate) fn side(&self, name: &str, side: usize) -> Result<usize> {
        let shape = self.find(name);
        shape.and_then(|shape| shape.get(side)).copied().ok_or_else(|| {
            let full = format!("{}{name}", self.prefix);
            Error::invalid(match shape {
                Some(shape) => {
                    format!("the tensor `{full}` {shape:?} has too few sides to tell the model's dimensions")
                }
                None => format!("there is no tensor `{full}` to tell the model's dimensions"),
            })
        })
    }

    /// How many of `{before}0{after}`, `{before}1{after}`, … there are.
    pub(crate) fn count(&self, before: &str, after: &str) -> usize {
        (0..)
            .take_while(|number| self.has(&format!("{before}{number}{after}")))
            .count()
    }

    /// How many blocks there are, and how wide the hidden layer of the first is.
    pub(crate) fn blocks(&self, (before, after): Blocks) -> Result<(usize, usize)> {
        let hidden = self.side(&format!("{before}0{after}"), 0)?;
        Ok((self.count(before, after), hidden))
    }

    /// The side of a square of places, of which a side of a table has one row each, and some `more` before them.
    pub(crate) fn grid(&self, table: &str, side: usize, more: usize) -> Result<usize> {
        let rows = self.side(table, side)?;
        let places = rows.saturating_sub(more);
        let square = places.isqrt();
        if places > 0 && square * square == places {
            return Ok(square);
        }
        let more = if more > 0 { " and one more" } else { "" };
        Err(Error::invalid(format!(
            "the {rows} rows of `{}{table}` are no square{more}, so that they do not tell the size of pictures",
            self.prefix
        )))
    }

    /// OpenAI's picture tower.
    pub(crate) fn vision(&self) -> Result<Vision> {
        if self.has("visual.layer1.0.conv1.weight") {
            let stage = |stage: usize| self.count(&format!("visual.layer{stage}."), ".conv1.weight");
            let places = self.grid("visual.attnpool.positional_embedding", 0, 1)?;
            return Ok(Vision::ResNet {
                width: self.side("visual.layer1.0.conv1.weight", 0)?,
                layers: [1, 2, 3, 4].map(stage),
                image_size: places.saturating_mul(resnet::STRIDE),
            });
        }
        let patch = self.side("visual.conv1.weight", 3)?;
        Ok(Vision::Transformer {
            width: self.side("visual.conv1.weight", 0)?,
            layers: self.count("visual.transformer.resblocks.", ".ln_1.weight"),
            patch,
            image_size: self.grid("visual.positional_embedding", 0, 1)?.saturating_mul(patch),
            hidden: self.side("visual.transformer.resblocks.0.mlp.c_fc.weight", 0)?,
        })
    }

    /// OpenAI's text tower, under a prefix more.
    pub(crate) fn clip_text(&self, prefix: &str) -> Result<ClipText> {
        let name = |name: &str| format!("{prefix}{name}");
        Ok(ClipText {
            width: self.side(&name("token_embedding.weight"), 1)?,
            layers: self.count(&name("transformer.resblocks."), ".ln_1.weight"),
            hidden: self.side(&name("transformer.resblocks.0.mlp.c_fc.weight"), 0)?,
            vocabulary: self.side(&name("token_embedding.weight"), 0)?,
            context: self.side(&name("positional_embedding"), 0)?,
        })
    }

    /// A BERT, under a prefix more.
    pub(crate) fn bert(&self, prefix: &str) -> Result<BertShape> {
        let name = |name: &str| format!("{prefix}{name}");
        let words = name("embeddings.word_embeddings.weight");
        Ok(BertShape {
            width: self.side(&words, 1)?,
            layers: self.count(&name("encoder.layer."), ".output.dense.weight"),
            hidden: self.side(&name("encoder.layer.0.intermediate.dense.weight"), 0)?,
            vocabulary: self.side(&words, 0)?,
            positions: self.side(&name("embeddings.position_embeddings.weight"), 0)?,
            types: self.side(&name("embeddings.token_type_embeddings.weight"), 0)?,
        })
    }
}
