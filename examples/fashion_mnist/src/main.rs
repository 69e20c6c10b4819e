//! Makes a table of Fashion-MNIST for `clipzoo classify`: real shop photographs, 28 × 28 grey pixels each, of ten kinds of
//! clothes.
//!
//! The data set is Debian's package `dataset-fashion-mnist` (MIT, Zalando SE); docs/data/fashion-mnist.md says how to fetch it.
//! Its pictures are negatives; they are turned back, so that clothes stand on white as shops show them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: its lines are its output"
)]

mod idx;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};
use clip_data::PendingFile;

use crate::idx::Pictures;

/// The kinds, by number; `labels.tsv` and `labels.zh.tsv` name them in this order.
const KINDS: [(&str, &str); 10] = [
    ("T-shirt", "T恤"),
    ("trousers", "裤子"),
    ("pullover", "套头衫"),
    ("dress", "连衣裙"),
    ("coat", "外套"),
    ("sandal", "凉鞋"),
    ("shirt", "衬衫"),
    ("sneaker", "运动鞋"),
    ("bag", "包"),
    ("ankle boot", "短靴"),
];

/// Write Fashion-MNIST as a table: id, label, image.
#[derive(Parser)]
#[command(
    name = "fashion-mnist",
    version,
    after_help = "Example: fashion-mnist --folder usr/share/datasets/fashion-mnist --output test.en.tsv"
)]
struct Options {
    /// The folder with the four files of the package.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Which part: test (10,000 pictures) or train (60,000).
    #[arg(long, value_enum, default_value_t = Part::Test)]
    part: Part,
    /// The language of the labels.
    #[arg(long, value_enum, default_value_t = Language::En)]
    language: Language,
    /// Take the first so many pictures alone.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Leave the pictures negatives, as the data set has them.
    #[arg(long)]
    negative: bool,
    /// The table, tab-separated with a header.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Test,
    Train,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    En,
    Zh,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(rows) => {
            println!("{rows} pictures");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<usize> {
    let prefix = match options.part {
        Part::Test => "t10k",
        Part::Train => "train",
    };
    let labels = idx::labels(&options.folder.join(format!("{prefix}-labels-idx1-ubyte.gz")))?;
    let mut pictures = Pictures::open(&options.folder.join(format!("{prefix}-images-idx3-ubyte.gz")))?;
    if pictures.left() != labels.len() {
        bail!(
            "{} pictures and {} labels do not belong together",
            pictures.left(),
            labels.len()
        );
    }
    let (height, width) = (pictures.height, pictures.width);
    let mut out = PendingFile::create(&options.output)?;
    writeln!(out, "id\tlabel\timage")?;
    let mut rows = 0;
    for (row, label) in labels.iter().enumerate().take(options.limit.unwrap_or(usize::MAX)) {
        let (english, chinese) = KINDS
            .get(usize::from(*label))
            .with_context(|| format!("picture {row} is of kind {label}, of 10"))?;
        let name = match options.language {
            Language::En => english,
            Language::Zh => chinese,
        };
        let mut grey = pictures.next()?.context("there are fewer pictures than labels")?;
        if !options.negative {
            grey.iter_mut().for_each(|value| *value = u8::MAX - *value);
        }
        writeln!(
            out,
            "{prefix}-{row}\t{name}\t{}",
            STANDARD.encode(png(&grey, width, height)?)
        )?;
        rows += 1;
    }
    out.commit()?;
    Ok(rows)
}

/// A grey picture as a PNG file.
fn png(grey: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(grey)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_label_of_the_files() {
        let first = |text: &str| {
            text.lines()
                .map(|line| line.split('\t').next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(first(include_str!("../labels.tsv")), KINDS.map(|(english, _)| english));
        assert_eq!(
            first(include_str!("../labels.zh.tsv")),
            KINDS.map(|(_, chinese)| chinese)
        );
    }
}
