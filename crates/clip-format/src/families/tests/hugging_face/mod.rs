//! Hugging Face's layouts and EasyNLP's two of its towers: both ways, and who is who.

mod asked;
mod forms;
mod layouts;

use proptest::prelude::*;
use serde_json::json;

use super::layouts::{Sizes, sizes};
use super::{canonical, evidence, expect_clip, family, loaded, round_trip, shape};
use crate::families::*;
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::testing::Table;
use layouts::{chinese_clip, clip, easynlp_of, roberta_and_vit, siglip};

const CLIP: &str = "hf-clip";
const CHINESE_CLIP: &str = "hf-chinese-clip";
const SIGLIP: &str = "siglip";
const DUAL_ENCODER: &str = "vision-text-dual-encoder";
const EASYNLP: &str = "easynlp-hf";
const EASYNLP_2022: &str = "easynlp-hf-2022";

const SMALL: Sizes = Sizes {
    width: 8,
    hidden: 12,
    layers: 2,
    embed: 4,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn clip_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip(CLIP, &clip(vision, text));
        prop_assert_eq!(&config["embed_dim"], vision.embed);
        prop_assert_eq!(&config["context_length"], 7);
        prop_assert_eq!(&config["text_config"]["pooling"], if vision.layers.is_multiple_of(2) { "argmax" } else { "eos" });
        prop_assert_eq!(&config["text_config"]["eos_token_id"], 10);
        expect_clip(&model, "image", vision);
        expect_clip(&model, "text", text);
        prop_assert_eq!(shape(&model, "image_projection.weight"), Some(vec![vision.embed, vision.width]));
    }

    #[test]
    fn chinese_clip_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip(CHINESE_CLIP, &chinese_clip(vision, text));
        prop_assert_eq!(&config["text_config"]["pooling"], "cls");
        prop_assert_eq!(&config["text_config"]["model_type"], "bert");
        expect_clip(&model, "image", vision);
        prop_assert_eq!(shape(&model, "text.blocks.0.attention.qkv.weight"), Some(vec![3 * text.width, text.width]));
    }

    #[test]
    fn siglip_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip(SIGLIP, &siglip(vision, text));
        prop_assert_eq!(&config["probability"], "sigmoid");
        prop_assert_eq!(&config["context_length"], 7);
        prop_assert_eq!(shape(&model, "logit_bias"), Some(vec![]));
        prop_assert_eq!(shape(&model, "image.head.probe"), Some(vec![vision.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.width, text.width]));
        expect_clip(&model, "text", text);
    }

    #[test]
    fn roberta_and_vit_go_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip(DUAL_ENCODER, &roberta_and_vit(vision, text));
        // One position is the padding's, and none stands before it.
        prop_assert_eq!(&config["context_length"], 7);
        prop_assert_eq!(shape(&model, "image.class_embedding"), Some(vec![vision.width]));
        prop_assert_eq!(shape(&model, "image.position_embedding"), Some(vec![5, vision.width]));
        prop_assert_eq!(shape(&model, "image.blocks.0.attention.qkv.weight"), Some(vec![3 * vision.width, vision.width]));
        prop_assert_eq!(shape(&model, "text.pooler.bias"), Some(vec![text.width]));
    }

    #[test]
    fn easynlp_goes_both_ways(vision in sizes(), text in sizes(), old: bool, scalar: bool) {
        let scale: &[usize] = if scalar { &[] } else { &[1] };
        let given = easynlp_of(vision, text, old, scale);
        let (config, model) = round_trip(if old { EASYNLP_2022 } else { EASYNLP }, &given);
        prop_assert_eq!(&config["embed_dim"], vision.embed, "from the weights");
        prop_assert_eq!(&config["text_config"]["model_type"], "roberta");
        prop_assert_eq!(&config["text_config"]["pad_token_id"], 0);
        prop_assert_eq!(&config["context_length"], 8);
        prop_assert_eq!(shape(&model, "logit_scale"), Some(vec![]));
        prop_assert_eq!(shape(&model, "image_projection.bias"), (!old).then(|| vec![vision.embed]));
        expect_clip(&model, "image", vision);
    }
}

fn recognised(config: &Value, tensors: &[TensorInfo]) -> Result<&'static str> {
    let found = Families::bundled().recognise(&evidence(Some(config), tensors));
    found.map(|family| family.name())
}

#[test]
fn models_of_one_type_are_told_apart_by_their_names() {
    let (clip, easynlp, old) = (
        clip(SMALL, SMALL),
        easynlp_of(SMALL, SMALL, false, &[1]),
        easynlp_of(SMALL, SMALL, true, &[]),
    );
    for (model_type, known) in [
        (json!("clip"), true),
        (json!("huggingface_clip"), true),
        (Value::Null, true),
        (json!("mine"), false),
    ] {
        for ((config, file), name) in [(&easynlp, EASYNLP), (&old, EASYNLP_2022)] {
            let mut config = config.clone();
            config["model_type"] = model_type.clone();
            let found = recognised(&config, file.tensors()).ok();
            assert_eq!(found, known.then_some(name), "{model_type}");
        }
    }
    assert_eq!(recognised(&clip.0, clip.1.tensors()).unwrap(), CLIP);
    // Not one tensor that helps: the type alone counts, and the strict report says what is missing.
    assert_eq!(recognised(&clip.0, &[]).unwrap(), CLIP);
    // Both in one file is nobody's.
    let both = [clip.1.tensors(), easynlp.1.tensors()].concat();
    let mut config = easynlp.0.clone();
    config["model_type"] = "clip".into();
    let error = recognised(&config, &both).unwrap_err().to_string();
    assert!(
        error.starts_with("the checkpoint fits several families: easynlp-hf, hf-clip"),
        "{error}"
    );
    // A single tower's names are not enough.
    let text: Vec<TensorInfo> = easynlp
        .1
        .tensors()
        .iter()
        .filter(|tensor| tensor.name.starts_with("text_encoder."))
        .cloned()
        .collect();
    assert_eq!(recognised(&config, &text).unwrap(), CLIP);
    // Chinese-CLIP's two: a flat config has `embed_dim`.
    let nested = chinese_clip(SMALL, SMALL);
    assert_eq!(recognised(&nested.0, nested.1.tensors()).unwrap(), CHINESE_CLIP);
    let flat = json!({"model_type": "chinese_clip", "embed_dim": 4});
    assert_eq!(recognised(&flat, &[]).unwrap(), "easynlp-chinese-clip");
}
