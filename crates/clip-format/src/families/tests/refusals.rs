//! What is refused, and the forms a config may have.

use serde_json::json;

use super::layouts::{Builder, Sizes, bert, dual_encoder, open_clip};
use super::{canonical, evidence};
use crate::families::*;
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::testing::Table;

fn evidence_error(config: Option<Value>, tensors: &[TensorInfo]) -> String {
    Families::bundled()
        .recognise(&evidence(config.as_ref(), tensors))
        .unwrap_err()
        .to_string()
}

#[test]
fn an_unknown_model_type_lists_the_known_ones() {
    let message = evidence_error(Some(json!({"model_type": "align"})), &[]);
    assert_eq!(
        message,
        "`model_type` \"align\" in config.json is of no known family; known: bert (`model_type` \"bert\"), chinese_clip \
         (tensors under `visual.` and `bert.`, beside vision.json and text.json or in a clip_cn_*.pt), clipzoo \
         (`model_type` \"clipzoo\"), easynlp-chinese-clip (`model_type` \"chinese_clip\" with `embed_dim`, or a bare file \
         with its tensors), easynlp-hf (`text_config`, `vision_config`, and tensors under `text_encoder.` and \
         `vision_encoder.`), easynlp-hf-2022 (`text_config`, `vision_config`, and tensors under `roberta.` and `vit.`), \
         easynlp-open-clip (`model_type` \"open_clip\" in a flat config, or a bare file with its tensors), \
         efficientnet_lite0 (`model_type` \"efficientnet_lite0\", or a bare file with its tensors), hf-chinese-clip \
         (`model_type` \"chinese_clip\" with `text_config` and `vision_config`), hf-clip (`model_type` \"clip\"), open_clip \
         (a config with `model_cfg`, or a bare file with OpenAI's names), open_clip-siglip (a config with `model_cfg` whose \
         `timm_model_name` is one of SigLIP's), siglip (`model_type` \"siglip\"), \
         vision-text-dual-encoder (`model_type` \"vision-text-dual-encoder\")"
    );
    assert!(evidence_error(None, &[]).starts_with("there is no config beside the weights"));
    assert!(evidence_error(Some(json!([1])), &[]).starts_with("config.json fits no known family"));
}

#[test]
fn two_families_that_both_match_are_named() {
    let config = json!({"model_type": "bert", "model_cfg": {}});
    assert!(evidence_error(Some(config), &[]).starts_with("the checkpoint fits several families: bert, open_clip"));
}

fn open_clip_error(change: impl Fn(&mut Value)) -> String {
    let sizes = Sizes {
        width: 8,
        hidden: 8,
        layers: 1,
        embed: 4,
    };
    let (mut config, file) = open_clip(sizes, sizes);
    change(&mut config["model_cfg"]);
    canonical(&open_clip::OpenClip, &config, file.tensors())
        .unwrap_err()
        .to_string()
}

#[test]
fn what_open_clip_has_and_we_do_not_is_refused_by_name() {
    let error = open_clip_error(|model| model["vision_cfg"]["timm_model_name"] = "vit_base".into());
    assert_eq!(
        error,
        "`vision_cfg.timm_model_name` is \"vit_base\", which is not supported; supported: null"
    );
    assert!(
        open_clip_error(|model| model["text_cfg"]["hf_model_name"] = "x".into()).contains("`text_cfg.hf_model_name`")
    );
    assert!(
        open_clip_error(|model| model["vision_cfg"]["attentional_pool"] = true.into()).contains("attentional_pool")
    );
    assert!(open_clip_error(|model| model["vision_cfg"]["layers"] = json!([1, 2, 3])).contains("or a list of four"));
    assert!(open_clip_error(|model| model["multimodal_cfg"] = json!({})).contains("CoCa"));
    assert!(
        open_clip_error(|model| model["vision_cfg"]["new_switch"] = true.into())
            .contains("`vision_cfg.new_switch` is unknown")
    );
    assert!(open_clip_error(|model| model["embed_dim"] = Value::Null).contains("`model_cfg.embed_dim` is missing"));
    assert!(open_clip_error(|model| model["vision_cfg"]["image_size"] = json!([4, 6])).contains("a square"));
}

#[test]
fn open_clip_fills_in_its_defaults() {
    let config = json!({"embed_dim": 512, "vision_cfg": {}, "text_cfg": {}, "init_logit_bias": -10});
    let config = canonical(&open_clip::OpenClip, &config, &[]).unwrap();
    let vision = &config["vision_config"];
    assert_eq!(
        (&vision["hidden_size"], &vision["num_attention_heads"]),
        (&json!(768), &json!(12))
    );
    assert_eq!(
        (&vision["patch_size"], &vision["intermediate_size"]),
        (&json!(16), &json!(3072))
    );
    let text = &config["text_config"];
    assert_eq!(
        (&text["vocab_size"], &text["hidden_size"]),
        (&json!(49408), &json!(512))
    );
    assert_eq!(
        (&config["probability"], &config["context_length"]),
        (&json!("sigmoid"), &json!(77))
    );
    assert_eq!(config["logit_scale_init"], json!(2.659_260_036_932_778));
}

#[test]
fn a_text_tower_under_its_own_prefix_is_read() {
    let sizes = Sizes {
        width: 8,
        hidden: 8,
        layers: 2,
        embed: 4,
    };
    let (config, file) = open_clip(sizes, sizes);
    let mut custom = Builder::new();
    for tensor in file.tensors() {
        let own = ["visual.", "logit_scale"]
            .iter()
            .any(|prefix| tensor.name.starts_with(prefix));
        custom.add(
            if own {
                tensor.name.clone()
            } else {
                format!("text.{}", tensor.name)
            },
            &tensor.shape,
        );
    }
    // Both are read, whatever the config says; what it says is written.
    for says in [false, true] {
        let mut config = config.clone();
        config["model_cfg"]["custom_text"] = says.into();
        let ours = canonical(&open_clip::OpenClip, &config, file.tensors()).unwrap();
        let mapping = open_clip::OpenClip.mapping(&ours).unwrap();
        let [one, two] = [&file, &custom.table].map(|file| Remapped::load(&mapping, file as &dyn Weights).unwrap());
        assert_eq!(one.names(), two.names());
        let written = Remapped::save(&mapping, &one as &dyn Weights).unwrap();
        let wanted = if says { custom.table.names() } else { file.names() };
        assert_eq!(written.names(), wanted);
        let restored = open_clip::OpenClip.restore(&ours, None).unwrap().files.remove(0).1;
        assert_eq!(restored["model_cfg"].get("custom_text").is_some(), says);
    }
}

#[test]
fn what_a_layout_cannot_express_is_an_error_and_native_takes_it() {
    let families = Families::bundled();
    let sizes = Sizes {
        width: 8,
        hidden: 8,
        layers: 1,
        embed: 4,
    };
    let of = |name: &str, config: &Value| canonical(&*families.get(name).unwrap(), config, &[]).unwrap();
    let image = of("efficientnet_lite0", &json!({"model_type": "efficientnet_lite0"}));
    let text = of("bert", &bert(sizes).0);
    let pair = crate::pair_towers(&image, &text, 16).unwrap();
    let open_clip = of("open_clip", &open_clip(sizes, sizes).0);
    let dual = of("vision-text-dual-encoder", &dual_encoder(sizes, sizes).0);

    let error = |name: &str, config: &Value| {
        families
            .get(name)
            .unwrap()
            .restore(config, None)
            .unwrap_err()
            .to_string()
    };
    let message = error("open_clip", &pair);
    assert_eq!(
        message,
        "the layout `open_clip` cannot express the tower `efficientnet_lite0`; save it as `clipzoo`"
    );
    for (name, config) in [
        ("vision-text-dual-encoder", &pair),
        ("vision-text-dual-encoder", &open_clip),
        ("open_clip", &dual),
        ("bert", &dual),
        ("bert", &image),
        ("efficientnet_lite0", &text),
        ("open_clip", &text),
    ] {
        assert!(
            error(name, config).contains(&format!("the layout `{name}` cannot express")),
            "{name}"
        );
    }
    assert_eq!(families.for_saving("open_clip", &pair, None).unwrap().name(), "clipzoo");
    assert_eq!(
        families.for_saving("open_clip", &open_clip, None).unwrap().name(),
        "open_clip"
    );
    let mut mlp = open_clip.clone();
    mlp["image_projection"] = json!({"type": "mlp", "hidden": 4});
    assert!(error("open_clip", &mlp).contains("`image_projection`"));
    let mut sigmoid = dual.clone();
    sigmoid["probability"] = "sigmoid".into();
    assert!(error("vision-text-dual-encoder", &sigmoid).contains("sigmoid"));
}

#[test]
fn a_temperature_of_one_dimension_is_a_scalar() {
    let file = Table::new([("logit_scale", vec![1], vec![2.0])]);
    for family in ["open_clip", "vision-text-dual-encoder"] {
        let mapping = Families::bundled().get(family).unwrap().mapping(&json!({})).unwrap();
        let model = Remapped::load(&mapping, &file as &dyn Weights).unwrap();
        assert!(model.tensors()[0].shape.is_empty());
        let back = Remapped::save(&mapping, &model as &dyn Weights).unwrap();
        assert!(back.tensors()[0].shape.is_empty(), "as the references have it");
    }
}

#[test]
fn towers_of_another_type_pass_through() {
    let config = json!({
        "model_type": "vision-text-dual-encoder", "projection_dim": 4,
        "text_config": {"model_type": "mine", "depth": 3}, "vision_config": {"model_type": "yours", "image_size": 32},
    });
    let family = hugging_face::DualEncoder;
    let ours = canonical(&family, &config, &[]).unwrap();
    assert_eq!(ours["text_config"], config["text_config"]);
    let mapping = family.mapping(&ours).unwrap();
    assert_eq!(mapping.model_name("text_model.a.b").as_deref(), Some("text.a.b"));
    assert_eq!(
        mapping.model_name("vision_model.stages.0.w").as_deref(),
        Some("image.stages.0.w")
    );
    assert_eq!(
        family.restore(&ours, None).unwrap().files[0].1["vision_config"],
        config["vision_config"]
    );
}

#[test]
fn clip_vision_configs_are_read_in_each_of_their_forms() {
    let of = |vision: Value| {
        let config = json!({"model_type": "vision-text-dual-encoder", "text_config": {"model_type": "bert"}, "vision_config": vision});
        canonical(&hugging_face::DualEncoder, &config, &[]).unwrap()["vision_config"].clone()
    };
    let nested =
        of(json!({"model_type": "clip", "vision_config": {"hidden_size": 96, "model_type": "clip_vision_model"}}));
    let flat = of(json!({"model_type": "clip", "hidden_size": 96}));
    let named = of(json!({"model_type": "clip_vision_model", "hidden_size": 96}));
    assert_eq!((&nested, &flat), (&named, &named));
    assert_eq!((&named["hidden_size"], &named["patch_size"]), (&json!(96), &json!(32)));
    let mapping = hugging_face::DualEncoder
        .mapping(&json!({"vision_config": named}))
        .unwrap();
    for prefix in ["vision_model", "vision_model.vision_model"] {
        assert_eq!(
            mapping.model_name(&format!("{prefix}.pre_layrnorm.bias")).as_deref(),
            Some("image.pre_norm.bias")
        );
    }
}

#[test]
fn every_bundled_family_is_in_the_table_once() {
    let names: Vec<String> = Families::bundled().names().map(str::to_owned).collect();
    assert_eq!(
        names,
        [
            "bert",
            "chinese_clip",
            "clipzoo",
            "easynlp-chinese-clip",
            "easynlp-hf",
            "easynlp-hf-2022",
            "easynlp-open-clip",
            "efficientnet_lite0",
            "hf-chinese-clip",
            "hf-clip",
            "open_clip",
            "open_clip-siglip",
            "siglip",
            "vision-text-dual-encoder"
        ]
    );
    let mut families = Families::bundled();
    assert!(
        families
            .register(bert::Bert)
            .unwrap_err()
            .to_string()
            .contains("registered twice")
    );
}
