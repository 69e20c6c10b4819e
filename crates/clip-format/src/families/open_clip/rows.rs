//! The names of OpenAI's release, which OpenCLIP, EasyNLP and Chinese-CLIP share.

use clip_core::Result;
use serde_json::Value;

use super::super::resnet;
use super::super::towers::{MODIFIED_RESNET, model_type};
use crate::mapping::{Mapping, Row};

pub(crate) const BLOCKS: &[Row] = &[
    Row::Same {
        file: "transformer.resblocks.{i}.ln_1.{p}",
        model: "blocks.{i}.norm1.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.ln_2.{p}",
        model: "blocks.{i}.norm2.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.attn.in_proj_{p}",
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.attn.out_proj.{p}",
        model: "blocks.{i}.attention.out.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.mlp.c_fc.{p}",
        model: "blocks.{i}.mlp.fc1.{p}",
    },
    Row::Same {
        file: "transformer.resblocks.{i}.mlp.c_proj.{p}",
        model: "blocks.{i}.mlp.fc2.{p}",
    },
];

const VISION: &[Row] = &[
    Row::Same {
        file: "class_embedding",
        model: "class_embedding",
    },
    Row::Same {
        file: "positional_embedding",
        model: "position_embedding",
    },
    Row::Same {
        file: "conv1.weight",
        model: "patch_embedding.weight",
    },
    Row::Same {
        file: "ln_pre.{p}",
        model: "pre_norm.{p}",
    },
    Row::Same {
        file: "ln_post.{p}",
        model: "post_norm.{p}",
    },
];

pub(crate) const TEXT: &[Row] = &[
    Row::Same {
        file: "token_embedding.weight",
        model: "token_embedding.weight",
    },
    Row::Same {
        file: "positional_embedding",
        model: "position_embedding",
    },
    Row::Same {
        file: "ln_final.{p}",
        model: "final_norm.{p}",
    },
    Row::Drop { file: "attn_mask" },
];

const IMAGE_PROJECTION: &[Row] = &[Row::Transpose {
    file: "proj",
    model: "image_projection.weight",
}];

/// `x @ P` in their code, a linear layer in ours.
pub(crate) const TEXT_PROJECTION: &[Row] = &[Row::Transpose {
    file: "text_projection",
    model: "text_projection.weight",
}];
/// With a bias it is a linear layer in theirs too.
pub(super) const TEXT_PROJECTION_WITH_BIAS: &[Row] = &[Row::Same {
    file: "text_projection.{p}",
    model: "text_projection.{p}",
}];

pub(crate) const HEAD: &[Row] = &[
    Row::Reshape {
        file: "logit_scale",
        model: "logit_scale",
        file_rank: 0,
        model_rank: 0,
    },
    Row::Reshape {
        file: "logit_bias",
        model: "logit_bias",
        file_rank: 0,
        model_rank: 0,
    },
    // OpenAI's archives carry three facts as tensors.
    Row::Drop {
        file: "input_resolution",
    },
    Row::Drop { file: "context_length" },
    Row::Drop { file: "vocab_size" },
];

/// The rows of a config's picture tower, under `visual.` behind a prefix, and of the projection behind the tower.
pub(crate) fn with_image(mapping: Mapping, prefix: &str, config: &Value) -> Result<Mapping> {
    let visual = format!("{prefix}visual.");
    let (tower, projection): (&[&[Row]], _) = match model_type(config, "vision_config") {
        Some(MODIFIED_RESNET) => (&[resnet::ROWS], resnet::PROJECTION),
        _ => (&[VISION, BLOCKS], IMAGE_PROJECTION),
    };
    tower
        .iter()
        .try_fold(mapping, |mapping, rows| mapping.under(&visual, "image.", rows))?
        .under(&visual, "", projection)
}
