//! How long opening the bundled tokenizers takes, and how many texts a second one thread encodes.
//!
//! `cargo run --release -p clip-tokenizers --example tokenizer_speed`

// The example prints what it measured.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use clip_core::{Result, Tokenizer};
use clip_tokenizers::{BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, WordPieceOptions};

const TEXTS: usize = 10_000;

fn main() -> Result<()> {
    let clip = |cleaning| {
        move || {
            ClipBpe::bundled(BpeOptions {
                cleaning,
                ..BpeOptions::default()
            })
        }
    };
    let bert = |flavour| {
        move || {
            ChineseWordPiece::bundled(WordPieceOptions {
                flavour,
                ..WordPieceOptions::default()
            })
        }
    };
    let english = |n: usize| {
        format!(
            "Women's cotton dress no. {n}, size {} &amp; belt, 100% café-au-lait",
            n % 40
        )
    };
    let chinese = |n: usize| format!("2024新款女装红色连衣裙 {n} 号，100%纯棉 ＸＬ码");
    report("ClipBpe, OpenClip", clip(Cleaning::OpenClip), english)?;
    report("ClipBpe, HuggingFace", clip(Cleaning::HuggingFace), english)?;
    report("ChineseWordPiece, Bert", bert(Flavour::Bert), chinese)?;
    report("ChineseWordPiece, ChineseClip", bert(Flavour::ChineseClip), chinese)
}

fn report<T: Tokenizer>(name: &str, open: impl Fn() -> Result<T>, text: impl Fn(usize) -> String) -> Result<()> {
    let (first, tokenizer) = timed(&open)?;
    let (again, _) = timed(&open)?;
    let texts: Vec<String> = (0..TEXTS).map(text).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (encoding, _) = timed(|| tokenizer.encode(&texts))?;
    let rate = TEXTS as f64 / encoding.as_secs_f64();
    println!("{name}: opened in {first:.1?}, again in {again:.1?}; {rate:.0} texts a second");
    Ok(())
}

fn timed<T>(run: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let done = run()?;
    Ok((start.elapsed(), done))
}
