//! Checkpoints of Hugging Face's families and of EasyNLP's in that style, at any size.

use serde_json::{Value, json};

use super::super::layouts::{
    Builder, Sizes, bert_json, bert_tensors, clip_vision_json, clip_vision_tensors, encoder_layers,
};
use super::DUAL_ENCODER;
use crate::testing::Table;

fn head(out: &mut Builder, vision: Sizes, text: Sizes) {
    out.add("logit_scale", &[]);
    out.add("text_projection.weight", &[vision.embed, text.width]);
    out.add("visual_projection.weight", &[vision.embed, vision.width]);
}

fn text_tensors(out: &mut Builder, sizes: Sizes) {
    out.add("text_model.embeddings.token_embedding.weight", &[11, sizes.width]);
    out.add("text_model.embeddings.position_embedding.weight", &[7, sizes.width]);
    encoder_layers(out, "text_model.", sizes);
    out.norm("text_model.final_layer_norm", sizes.width);
}

fn text_json(sizes: Sizes, model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": sizes.width, "intermediate_size": sizes.hidden,
        "num_hidden_layers": sizes.layers, "num_attention_heads": 2, "vocab_size": 11, "max_position_embeddings": 7,
        "initializer_factor": 1.0,
    })
}

pub(super) fn clip(vision: Sizes, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    head(&mut out, vision, text);
    text_tensors(&mut out, text);
    clip_vision_tensors(&mut out, "vision_model.", vision);
    let mut text = text_json(text, "clip_text_model");
    text["eos_token_id"] = if vision.layers.is_multiple_of(2) { 2 } else { 10 }.into();
    let config = json!({
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": vision.embed,
        "text_config": text, "vision_config": clip_vision_json(vision),
    });
    (config, out.table)
}

pub(super) fn chinese_clip(vision: Sizes, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    head(&mut out, vision, text);
    bert_tensors(&mut out, "text_model.", text);
    clip_vision_tensors(&mut out, "vision_model.", vision);
    let (mut text, mut picture) = (bert_json(text), clip_vision_json(vision));
    text["model_type"] = "chinese_clip_text_model".into();
    picture["model_type"] = "chinese_clip_vision_model".into();
    let config = json!({
        "model_type": "chinese_clip", "projection_dim": vision.embed, "text_config": text, "vision_config": picture,
    });
    (config, out.table)
}

fn siglip_vision_tensors(out: &mut Builder, prefix: &str, sizes: Sizes) {
    let Sizes { width, hidden, .. } = sizes;
    out.add(format!("{prefix}embeddings.patch_embedding.weight"), &[width, 3, 2, 2]);
    out.add(format!("{prefix}embeddings.patch_embedding.bias"), &[width]);
    out.add(format!("{prefix}embeddings.position_embedding.weight"), &[4, width]);
    encoder_layers(out, prefix, sizes);
    out.norm(&format!("{prefix}post_layernorm"), width);
    out.add(format!("{prefix}head.probe"), &[1, 1, width]);
    out.add(format!("{prefix}head.attention.in_proj_weight"), &[3 * width, width]);
    out.add(format!("{prefix}head.attention.in_proj_bias"), &[3 * width]);
    out.linear(&format!("{prefix}head.attention.out_proj"), width, width);
    out.norm(&format!("{prefix}head.layernorm"), width);
    out.linear(&format!("{prefix}head.mlp.fc1"), hidden, width);
    out.linear(&format!("{prefix}head.mlp.fc2"), width, hidden);
}

pub(super) fn siglip(vision: Sizes, text: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    out.add("logit_scale", &[1]);
    out.add("logit_bias", &[1]);
    text_tensors(&mut out, text);
    out.linear("text_model.head", vision.width, text.width);
    siglip_vision_tensors(&mut out, "vision_model.", vision);
    let mut text = text_json(text, "siglip_text_model");
    text["projection_size"] = vision.width.into();
    let mut picture = clip_vision_json(vision);
    picture["model_type"] = "siglip_vision_model".into();
    let config = json!({"model_type": "siglip", "text_config": text, "vision_config": picture});
    (config, out.table)
}

fn vit_tensors(out: &mut Builder, prefix: &str, sizes: Sizes, qkv_bias: bool) {
    let Sizes {
        width, hidden, layers, ..
    } = sizes;
    out.add(format!("{prefix}embeddings.cls_token"), &[1, 1, width]);
    out.add(format!("{prefix}embeddings.position_embeddings"), &[1, 5, width]);
    out.add(
        format!("{prefix}embeddings.patch_embeddings.projection.weight"),
        &[width, 3, 2, 2],
    );
    out.add(format!("{prefix}embeddings.patch_embeddings.projection.bias"), &[width]);
    for layer in 0..layers {
        let at = format!("{prefix}encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            out.add(format!("{at}.attention.attention.{part}.weight"), &[width, width]);
            if qkv_bias {
                out.add(format!("{at}.attention.attention.{part}.bias"), &[width]);
            }
        }
        out.linear(&format!("{at}.attention.output.dense"), width, width);
        out.linear(&format!("{at}.intermediate.dense"), hidden, width);
        out.linear(&format!("{at}.output.dense"), width, hidden);
        out.norm(&format!("{at}.layernorm_before"), width);
        out.norm(&format!("{at}.layernorm_after"), width);
    }
    out.norm(&format!("{prefix}layernorm"), width);
    out.linear(&format!("{prefix}pooler.dense"), width, width);
}

pub(super) fn roberta_and_vit(vision: Sizes, text: Sizes) -> (Value, Table) {
    let bias = vision.layers.is_multiple_of(2);
    let mut out = Builder::new();
    head(&mut out, vision, text);
    bert_tensors(&mut out, "text_model.", text);
    out.linear("text_model.pooler.dense", text.width, text.width);
    vit_tensors(&mut out, "vision_model.", vision, bias);
    let mut picture = clip_vision_json(vision);
    picture["model_type"] = "vit".into();
    picture["qkv_bias"] = bias.into();
    let mut words = bert_json(text);
    words["model_type"] = if text.layers.is_multiple_of(2) {
        "roberta"
    } else {
        "xlm-roberta"
    }
    .into();
    let config = json!({
        "model_type": DUAL_ENCODER, "projection_dim": vision.embed, "text_config": words, "vision_config": picture,
    });
    (config, out.table)
}

pub(super) fn easynlp_of(vision: Sizes, text: Sizes, old: bool, scale: &[usize]) -> (Value, Table) {
    let (text_prefix, vision_prefix) = if old {
        ("roberta.", "vit.")
    } else {
        ("text_encoder.", "vision_encoder.")
    };
    let mut out = Builder::new();
    out.add("logit_scale", scale);
    bert_tensors(&mut out, text_prefix, text);
    out.linear(&format!("{text_prefix}pooler.dense"), text.width, text.width);
    clip_vision_tensors(&mut out, &format!("{vision_prefix}vision_model."), vision);
    if old {
        out.add("text_projection.weight", &[vision.embed, text.width]);
        out.add("visual_projection.weight", &[vision.embed, vision.width]);
    } else {
        out.linear("text_projection", vision.embed, text.width);
        out.linear("vision_projection", vision.embed, vision.width);
    }
    let without_type = |mut config: Value| {
        config.as_object_mut().unwrap().remove("model_type");
        config
    };
    let config = json!({
        // EasyNLP writes this whatever the model's is.
        "projection_dim": 512, "text_config": without_type(bert_json(text)), "vision_config": without_type(clip_vision_json(vision)),
    });
    (config, out.table)
}
