//! EasyNLP's layouts: both ways, with the prefix and without it, and what they refuse.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::layouts::{Builder, LAYERS, Sizes, bert_tensors, open_clip_blocks, resnet_tensors};
use super::{canonical, evidence, expect_clip, expect_resnet, family, loaded, round_trip, shape};
use crate::families::*;
use crate::tensor::Weights;
use crate::testing::Table;
use crate::{Checkpoint, Extras, save};

const OPEN_CLIP: &str = "easynlp-open-clip";
const CHINESE_CLIP: &str = "easynlp-chinese-clip";

/// Towers as EasyNLP builds them: heads of 64 in the vision tower, CLIP's MLPs four times as wide.
pub(super) fn towers() -> impl Strategy<Value = (Sizes, Sizes)> {
    let ranges = (1usize..3, 1usize..3, 1usize..5, 1usize..13, 1usize..9, 1usize..6);
    ranges.prop_map(|(heads, deep, width, layers, hidden, embed)| {
        let vision = Sizes {
            width: 64 * heads,
            hidden: 256 * heads,
            layers: deep,
            embed,
        };
        let text = Sizes {
            width: 4 * width,
            hidden,
            layers,
            embed,
        };
        (vision, text)
    })
}

pub(super) fn visual(out: &mut Builder, prefix: &str, sizes: Sizes) {
    let Sizes { width, embed, .. } = sizes;
    let at = format!("{prefix}visual.");
    out.add(format!("{prefix}logit_scale"), &[]);
    out.add(format!("{at}class_embedding"), &[width]);
    out.add(format!("{at}positional_embedding"), &[5, width]);
    out.add(format!("{at}proj"), &[width, embed]);
    out.add(format!("{at}conv1.weight"), &[width, 3, 2, 2]);
    out.norm(&format!("{at}ln_pre"), width);
    open_clip_blocks(out, &at, sizes);
    out.norm(&format!("{at}ln_post"), width);
}

pub(crate) fn open_clip_of(vision: Sizes, text: Sizes, prefix: &str, vocabulary: usize) -> (Value, Table) {
    let text = Sizes {
        hidden: 4 * text.width,
        ..text
    };
    let mut out = Builder::new();
    out.add(format!("{prefix}positional_embedding"), &[7, text.width]);
    out.add(format!("{prefix}text_projection"), &[text.width, vision.embed]);
    visual(&mut out, prefix, vision);
    open_clip_blocks(&mut out, prefix, text);
    out.add(format!("{prefix}token_embedding.weight"), &[vocabulary, text.width]);
    out.norm(&format!("{prefix}ln_final"), text.width);
    let config = json!({
        "model_type": "open_clip", "embed_dim": vision.embed, "image_resolution": 4, "vision_layers": vision.layers,
        "vision_width": vision.width, "vision_patch_size": 2, "context_length": 7, "vocab_size": vocabulary,
        "transformer_width": text.width, "transformer_heads": 2, "transformer_layers": text.layers,
    });
    (config, out.table)
}

pub(crate) fn chinese_clip_of(vision: Sizes, text: Sizes, prefix: &str) -> (Value, Table) {
    let mut out = Builder::new();
    out.add(format!("{prefix}text_projection"), &[text.width, vision.embed]);
    visual(&mut out, prefix, vision);
    bert_tensors(&mut out, &format!("{prefix}bert."), text);
    let config = json!({
        "model_type": "chinese_clip", "embed_dim": vision.embed, "image_resolution": 4, "vision_layers": vision.layers,
        "vision_width": vision.width, "vision_patch_size": 2, "vocab_size": 11,
        "text_attention_probs_dropout_prob": 0.25, "text_hidden_act": "relu", "text_hidden_dropout_prob": 0.5,
        "text_hidden_size": text.width, "text_initializer_range": 0.01, "text_intermediate_size": text.hidden,
        "text_max_position_embeddings": 9, "text_num_attention_heads": 2, "text_num_hidden_layers": text.layers,
        "text_type_vocab_size": 2,
    });
    (config, out.table)
}

/// The same config and text tower beside a ResNet, whose heads are of 64 too.
fn resnet_of(
    layout: impl Fn(Sizes, Sizes) -> (Value, Table),
    prefix: &str,
    width: usize,
    text: Sizes,
) -> (Value, Table) {
    let (mut config, table) = layout(VISION, text);
    let mut out = Builder::new();
    resnet_tensors(&mut out, prefix, width, VISION.embed);
    let visual = format!("{prefix}visual.");
    for tensor in table
        .tensors()
        .iter()
        .filter(|tensor| !tensor.name.starts_with(&visual))
    {
        out.add(&tensor.name, &tensor.shape);
    }
    config["image_resolution"] = 64.into();
    config["vision_layers"] = json!(LAYERS);
    config["vision_width"] = width.into();
    config["vision_patch_size"] = Value::Null;
    (config, out.table)
}

/// Under the prefix, which is how EasyNLP saves.
fn open_clip(vision: Sizes, text: Sizes) -> (Value, Table) {
    open_clip_of(vision, text, "open_clip.", 11)
}

fn chinese_clip(vision: Sizes, text: Sizes) -> (Value, Table) {
    chinese_clip_of(vision, text, "chinese_clip.")
}

pub(crate) const VISION: Sizes = Sizes {
    width: 64,
    hidden: 256,
    layers: 1,
    embed: 4,
};
pub(crate) const TEXT: Sizes = Sizes {
    width: 8,
    hidden: 12,
    layers: 2,
    embed: 4,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn open_clip_goes_both_ways((vision, text) in towers()) {
        let (config, model) = round_trip(OPEN_CLIP, &open_clip(vision, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], vision.width / 64);
        prop_assert_eq!(&config["text_config"]["intermediate_size"], 4 * text.width);
        prop_assert_eq!(&config["text_config"]["hidden_act"], "quick_gelu");
        prop_assert_eq!(&config["context_length"], 7);
        expect_clip(&model, "image", vision);
        expect_clip(&model, "text", Sizes { hidden: 4 * text.width, ..text });
        prop_assert_eq!(shape(&model, "image_projection.weight"), Some(vec![vision.embed, vision.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.embed, text.width]));
        prop_assert_eq!(loaded(OPEN_CLIP, &open_clip_of(vision, text, "", 11)), model);
    }

    #[test]
    fn chinese_clip_goes_both_ways((vision, text) in towers()) {
        let (config, model) = round_trip(CHINESE_CLIP, &chinese_clip(vision, text));
        prop_assert_eq!(&config["text_config"]["pooling"], "cls");
        prop_assert_eq!(&config["text_config"]["hidden_act"], "relu");
        prop_assert_eq!(&config["context_length"], 9);
        expect_clip(&model, "image", vision);
        prop_assert_eq!(shape(&model, "text.blocks.0.attention.qkv.weight"), Some(vec![3 * text.width, text.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.embed, text.width]));
        prop_assert_eq!(loaded(CHINESE_CLIP, &chinese_clip_of(vision, text, "")), model);
    }

    #[test]
    fn resnets_go_both_ways((_, text) in towers(), width in 1usize..3) {
        let text = Sizes { embed: VISION.embed, ..text };
        for (name, layout) in [
            (OPEN_CLIP, resnet_of(open_clip, "open_clip.", 2 * width, text)),
            (CHINESE_CLIP, resnet_of(chinese_clip, "chinese_clip.", 2 * width, text)),
        ] {
            let (config, model) = round_trip(name, &layout);
            prop_assert_eq!(&config["vision_config"]["num_attention_heads"], width);
            prop_assert_eq!(&config["vision_config"]["model_type"], "modified_resnet");
            expect_resnet(&model, 2 * width, VISION.embed);
        }
    }
}

#[test]
fn what_nothing_reads_is_dropped() {
    let (config, plain) = chinese_clip(VISION, TEXT);
    let mut full = plain.clone();
    full.counting("chinese_clip.bert.pooler.dense.weight", &[8, 8], 0.0);
    full.counting("chinese_clip.bert.pooler.dense.bias", &[8], 0.0);
    full.counting("chinese_clip.bert.embeddings.position_ids", &[1, 9], 0.0);
    let plain = loaded(CHINESE_CLIP, &(config.clone(), plain));
    assert_eq!(loaded(CHINESE_CLIP, &(config, full)), plain);
}

#[test]
fn a_long_bert_is_cut_as_chinese_clip_cuts() {
    let (mut config, _) = chinese_clip(VISION, TEXT);
    config["text_max_position_embeddings"] = 512.into();
    let ours = canonical(&*family(CHINESE_CLIP), &config, &[]).unwrap();
    assert_eq!(ours["context_length"], 52);
    assert_eq!(ours["text_config"]["max_position_embeddings"], 512);
}

#[test]
fn every_key_is_wanted_and_no_other() {
    for (name, config, keys) in [
        (OPEN_CLIP, open_clip(VISION, TEXT).0, 11),
        (CHINESE_CLIP, chinese_clip(VISION, TEXT).0, 17),
    ] {
        let family = family(name);
        let error = |config: &Value| canonical(&*family, config, &[]).unwrap_err().to_string();
        let map = config.as_object().unwrap();
        assert_eq!(map.len(), keys);
        for key in map.keys().filter(|key| *key != "model_type") {
            let mut less = map.clone();
            less.remove(key);
            assert_eq!(error(&less.into()), format!("`config.json.{key}` is missing"));
        }
        let mut more = config.clone();
        more["text_layer_scale"] = true.into();
        assert!(error(&more).contains("`config.json.text_layer_scale` is unknown"));
        for layers in [json!([3, 4, 6]), json!([3, 4, 0, 3]), json!("[3,4,6,3"), json!(-1)] {
            let mut resnet = config.clone();
            resnet["vision_layers"] = layers.clone();
            assert!(error(&resnet).contains(&format!("`config.json.vision_layers` is {layers}")));
        }
        let mut no_patches = config.clone();
        no_patches["vision_patch_size"] = Value::Null;
        assert_eq!(error(&no_patches), "`config.json.vision_patch_size` is missing");
        let mut narrow = config.clone();
        narrow["vision_width"] = 32.into();
        assert!(error(&narrow).contains("`config.json.vision_width` is 32"));
        let mut wrong = config;
        wrong["embed_dim"] = "512".into();
        assert!(error(&wrong).contains("`config.json.embed_dim` is \"512\""));
    }
}

#[test]
fn layouts_of_the_same_type_are_told_apart() {
    let families = Families::bundled();
    let of = |config: &Value| {
        families
            .recognise(&evidence(Some(config), &[]))
            .map(|family| family.name())
    };
    // Hugging Face's Chinese-CLIP has the same type and an object for each tower.
    let nested = json!({"model_type": "chinese_clip", "text_config": {}, "vision_config": {}, "projection_dim": 512});
    assert_eq!(of(&nested).unwrap(), "hf-chinese-clip");
    let own = json!({"model_type": "open_clip", "model_cfg": {"embed_dim": 4, "vision_cfg": {}, "text_cfg": {}}});
    assert_eq!(of(&own).unwrap(), "open_clip");
}

#[test]
fn what_easynlp_fixes_cannot_be_another() {
    let change = |name: &str, config: &Value, at: &str, value: Value| {
        let family = family(name);
        let mut ours = canonical(&*family, config, &[]).unwrap();
        *ours.pointer_mut(at).unwrap() = value;
        family.restore(&ours, None).unwrap_err().to_string()
    };
    let (english, chinese) = (open_clip(VISION, TEXT).0, chinese_clip(VISION, TEXT).0);
    assert_eq!(
        change(OPEN_CLIP, &english, "/text_config/hidden_act", "gelu".into()),
        "the layout `easynlp-open-clip` cannot express `text_config.hidden_act` \"gelu\", only \"quick_gelu\"; save it \
         as `clipzoo`"
    );
    for (at, value) in [
        ("/text_config/pooling", json!("last")),
        ("/text_config/intermediate_size", json!(33)),
        ("/vision_config/num_attention_heads", json!(2)),
        ("/vision_config/layer_norm_eps", json!(1e-6)),
        ("/text_config/model_type", json!("bert")),
        ("/tokenizer/type", json!("word_piece")),
        ("/image_projection", json!({"type": "mlp"})),
        ("/logit_bias", json!(true)),
    ] {
        let error = change(OPEN_CLIP, &english, at, value);
        assert!(error.contains("cannot express"), "{at}: {error}");
    }
    for (at, value) in [
        ("/text_config/pooling", json!("pooler")),
        ("/text_config/layer_norm_eps", json!(1e-5)),
        ("/tokenizer/type", json!("clip_bpe")),
        ("/tokenizer/lower_case", json!(false)),
        ("/vision_config/hidden_act", json!("gelu")),
    ] {
        let error = change(CHINESE_CLIP, &chinese, at, value);
        assert!(error.contains("cannot express"), "{at}: {error}");
    }
}

/// Writes a directory of EasyNLP's, its weights as safetensors, opens it.
fn directory(folder: &Path, (config, table): &(Value, Table), vocabulary: &[u8]) -> Checkpoint {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("vocab.txt"), vocabulary).unwrap();
    crate::write_safetensors(&folder.join("model.safetensors"), table).unwrap();
    Checkpoint::open(folder, &Families::bundled()).unwrap()
}

pub(super) fn ids(checkpoint: &Checkpoint, text: &str) -> Vec<u32> {
    let batch = checkpoint.tokenizer(None).unwrap().encode(&[text]).unwrap();
    batch.rows().next().unwrap().to_vec()
}

#[test]
fn what_makes_no_difference_is_no_obstacle() {
    let (english, chinese) = (open_clip(VISION, TEXT).0, chinese_clip(VISION, TEXT).0);
    let restored = |name: &str, config: &Value, changes: &[(&str, Value)]| {
        let family = family(name);
        let mut ours = canonical(&*family, config, &[]).unwrap();
        for (at, value) in changes {
            *ours.pointer_mut(at).unwrap() = value.clone();
        }
        family.restore(&ours, None).map(|layout| layout.files[0].1.clone())
    };
    // Eleven tokens, the last of which ends a text: the first largest id is the first end token, and padding comes after.
    let by_end = [
        ("/text_config/pooling", json!("eos")),
        ("/text_config/eos_token_id", json!(10)),
        ("/text_config/pad_token_id", json!(10)),
        ("/tokenizer/cleaning", json!("hugging_face")),
    ];
    assert_eq!(restored(OPEN_CLIP, &english, &by_end).unwrap(), english);
    assert!(
        restored(
            OPEN_CLIP,
            &english,
            &[by_end[0].clone(), ("/text_config/eos_token_id", json!(9))]
        )
        .is_err()
    );
    let flavour = [("/tokenizer/flavour", json!("chinese_clip"))];
    assert_eq!(restored(CHINESE_CLIP, &chinese, &flavour).unwrap(), chinese);
}

#[test]
fn merges_stand_compressed_in_vocab_txt() {
    let merges = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clip-tokenizers/data/bpe_simple_vocab_16e6.txt.gz");
    let folder = tempfile::tempdir().unwrap();
    let narrow = Sizes {
        width: 2,
        layers: 1,
        ..TEXT
    };
    let layout = open_clip_of(VISION, narrow, "open_clip.", 49408);
    let checkpoint = directory(folder.path(), &layout, &fs::read(merges).unwrap());
    assert_eq!(checkpoint.family(), OPEN_CLIP);
    assert_eq!(ids(&checkpoint, "Red &amp;amp; DRESS"), [49406, 736, 261, 2595, 49407]);
    // Cut at seven ids, the end token among them.
    assert_eq!(
        ids(&checkpoint, "! ! ! ! ! ! ! !"),
        [49406, 256, 256, 256, 256, 256, 49407]
    );
    assert_eq!(checkpoint.transform_config().unwrap(), TransformConfig::easynlp(4));
}

#[test]
fn a_saved_directory_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\ndress\n##es\n\u{7ea2}\n\u{88d9}\n";
    let checkpoint = directory(
        &folder.path().join("given"),
        &chinese_clip(VISION, TEXT),
        pieces.as_bytes(),
    );
    assert_eq!(
        ids(&checkpoint, "Red DRESSES [SEP] \u{7ea2}\u{88d9}"),
        [2, 5, 6, 7, 3, 8, 9, 3]
    );
    let transforms = [
        TransformConfig::easynlp(4),
        TransformConfig::chinese_clip(4),
        crate::families::towers::hugging_face_transform(4).unwrap(),
    ];
    for (at, transform) in transforms.iter().enumerate() {
        let target = folder.path().join(format!("saved{at}"));
        let extras = Extras {
            transform: Some(transform),
            vocabulary: &checkpoint.vocabulary_files(),
        };
        save(
            &target,
            &*family(CHINESE_CLIP),
            checkpoint.config(),
            checkpoint.weights(),
            extras,
        )
        .unwrap();
        let again = Checkpoint::open(&target, &Families::bundled()).unwrap();
        assert_eq!(again.family(), CHINESE_CLIP);
        assert!(
            again
                .raw_tensors()
                .iter()
                .all(|tensor| tensor.name.starts_with("chinese_clip."))
        );
        assert_eq!(Table::of(again.weights()), Table::of(checkpoint.weights()));
        assert_eq!(again.config(), checkpoint.config());
        assert_eq!(&again.transform_config().unwrap(), transform);
        assert_eq!(
            target.join("preprocessor_config.json").exists(),
            at > 0,
            "EasyNLP's own needs no file"
        );
    }
    let again = Checkpoint::open(folder.path().join("saved0"), &Families::bundled()).unwrap();
    assert_eq!(again.id().unwrap(), checkpoint.id().unwrap());
    let odd = TransformConfig {
        mean: [0.5; 3],
        ..TransformConfig::easynlp(4)
    };
    let error = family(CHINESE_CLIP)
        .restore(checkpoint.config(), Some(&odd))
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot express this preparation of pictures"), "{error}");
}
