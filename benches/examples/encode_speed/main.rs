//! Features of pictures or texts, again and again: `encode_speed MODEL BATCH images|texts [--dtype f32|bf16|int8] [--rows N]
//! [--rounds N] [--threads N] [--output FILE]`.
//!
//! A round is what `predict` does with a batch of prepared rows: tensors made, towers run, unit rows copied out. BATCH is a
//! safetensors file with `pixels` `[pairs, 3, height, width]` and `ids` `[pairs, context]`, padded with 0; its rows are taken
//! again and again up to `--rows`. Two rounds go before those that count. The last line is the speed of the best round: rows
//! by seconds of processor time, or on the clock with several threads. The line before
//! says what share that is of the machine's packed product in the same type, measured in the same run. For int8 a model
//! without a calibration is calibrated first, on all pairs of BATCH. `--output` gets the features, safetensors.
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

mod peak;

use std::path::{Path, PathBuf};

use clip_core::{Embedder, Embeddings, Error, FeatureRows, PixelBatch, Result, TokenBatch};
use clip_data::{SinkOptions, open_sink};
use clip_format::{Checkpoint, Families};
use clip_models::{CALIBRATION_FILE, KeptCalibration, LEAST_COSINE, OpenOptions, Sample};
use clip_nn::tch::{self, Tensor};
use clip_nn::{Compute, Pipeline, Zoo};
use clipzoo_benches::{Clock, peak_memory};

struct Options {
    model: PathBuf,
    batch: PathBuf,
    images: bool,
    compute: Compute,
    rows: usize,
    rounds: usize,
    threads: i32,
    output: Option<PathBuf>,
}

impl Options {
    fn read() -> Result<Self> {
        let usage = || {
            Error::invalid(
                "usage: encode_speed MODEL BATCH images|texts [--dtype f32|bf16|int8] [--rows N] [--rounds N] [--threads N] [--output FILE]",
            )
        };
        let mut words = std::env::args().skip(1);
        let mut word = || words.next().ok_or_else(usage);
        let mut options = Self {
            model: word()?.into(),
            batch: word()?.into(),
            images: word()? == "images",
            compute: Compute::F32,
            rows: 8,
            rounds: 5,
            threads: 1,
            output: None,
        };
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(usage)?;
            let number = value.parse::<usize>();
            match (name.as_str(), value.as_str(), number) {
                ("--dtype", "f32", _) => options.compute = Compute::F32,
                ("--dtype", "bf16", _) => options.compute = Compute::Bf16,
                ("--dtype", "int8", _) => options.compute = Compute::Int8,
                ("--rows", _, Ok(rows)) => options.rows = rows,
                ("--rounds", _, Ok(rounds)) => options.rounds = rounds,
                ("--threads", _, Ok(threads)) => options.threads = threads as i32,
                ("--output", file, _) => options.output = Some(file.into()),
                _ => return Err(usage()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::read()?;
    tch::set_num_threads(options.threads);
    let mut zoo = Zoo::new();
    clip_models::register(&mut zoo)?;
    let open = OpenOptions {
        compute: Some(options.compute),
        ..OpenOptions::default()
    };
    let families = Families::bundled();
    if options.compute == Compute::Int8 && KeptCalibration::beside(&options.model)?.is_none() {
        calibrate(&options, &zoo, &families)?;
    }
    let pipeline = clip_models::open(&options.model, &zoo, &families, &open)?;
    let batch = Rows::read(&options, options.images, Some(options.rows))?;
    let mut best = f64::INFINITY;
    for round in 0..options.rounds + 2 {
        let start = Clock::of_threads(options.threads);
        let features = batch.encode(&pipeline)?;
        let seconds = start.seconds();
        if round >= 2 {
            best = best.min(seconds);
        }
        if let Some(output) = options.output.as_ref().filter(|_| round == 0) {
            write(&features, options.images, output)?;
        }
    }
    println!("at most {:.0} MiB were held", peak_memory());
    let config = Checkpoint::open(&options.model, &families)?.config().clone();
    let lengths = batch.lengths(peak::picture_tokens(&config));
    let most = peak::peak(options.compute, options.threads)?;
    if let (Some(operations), Some(most)) = (peak::operations(&config, options.images, &lengths), most) {
        let reached = operations / best;
        println!(
            "{:.1} % of the machine's peak: {reached:.0} of {most:.0} GFLOP/s, {:.2} GFLOP a row",
            100.0 * reached / most,
            operations / options.rows as f64
        );
    }
    let what = if options.images { "pictures" } else { "texts" };
    let by = if options.threads == 1 { " per CPU second" } else { "/s" };
    println!("{:.2} {what}{by}", options.rows as f64 / best);
    Ok(())
}

/// Calibrates both towers on all pairs of the file, and keeps it beside the model.
fn calibrate(options: &Options, zoo: &Zoo, families: &Families) -> Result<()> {
    let mut sample = Sample::default();
    for images in [true, false] {
        match Rows::read(options, images, None)? {
            Rows::Images(pixels) => sample.pixels.push(pixels),
            Rows::Texts(tokens) => sample.tokens.push(tokens),
        }
    }
    let kept = clip_models::calibrate(&options.model, zoo, families, &sample, LEAST_COSINE)?;
    let path = options.model.join(CALIBRATION_FILE);
    std::fs::write(&path, kept.to_json()?).map_err(|error| Error::io("write", path, error))
}

fn write(features: &Embeddings, images: bool, path: &Path) -> Result<()> {
    let mut sink = open_sink(path, SinkOptions::default())?;
    let (texts, images) = if images {
        (None, Some(features.clone()))
    } else {
        (Some(features.clone()), None)
    };
    sink.append(FeatureRows {
        first: 0,
        texts,
        images,
        columns: Vec::new(),
    })?;
    sink.commit()
}

/// What is encoded.
enum Rows {
    Images(PixelBatch),
    Texts(TokenBatch),
}

impl Rows {
    /// The first `wanted` rows of the file, from the start again where it has fewer; all of it without a number.
    fn read(options: &Options, images: bool, wanted: Option<usize>) -> Result<Self> {
        let wrong = |text: String| Error::invalid(text).file(&options.batch);
        let tensors = Tensor::read_safetensors(&options.batch).map_err(|error| wrong(error.to_string()))?;
        let name = if images { "pixels" } else { "ids" };
        let found = tensors.iter().find(|(known, _)| known == name);
        let (_, tensor) = found.ok_or_else(|| wrong(format!("there is no `{name}`")))?;
        let size = tensor.size();
        let wanted = wanted.map_or(size[0], |rows| rows as i64);
        let rows: Vec<i64> = (0..wanted).map(|row| row % size[0]).collect();
        let taken = tensor.index_select(0, &Tensor::from_slice(&rows));
        let flat = |error: tch::TchError| wrong(error.to_string());
        if images {
            let values = Vec::<f32>::try_from(taken.flatten(0, -1)).map_err(flat)?;
            let sides = [size[2] as usize, size[3] as usize];
            return PixelBatch::new(values, sides).map(Self::Images);
        }
        let values = Vec::<i64>::try_from(taken.flatten(0, -1)).map_err(flat)?;
        let texts = values
            .chunks(size[1] as usize)
            .map(|text| -> Vec<u32> { text.iter().take_while(|&&id| id > 0).map(|&id| id as u32).collect() });
        let texts: Vec<Vec<u32>> = texts.collect();
        Ok(Self::Texts(texts.iter().map(Vec::as_slice).collect()))
    }

    /// Tokens of every row.
    fn lengths(&self, picture: Option<usize>) -> Vec<usize> {
        match self {
            Self::Images(pixels) => picture.map_or_else(Vec::new, |tokens| vec![tokens; pixels.len()]),
            Self::Texts(tokens) => tokens.lengths().to_vec(),
        }
    }

    fn encode(&self, pipeline: &Pipeline) -> Result<Embeddings> {
        match self {
            Self::Images(pixels) => pipeline.embed_pixels(pixels),
            Self::Texts(tokens) => pipeline.embed_tokens(tokens),
        }
    }
}
