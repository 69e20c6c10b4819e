//! A model that nobody has trained yet, out of its config alone.

use std::path::Path;

use clip_format::{Extras, Families, save};
use clip_nn::clip_core::{Error, Result};
use clip_nn::{DualEncoder, Fresh, ParamOptions, Params, Zoo};
use serde_json::Value;

use crate::open::NATIVE;
use crate::save::ModelWeights;

/// Writes a new model to `directory`, in the project's own layout. Every weight starts as its backbone says, drawn from
/// `seed` and its name; [`load`](crate::load) opens the directory for training.
///
/// `config` is what config.json will hold, less the `model_type` at its top: `embed_dim`, a `vision_config` and a
/// `text_config` with a `model_type` of the zoo each, and a `tokenizer`, `{"type": "clip_bpe"}` or `{"type":
/// "word_piece"}`. A vocabulary of the model's own (`vocab.txt`, `tokenizer.json`) is put into the directory afterwards;
/// without one the bundled vocabulary counts. Pictures are prepared as OpenCLIP does, unless there is a `transform`.
///
/// ```no_run
/// # use clip_nn::clip_core::{Result, serde_json::json};
/// # fn main() -> Result<()> {
/// let mut zoo = clip_nn::Zoo::new();
/// clip_models::register(&mut zoo)?;
/// let config = json!({
///     "embed_dim": 256,
///     "vision_config": { "model_type": "efficientnet_lite0", "image_size": 128 },
///     "text_config": { "model_type": "clip_text_model", "hidden_size": 256, "intermediate_size": 1024 },
///     "tokenizer": { "type": "clip_bpe" },
/// });
/// clip_models::create("my-model", &config, &zoo, 0)
/// # }
/// ```
///
/// # Errors
/// The directory is there already, the zoo has no such backbone, or a config makes no sense.
pub fn create(directory: impl AsRef<Path>, config: &Value, zoo: &Zoo, seed: u64) -> Result<()> {
    let directory = directory.as_ref();
    // `save` would replace another model; fresh weights in the place of trained ones are what nobody wants.
    if directory.exists() {
        return Err(Error::invalid("is there already")
            .file(directory)
            .remedy("name a new directory"));
    }
    let family = Families::bundled().get(NATIVE)?;
    let options = ParamOptions {
        seed,
        fresh: Fresh::Everything,
        ..ParamOptions::default()
    };
    let model = DualEncoder::build(config, zoo, Params::new(None, options))?;
    let weights = ModelWeights::new(model.parameters());
    save(directory, &*family, config, &weights, Extras::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load, register};
    use clip_nn::Preparation;
    use serde_json::json;

    fn config() -> Value {
        json!({
            "embed_dim": 8,
            "vision_config": {
                "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16, "hidden_size": 8,
                "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            },
            "text_config": {
                "model_type": "clip_text_model", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
                "num_attention_heads": 2, "max_position_embeddings": 12,
            },
            "tokenizer": {"type": "clip_bpe"},
        })
    }

    #[test]
    fn it_opens_with_the_weights_of_its_seed() {
        let mut zoo = Zoo::new();
        register(&mut zoo).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let weights = |name: &str, seed| {
            let path = folder.path().join(name);
            create(&path, &config(), &zoo, seed).unwrap();
            std::fs::read(path.join("model.safetensors")).unwrap()
        };
        assert!(weights("a", 1) == weights("b", 1));
        assert!(weights("c", 2) != weights("a2", 1));
        let path = folder.path().join("a");
        let loaded = load(&path, &zoo, &Families::bundled(), ParamOptions::default(), None).unwrap();
        assert_eq!(loaded.writer.family(), "clipzoo");
        assert_eq!(loaded.model.info().context_length, 12);
        assert_eq!(loaded.preparation.tokenizer().unwrap().vocabulary().size, 49408);
        loaded.preparation.transform().unwrap();
    }

    #[test]
    fn a_directory_that_is_there_and_an_unknown_backbone_are_refused() {
        let mut zoo = Zoo::new();
        register(&mut zoo).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = create(folder.path(), &config(), &zoo, 0).unwrap_err().to_string();
        assert!(error.contains("is there already; name a new directory"), "{error}");
        let path = folder.path().join("new");
        let mut other = config();
        other["vision_config"]["model_type"] = json!("nobody");
        let error = create(&path, &other, &zoo, 0).unwrap_err().to_string();
        assert!(
            error.contains("nobody") && error.contains("clip_vision_model"),
            "{error}"
        );
        assert!(!path.exists());
    }
}
