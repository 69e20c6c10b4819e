//! Chinese-CLIP's own layout: both ways, its two files, its tokenizer.

use std::fs;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::easynlp::{TEXT, VISION, ids, towers, visual};
use super::layouts::{Builder, LAYERS, Sizes, bert_tensors, resnet_tensors};
use super::{evidence, expect_clip, expect_resnet, shape, there_and_back};
use crate::families::chinese_clip::ChineseClip;
use crate::families::*;
use crate::tensor::Weights;
use crate::testing::Table;
use crate::{Checkpoint, Extras, save};

/// The two configs and the tensors.
type Given = ([Value; 2], Table);

fn text_json(text: Sizes, vocabulary: usize) -> Value {
    json!({
        "vocab_size": vocabulary, "text_attention_probs_dropout_prob": 0.25, "text_hidden_act": "gelu",
        "text_hidden_dropout_prob": 0.5, "text_hidden_size": text.width, "text_initializer_range": 0.01,
        "text_intermediate_size": text.hidden, "text_max_position_embeddings": 9, "text_num_attention_heads": 2,
        "text_num_hidden_layers": text.layers, "text_type_vocab_size": 2,
    })
}

fn with_transformer(vision: Sizes, text: Sizes) -> Given {
    let mut out = Builder::new();
    out.add("text_projection", &[text.width, vision.embed]);
    visual(&mut out, "", vision);
    bert_tensors(&mut out, "bert.", text);
    let config = json!({
        "embed_dim": vision.embed, "image_resolution": 4, "vision_layers": vision.layers, "vision_width": vision.width,
        "vision_patch_size": 2,
    });
    ([config, text_json(text, 11)], out.table)
}

fn with_resnet(width: usize, text: Sizes) -> Given {
    let mut out = Builder::new();
    out.add("text_projection", &[text.width, text.embed]);
    out.add("logit_scale", &[]);
    resnet_tensors(&mut out, "", width, text.embed);
    bert_tensors(&mut out, "bert.", text);
    let config = json!({
        "embed_dim": text.embed, "image_resolution": 64, "vision_layers": LAYERS, "vision_width": width,
        "vision_patch_size": null, "vision_head_width": 16,
    });
    ([config, text_json(text, 11)], out.table)
}

/// Recognises and reads, with the two files beside the weights where there are some.
fn opened([vision, text]: [Option<&Value>; 2], table: &Table, file: &str) -> Result<Value> {
    let beside = |name: &str| {
        Ok(match name {
            "vision.json" => vision.cloned(),
            "text.json" => text.cloned(),
            _ => None,
        })
    };
    let evidence = Evidence {
        file,
        beside: &beside,
        ..evidence(None, table.tensors())
    };
    let family = Families::bundled().recognise(&evidence)?;
    assert_eq!(family.name(), "chinese_clip");
    family.canonical(&evidence)
}

fn both([vision, text]: &[Value; 2]) -> [Option<&Value>; 2] {
    [Some(vision), Some(text)]
}

fn round_trip((configs, table): &Given) -> (Value, Table) {
    let ours = opened(both(configs), table, "pytorch_model.bin").unwrap();
    let model = there_and_back(&ChineseClip.mapping(&ours).unwrap(), table);
    let files = ChineseClip.restore(&ours, None).unwrap().files;
    assert_eq!(
        files,
        [("vision.json", configs[0].clone()), ("text.json", configs[1].clone())]
    );
    (ours, model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn transformers_go_both_ways((vision, text) in towers()) {
        let (config, model) = round_trip(&with_transformer(vision, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], vision.width / 64);
        prop_assert_eq!(&config["vision_config"]["hidden_act"], "quick_gelu");
        prop_assert_eq!(&config["text_config"]["pooling"], "cls");
        prop_assert_eq!(&config["context_length"], 9);
        expect_clip(&model, "image", vision);
        prop_assert_eq!(shape(&model, "text.blocks.0.attention.qkv.weight"), Some(vec![3 * text.width, text.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.embed, text.width]));
    }

    #[test]
    fn resnets_go_both_ways((_, text) in towers(), width in 1usize..3) {
        let (config, model) = round_trip(&with_resnet(2 * width, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], 4 * width);
        expect_resnet(&model, 2 * width, text.embed);
    }
}

#[test]
fn heads_of_another_width_and_layers_in_words() {
    let (mut configs, table) = with_transformer(VISION, TEXT);
    configs[0]["vision_head_width"] = 16.into();
    let ours = opened(both(&configs), &table, "m.pt").unwrap();
    assert_eq!(ours["vision_config"]["num_attention_heads"], 4);
    assert_eq!(ChineseClip.restore(&ours, None).unwrap().files[0].1, configs[0]);
    // cn_clip's RN50.json holds the list as a text.
    let (mut configs, table) = with_resnet(2, TEXT);
    for text in ["[1,2,1,3]", " (1, 2, 1, 3) "] {
        configs[0]["vision_layers"] = text.into();
        let ours = opened(both(&configs), &table, "m.pt").unwrap();
        assert_eq!(ours["vision_config"]["layers"], json!(LAYERS));
    }
}

#[test]
fn a_wrong_key_is_told_with_its_file() {
    let (configs, table) = with_transformer(VISION, TEXT);
    let error = |change: &dyn Fn(&mut [Value; 2])| {
        let mut configs = configs.clone();
        change(&mut configs);
        opened(both(&configs), &table, "m.pt").unwrap_err().to_string()
    };
    let remove = |value: &mut Value, key: &str| value.as_object_mut().map(|map: &mut Map<_, _>| map.remove(key));
    assert_eq!(
        error(&|[vision, _]| drop(remove(vision, "vision_width"))),
        "`vision.json.vision_width` is missing"
    );
    assert_eq!(
        error(&|[_, text]| drop(remove(text, "text_hidden_size"))),
        "`text.json.text_hidden_size` is missing"
    );
    assert!(error(&|[vision, _]| vision["vision_depth"] = 1.into()).contains("`vision.json.vision_depth` is unknown"));
    assert!(error(&|[_, text]| text["embed_dim"] = 1.into()).contains("`text.json.embed_dim` is unknown"));
    assert!(error(&|[vision, _]| vision["vision_width"] = 32.into()).contains("a multiple of 64, the width of a head"));
}

#[test]
fn what_its_code_fixes_cannot_be_another() {
    let (configs, table) = with_transformer(VISION, TEXT);
    let ours = opened(both(&configs), &table, "m.pt").unwrap();
    for (at, value) in [
        ("/vision_config/hidden_act", json!("gelu")),
        ("/vision_config/model_type", json!("efficientnet_lite0")),
        ("/text_config/pooling", json!("pooler")),
        ("/tokenizer/type", json!("clip_bpe")),
        ("/image_projection/bias", json!(true)),
    ] {
        let mut other = ours.clone();
        *other.pointer_mut(at).unwrap() = value;
        let error = ChineseClip.restore(&other, None).unwrap_err().to_string();
        assert!(error.contains("cannot express"), "{at}: {error}");
    }
    let mut bert = ours;
    bert["tokenizer"]["flavour"] = "bert".into();
    ChineseClip.restore(&bert, None).unwrap();
}

#[test]
fn a_directory_is_opened_saved_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let wide = Sizes { width: 2, ..TEXT };
    let (mut configs, mut table) = with_transformer(VISION, TEXT);
    configs[1] = text_json(wide, 21128);
    configs[1]["text_max_position_embeddings"] = 512.into();
    let mut out = Builder::new();
    bert_tensors(&mut out, "bert.", wide);
    for tensor in out.table.tensors() {
        let shape: Vec<usize> = match tensor.name.as_str() {
            "bert.embeddings.word_embeddings.weight" => vec![21128, 2],
            "bert.embeddings.position_embeddings.weight" => vec![512, 2],
            _ => tensor.shape.clone(),
        };
        table.replace(&tensor.name, &shape);
    }
    table.replace("text_projection", &[2, VISION.embed]);
    for (name, config) in ["vision.json", "text.json"].into_iter().zip(&configs) {
        fs::write(folder.path().join(name), config.to_string()).unwrap();
    }
    crate::write_safetensors(&folder.path().join("model.safetensors"), &table).unwrap();
    let checkpoint = Checkpoint::open(folder.path(), &Families::bundled()).unwrap();
    assert_eq!(checkpoint.family(), "chinese_clip");
    let names: Vec<_> = checkpoint
        .files()
        .iter()
        .map(|file| file.path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["model.safetensors", "text.json", "vision.json"]);
    assert_eq!(checkpoint.transform_config().unwrap(), TransformConfig::chinese_clip(4));
    // Its own tokenizer: a special token's name in a title is plain text, long words are split, private-use letters kept;
    // 52 ids at most.
    assert_eq!(checkpoint.tokenizer(None).unwrap().context_length(), 52);
    let [start, end] = [101, 102];
    assert_eq!(ids(&checkpoint, "[CLS]"), [start, 138, 12847, 8118, 140, end]);
    let word = "a".repeat(150);
    assert!(!ids(&checkpoint, &word).contains(&100));
    assert!(ids(&checkpoint, &"a".repeat(201)).contains(&100));
    assert_eq!(ids(&checkpoint, "\u{e000}"), [start, 100, end]);

    let target = folder.path().join("saved");
    let extras = Extras {
        transform: Some(&checkpoint.transform_config().unwrap()),
        vocabulary: &[],
    };
    save(&target, &ChineseClip, checkpoint.config(), checkpoint.weights(), extras).unwrap();
    save(&target, &ChineseClip, checkpoint.config(), checkpoint.weights(), extras).unwrap();
    let again = Checkpoint::open(&target, &Families::bundled()).unwrap();
    assert_eq!(again.family(), "chinese_clip");
    assert_eq!(again.id().unwrap(), checkpoint.id().unwrap());
    assert_eq!(again.config(), checkpoint.config());
}
