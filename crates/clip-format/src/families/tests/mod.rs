//! Every family, both ways: config to canonical and back, tensors to canonical names and back, to the bit.

mod bare;
mod chinese_clip;
pub(crate) mod easynlp;
mod hugging_face;
pub(crate) mod layouts;
mod open_clip_siglip;
mod refusals;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::testing::Table;
use layouts::{LAYERS, Sizes, bert, dual_encoder, efficientnet, native, open_clip, open_clip_resnet, sizes};

/// What a family sees of a checkpoint in a directory without other files.
fn evidence<'a>(config: Option<&'a Value>, tensors: &'a [TensorInfo]) -> Evidence<'a> {
    Evidence {
        config: config.map(|config| ("config.json", config)),
        tensors,
        file: "model.safetensors",
        format: Format::Safetensors,
        beside: &|_| Ok(None),
    }
}

fn canonical(family: &dyn Family, config: &Value, tensors: &[TensorInfo]) -> Result<Value> {
    family.canonical(&evidence(Some(config), tensors))
}

fn family(name: &str) -> Arc<dyn Family> {
    Families::bundled().get(name).unwrap()
}

/// What a file becomes under the family's mapping.
fn loaded(name: &str, (config, file): &(Value, Table)) -> Table {
    let family = family(name);
    let config = canonical(&*family, config, file.tensors()).unwrap();
    Table::of(&Remapped::load(&family.mapping(&config).unwrap(), file as &dyn Weights).unwrap())
}

/// Config and tensors through the family and back; returns the canonical names and shapes.
fn round_trip(name: &str, (config, file): &(Value, Table)) -> (Value, Table) {
    let families = Families::bundled();
    let evidence = evidence(Some(config), file.tensors());
    let family = families.recognise(&evidence).unwrap();
    assert_eq!(family.name(), name);
    let ours = family.canonical(&evidence).unwrap();
    let model = there_and_back(&family.mapping(&ours).unwrap(), file);
    let restored = family.restore(&ours, None).unwrap().files.remove(0).1;
    assert_eq!(
        canonical(&*family, &restored, file.tensors()).unwrap(),
        ours,
        "the config comes back"
    );
    (ours, model)
}

/// A file's tensors under canonical names, which go back to the bit.
fn there_and_back(mapping: &Mapping, file: &Table) -> Table {
    let model = Remapped::load(mapping, file as &dyn Weights).unwrap();
    let back = Remapped::save(mapping, &model as &dyn Weights).unwrap();
    assert!(Table::of(&back) == Table::of(file), "tensors come back to the bit");
    Table::of(&model)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn open_clip_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip("open_clip", &open_clip(vision, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], vision.width / 2);
        prop_assert_eq!(&config["text_config"]["intermediate_size"], text.hidden);
        expect_clip(&model, "image", vision);
        expect_clip(&model, "text", text);
        prop_assert_eq!(shape(&model, "image_projection.weight"), Some(vec![vision.embed, vision.width]));
        prop_assert_eq!(shape(&model, "text_projection.weight"), Some(vec![vision.embed, text.width]));
    }

    #[test]
    fn open_clips_resnet_goes_both_ways(width in 1usize..3, text in sizes()) {
        let (config, model) = round_trip("open_clip", &open_clip_resnet(2 * width, text));
        prop_assert_eq!(&config["vision_config"]["num_attention_heads"], 4 * width);
        prop_assert_eq!(&config["vision_config"]["layers"], &json!(LAYERS));
        prop_assert_eq!(&config["image_projection"]["bias"], true);
        expect_resnet(&model, 2 * width, text.embed);
    }

    #[test]
    fn the_dual_encoder_goes_both_ways(vision in sizes(), text in sizes()) {
        let (config, model) = round_trip("vision-text-dual-encoder", &dual_encoder(vision, text));
        prop_assert_eq!(&config["context_length"], 9);
        expect_clip(&model, "image", vision);
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

/// OpenAI's ResNet under canonical names, and nothing beside it.
fn expect_resnet(model: &Table, width: usize, embed: usize) {
    let mut wanted = Vec::new();
    let mut expect = |name: String, sizes: &[usize]| {
        assert_eq!(shape(model, &name).as_deref(), Some(sizes), "{name}");
        wanted.push(name);
    };
    let mut unit = |at: &str, [conv, norm]: [&str; 2], [input, output, kernel]: [usize; 3]| {
        expect(format!("{at}.{conv}.weight"), &[output, input, kernel, kernel]);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            expect(format!("{at}.{norm}.{part}"), &[output]);
        }
        expect(format!("{at}.{norm}.num_batches_tracked"), &[]);
    };
    let half = width / 2;
    for (i, sizes) in [[3, half, 3], [half, half, 3], [half, width, 3]]
        .into_iter()
        .enumerate()
    {
        unit(
            "image.stem",
            [&format!("conv{}", i + 1), &format!("norm{}", i + 1)],
            sizes,
        );
    }
    let mut input = width;
    for (stage, blocks) in LAYERS.into_iter().enumerate() {
        let narrow = width << stage;
        for block in 0..blocks {
            let at = format!("image.stages.{}.{block}", stage + 1);
            unit(&at, ["conv1", "norm1"], [input, narrow, 1]);
            unit(&at, ["conv2", "norm2"], [narrow, narrow, 3]);
            unit(&at, ["conv3", "norm3"], [narrow, 4 * narrow, 1]);
            if block == 0 {
                unit(&format!("{at}.downsample"), ["conv", "norm"], [input, 4 * narrow, 1]);
            }
            input = 4 * narrow;
        }
    }
    expect("image.pool.position_embedding".into(), &[5, input]);
    expect("image.pool.attention.qkv.weight".into(), &[3 * input, input]);
    expect("image.pool.attention.qkv.bias".into(), &[3 * input]);
    wanted.sort();
    let mut names: Vec<&str> = model
        .names()
        .into_iter()
        .filter(|name| name.starts_with("image."))
        .collect();
    names.sort_unstable();
    assert_eq!(names, wanted);
    assert_eq!(shape(model, "image_projection.weight"), Some(vec![embed, input]));
    assert_eq!(shape(model, "image_projection.bias"), Some(vec![embed]));
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
) {
    let mut wanted: Vec<String> = Vec::new();
    let around: &[&str] = match tower {
        "image" => &[
            "class_embedding",
            "position_embedding",
            "patch_embedding.weight",
            "pre_norm",
            "post_norm",
        ],
        _ => &["token_embedding.weight", "position_embedding", "final_norm"],
    };
    for name in around {
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
