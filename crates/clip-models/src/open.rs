//! Opens a checkpoint as a model: for use, for training, or joined from two single towers.

use std::path::Path;
use std::sync::Arc;

use clip_format::{Checkpoint, Families, TextOptions, pair_towers};
use clip_nn::clip_core::{Error, Result, Truncation};
use clip_nn::layers::ProjectionConfig;
use clip_nn::tch::Device;
use clip_nn::{Compute, DualEncoder, Fresh, InputWatch, Int8, ParamOptions, Params, Pipeline, Zoo};
use serde_json::{Map, Value, json};

use crate::calibration::{KeptCalibration, fastest};
use crate::source::{BETWEEN_TOWERS, CheckpointWeights, JoinedWeights};
use crate::{CheckpointPreparation, CheckpointWriter};

/// How a model is opened for use.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Where it runs.
    pub device: Device,
    /// What its linear layers multiply in; `None`: the fastest type whose features are near enough to f32's
    /// ([`fastest`](crate::fastest)). For int8 a calibration beside the model is used.
    pub compute: Option<Compute>,
    /// Texts are cut at this many tokens; `None`: the config's number.
    pub context_length: Option<usize>,
    /// What becomes of a text of more.
    pub truncation: Truncation,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            compute: Some(Compute::F32),
            context_length: None,
            truncation: Truncation::default(),
        }
    }
}

/// A model to train, and what belongs to it.
pub struct Loaded {
    /// The model.
    pub model: DualEncoder,
    /// Tokenizer and transform.
    pub preparation: CheckpointPreparation,
    /// Writes it in the layout it came from.
    pub writer: CheckpointWriter,
}

/// How two towers are joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// Dimensions of the common space.
    pub embed_dim: usize,
    /// From the image tower into it.
    pub image_projection: ProjectionConfig,
    /// From the text tower into it.
    pub text_projection: ProjectionConfig,
    /// Whether the model has a bias and each pair a probability of its own, as SigLIP: what the sigmoid loss trains. It
    /// starts as Zhai et al. 2023 have it, at a temperature of 10 and a bias of −10.
    pub logit_bias: bool,
    /// Texts are cut at this many tokens; `None`: the text tower's number.
    pub context_length: Option<usize>,
    /// Fields of the image tower's config to change: `image_size` of a convolutional tower, say.
    pub image: Map<String, Value>,
    /// Fields of the text tower's config to change.
    pub text: Map<String, Value>,
}

/// Opens a directory or a weights file for use. On a CPU its f32 weights stay in the mapped file: nothing is read or
/// copied before it is used, and the file must not change while the model lives.
///
/// # Errors
/// No checkpoint, one of a single tower, of no known family or backbone, whose weights do not fit its config, or, where
/// int8 is asked for, beside a calibration of other weights.
pub fn open(path: impl AsRef<Path>, zoo: &Zoo, families: &Families, options: &OpenOptions) -> Result<Pipeline> {
    let checkpoint = Arc::new(Checkpoint::open(&path, families)?);
    let directory = checkpoint.directory().to_owned();
    let asked = options.compute == Some(Compute::Int8);
    let kept = if (asked || options.compute.is_none()) && options.device == Device::Cpu {
        KeptCalibration::of(&checkpoint, asked)?
    } else {
        None
    };
    let compute = options
        .compute
        .unwrap_or_else(|| fastest(kept.as_ref(), options.device));
    let kept = kept.filter(|_| compute == Compute::Int8);
    let calibrated = kept
        .as_ref()
        .map(|kept| Int8::Calibrated(Arc::new(kept.calibration.clone())));
    let opened = Opened {
        int8: calibrated.unwrap_or_default(),
        watch: None,
    };
    let options = OpenOptions {
        compute: Some(compute),
        ..options.clone()
    };
    let pipeline = open_with(checkpoint, zoo, &options, opened).map_err(|error| error.file(&path))?;
    if let Some(kept) = kept {
        kept.check(pipeline.model(), &directory)?;
    }
    Ok(pipeline)
}

/// How a model's layers are opened, beyond what a caller chooses.
pub(crate) struct Opened {
    pub(crate) int8: Int8,
    pub(crate) watch: Option<InputWatch>,
}

/// A checkpoint in hand as a model for use.
pub(crate) fn open_with(
    checkpoint: Arc<Checkpoint>,
    zoo: &Zoo,
    options: &OpenOptions,
    opened: Opened,
) -> Result<Pipeline> {
    let preparation =
        CheckpointPreparation::of(checkpoint.clone(), options.context_length).with_truncation(options.truncation);
    let params = ParamOptions {
        device: options.device,
        int8: opened.int8,
        watch: opened.watch,
        ..ParamOptions::default()
    };
    let model = build(&checkpoint, options.context_length, zoo, params)?;
    let compute = options.compute.unwrap_or_default();
    Ok(Pipeline::new(model, Box::new(preparation), options.device, compute))
}

/// Opens a directory or a weights file for training, as `params` says; texts are cut at `context_length` tokens where
/// given. The config that is written back is the file's own.
///
/// # Errors
/// No checkpoint, one of a single tower, of no known family or backbone, or whose weights do not fit its config.
pub fn load(
    path: impl AsRef<Path>,
    zoo: &Zoo,
    families: &Families,
    params: ParamOptions,
    context_length: Option<usize>,
) -> Result<Loaded> {
    let checkpoint = Arc::new(Checkpoint::open(&path, families)?);
    let model = build(&checkpoint, context_length, zoo, params).map_err(|error| error.file(&path))?;
    let preparation = CheckpointPreparation::of(checkpoint.clone(), context_length);
    let config = checkpoint.config().clone();
    let writer = CheckpointWriter::new(families, checkpoint.family(), config, preparation.clone())?;
    Ok(Loaded {
        model,
        preparation,
        writer,
    })
}

/// Joins the image tower of one checkpoint and the text tower of another under fresh projections and a fresh
/// temperature. Either may be a single tower or a whole model. It is written in the project's own layout, if none of
/// the families' expresses it.
///
/// # Errors
/// No checkpoint, none with the tower, of no known family or backbone, weights that do not fit; a tower's config without a
/// field that is to be changed.
pub fn join(
    image: impl AsRef<Path>,
    text: impl AsRef<Path>,
    join: &Join,
    zoo: &Zoo,
    families: &Families,
    params: ParamOptions,
) -> Result<Loaded> {
    let image = Arc::new(Checkpoint::open(image, families)?.with_tower("vision_config", &join.image)?);
    let text = Arc::new(Checkpoint::open(text, families)?.with_tower("text_config", &join.text)?);
    let mut config = pair_towers(image.config(), text.config(), join.embed_dim)?;
    config["image_projection"] = written(&join.image_projection)?;
    config["text_projection"] = written(&join.text_projection)?;
    if join.logit_bias {
        config["logit_bias"] = true.into();
        config["probability"] = "sigmoid".into();
        config["logit_scale_init"] = 10f64.ln().into();
    }
    let config = with_context(config, join.context_length);
    let source = JoinedWeights {
        image: image.share_weights(),
        text: text.share_weights(),
    };
    let copied = params.trainable;
    let params = ParamOptions {
        fresh: Fresh::Under(BETWEEN_TOWERS.map(str::to_owned).to_vec()),
        ..params
    };
    let model = DualEncoder::build(&config, zoo, Params::new(Some(Box::new(source)), params))?;
    if copied {
        image.weights().release();
        text.weights().release();
    }
    let preparation = CheckpointPreparation {
        image,
        text,
        options: cut_at(join.context_length),
    };
    let writer = CheckpointWriter::new(families, NATIVE, config, preparation.clone())?;
    Ok(Loaded {
        model,
        preparation,
        writer,
    })
}

fn cut_at(context_length: Option<usize>) -> TextOptions {
    TextOptions {
        context_length,
        ..TextOptions::default()
    }
}

/// The project's own layout.
pub(crate) const NATIVE: &str = "clipzoo";

fn build(
    checkpoint: &Checkpoint,
    context_length: Option<usize>,
    zoo: &Zoo,
    params: ParamOptions,
) -> Result<DualEncoder> {
    let config = checkpoint.config();
    for (key, tower, other) in [("vision_config", "image", "text"), ("text_config", "text", "image")] {
        if !config.get(key).is_some_and(Value::is_object) {
            let error = Error::invalid(format!("the checkpoint has no {tower} tower, only a {other} tower"));
            return Err(error.remedy("train the two together first: --image-tower … --text-tower …"));
        }
    }
    let config = with_context(config.clone(), context_length);
    let source = CheckpointWeights(checkpoint.share_weights());
    let copied = params.trainable;
    let model = DualEncoder::build(&config, zoo, Params::new(Some(Box::new(source)), params))?;
    if copied {
        // Its tokenizer and its writer keep the file open for as long as the model trains.
        checkpoint.weights().release();
    }
    Ok(model)
}

pub(crate) fn with_context(mut config: Value, context_length: Option<usize>) -> Value {
    if let Some(length) = context_length {
        config["context_length"] = json!(length);
    }
    config
}

fn written(config: &ProjectionConfig) -> Result<Value> {
    serde_json::to_value(config)
        .map_err(|error| Error::internal(format!("settings of a projection: {error}")).source(error))
}
