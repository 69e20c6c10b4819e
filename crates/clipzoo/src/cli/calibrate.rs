//! `clipzoo calibrate`: int8 scales beside a model.

use std::io::Write;
use std::sync::Arc;

use clip_core::serde_json::json;
use clip_core::{Embedder, PairTable, PixelBatch, Result, TokenBatch};
use clip_data::{Decoder, PendingFile, Rejects, Roles, Table};
use clip_format::Checkpoint;
use clip_models::{CALIBRATION_FILE, KeptCalibration, LEAST_COSINE, Nearness, Sample, calibrate};
use clip_nn::Compute as Type;
use clip_nn::tch::Device;

use super::Cli;
use super::args::{Compute, Model, TableArgs, located, note, print};
use super::failure::{Outcome, usage};
use super::rows::{Preparer, Refused, policed};

/// Rows of the sample that the model gets at once.
const BATCH: usize = 16;

/// Flags of `calibrate`.
#[derive(clap::Args)]
#[command(after_help = "Example:
  clipzoo calibrate --model ./my-model --table products.tsv
  clipzoo predict --model ./my-model --table products.tsv --output features.safetensors --dtype int8

The model's features of a sample of the table are compared with those in f32: as many layers multiply bytes as keep every
cosine at --cosine or above. What was found is written into the model's directory as clipzoo_int8.json, where
--dtype int8 and --dtype auto look for it. Use rows like those that will be embedded; a few hundred are enough.")]
pub(crate) struct Args {
    #[command(flatten)]
    model: Model,
    /// A table of texts, pictures or both
    #[arg(long, value_name = "FILE")]
    table: std::path::PathBuf,
    /// Rows of the sample, taken evenly from the whole table
    #[arg(long, value_name = "N", default_value_t = 128)]
    rows: usize,
    /// The least cosine between a feature and the same one in f32
    #[arg(long, value_name = "COSINE", default_value_t = LEAST_COSINE)]
    cosine: f64,
    /// Print one JSON object about the result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    table_args: TableArgs,
    /// Threads that compute [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Threads that read and decode [default: all cores]
    #[arg(long)]
    workers: Option<usize>,
}

pub(crate) fn run(cli: &Cli, args: Args) -> Outcome {
    if args.rows == 0 {
        return usage("--rows 0 is no sample", "use 1 or more");
    }
    if !(0.0..=1.0).contains(&args.cosine) {
        return usage(
            format!("--cosine {}: no cosine to ask for", args.cosine),
            "use a number from 0 to 1",
        );
    }
    if !Type::Int8.is_native(Device::Cpu) {
        note("int8 was not measured on this kind of processor: it works, but may be slower than f32");
    }
    let compute = Compute::on_cpu(args.threads, args.workers);
    let pipeline = args.model.open(cli, &compute)?;
    let roles = args.table_args.roles(&args.table)?;
    let table = Arc::new(args.table_args.open(&args.table, roles)?);
    let preparer = Preparer {
        tokenizer: roles.texts().then(|| pipeline.tokenizer()).transpose()?,
        transform: roles.images().then(|| pipeline.transform()).transpose()?,
        decoder: Decoder::default(),
        workers: compute.workers(),
    };
    let sample = sample(&args, &table, roles, &preparer)?;
    let path = &located(args.model.path())?;
    let kept = calibrate(path, &cli.zoo, &cli.families, &sample, args.cosine)?;
    let file = Checkpoint::open(path, &cli.families)?
        .directory()
        .join(CALIBRATION_FILE);
    let mut output = PendingFile::create(&file)?;
    let text = kept.to_json()?;
    writeln!(output, "{text}").map_err(|error| output.error(error))?;
    output.commit()?;
    report(&args, &kept, &file)
}

/// Rows at equal distances over the table, prepared. Refused ones are left out.
fn sample(args: &Args, table: &Arc<Table>, roles: Roles, preparer: &Preparer) -> Outcome<Sample> {
    let (all, wanted) = (table.rows(), args.rows.min(table.rows()));
    let chosen: Vec<usize> = (0..wanted).map(|place| place * all / wanted.max(1)).collect();
    let (mut rejects, refused) = (Rejects::beside(&args.table), Refused::default());
    let rows = preparer.table_rows(Arc::clone(table), chosen, roles, &args.table_args)?;
    let rows = policed(rows, preparer, args.table_args.bad_rows.into(), &mut rejects, &refused);
    let rows: Vec<_> = rows.collect::<Result<_>>()?;
    let good = rows
        .iter()
        .enumerate()
        .filter(|(place, _)| !refused.contains(*place as u64));
    let good: Vec<_> = good.map(|(_, row)| row).collect();
    let mut sample = Sample::default();
    for rows in good.chunks(BATCH) {
        let pixels: Vec<f32> = rows
            .iter()
            .filter_map(|row| row.pixels.as_deref())
            .flatten()
            .copied()
            .collect();
        if let Some(transform) = preparer.transform.as_ref().filter(|_| !pixels.is_empty()) {
            sample.pixels.push(PixelBatch::new(pixels, transform.size())?);
        }
        let tokens: TokenBatch = rows.iter().filter_map(|row| row.tokens.as_deref()).collect();
        if !tokens.is_empty() {
            sample.tokens.push(tokens);
        }
    }
    let (count, listed) = (rejects.count(), rejects.finish()?);
    if let Some(list) = listed {
        note(&format!(
            "{count} rows were refused and left out; they are listed in {}",
            list.display()
        ));
    }
    Ok(sample)
}

fn report(args: &Args, kept: &KeptCalibration, file: &std::path::Path) -> Outcome {
    if args.json {
        let object = json!({"output": file, "image": kept.image, "text": kept.text});
        return Ok(print(&object.to_string())?);
    }
    for (tower, near) in [("pictures", &kept.image), ("texts", &kept.text)] {
        print(&line(tower, near.as_ref()))?;
    }
    Ok(print(&format!("written to {}", file.display()))?)
}

fn line(tower: &str, near: Option<&Nearness>) -> String {
    match near {
        None => format!("{tower}: none in the sample; that tower stays without int8"),
        Some(near) => format!(
            "{tower}: {} of {} linear layers multiply bytes; cosine to f32 at least {:.5}, {:.5} in the mean of {} rows",
            near.layers, near.of, near.least, near.mean, near.rows
        ),
    }
}
