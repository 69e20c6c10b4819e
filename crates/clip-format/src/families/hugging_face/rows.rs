//! Tensor names of the towers that only Hugging Face's families have.

use crate::mapping::Row;

/// `CLIPTextModel` and `SiglipTextModel` around their blocks.
pub(super) const CLIP_TEXT_ROWS: &[Row] = &[
    Row::Same {
        file: "embeddings.token_embedding.weight",
        model: "token_embedding.weight",
    },
    Row::Same {
        file: "embeddings.position_embedding.weight",
        model: "position_embedding",
    },
    Row::Drop {
        file: "embeddings.position_ids",
    },
    Row::Same {
        file: "final_layer_norm.{n}",
        model: "final_norm.{n}",
    },
];

/// `SiglipVisionModel` around its blocks.
pub(super) const SIGLIP_VISION_ROWS: &[Row] = &[
    Row::Same {
        file: "embeddings.patch_embedding.{p}",
        model: "patch_embedding.{p}",
    },
    Row::Same {
        file: "embeddings.position_embedding.weight",
        model: "position_embedding",
    },
    Row::Drop {
        file: "embeddings.position_ids",
    },
    Row::Same {
        file: "post_layernorm.{n}",
        model: "post_norm.{n}",
    },
    Row::Reshape {
        file: "head.probe",
        model: "head.probe",
        file_rank: 3,
        model_rank: 1,
    },
    Row::Same {
        file: "head.attention.in_proj_{p}",
        model: "head.attention.qkv.{p}",
    },
    Row::Same {
        file: "head.attention.out_proj.{p}",
        model: "head.attention.out.{p}",
    },
    Row::Same {
        file: "head.layernorm.{n}",
        model: "head.norm.{n}",
    },
    Row::Same {
        file: "head.mlp.fc1.{p}",
        model: "head.mlp.fc1.{p}",
    },
    Row::Same {
        file: "head.mlp.fc2.{p}",
        model: "head.mlp.fc2.{p}",
    },
];

/// `ViTModel`, with its pooler.
pub(super) const VIT_ROWS: &[Row] = &[
    Row::Reshape {
        file: "embeddings.cls_token",
        model: "class_embedding",
        file_rank: 3,
        model_rank: 1,
    },
    Row::Reshape {
        file: "embeddings.position_embeddings",
        model: "position_embedding",
        file_rank: 3,
        model_rank: 2,
    },
    Row::Same {
        file: "embeddings.patch_embeddings.projection.{p}",
        model: "patch_embedding.{p}",
    },
    // What hides patches where pictures are completed.
    Row::Drop {
        file: "embeddings.mask_token",
    },
    Row::Same {
        file: "encoder.layer.{i}.layernorm_before.{n}",
        model: "blocks.{i}.norm1.{n}",
    },
    Row::Same {
        file: "encoder.layer.{i}.layernorm_after.{n}",
        model: "blocks.{i}.norm2.{n}",
    },
    Row::Concat {
        file: &[
            "encoder.layer.{i}.attention.attention.query.{p}",
            "encoder.layer.{i}.attention.attention.key.{p}",
            "encoder.layer.{i}.attention.attention.value.{p}",
        ],
        model: "blocks.{i}.attention.qkv.{p}",
    },
    Row::Same {
        file: "encoder.layer.{i}.attention.output.dense.{p}",
        model: "blocks.{i}.attention.out.{p}",
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
        file: "layernorm.{n}",
        model: "post_norm.{n}",
    },
    Row::Same {
        file: "pooler.dense.{p}",
        model: "pooler.{p}",
    },
];
