//! Makes pair tables from the emoji of four artists: real pictures and real words, small enough to train on a laptop.
//!
//! It reads the packages as the registry gives them (`docs/data/emoji.md` says where they come from and under which
//! licences), keeps the 853 things that a catalogue could hold (animals, food, travel, activities, objects) and that
//! all four artists drew, renders them and writes one tab-separated table a set and language. The same packages and
//! options give the same bytes.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: its lines are its output"
)]

mod catalogue;
mod drawing;
mod icons;
mod package;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::catalogue::{Catalogue, Language};
use crate::icons::{IconSet, VENDORS};
use crate::table::{Set, write_set};

/// Pictures are never drawn larger: a table cell holds the whole picture.
const LARGEST_SIZE: u32 = 1024;

/// Render the emoji of four artists and write them as pair tables.
#[derive(Parser)]
#[command(
    name = "emoji-catalogue",
    version,
    after_help = "Example: emoji-catalogue --packages downloads --output data \\\n           \
                  --set train=twemoji,openmoji,fluent-emoji-flat --set test_noto=noto"
)]
struct Options {
    /// The folder with the five package files (`npm pack` puts them there).
    #[arg(long, value_name = "DIR")]
    packages: PathBuf,
    /// Where the tables go: `<set>.<language>.tsv`.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The artists whose drawings are used, one table each.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_values_t = VENDORS.map(String::from))]
    vendors: Vec<String>,
    /// Write a table of this name with the drawings of several artists, in place of one table an artist. May be repeated.
    #[arg(long = "set", value_name = "NAME=VENDOR,…", value_parser = Set::parse, conflicts_with = "vendors")]
    sets: Vec<Set>,
    /// The languages of the texts, one table each.
    #[arg(long, value_delimiter = ',', default_values_t = [Language::En, Language::Zh])]
    language: Vec<Language>,
    /// Side of the square pictures in pixels.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(8..=i64::from(LARGEST_SIZE)))]
    size: u32,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    let sets = if options.sets.is_empty() {
        Set::one_each(&options.vendors)?
    } else {
        options.sets
    };

    let mut icons = BTreeMap::new();
    for vendor in VENDORS {
        icons.insert(vendor, IconSet::read(&options.packages, vendor)?);
    }
    let catalogue = Catalogue::read(&options.packages, &icons)?;
    println!(
        "{} things drawn by all of {}",
        catalogue.items().len(),
        VENDORS.join(", ")
    );

    let mut pictures = BTreeMap::new();
    for vendor in sets.iter().flat_map(|set| &set.vendors) {
        if !pictures.contains_key(vendor) {
            let set = icons
                .get(vendor.as_str())
                .with_context(|| format!("no icons were read for {vendor}"))?;
            pictures.insert(
                vendor.clone(),
                drawing::draw_all(vendor, set, &catalogue, options.size)?,
            );
        }
    }

    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot make the folder {}", options.output.display()))?;
    for set in &sets {
        for language in &options.language {
            let path = options.output.join(format!("{}.{language}.tsv", set.name));
            let rows = write_set(&path, set, *language, &catalogue, &pictures)?;
            println!("{}: {rows} pairs", path.display());
        }
    }
    Ok(())
}
