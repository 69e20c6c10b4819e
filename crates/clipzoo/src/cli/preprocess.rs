//! `clipzoo preprocess`: what the model really sees of a picture.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clip_core::serde_json;
use clip_core::{EncodedImage, Error, ImageDecoder, ImageTransform, Result};
use clip_data::{ClipTransform, Decoder, TensorWriter, TransformConfig, image_paths, ordered};
use clip_format::Checkpoint;

use super::Cli;
use super::args::{cores, located};
use super::failure::{Outcome, usage};

/// Flags of `preprocess`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  clipzoo preprocess --model ./my-model shoe.jpg --output pixels.safetensors")]
#[command(group = clap::ArgGroup::new("rule").required(true).args(["model", "config"]))]
pub(crate) struct Args {
    /// The model whose transform is used: a directory, a weights file or hf:owner/name[@revision]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// A preprocessor config, Hugging Face's or OpenCLIP's, recognised by content
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Pictures: files and folders (sorted by path)
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Where the pixels go: `pixels` [N, 3, H, W], f32, safetensors
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Turn pictures upright by their EXIF orientation (the references do not)
    #[arg(long)]
    orient: bool,
    /// Threads that decode [default: all cores]
    #[arg(long)]
    workers: Option<usize>,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args
        .output
        .extension()
        .is_none_or(|extension| extension != "safetensors")
    {
        return usage(
            format!("cannot write {} as pixels", args.output.display()),
            "name it .safetensors",
        );
    }
    let transform: Arc<dyn ImageTransform> = match (&args.model, &args.config) {
        (Some(model), _) => Checkpoint::open(located(model)?, &cli.families)?.transform()?,
        (None, Some(config)) => Arc::new(ClipTransform::new(read_config(config)?)?),
        (None, None) => return Err(Error::internal("neither a model nor a config").into()),
    };
    let paths = image_paths(&args.images)?;
    let [height, width] = transform.size();
    let metadata = BTreeMap::from([("transform".to_owned(), transform.describe())]);
    let mut output = TensorWriter::create(&args.output, "pixels", &[paths.len(), 3, height, width], &metadata)?;
    let workers = args.workers.unwrap_or_else(cores);
    let decoder = Decoder {
        orient: args.orient,
        ..Decoder::default()
    };
    let rows = ordered(paths, workers, 2 * workers + 2, move |path: PathBuf| {
        let mut pixels = vec![0.0; 3 * height * width];
        let image = decoder
            .decode(&EncodedImage::File(path.clone()))
            .map_err(|error| error.file(&path))?;
        transform
            .apply(&image, &mut pixels)
            .map_err(|error| error.file(&path))?;
        Ok(pixels)
    })?;
    for row in rows {
        output.append(&row?)?;
    }
    Ok(output.commit()?)
}

fn read_config(path: &PathBuf) -> Result<TransformConfig> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    let value = serde_json::from_str(&text).map_err(|error| {
        Error::invalid(format!("not JSON: {error}"))
            .remedy("name a preprocessor_config.json or an open_clip_config.json")
    });
    value
        .and_then(|value| TransformConfig::from_json(&value))
        .map_err(|error| error.file(path))
}
