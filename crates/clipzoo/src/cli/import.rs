//! `clipzoo import`: public data sets as tables.

use std::path::PathBuf;

use clip_core::serde_json;
use clip_data::{Imported, import_fashion_gen, import_muge};

use super::args::{cores, note, print};
use super::failure::Outcome;

/// Flags of `import`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  clipzoo import fashion-gen fashiongen_256_256_validation.h5 --output fashiongen/valid.tsv
  clipzoo import muge --texts MR_valid_queries.jsonl --images MR_valid_imgs.tsv --output muge/valid.tsv

Nothing is downloaded: get the files from where they are published, under their terms. The tables have a header: train and
evaluate on them with --header --item-column item. X.relevance.jsonl beside X.tsv says which pictures are right for which
text, for `clipzoo evaluate --relevance`.")]
pub(crate) struct Args {
    #[command(subcommand)]
    layout: Layout,
}

#[derive(clap::Subcommand)]
enum Layout {
    /// Fashion-Gen: fashiongen_256_256_{train,validation}.h5
    #[command(after_help = "Example:
  clipzoo import fashion-gen fashiongen_256_256_validation.h5 --output valid.tsv

valid.tsv has the columns text, image, item (the product's id) and the other fields (category, subcategory, gender, …);
pictures are PNG files in base64, pixel for pixel.")]
    FashionGen {
        /// The HDF5 file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the table goes
        #[arg(long, value_name = "FILE.tsv")]
        output: PathBuf,
        /// The field that is the text: description or name
        #[arg(long, value_name = "FIELD", default_value = "description")]
        text: String,
        /// Threads that write pictures [default: all cores]
        #[arg(long)]
        workers: Option<usize>,
        /// Print one JSON object about the result
        #[arg(long)]
        json: bool,
    },
    /// MUGE's retrieval set, in Chinese-CLIP's layout or the competition's
    #[command(after_help = "Example:
  clipzoo import muge --texts valid_texts.jsonl --images valid_imgs.tsv --output valid.tsv

Texts are JSON lines, {\"text_id\", \"text\", \"image_ids\"} or {\"query_id\", \"query_text\", \"item_ids\"}; pictures lines of id, tab,
base64. valid.tsv has a row for each text and each of its pictures, to train on. To evaluate, embed each once:
  clipzoo predict --model M --table valid.texts.tsv --header --output t.safetensors
  clipzoo predict --model M --table valid.images.tsv --header --output i.safetensors
  clipzoo evaluate --text-features t.safetensors --image-features i.safetensors --relevance valid.relevance.jsonl")]
    Muge {
        /// The texts
        #[arg(long, value_name = "FILE.jsonl")]
        texts: PathBuf,
        /// The pictures
        #[arg(long, value_name = "FILE.tsv")]
        images: PathBuf,
        /// Where the table of pairs goes; the others lie beside it
        #[arg(long, value_name = "FILE.tsv")]
        output: PathBuf,
        /// Leave out pictures that a text names and that are not there
        #[arg(long)]
        skip_missing: bool,
        /// Print one JSON object about the result
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: Args) -> Outcome {
    let (done, json) = match &args.layout {
        Layout::FashionGen {
            file,
            output,
            text,
            workers,
            json,
        } => {
            let workers = workers.unwrap_or_else(cores).max(1);
            (import_fashion_gen(file, output, text, workers)?, *json)
        }
        Layout::Muge {
            texts,
            images,
            output,
            skip_missing,
            json,
        } => (import_muge(texts, images, output, *skip_missing)?, *json),
    };
    report(&done, json)
}

fn report(done: &Imported, json: bool) -> Outcome {
    if json {
        return Ok(print(&serde_json::json!(done).to_string())?);
    }
    let names: Vec<String> = done.outputs.iter().map(|path| path.display().to_string()).collect();
    note(&format!(
        "{}: {} texts, {} pictures, {} pairs",
        names.join(", "),
        done.texts,
        done.images,
        done.pairs
    ));
    if done.missing > 0 {
        note(&format!(
            "{} pictures that texts name are not there and were left out",
            done.missing
        ));
    }
    Ok(())
}
