//! Checkpoints of every family at any size, by the references' names, written out apart from the mappings.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::tensor::Weights;
use crate::testing::Table;

/// Sizes of a tower.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) width: usize,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) embed: usize,
}

pub(super) fn sizes() -> impl Strategy<Value = Sizes> {
    let ranges = (1usize..5, 1usize..9, 1usize..13, 1usize..6);
    ranges.prop_map(|(width, hidden, layers, embed)| Sizes {
        width: width * 4,
        hidden,
        layers,
        embed,
    })
}

/// Tensors whose elements all differ over the file.
pub(super) struct Builder {
    pub(super) table: Table,
    next: f32,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            table: Table::new([]),
            next: 0.5,
        }
    }

    pub(super) fn add(&mut self, name: impl AsRef<str>, shape: &[usize]) {
        self.table.counting(name.as_ref(), shape, self.next);
        self.next += shape.iter().product::<usize>() as f32;
    }

    pub(super) fn linear(&mut self, name: &str, rows: usize, columns: usize) {
        self.add(format!("{name}.weight"), &[rows, columns]);
        self.add(format!("{name}.bias"), &[rows]);
    }

    pub(super) fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }
}

pub(super) fn open_clip_blocks(
    out: &mut Builder,
    prefix: &str,
    Sizes {
        width, hidden, layers, ..
    }: Sizes,
) {
    for layer in 0..layers {
        let at = format!("{prefix}transformer.resblocks.{layer}");
        out.norm(&format!("{at}.ln_1"), width);
        out.add(format!("{at}.attn.in_proj_weight"), &[3 * width, width]);
        out.add(format!("{at}.attn.in_proj_bias"), &[3 * width]);
        out.linear(&format!("{at}.attn.out_proj"), width, width);
        out.norm(&format!("{at}.ln_2"), width);
        out.linear(&format!("{at}.mlp.c_fc"), hidden, width);
        out.linear(&format!("{at}.mlp.c_proj"), width, hidden);
    }
}

/// Blocks of the stages of a ResNet.
pub(super) const LAYERS: [usize; 4] = [1, 2, 1, 3];

/// OpenAI's ResNet under `visual.`, for pictures of 64 pixels, each norm's batches counted.
pub(super) fn resnet_tensors(out: &mut Builder, prefix: &str, width: usize, embed: usize) {
    let at = format!("{prefix}visual");
    let unit = |out: &mut Builder, conv: String, norm: String, [input, output, kernel]: [usize; 3]| {
        out.add(format!("{conv}.weight"), &[output, input, kernel, kernel]);
        out.norm(&norm, output);
        out.add(format!("{norm}.running_mean"), &[output]);
        out.add(format!("{norm}.running_var"), &[output]);
        let count = out.table.names().len() as i64;
        out.table.push_count(&format!("{norm}.num_batches_tracked"), count);
    };
    let half = width / 2;
    for (i, sizes) in [[3, half, 3], [half, half, 3], [half, width, 3]]
        .into_iter()
        .enumerate()
    {
        unit(out, format!("{at}.conv{}", i + 1), format!("{at}.bn{}", i + 1), sizes);
    }
    let mut input = width;
    for (stage, blocks) in LAYERS.into_iter().enumerate() {
        let narrow = width << stage;
        for block in 0..blocks {
            let at = format!("{at}.layer{}.{block}", stage + 1);
            let sizes = [[input, narrow, 1], [narrow, narrow, 3], [narrow, 4 * narrow, 1]];
            for (i, sizes) in sizes.into_iter().enumerate() {
                unit(out, format!("{at}.conv{}", i + 1), format!("{at}.bn{}", i + 1), sizes);
            }
            if block == 0 {
                let names = [format!("{at}.downsample.0"), format!("{at}.downsample.1")];
                let [conv, norm] = names;
                unit(out, conv, norm, [input, 4 * narrow, 1]);
            }
            input = 4 * narrow;
        }
    }
    out.add(format!("{at}.attnpool.positional_embedding"), &[5, input]);
    for part in ["k_proj", "q_proj", "v_proj"] {
        out.linear(&format!("{at}.attnpool.{part}"), input, input);
    }
    out.linear(&format!("{at}.attnpool.c_proj"), embed, input);
}

/// Heads of 16 in the attention pool.
pub(super) fn open_clip_resnet(width: usize, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("positional_embedding", &[7, text.width]);
    out.add("text_projection", &[text.width, text.embed]);
    out.add("logit_scale", &[]);
    resnet_tensors(&mut out, "", width, text.embed);
    open_clip_blocks(&mut out, "", text);
    out.add("token_embedding.weight", &[11, text.width]);
    out.norm("ln_final", text.width);
    let ratio = (text.hidden as f64 + 0.25) / text.width as f64;
    let config = json!({"model_cfg": {
        "embed_dim": text.embed,
        "vision_cfg": {"image_size": 64, "patch_size": null, "width": width, "layers": LAYERS, "head_width": 16},
        "text_cfg": {"context_length": 7, "vocab_size": 11, "width": text.width, "heads": 2, "layers": text.layers, "mlp_ratio": ratio},
    }});
    (config, out.table)
}

pub(super) fn open_clip(vision: Sizes, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("positional_embedding", &[7, text.width]);
    out.add("text_projection", &[text.width, vision.embed]);
    out.add("logit_scale", &[]);
    out.add("visual.class_embedding", &[vision.width]);
    out.add("visual.positional_embedding", &[5, vision.width]);
    out.add("visual.proj", &[vision.width, vision.embed]);
    out.add("visual.conv1.weight", &[vision.width, 3, 2, 2]);
    out.norm("visual.ln_pre", vision.width);
    open_clip_blocks(&mut out, "visual.", vision);
    out.norm("visual.ln_post", vision.width);
    open_clip_blocks(&mut out, "", text);
    out.add("token_embedding.weight", &[11, text.width]);
    out.norm("ln_final", text.width);
    let ratio = |sizes: Sizes| (sizes.hidden as f64 + 0.25) / sizes.width as f64;
    let config = json!({"model_cfg": {
        "embed_dim": vision.embed,
        "quick_gelu": vision.layers.is_multiple_of(2),
        "vision_cfg": {"image_size": 4, "patch_size": 2, "width": vision.width, "layers": vision.layers, "head_width": 2, "mlp_ratio": ratio(vision)},
        "text_cfg": {"context_length": 7, "vocab_size": 11, "width": text.width, "heads": 2, "layers": text.layers, "mlp_ratio": ratio(text)},
    }});
    (config, out.table)
}

pub(super) fn bert_tensors(
    out: &mut Builder,
    prefix: &str,
    Sizes {
        width, hidden, layers, ..
    }: Sizes,
) {
    out.add(format!("{prefix}embeddings.word_embeddings.weight"), &[11, width]);
    out.add(format!("{prefix}embeddings.position_embeddings.weight"), &[9, width]);
    out.add(format!("{prefix}embeddings.token_type_embeddings.weight"), &[2, width]);
    out.norm(&format!("{prefix}embeddings.LayerNorm"), width);
    for layer in 0..layers {
        let at = format!("{prefix}encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            out.linear(&format!("{at}.attention.self.{part}"), width, width);
        }
        out.linear(&format!("{at}.attention.output.dense"), width, width);
        out.norm(&format!("{at}.attention.output.LayerNorm"), width);
        out.linear(&format!("{at}.intermediate.dense"), hidden, width);
        out.linear(&format!("{at}.output.dense"), width, hidden);
        out.norm(&format!("{at}.output.LayerNorm"), width);
    }
}

pub(super) fn bert_json(sizes: Sizes) -> Value {
    json!({
        "model_type": "bert", "vocab_size": 11, "hidden_size": sizes.width, "intermediate_size": sizes.hidden,
        "num_hidden_layers": sizes.layers, "num_attention_heads": 2, "max_position_embeddings": 9, "initializer_range": 0.02,
    })
}

pub(super) fn bert(sizes: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    bert_tensors(&mut out, "", sizes);
    (bert_json(sizes), out.table)
}

pub(super) fn encoder_layers(
    out: &mut Builder,
    prefix: &str,
    Sizes {
        width, hidden, layers, ..
    }: Sizes,
) {
    for layer in 0..layers {
        let at = format!("{prefix}encoder.layers.{layer}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            out.linear(&format!("{at}.self_attn.{part}"), width, width);
        }
        out.norm(&format!("{at}.layer_norm1"), width);
        out.norm(&format!("{at}.layer_norm2"), width);
        out.linear(&format!("{at}.mlp.fc1"), hidden, width);
        out.linear(&format!("{at}.mlp.fc2"), width, hidden);
    }
}

pub(super) fn clip_vision_tensors(out: &mut Builder, prefix: &str, sizes: Sizes) {
    let width = sizes.width;
    out.add(format!("{prefix}embeddings.class_embedding"), &[width]);
    out.add(format!("{prefix}embeddings.patch_embedding.weight"), &[width, 3, 2, 2]);
    out.add(format!("{prefix}embeddings.position_embedding.weight"), &[5, width]);
    out.norm(&format!("{prefix}pre_layrnorm"), width);
    out.norm(&format!("{prefix}post_layernorm"), width);
    encoder_layers(out, prefix, sizes);
}

pub(super) fn clip_vision_json(sizes: Sizes) -> Value {
    json!({
        "model_type": "clip_vision_model", "hidden_size": sizes.width, "intermediate_size": sizes.hidden, "image_size": 4,
        "num_hidden_layers": sizes.layers, "num_attention_heads": 2, "patch_size": 2,
    })
}

pub(super) fn dual_encoder(vision: Sizes, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("logit_scale", &[]);
    bert_tensors(&mut out, "text_model.", text);
    out.linear("text_model.pooler.dense", text.width, text.width);
    out.add("text_projection.weight", &[vision.embed, text.width]);
    out.add("visual_projection.weight", &[vision.embed, vision.width]);
    clip_vision_tensors(&mut out, "vision_model.", vision);
    let config = json!({
        "model_type": "vision-text-dual-encoder", "projection_dim": vision.embed, "text_config": bert_json(text),
        "vision_config": clip_vision_json(vision),
    });
    (config, out.table)
}

pub(super) fn efficientnet(sizes: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("_conv_stem.weight", &[sizes.width, 3, 3, 3]);
    for block in 0..sizes.layers {
        out.add(
            format!("_blocks.{block}._depthwise_conv.weight"),
            &[sizes.width, 1, 3, 3],
        );
        for part in ["weight", "bias", "running_mean", "running_var"] {
            out.add(format!("_blocks.{block}._bn1.{part}"), &[sizes.width]);
        }
    }
    (
        json!({"model_type": "efficientnet_lite0", "image_size": 8 * sizes.width}),
        out.table,
    )
}

pub(super) fn native(sizes: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("logit_scale", &[]);
    out.linear("image_projection.fc1", sizes.hidden, sizes.width);
    out.add("image.anything.at.all", &[sizes.width, 1, 1]);
    let config = json!({
        "model_type": "clipzoo", "embed_dim": sizes.embed, "image_projection": {"type": "mlp", "hidden": sizes.hidden},
        "vision_config": {"model_type": "mine"}, "text_config": {"model_type": "yours"},
    });
    (config, out.table)
}
