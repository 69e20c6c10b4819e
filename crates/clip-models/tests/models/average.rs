//! Averages of two states of a model, against plain arithmetic on the files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use clip_format::Families;
use clip_models::{Average, load};
use clip_nn::ParamOptions;
use clip_nn::tch::{self, Tensor};
use safetensors::{Dtype, SafeTensors};

use crate::{fixture, zoo};

/// The float tensors of a directory's weights file.
fn floats(directory: &Path) -> BTreeMap<String, Vec<f32>> {
    let names = ["model.safetensors", "open_clip_model.safetensors"];
    let file = names
        .map(|name| directory.join(name))
        .into_iter()
        .find(|path| path.is_file());
    let bytes = fs::read(file.unwrap()).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = file
        .tensors()
        .into_iter()
        .filter(|(_, view)| view.dtype() == Dtype::F32);
    floats
        .map(|(name, view)| {
            let values = view.data().as_chunks::<4>().0.iter();
            (name, values.map(|bytes| f32::from_le_bytes(*bytes)).collect())
        })
        .collect()
}

/// A state of the fixture with every weight moved, as training moves them.
fn trained(model: &str, directory: &Path) {
    let options = ParamOptions {
        trainable: true,
        ..ParamOptions::default()
    };
    let loaded = load(fixture(model), &zoo(), &Families::bundled(), options, None).unwrap();
    tch::manual_seed(3);
    let _guard = tch::no_grad_guard();
    for parameter in loaded.model.parameters().iter() {
        let noise = Tensor::randn_like(&parameter.tensor) * 0.1;
        let moved = &parameter.tensor + noise;
        parameter.tensor.shallow_clone().copy_(&moved);
    }
    loaded.writer.save(&loaded.model, directory).unwrap();
}

#[test]
fn every_weight_is_between_the_two() {
    let families = Families::bundled();
    for model in ["oc_vit_tiny", "hf_vtde_bert_clipvision_tiny"] {
        let root = tempfile::tempdir().unwrap();
        let second = root.path().join("second");
        trained(model, &second);
        let average = Average::open(fixture(model), &second, &families).unwrap();
        let (before, after) = (floats(&fixture(model)), floats(&second));
        for alpha in [0.0, 0.3, 0.5, 1.0] {
            let path = root.path().join(format!("at_{alpha}"));
            average.save(alpha, &path, &families).unwrap();
            let mixed = floats(&path);
            assert_eq!(mixed.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
            let mut moved = 0;
            for (name, values) in &mixed {
                let pairs = before[name].iter().zip(&after[name]).zip(values);
                for ((&a, &b), &value) in pairs {
                    let wanted = (1.0 - alpha) * f64::from(a) + alpha * f64::from(b);
                    assert!(
                        (f64::from(value) - wanted).abs() <= 1e-7 * wanted.abs(),
                        "{model} {name} {alpha}"
                    );
                    moved += usize::from(a != b);
                }
            }
            assert!(moved > 1000, "{model}: {moved}");
            if alpha == 0.0 {
                assert!(mixed.iter().all(|(name, values)| values == &before[name]));
            }
            // The model that is evaluated is the one that is written.
            let built = average.model(alpha, &zoo(), ParamOptions::default(), None).unwrap();
            let read = load(&path, &zoo(), &families, ParamOptions::default(), None).unwrap();
            assert_eq!(
                read.writer.family(),
                load(fixture(model), &zoo(), &families, ParamOptions::default(), None)
                    .unwrap()
                    .writer
                    .family()
            );
            for (one, other) in built.parameters().iter().zip(read.model.parameters().iter()) {
                assert!(one.tensor.equal(&other.tensor), "{}", one.name);
            }
        }
        assert!(average.save(1.5, &root.path().join("x"), &families).is_err() && !root.path().join("x").exists());
    }
}

/// Writes the weights file of a directory again, its tensors changed.
fn rewrite(directory: &Path, change: impl Fn(&str) -> Option<(String, Vec<usize>)>) {
    let path = directory.join("open_clip_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .filter_map(|(name, view)| {
            let (new, shape) = match change(&name) {
                Some((new, shape)) if shape.is_empty() => (new, view.shape().to_vec()),
                Some(named) => named,
                None => return None,
            };
            let length = 4 * shape.iter().product::<usize>();
            Some((new, shape, view.data()[..length].to_vec()))
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn what_differs_is_listed() {
    let families = Families::bundled();
    let root = tempfile::tempdir().unwrap();
    let second = root.path().join("second");
    trained("oc_vit_tiny", &second);
    let open = || {
        Average::open(fixture("oc_vit_tiny"), &second, &families)
            .unwrap_err()
            .to_string()
    };
    rewrite(&second, |name| match name {
        "positional_embedding" => None,
        "ln_final.bias" => Some((name.into(), vec![2])),
        "text_projection" => Some(("other_projection".into(), Vec::new())),
        _ => Some((name.into(), Vec::new())),
    });
    let error = open();
    for part in [
        "are not two states of one model",
        "only the first has `text.position_embedding`",
        "only the first has `text_projection.weight`",
        "`text.final_norm.bias` is [",
        "only the second has `other_projection`",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    trained("oc_vit_tiny", &second);
    let config = fs::read_to_string(second.join("open_clip_config.json")).unwrap();
    let changed = config.replacen("\"embed_dim\"", "\"quick_gelu\": true, \"embed_dim\"", 1);
    assert_ne!(changed, config, "{config}");
    fs::write(second.join("open_clip_config.json"), changed).unwrap();
    let error = open();
    assert!(
        error.contains("config `vision_config.") && error.contains("quick_gelu"),
        "{error}"
    );
    let error = Average::open(
        fixture("oc_vit_tiny"),
        fixture("hf_vtde_bert_clipvision_tiny"),
        &families,
    )
    .unwrap_err();
    assert!(error.to_string().contains("more"), "{error}");
}
