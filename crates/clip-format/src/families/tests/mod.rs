//! Every family, both ways: config to canonical and back, tensors to canonical names and back, to the bit.

mod easynlp;
mod layouts;
mod refusals;

use proptest::prelude::*;

use super::*;
use crate::mapping::Remapped;
use crate::tensor::Weights;
use crate::testing::Table;
use layouts::{Sizes, bert, dual_encoder, efficientnet, native, open_clip, sizes};

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
