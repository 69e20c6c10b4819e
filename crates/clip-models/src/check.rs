//! Whether a checkpoint's weights are those of the model that its config describes.

use clip_format::Checkpoint;
use clip_nn::clip_core::Result;
use clip_nn::{DualEncoder, Fit, ParamOptions, Params, Zoo, door};

use crate::source::CheckpointWeights;

/// Builds the checkpoint's towers, or its only one, and says how its weights fit. Nothing is computed, and weights of f32
/// are not read.
///
/// # Errors
/// The model cannot be built at all: the zoo has no such backbone, or a config makes no sense.
pub fn check(checkpoint: &Checkpoint, zoo: &Zoo) -> Result<Fit> {
    let source = CheckpointWeights(checkpoint.share_weights());
    let params = Params::new(Some(Box::new(source)), ParamOptions::default());
    let kept = params.clone();
    let config = checkpoint.config();
    let tower = |key: &str| config.get(key).filter(|tower| tower.is_object());
    let built = match (tower("vision_config"), tower("text_config")) {
        (Some(image), None) => door(|| zoo.build_image(image, &params.at("image")).map(drop))?,
        (None, Some(text)) => door(|| zoo.build_text(text, &params.at("text")).map(drop))?,
        _ => DualEncoder::build(config, zoo, params).map(drop),
    };
    let fit = kept.fit();
    match (built, fit.check()) {
        // What ended the build was what the report tells.
        (Err(ended), Err(report)) if ended.what() == report.what() => Ok(fit),
        (built, _) => built.map(|()| fit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{create, register};
    use clip_format::Families;
    use serde_json::{Value, json};
    use std::path::{Path, PathBuf};

    fn zoo() -> Zoo {
        let mut zoo = Zoo::new();
        register(&mut zoo).unwrap();
        zoo
    }

    fn model(folder: &Path) -> PathBuf {
        let tower = json!({
            "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        });
        let mut config = json!({ "embed_dim": 8, "vision_config": tower, "text_config": tower, "tokenizer": { "type": "clip_bpe" } });
        config["vision_config"]["model_type"] = "clip_vision_model".into();
        config["vision_config"]["image_size"] = 16.into();
        config["vision_config"]["patch_size"] = 8.into();
        config["text_config"]["model_type"] = "clip_text_model".into();
        config["text_config"]["vocab_size"] = 20.into();
        let path = folder.join("m");
        create(&path, &config, &zoo(), 0).unwrap();
        path
    }

    fn with_config(path: &Path, change: impl Fn(&mut Value)) -> Checkpoint {
        let file = path.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(&file, config.to_string()).unwrap();
        Checkpoint::open(path, &Families::bundled()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_listed_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path());
        let whole = with_config(&path, |_| {});
        assert!(check(&whole, &zoo()).unwrap().is_exact());
        let other = with_config(&path, |config| {
            config["vision_config"]["intermediate_size"] = 24.into();
            config["text_config"]["num_hidden_layers"] = 3.into();
        });
        let fit = check(&other, &zoo()).unwrap();
        let misshapen: Vec<&str> = fit.misshapen.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(
            misshapen[..3],
            [
                "image.blocks.0.mlp.fc1.weight",
                "image.blocks.0.mlp.fc1.bias",
                "image.blocks.0.mlp.fc2.weight"
            ]
        );
        assert_eq!((misshapen.len(), fit.missing.len(), fit.unexpected.len()), (6, 12, 0));
        assert_eq!(
            (&fit.misshapen[0].file, &fit.misshapen[0].model),
            (&vec![16, 8], &vec![24, 8])
        );
        assert!(
            fit.missing
                .iter()
                .all(|tensor| tensor.name.starts_with("text.blocks.2."))
        );
        let shorter = with_config(&path, |config| {
            config["vision_config"]["intermediate_size"] = 16.into();
            config["text_config"]["num_hidden_layers"] = 1.into();
        });
        let fit = check(&shorter, &zoo()).unwrap();
        assert_eq!(
            (fit.misshapen.len(), fit.missing.len(), fit.unexpected.len()),
            (0, 0, 12)
        );
        assert!(fit.unexpected.iter().all(|name| name.starts_with("text.blocks.1.")));
    }

    #[test]
    fn the_published_models_have_as_many_parameters_as_they_are_said_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path());
        // A file of nothing that they have, so that all they have is missing.
        let foreign = clip_nn::tch::Tensor::from_slice(&[1f32]);
        clip_nn::tch::Tensor::write_safetensors(&[("foreign", foreign)], path.join("model.safetensors")).unwrap();
        let base = json!({
            "model_type": "open_clip", "embed_dim": 512, "image_resolution": 224, "vision_layers": 12, "vision_width": 768,
            "vision_patch_size": 32, "context_length": 77, "vocab_size": 49408, "transformer_width": 512,
            "transformer_heads": 8, "transformer_layers": 12,
        });
        let large = json!({
            "model_type": "open_clip", "embed_dim": 768, "image_resolution": 224, "vision_layers": 24, "vision_width": 1024,
            "vision_patch_size": 14, "context_length": 77, "vocab_size": 49408, "transformer_width": 768,
            "transformer_heads": 12, "transformer_layers": 12,
        });
        // pai-clip-commercial-base-en and -large-en.
        for (config, count) in [(base, 151_277_313), (large, 427_616_513)] {
            let checkpoint = with_config(&path, |own| own.clone_from(&config));
            let fit = check(&checkpoint, &zoo()).unwrap();
            let sizes = fit.missing.iter().map(|tensor| tensor.shape.iter().product::<i64>());
            assert_eq!((checkpoint.family(), sizes.sum::<i64>()), ("easynlp-open-clip", count));
        }
    }

    #[test]
    fn a_model_that_cannot_be_built_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path());
        let foreign = with_config(&path, |config| config["vision_config"]["model_type"] = "mine".into());
        let error = check(&foreign, &zoo()).unwrap_err().to_string();
        assert!(error.contains("unknown image backbone `mine`"), "{error}");
    }

    #[test]
    fn a_single_tower_is_checked_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path());
        let single = with_config(&path, |config| {
            config.as_object_mut().unwrap().remove("vision_config");
        });
        let fit = check(&single, &zoo()).unwrap();
        assert!(fit.missing.is_empty() && fit.misshapen.is_empty());
        assert!(fit.unexpected.iter().all(|name| !name.starts_with("text.")) && !fit.unexpected.is_empty());
    }
}
