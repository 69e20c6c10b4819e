//! What is opened, joined and saved, and what does not open.

use clip_models::{Join, join};
use clip_nn::ModelWriter;
use clip_nn::clip_core::Probability;
use clip_nn::layers::ProjectionConfig;
use safetensors::SafeTensors;

use super::*;

#[test]
fn what_is_saved_opens_to_the_same_features() {
    let (zoo, families) = (zoo(), Families::bundled());
    for name in MODELS {
        let loaded = opened(name, trainable());
        {
            let _guard = tch::no_grad_guard();
            for parameter in loaded.model.parameters().trainable() {
                let mut tensor = parameter.tensor.shallow_clone();
                tensor.copy_(&(&tensor * 0.9));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("saved");
        loaded.writer.save(&loaded.model, &at).unwrap();
        let again = load(&at, &zoo, &families, ParamOptions::default(), None).unwrap();
        assert_eq!(again.writer.family(), loaded.writer.family());
        let reference = Reference::read(name);
        let (before, after) = (
            reference.texts(&loaded.model, Pass::INFER).raw,
            reference.texts(&again.model, Pass::INFER).raw,
        );
        assert_same(&before, &after);
        assert!(difference(&before, reference.get("text_features")) > 1e-3);
        let (before, after) = (
            reference.images(&loaded.model, Pass::INFER).raw,
            reference.images(&again.model, Pass::INFER).raw,
        );
        assert_same(&before, &after);
    }
}

#[test]
fn a_layout_that_cannot_hold_the_transform_is_not_written_and_named() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("hf_clip_tiny")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let open = || {
        load(
            folder.path(),
            &zoo(),
            &Families::bundled(),
            ParamOptions::default(),
            None,
        )
        .unwrap()
    };
    assert_eq!((open().writer.family(), open().writer.instead_of()), ("hf-clip", None));
    // Hugging Face's processors have no word for a picture that is made to fit and padded.
    let preprocessor = r#"{"preprocess_cfg": {"size": 32, "resize_mode": "longest"}}"#;
    std::fs::write(folder.path().join("preprocessor_config.json"), preprocessor).unwrap();
    assert_eq!(
        (open().writer.family(), open().writer.instead_of()),
        ("clipzoo", Some("hf-clip"))
    );
}

#[test]
fn towers_of_two_checkpoints_are_joined_and_saved() -> Result<()> {
    let (zoo, families) = (zoo(), Families::bundled());
    let mlp = ProjectionConfig::Mlp {
        hidden: 24,
        dropout: 0.1,
        standardise: true,
    };
    let how = Join {
        embed_dim: 20,
        image_projection: mlp.clone(),
        text_projection: mlp,
        logit_bias: true,
        context_length: Some(30),
        image: Default::default(),
        text: Default::default(),
    };
    let (image, text) = (fixture("oc_vit_tiny"), fixture("hf_vtde_bert_clipvision_tiny"));
    let joined = join(&image, &text, &how, &zoo, &families, trainable())?;
    let statistics = (
        Tensor::ones([48], (Kind::Float, Device::Cpu)),
        Tensor::full([48], 2.0, (Kind::Float, Device::Cpu)),
    );
    joined
        .model
        .image_projection()
        .set_statistics(&statistics.0, &statistics.1)?;
    assert_eq!(joined.model.info().context_length, 30);

    let (images, texts) = (
        Reference::read("oc_vit_tiny"),
        Reference::read("hf_vtde_bert_clipvision_tiny"),
    );
    // The towers are the ones named: their pooled features are those of the models they come from.
    let own = load(&text, &zoo, &families, ParamOptions::default(), None)?;
    assert_same(
        &texts.texts(&joined.model, Pass::INFER).pooled,
        &texts.texts(&own.model, Pass::INFER).pooled,
    );
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("joined");
    fs::create_dir(&at).unwrap();
    joined.writer.write(&joined.model, &at)?;
    let again = open(&at, &zoo, &families, &OpenOptions::default())?;
    assert_eq!(again.info().context_length, 30);
    let info = again.info();
    assert_eq!((info.logit_bias, info.probability), (Some(-10.0), Probability::Sigmoid));
    assert!((info.logit_scale - 10.0).abs() < 1e-5);
    assert_same(
        &images.images(&joined.model, Pass::INFER).raw,
        &images.images(again.model(), Pass::INFER).raw,
    );
    assert_same(
        &texts.texts(&joined.model, Pass::INFER).raw,
        &texts.texts(again.model(), Pass::INFER).raw,
    );
    Ok(())
}

#[test]
fn what_does_not_fit_is_an_error_that_says_so() {
    let (zoo, families) = (zoo(), Families::bundled());
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(fixture("oc_vit_tiny").join(from), folder.path().join(to)).unwrap();
    copy("open_clip_model.safetensors", "open_clip_model.safetensors");
    let config = fs::read_to_string(fixture("oc_vit_tiny").join("open_clip_config.json")).unwrap();
    let attempt = |from: &str, to: &str| {
        assert!(config.contains(from));
        fs::write(
            folder.path().join("open_clip_config.json"),
            config.replacen(from, to, 1),
        )
        .unwrap();
        match open(folder.path(), &zoo, &families, &OpenOptions::default()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(attempt("\"layers\": 2", "\"layers\": 2"), "");
    let deeper = attempt("\"layers\": 2", "\"layers\": 3");
    assert!(
        deeper.contains("missing (12): image.blocks.2.norm1.weight [48]"),
        "{deeper}"
    );
    let shallower = attempt("\"layers\": 2", "\"layers\": 1");
    assert!(shallower.contains("unexpected (12): "), "{shallower}");
    let finer = attempt("\"patch_size\": 16", "\"patch_size\": 8");
    assert!(
        finer.contains("image.patch_embedding.weight is [48, 3, 16, 16] in the file, [48, 3, 8, 8] in the model"),
        "{finer}"
    );
}

/// The tensors of a fixture in another type, in a file whose data begins `shift` bytes behind a multiple of 8.
fn rewrite(model: &str, kind: Kind, shift: usize, at: &Path) {
    let name = match kind {
        Kind::Half => "F16",
        Kind::BFloat16 => "BF16",
        _ => "F32",
    };
    let bytes = fs::read(fixture(model).join("open_clip_model.safetensors")).unwrap();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (tensor, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let values = Tensor::from_data_size(view.data(), &[view.data().len() as i64 / 4], Kind::Float).to_kind(kind);
        let from = data.len();
        data.resize(from + values.numel() * kind.elt_size_in_bytes(), 0);
        values.copy_data_u8(&mut data[from..], values.numel());
        let entry = serde_json::json!({"dtype": name, "shape": view.shape(), "data_offsets": [from, data.len()]});
        header.insert(tensor, entry);
    }
    let mut header = serde_json::to_string(&header).unwrap();
    while header.len() % 8 != shift {
        header.push(' ');
    }
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat();
    fs::write(at.join("open_clip_model.safetensors"), file).unwrap();
    let config = "open_clip_config.json";
    fs::copy(fixture(model).join(config), at.join(config)).unwrap();
}

#[test]
fn half_precision_and_unaligned_files_are_read() {
    let (zoo, families) = (zoo(), Families::bundled());
    let _guard = tch::no_grad_guard();
    let reference = Reference::read(MODELS[0]);
    let cases = [
        (Kind::Float, 0, 1e-5),
        (Kind::Float, 1, 1e-5),
        (Kind::Half, 1, 5e-3),
        (Kind::BFloat16, 0, 5e-2),
    ];
    for (kind, shift, tolerance) in cases {
        let folder = tempfile::tempdir().unwrap();
        rewrite(MODELS[0], kind, shift, folder.path());
        let pipeline = open(folder.path(), &zoo, &families, &OpenOptions::default()).unwrap();
        for parameter in pipeline.model().parameters().iter() {
            assert_eq!(parameter.tensor.kind(), Kind::Float);
        }
        let texts = unit_rows(&reference.texts(pipeline.model(), Pass::INFER).raw);
        assert_near(&texts, reference.get("text_features_norm"), tolerance);
        let images = unit_rows(&reference.images(pipeline.model(), Pass::INFER).raw);
        assert_near(&images, reference.get("image_features_norm"), tolerance);
    }
}
