//! Every family, both ways: config to canonical and back, tensors to canonical names and back, to the bit.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::testing::Table;

/// Sizes of a tower.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    width: usize,
    hidden: usize,
    layers: usize,
    embed: usize,
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let ranges = (1usize..5, 1usize..9, 1usize..13, 1usize..6);
    ranges.prop_map(|(width, hidden, layers, embed)| Sizes {
        width: width * 4,
        hidden,
        layers,
        embed,
    })
}

/// Tensors whose elements all differ over the file.
struct Builder {
    table: Table,
    next: f32,
}

impl Builder {
    fn new() -> Self {
        Self {
            table: Table::new([]),
            next: 0.5,
        }
    }

    fn add(&mut self, name: impl AsRef<str>, shape: &[usize]) {
        self.table.counting(name.as_ref(), shape, self.next);
        self.next += shape.iter().product::<usize>() as f32;
    }

    fn linear(&mut self, name: &str, rows: usize, columns: usize) {
        self.add(format!("{name}.weight"), &[rows, columns]);
        self.add(format!("{name}.bias"), &[rows]);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }
}

fn open_clip_blocks(
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

fn open_clip(vision: Sizes, text: Sizes) -> (Value, Table) {
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

fn bert_tensors(
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

fn bert_json(sizes: Sizes) -> Value {
    json!({
        "model_type": "bert", "vocab_size": 11, "hidden_size": sizes.width, "intermediate_size": sizes.hidden,
        "num_hidden_layers": sizes.layers, "num_attention_heads": 2, "max_position_embeddings": 9, "initializer_range": 0.02,
    })
}

fn bert(sizes: Sizes) -> (Value, Table) {
    let mut out = Builder::new();
    bert_tensors(&mut out, "", sizes);
    (bert_json(sizes), out.table)
}

fn dual_encoder(vision: Sizes, text: Sizes) -> (Value, Table) {
    let Sizes {
        width,
        hidden,
        layers,
        embed,
    } = vision;
    let mut out = Builder::new();
    out.add("logit_scale", &[]);
    bert_tensors(&mut out, "text_model.", text);
    out.linear("text_model.pooler.dense", text.width, text.width);
    out.add("text_projection.weight", &[embed, text.width]);
    out.add("visual_projection.weight", &[embed, width]);
    out.add("vision_model.embeddings.class_embedding", &[width]);
    out.add("vision_model.embeddings.patch_embedding.weight", &[width, 3, 2, 2]);
    out.add("vision_model.embeddings.position_embedding.weight", &[5, width]);
    out.norm("vision_model.pre_layrnorm", width);
    out.norm("vision_model.post_layernorm", width);
    for layer in 0..layers {
        let at = format!("vision_model.encoder.layers.{layer}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            out.linear(&format!("{at}.self_attn.{part}"), width, width);
        }
        out.norm(&format!("{at}.layer_norm1"), width);
        out.norm(&format!("{at}.layer_norm2"), width);
        out.linear(&format!("{at}.mlp.fc1"), hidden, width);
        out.linear(&format!("{at}.mlp.fc2"), width, hidden);
    }
    let config = json!({
        "model_type": "vision-text-dual-encoder", "projection_dim": embed, "text_config": bert_json(text),
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": width, "intermediate_size": hidden, "image_size": 4,
            "num_hidden_layers": layers, "num_attention_heads": 2, "patch_size": 2,
        },
    });
    (config, out.table)
}

fn efficientnet(sizes: Sizes) -> (Value, Table) {
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

fn native(sizes: Sizes) -> (Value, Table) {
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

fn canonical(family: &dyn Family, config: &Value, tensors: &[TensorInfo]) -> Result<Value> {
    let beside = |_: &str| Ok(None);
    family.canonical(&Evidence {
        config: Some(("config.json", config)),
        tensors,
        beside: &beside,
    })
}

/// Config and tensors through the family and back; returns the canonical names and shapes.
fn round_trip(name: &str, (config, file): &(Value, Table)) -> (Value, Table) {
    let families = Families::bundled();
    let beside = |_: &str| Ok(None);
    let evidence = Evidence {
        config: Some(("config.json", config)),
        tensors: file.tensors(),
        beside: &beside,
    };
    let family = families.recognise(&evidence).unwrap();
    assert_eq!(family.name(), name);
    let ours = family.canonical(&evidence).unwrap();
    let mapping = family.mapping(&ours).unwrap();
    let model = Remapped::load(&mapping, file as &dyn Weights).unwrap();
    let back = Remapped::save(&mapping, &model as &dyn Weights).unwrap();
    assert!(Table::of(&back) == Table::of(file), "tensors come back to the bit");

    let restored = family.restore(&ours, None).unwrap().files.remove(0).1;
    assert_eq!(
        canonical(&*family, &restored, file.tensors()).unwrap(),
        ours,
        "the config comes back"
    );
    (ours, Table::of(&model))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn open_clip_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip("open_clip", &open_clip(vision, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], vision.width / 2);
        prop_assert_eq!(&config["text_config"]["intermediate_size"], text.hidden);
        expect_clip(&model, "image", vision, &["class_embedding", "position_embedding", "patch_embedding.weight", "pre_norm", "post_norm"]);
        expect_clip(&model, "text", text, &["token_embedding.weight", "position_embedding", "final_norm"]);
        prop_assert_eq!(shape(&model, "image_projection.weight"), Some(vec![vision.embed, vision.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.embed, text.width]));
    }

    #[test]
    fn the_dual_encoder_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip("vision-text-dual-encoder", &dual_encoder(vision, text));
        prop_assert_eq!(&config["context_length"], 9);
        expect_clip(&model, "image", vision, &["class_embedding", "position_embedding", "patch_embedding.weight", "pre_norm", "post_norm"]);
        prop_assert_eq!(shape(&model, "logit_scale"), Some(vec![]));
        prop_assert_eq!(shape(&model, "text.pooler.weight"), Some(vec![text.width; 2]));
        prop_assert_eq!(shape(&model, "text.blocks.0.attention.qkv.weight"), Some(vec![3 * text.width, text.width]));
    }

    #[test]
    fn bert_goes_both_ways(sizes in sizes()) {
        let (config, model) = round_trip("bert", &bert(sizes));
        prop_assert_eq!(&config["text_config"]["pooling"], "mean");
        prop_assert_eq!(shape(&model, "text.blocks.0.mlp.fc1.weight"), Some(vec![sizes.hidden, sizes.width]));
    }

    #[test]
    fn efficientnet_goes_both_ways(sizes in sizes()) {
        let (config, model) = round_trip("efficientnet_lite0", &efficientnet(sizes));
        prop_assert_eq!(&config["vision_config"]["image_size"], 8 * sizes.width);
        prop_assert_eq!(shape(&model, "image._blocks.0._bn1.running_var"), Some(vec![sizes.width]));
    }

    #[test]
    fn native_goes_both_ways(sizes in sizes()) {
        let given = native(sizes);
        let (config, model) = round_trip("clipzoo", &given);
        prop_assert_eq!(config, given.0);
        prop_assert_eq!(model, Table::of(&given.1));
    }
}

fn shape(table: &Table, name: &str) -> Option<Vec<usize>> {
    table
        .tensors()
        .iter()
        .find(|tensor| tensor.name == name)
        .map(|tensor| tensor.shape.clone())
}

/// A CLIP transformer under canonical names, and nothing beside it.
fn expect_clip(
    model: &Table,
    tower: &str,
    Sizes {
        width, hidden, layers, ..
    }: Sizes,
    outside: &[&str],
) {
    let mut wanted: Vec<String> = Vec::new();
    for name in outside {
        let norm = name.ends_with("norm");
        wanted.extend(if norm {
            vec![format!("{tower}.{name}.weight"), format!("{tower}.{name}.bias")]
        } else {
            vec![format!("{tower}.{name}")]
        });
    }
    for layer in 0..layers {
        let at = format!("{tower}.blocks.{layer}");
        for (name, rows, columns) in [
            ("norm1", width, None),
            ("norm2", width, None),
            ("attention.qkv", 3 * width, Some(width)),
            ("attention.out", width, Some(width)),
            ("mlp.fc1", hidden, Some(width)),
            ("mlp.fc2", width, Some(hidden)),
        ] {
            let weight = format!("{at}.{name}.weight");
            let wanted_shape: Vec<usize> = [rows].into_iter().chain(columns).collect();
            assert_eq!(shape(model, &weight), Some(wanted_shape), "{weight}");
            wanted.extend([weight, format!("{at}.{name}.bias")]);
        }
    }
    wanted.sort();
    let prefix = format!("{tower}.");
    let mut names: Vec<&str> = model
        .names()
        .into_iter()
        .filter(|name| name.starts_with(&prefix))
        .collect();
    names.sort_unstable();
    assert_eq!(names, wanted);
}

fn evidence_error(config: Option<Value>, tensors: &[TensorInfo]) -> String {
    let beside = |_: &str| Ok(None);
    let config = config.as_ref().map(|config| ("config.json", config));
    Families::bundled()
        .recognise(&Evidence {
            config,
            tensors,
            beside: &beside,
        })
        .unwrap_err()
        .to_string()
}

#[test]
fn an_unknown_model_type_lists_the_known_ones() {
    let message = evidence_error(Some(json!({"model_type": "align"})), &[]);
    assert_eq!(
        message,
        "`model_type` \"align\" in config.json is of no known family; known: bert (`model_type` \"bert\"), clipzoo \
         (`model_type` \"clipzoo\"), efficientnet_lite0 (`model_type` \"efficientnet_lite0\", or a bare file with its \
         tensors), open_clip (a config with `model_cfg`), vision-text-dual-encoder (`model_type` \
         \"vision-text-dual-encoder\")"
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
    assert!(open_clip_error(|model| model["vision_cfg"]["layers"] = json!([1, 2, 3, 4])).contains("ResNet towers"));
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
fn weights_of_open_clip_without_config_ask_for_it() {
    let sizes = Sizes {
        width: 8,
        hidden: 8,
        layers: 1,
        embed: 4,
    };
    let (_, file) = open_clip(sizes, sizes);
    let beside = |_: &str| Ok(None);
    let evidence = Evidence {
        config: None,
        tensors: file.tensors(),
        beside: &beside,
    };
    let family = Families::bundled().recognise(&evidence).unwrap();
    assert!(
        family
            .canonical(&evidence)
            .unwrap_err()
            .to_string()
            .contains("open_clip_config.json is missing")
    );
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
    let config = canonical(&open_clip::OpenClip, &config, file.tensors()).unwrap();
    let mapping = open_clip::OpenClip.mapping(&config).unwrap();
    let plain = Remapped::load(&mapping, &file as &dyn Weights).unwrap();
    let custom = Remapped::load(&mapping, &custom.table as &dyn Weights).unwrap();
    assert_eq!(plain.names(), custom.names());
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
    let family = dual_encoder::DualEncoder;
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
        canonical(&dual_encoder::DualEncoder, &config, &[]).unwrap()["vision_config"].clone()
    };
    let nested =
        of(json!({"model_type": "clip", "vision_config": {"hidden_size": 96, "model_type": "clip_vision_model"}}));
    let flat = of(json!({"model_type": "clip", "hidden_size": 96}));
    let named = of(json!({"model_type": "clip_vision_model", "hidden_size": 96}));
    assert_eq!((&nested, &flat), (&named, &named));
    assert_eq!((&named["hidden_size"], &named["patch_size"]), (&json!(96), &json!(32)));
    let mapping = dual_encoder::DualEncoder
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
            "clipzoo",
            "efficientnet_lite0",
            "open_clip",
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
