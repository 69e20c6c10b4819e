//! The forms that configs and names may have, and what is refused.

use std::collections::BTreeSet;

use clip_data::{Filter, Resize};
use serde_json::json;

use super::*;

#[test]
fn absent_fields_are_the_references_defaults() {
    let of = |name: &str, config: Value| canonical(&*family(name), &config, &[]).unwrap();
    let clip = of(CLIP, json!({"model_type": "clip"}));
    assert_eq!((&clip["embed_dim"], &clip["context_length"]), (&json!(512), &json!(77)));
    let (text, vision) = (&clip["text_config"], &clip["vision_config"]);
    assert_eq!(
        (&text["hidden_size"], &text["num_attention_heads"], &text["hidden_act"]),
        (&json!(512), &json!(8), &json!("quick_gelu"))
    );
    assert_eq!(
        (&text["pooling"], &text["eos_token_id"], &text["pad_token_id"]),
        (&json!("eos"), &json!(49407), &json!(1))
    );
    assert_eq!(
        (&vision["patch_size"], &vision["intermediate_size"]),
        (&json!(32), &json!(3072))
    );

    let empty = json!({"text_config": {}, "vision_config": {}});
    let chinese = of(CHINESE_CLIP, empty.clone());
    let text = &chinese["text_config"];
    assert_eq!(
        (
            &text["vocab_size"],
            &text["max_position_embeddings"],
            &text["layer_norm_eps"]
        ),
        (&json!(30522), &json!(512), &json!(1e-12))
    );
    assert_eq!(
        (&chinese["context_length"], &text["hidden_act"]),
        (&json!(52), &json!("gelu"))
    );

    let siglip = of(SIGLIP, empty.clone());
    let (text, vision) = (&siglip["text_config"], &siglip["vision_config"]);
    assert_eq!(
        (
            &text["vocab_size"],
            &text["max_position_embeddings"],
            &text["hidden_act"],
            &text["layer_norm_eps"]
        ),
        (&json!(32000), &json!(64), &json!("gelu_pytorch_tanh"), &json!(1e-6))
    );
    assert_eq!((&vision["patch_size"], &siglip["embed_dim"]), (&json!(16), &json!(768)));

    let easynlp = of(EASYNLP, empty);
    let (text, vision) = (&easynlp["text_config"], &easynlp["vision_config"]);
    assert_eq!(
        (
            &text["vocab_size"],
            &text["hidden_size"],
            &text["num_hidden_layers"],
            &text["num_attention_heads"]
        ),
        (&json!(21128), &json!(1024), &json!(24), &json!(16))
    );
    assert_eq!((&text["pad_token_id"], &vision["patch_size"]), (&json!(0), &json!(32)));
    assert_eq!(easynlp["context_length"], 52);

    let dual = json!({"text_config": {"model_type": "roberta"}, "vision_config": {"model_type": "vit"}});
    let dual = of(DUAL_ENCODER, dual);
    let (text, vision) = (&dual["text_config"], &dual["vision_config"]);
    assert_eq!((&text["vocab_size"], &text["pad_token_id"]), (&json!(50265), &json!(1)));
    assert_eq!(
        (
            &vision["patch_size"],
            &vision["hidden_act"],
            &vision["layer_norm_eps"],
            &vision["pooling"]
        ),
        (&json!(16), &json!("gelu"), &json!(1e-12), &json!("pooler"))
    );
}

#[test]
fn a_second_config_of_a_tower_counts_with_its_defaults() {
    // As in `openai/clip-vit-large-patch14`, whose first text config has another end token and width.
    let config = json!({
        "model_type": "clip",
        "text_config": {"hidden_size": 512, "eos_token_id": 2, "vocab_size": 99, "initializer_factor": 0.5},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {"patch_size": 14},
        "vision_config_dict": null,
    });
    for (name, vocab_size) in [(CLIP, 49408), (CHINESE_CLIP, 30522)] {
        let ours = canonical(&*family(name), &config, &[]).unwrap();
        let text = &ours["text_config"];
        assert_eq!(
            (&text["hidden_size"], &text["vocab_size"]),
            (&json!(768), &json!(vocab_size))
        );
        assert_eq!(text["initializer_factor"], 0.5, "what nobody here reads stays");
        assert_eq!(ours["vision_config"]["patch_size"], 14);
    }
    let ours = canonical(&*family(CLIP), &config, &[]).unwrap();
    assert_eq!(ours["text_config"]["eos_token_id"], 49407);
    // EasyNLP writes both alike and reads the first.
    let ours = canonical(&*family(EASYNLP), &config, &[]).unwrap();
    assert_eq!(ours["text_config"]["hidden_size"], 512);
}

#[test]
fn norms_may_have_their_old_names() {
    for (name, given) in [
        (EASYNLP, easynlp_of(SMALL, SMALL, false, &[1])),
        (CHINESE_CLIP, chinese_clip(SMALL, SMALL)),
    ] {
        let mut old = Table::new([]);
        for tensor in given.1.tensors() {
            let norm = tensor.name.to_lowercase().contains("norm");
            let mut renamed = tensor.name.clone();
            if norm {
                renamed = renamed.replace(".weight", ".gamma").replace(".bias", ".beta");
            }
            let values = given.1.view(&tensor.name).unwrap().unwrap().to_f32().unwrap();
            old.push(&renamed, tensor.shape.clone(), &values);
        }
        assert!(old.names().iter().any(|tensor| tensor.ends_with("LayerNorm.beta")));
        assert_eq!(loaded(name, &(given.0.clone(), old)), loaded(name, &given), "{name}");
    }
}

#[test]
fn what_easynlp_starts_itself_may_be_missing() {
    let (config, full) = easynlp_of(SMALL, SMALL, false, &[1]);
    let mut less = Table::new([]);
    for tensor in full.tensors().iter().filter(|tensor| tensor.name != "logit_scale") {
        // A RoBERTa with its own prefix inside.
        let name = tensor.name.replacen("text_encoder.", "text_encoder.roberta.", 1);
        let values = full.view(&tensor.name).unwrap().unwrap().to_f32().unwrap();
        less.push(&name, tensor.shape.clone(), &values);
    }
    let model = loaded(EASYNLP, &(config.clone(), less));
    let scale = model.view("logit_scale").unwrap().unwrap();
    assert!((scale.to_f32().unwrap()[0] - (1f32 / 0.07).ln()).abs() < 1e-6);
    assert_eq!(scale.shape, [0usize; 0]);
    let sorted = |table: Table| -> BTreeSet<String> { table.names().into_iter().map(str::to_owned).collect() };
    assert_eq!(sorted(model), sorted(loaded(EASYNLP, &(config, full))));
}

#[test]
fn what_hugging_face_has_and_we_do_not_is_refused_by_name() {
    let refuse = |name: &str, config: Value| canonical(&*family(name), &config, &[]).unwrap_err().to_string();
    let siglip = |text: Value, vision: Value| refuse(SIGLIP, json!({"text_config": text, "vision_config": vision}));
    assert_eq!(
        siglip(json!({}), json!({"vision_use_head": false})),
        "`vision_config.vision_use_head` is false, which is not supported; supported: true"
    );
    assert_eq!(
        siglip(json!({"projection_size": 512}), json!({})),
        "texts have 512 dimensions (`text_config.projection_size`) and pictures 768 (`vision_config.hidden_size`); a model \
         of this layout has no projection of pictures, so that the two are equal"
    );
    let dual = |vision: Value| {
        let config = json!({"text_config": {"model_type": "bert"}, "vision_config": vision});
        refuse(DUAL_ENCODER, config)
    };
    assert!(
        dual(json!({"model_type": "vit", "pooler_act": "relu"})).contains("`vision_config.pooler_act` is \"relu\"")
    );
    assert!(
        dual(json!({"model_type": "vit", "pooler_output_size": 12}))
            .contains("`vision_config.pooler_output_size` is 12")
    );
    assert!(refuse(CLIP, json!({"vision_config": {"num_channels": 1}})).contains("`vision_config.num_channels` is 1"));
    let twin = json!({"text_config": {}, "text_config_dict": {"hidden_size": "wide"}});
    assert!(refuse(CLIP, twin).contains("`text_config_dict.hidden_size` is \"wide\""));
    assert!(refuse(EASYNLP, json!({"text_config": {}})).contains("`config.json.vision_config` is missing"));
    let relative = json!({"text_config": {"position_embedding_type": "relative_key"}, "vision_config": {}});
    assert!(refuse(CHINESE_CLIP, relative).contains("position_embedding_type"));
}

#[test]
fn what_a_layout_cannot_say_is_an_error() {
    let cases = [
        (CLIP, clip(SMALL, SMALL)),
        (CHINESE_CLIP, chinese_clip(SMALL, SMALL)),
        (SIGLIP, siglip(SMALL, SMALL)),
        (DUAL_ENCODER, roberta_and_vit(SMALL, SMALL)),
        (EASYNLP, easynlp_of(SMALL, SMALL, false, &[1])),
        (EASYNLP_2022, easynlp_of(SMALL, SMALL, true, &[])),
    ];
    let change = |name: &str, (config, file): &(Value, Table), at: &str, value: Value| {
        let mut ours = canonical(&*family(name), config, file.tensors()).unwrap();
        *ours.pointer_mut(at).unwrap_or_else(|| panic!("{name} {at}")) = value;
        family(name).restore(&ours, None).map_err(|error| error.to_string())
    };
    for (name, given) in &cases {
        for (at, value) in [
            ("/image_projection", json!({"type": "mlp", "hidden": 3})),
            (
                "/probability",
                json!(if *name == SIGLIP { "softmax" } else { "sigmoid" }),
            ),
            ("/vision_config/model_type", json!("efficientnet_lite0")),
            ("/text_config/model_type", json!("clip_text_mode")),
        ] {
            if *name == DUAL_ENCODER && at == "/text_config/model_type" {
                // Towers of any other type pass through there.
                continue;
            }
            let error = change(name, given, at, value).unwrap_err();
            assert!(
                error.contains(&format!("the layout `{name}` cannot express")),
                "{name} {at}: {error}"
            );
        }
    }
    let [clip, chinese, siglip, dual, easynlp, _] = cases.map(|(_, given)| given);
    for (name, given, at, value) in [
        (CLIP, &clip, "/text_config/eos_token_id", json!(2)),
        (CLIP, &clip, "/tokenizer/type", json!("word_piece")),
        (CHINESE_CLIP, &chinese, "/text_config/pooling", json!("pooler")),
        (SIGLIP, &siglip, "/logit_bias", json!(false)),
        (DUAL_ENCODER, &dual, "/text_config/pooling", json!("mean")),
        (DUAL_ENCODER, &dual, "/vision_config/pooling", json!("cls")),
        (EASYNLP, &easynlp, "/vision_config/layer_norm_eps", json!(1e-6)),
        (EASYNLP, &easynlp, "/text_config/pooling", json!("cls")),
        (EASYNLP, &easynlp, "/image_projection/bias", json!(false)),
    ] {
        let mut given = given.clone();
        if at == "/text_config/eos_token_id" {
            given.0["text_config"]["eos_token_id"] = 10.into();
        }
        let error = change(name, &given, at, value).unwrap_err();
        assert!(error.contains("cannot express"), "{name} {at}: {error}");
    }
}

#[test]
fn a_model_moves_between_layouts_of_the_same_towers() {
    // OpenCLIP's and Hugging Face's CLIP, EasyNLP's and Hugging Face's Chinese-CLIP: names differ, and nothing else.
    let given = clip(SMALL, SMALL);
    let (config, model) = (
        canonical(&*family(CLIP), &given.0, given.1.tensors()).unwrap(),
        loaded(CLIP, &given),
    );
    let open_clip = family("open_clip");
    let layout = open_clip.restore(&config, None).unwrap();
    let file = Table::of(&Remapped::save(&open_clip.mapping(&config).unwrap(), &model as &dyn Weights).unwrap());
    let again = canonical(&*open_clip, &layout.files[0].1, file.tensors()).unwrap();
    assert_eq!(again["text_config"]["pooling"], "argmax");
    let back = family(CLIP).restore(&again, None).unwrap();
    assert_eq!(back.files[0].1["text_config"]["eos_token_id"], 2);
    let file = Remapped::load(&open_clip.mapping(&again).unwrap(), &file as &dyn Weights).unwrap();
    assert_eq!(Table::of(&file), model);
}

#[test]
fn pictures_are_prepared_as_the_reference_does_without_a_file() {
    let of = |name: &str, config: Value| {
        let ours = canonical(&*family(name), &config, &[]).unwrap();
        family(name).default_transform(&ours).unwrap()
    };
    let towers = |text: &str, vision: &str| json!({"text_config": {"model_type": text}, "vision_config": {"model_type": vision, "image_size": 48}});
    for (name, text, vision, resize, filter, mean) in [
        (CLIP, "", "", Resize::Shortest(48), Filter::Bicubic, 0.48145466),
        (
            CHINESE_CLIP,
            "",
            "",
            Resize::Squash([48, 48]),
            Filter::Bicubic,
            0.48145466,
        ),
        (SIGLIP, "", "", Resize::Squash([48, 48]), Filter::Bicubic, 0.5),
        (
            DUAL_ENCODER,
            "bert",
            "clip_vision_model",
            Resize::Shortest(48),
            Filter::Bicubic,
            0.48145466,
        ),
        (
            DUAL_ENCODER,
            "bert",
            "vit",
            Resize::Squash([48, 48]),
            Filter::Bilinear,
            0.5,
        ),
        (
            DUAL_ENCODER,
            "roberta",
            "siglip_vision_model",
            Resize::Squash([48, 48]),
            Filter::Bicubic,
            0.5,
        ),
    ] {
        let transform = of(name, towers(text, vision));
        assert_eq!(
            (transform.size, transform.resize, transform.filter),
            ([48, 48], resize, filter),
            "{name} {vision}"
        );
        assert_eq!(transform.mean[0], mean);
        // And it can be written.
        let config = canonical(&*family(name), &towers(text, vision), &[]).unwrap();
        assert_eq!(family(name).restore(&config, Some(&transform)).unwrap().files.len(), 2);
    }
    let easynlp = of(EASYNLP, towers("", ""));
    assert_eq!(easynlp, TransformConfig::easynlp(48));
}
