//! Files of weights without a config: what is told by shapes, what by convention, what is asked for.

use serde_json::json;

use super::evidence;
use super::layouts::{Builder, LAYERS, Sizes, bert_tensors, open_clip_blocks, resnet_tensors};
use crate::families::*;
use crate::tensor::Weights;
use crate::testing::Table;

/// Where tensors stand and how wide they are.
struct Given {
    prefix: &'static str,
    text_prefix: &'static str,
    vision_width: usize,
    text_width: usize,
    hidden: usize,
}

const USUAL: Given = Given {
    prefix: "",
    text_prefix: "",
    vision_width: 128,
    text_width: 64,
    hidden: 256,
};

const EMBED: usize = 3;

fn sizes(width: usize, hidden: usize, layers: usize) -> Sizes {
    Sizes {
        width,
        hidden,
        layers,
        embed: EMBED,
    }
}

fn transformer(out: &mut Builder, prefix: &str, width: usize) {
    let at = format!("{prefix}visual.");
    out.add(format!("{at}class_embedding"), &[width]);
    out.add(format!("{at}positional_embedding"), &[10, width]);
    out.add(format!("{at}proj"), &[width, EMBED]);
    out.add(format!("{at}conv1.weight"), &[width, 3, 2, 2]);
    out.norm(&format!("{at}ln_pre"), width);
    open_clip_blocks(out, &at, sizes(width, 4 * width, 2));
    out.norm(&format!("{at}ln_post"), width);
}

fn clip_text(out: &mut Builder, prefix: &str, width: usize, hidden: usize) {
    out.add(format!("{prefix}positional_embedding"), &[7, width]);
    out.add(format!("{prefix}text_projection"), &[width, EMBED]);
    open_clip_blocks(out, prefix, sizes(width, hidden, 3));
    out.add(format!("{prefix}token_embedding.weight"), &[11, width]);
    out.norm(&format!("{prefix}ln_final"), width);
}

/// OpenAI's names.
fn open_clip(given: &Given, resnet: bool) -> Table {
    let mut out = Builder::new();
    if resnet {
        resnet_tensors(&mut out, given.prefix, 4, EMBED);
    } else {
        transformer(&mut out, given.prefix, given.vision_width);
    }
    let prefix = format!("{}{}", given.prefix, given.text_prefix);
    clip_text(&mut out, &prefix, given.text_width, given.hidden);
    out.add(format!("{}logit_scale", given.prefix), &[]);
    out.table
}

/// Chinese-CLIP's names.
fn chinese_clip(given: &Given, resnet: bool) -> Table {
    let mut out = Builder::new();
    if resnet {
        resnet_tensors(&mut out, given.prefix, 4, EMBED);
    } else {
        transformer(&mut out, given.prefix, given.vision_width);
    }
    let bert = format!("{}bert.", given.prefix);
    bert_tensors(&mut out, &bert, sizes(given.text_width, given.hidden, 2));
    out.add(format!("{}text_projection", given.prefix), &[given.text_width, EMBED]);
    out.add(format!("{}logit_scale", given.prefix), &[]);
    out.table
}

/// Family and config of a file that stands alone.
fn opened(table: &Table, file: &str, format: Format) -> Result<(&'static str, Value)> {
    let evidence = Evidence {
        file,
        format,
        ..evidence(None, table.tensors())
    };
    let family = Families::bundled().recognise(&evidence)?;
    Ok((family.name(), family.canonical(&evidence)?))
}

fn error(table: &Table, file: &str) -> String {
    opened(table, file, Format::PickleZip).unwrap_err().to_string()
}

/// The config that a message shows, its questions answered.
fn answered(message: &str, answers: &[(&str, Value)]) -> Value {
    let from = message.find(": {").unwrap() + 2;
    let mut config: Value = serde_json::from_str(&message[from..]).unwrap();
    for (at, answer) in answers {
        let place = config.pointer_mut(at).unwrap();
        assert_eq!(place, "?", "{at}");
        *place = answer.clone();
    }
    assert!(!config.to_string().contains('?'));
    config
}

#[test]
fn openais_archives_tell_everything() {
    let (family, config) = opened(&open_clip(&USUAL, false), "ViT-B-32.pt", Format::TorchScript).unwrap();
    assert_eq!(family, "open_clip");
    let vision = &config["vision_config"];
    assert_eq!(
        [
            &vision["num_attention_heads"],
            &vision["num_hidden_layers"],
            &vision["patch_size"],
            &vision["image_size"]
        ],
        [2, 2, 2, 6]
    );
    let text = &config["text_config"];
    assert_eq!(
        [
            &text["num_attention_heads"],
            &text["num_hidden_layers"],
            &text["vocab_size"],
            &config["context_length"]
        ],
        [1, 3, 11, 7]
    );
    assert_eq!([&vision["hidden_act"], &text["hidden_act"]], ["quick_gelu"; 2]);
    assert_eq!(config["embed_dim"], EMBED);

    let (_, config) = opened(&open_clip(&USUAL, true), "RN50.pt", Format::TorchScript).unwrap();
    let vision = &config["vision_config"];
    assert_eq!(vision["layers"], json!(LAYERS));
    assert_eq!(
        [&vision["width"], &vision["image_size"], &vision["num_attention_heads"]],
        [4, 64, 2]
    );
    assert_eq!(config["text_config"]["hidden_act"], "quick_gelu");

    // The same tensors, saved from an archive: its three facts are among them.
    let mut facts = open_clip(&USUAL, false);
    for fact in ["input_resolution", "context_length", "vocab_size"] {
        facts.push_count(fact, 224);
    }
    let (_, config) = opened(&facts, "m.safetensors", Format::Safetensors).unwrap();
    assert_eq!(config["vision_config"]["hidden_act"], "quick_gelu");
}

#[test]
fn open_clips_weights_ask_for_what_they_do_not_tell() {
    let message = error(&open_clip(&USUAL, false), "epoch_3.pt");
    assert!(
        message.starts_with(
            "the weights are OpenCLIP's, but open_clip_config.json is missing beside them; nothing in weights tells GELU \
             from QuickGELU, nor how wide heads of attention are; put the model's open_clip_config.json"
        ),
        "{message}"
    );
    let wide = Given { hidden: 200, ..USUAL };
    let message = error(&open_clip(&wide, false), "epoch_3.pt");
    let config = answered(
        &message,
        &[
            ("/model_cfg/quick_gelu", json!(false)),
            ("/model_cfg/vision_cfg/head_width", json!(32)),
            ("/model_cfg/text_cfg/heads", json!(4)),
        ],
    );
    let family = Families::bundled().get("open_clip").unwrap();
    let config = family.canonical(&evidence(Some(&config), &[])).unwrap();
    assert_eq!(config["vision_config"]["num_attention_heads"], 4);
    assert_eq!(config["text_config"]["intermediate_size"], 200);
    assert_eq!(config["text_config"]["hidden_act"], "gelu");
    // OpenAI's heads would not share this width, so that it is none of theirs.
    let odd = Given {
        vision_width: 48,
        ..USUAL
    };
    let archive = opened(&open_clip(&odd, false), "m.pt", Format::TorchScript);
    assert!(archive.unwrap_err().to_string().contains("\"head_width\":\"?\""));
}

#[test]
fn a_text_tower_under_its_own_prefix_is_noticed() {
    let custom = Given {
        text_prefix: "text.",
        ..USUAL
    };
    let message = error(&open_clip(&custom, true), "epoch_3.pt");
    assert!(
        message.contains("\"custom_text\":true") && message.contains("\"layers\":[1,2,1,3]"),
        "{message}"
    );
}

#[test]
fn easynlps_prefix_fixes_the_rest() {
    let prefixed = |prefix| Given { prefix, ..USUAL };
    for resnet in [false, true] {
        let (family, config) = opened(
            &open_clip(&prefixed("open_clip."), resnet),
            "pytorch_model.bin",
            Format::PickleZip,
        )
        .unwrap();
        assert_eq!(family, "easynlp-open-clip");
        assert_eq!(config["text_config"]["num_attention_heads"], 1);
        assert_eq!(config["vision_config"]["num_attention_heads"], 2);
        let (family, config) = opened(
            &chinese_clip(&prefixed("chinese_clip."), resnet),
            "pytorch_model.bin",
            Format::PickleZip,
        )
        .unwrap();
        assert_eq!(family, "easynlp-chinese-clip");
        let text = &config["text_config"];
        assert_eq!(
            [
                &text["num_attention_heads"],
                &text["num_hidden_layers"],
                &text["max_position_embeddings"]
            ],
            [1, 2, 9]
        );
        assert_eq!(config["tokenizer"]["flavour"], "bert");
    }
    let narrow = Given {
        prefix: "chinese_clip.",
        text_width: 48,
        ..USUAL
    };
    assert_eq!(
        error(&chinese_clip(&narrow, false), "pytorch_model.bin"),
        "the text tower is 48 wide, which heads of 64 do not share: the weights do not tell how many heads it has; put \
         the model's config.json into the same folder"
    );
}

#[test]
fn chinese_clips_releases_are_known_by_their_name() {
    let release =
        |given: &Given, resnet| opened(&chinese_clip(given, resnet), "clip_cn_vit-b-16.pt", Format::PickleZip);
    let (family, config) = release(&USUAL, false).unwrap();
    assert_eq!(family, "chinese_clip");
    let vision = &config["vision_config"];
    assert_eq!([&vision["num_attention_heads"], &vision["image_size"]], [2, 6]);
    assert_eq!(vision["hidden_act"], "quick_gelu");
    assert_eq!(config["text_config"]["num_attention_heads"], 1);
    assert_eq!(config["tokenizer"]["flavour"], "chinese_clip");
    assert_eq!(
        release(&USUAL, true).unwrap().1["vision_config"]["num_attention_heads"],
        2
    );
    // ViT-H/14 is the one release with other heads: 1280 / 80.
    let huge = Given {
        vision_width: 1280,
        ..USUAL
    };
    assert_eq!(
        release(&huge, false).unwrap().1["vision_config"]["num_attention_heads"],
        16
    );

    let message = error(&chinese_clip(&USUAL, false), "epoch_latest.pt");
    assert!(
        message.starts_with(
            "the weights are Chinese-CLIP's, but vision.json is missing beside them, and weights do not tell the heads of \
             the picture tower; put cn_clip's config of that tower there as vision.json"
        ),
        "{message}"
    );
    let config = answered(&message, &[("/vision_head_width", json!(64))]);
    assert_eq!(config["vision_layers"], 2);
    let narrow = Given {
        text_width: 48,
        ..USUAL
    };
    let message = release(&narrow, false).unwrap_err().to_string();
    assert!(message.contains("text.json is missing") && message.contains("\"text_num_attention_heads\":\"?\""));
    let odd = Given {
        vision_width: 96,
        ..USUAL
    };
    assert!(
        release(&odd, false)
            .unwrap_err()
            .to_string()
            .contains("vision.json is missing")
    );
}

#[test]
fn shapes_that_tell_nothing_are_named() {
    let mut table = open_clip(&USUAL, false);
    table.replace("visual.positional_embedding", &[9, 128]);
    assert_eq!(
        error(&table, "m.pt"),
        "the 9 rows of `visual.positional_embedding` are no square and one more, so that they do not tell the size of \
         pictures; put the model's open_clip_config.json into the same folder"
    );
    table.remove("visual.positional_embedding");
    assert!(error(&table, "m.pt").contains("there is no tensor `visual.positional_embedding`"));
    let mut table = open_clip(&USUAL, false);
    table.replace("visual.conv1.weight", &[128, 3]);
    assert!(error(&table, "m.pt").contains("`visual.conv1.weight` [128, 3] has too few sides"));
}
