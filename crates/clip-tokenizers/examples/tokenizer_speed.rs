//! How long opening the bundled tokenizers takes, and how many texts a second one thread encodes.
//!
//! `cargo run --release -p clip-tokenizers --example tokenizer_speed [TEXTS [THREADS]]`: with a file of texts, CLIP's
//! tokenizer alone on these, by some threads (1): the sum of every id times its position from 1, and the best of three
//! rounds, for `cargo xtask bench tokenize`.

// The example prints what it measured.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use clip_core::{Error, Result, TokenBatch, Tokenizer};
use clip_tokenizers::{BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, WordPieceOptions};

const TEXTS: usize = 10_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if let Some(path) = arguments.next() {
        let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(1);
        return race(&path, threads);
    }
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

fn race(path: &str, threads: usize) -> Result<()> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    let texts: Vec<&str> = text.lines().collect();
    let tokenizer = ClipBpe::bundled(BpeOptions::default())?;
    let (mut best, mut sum) = (Duration::MAX, 0);
    for _ in 0..3 {
        let start = Instant::now();
        let ids = encode(&tokenizer, &texts, threads)?;
        best = best.min(start.elapsed());
        let texts = ids.iter().flat_map(TokenBatch::rows);
        sum = texts
            .flat_map(|ids| (1u64..).zip(ids))
            .map(|(position, &id)| position * u64::from(id))
            .sum();
    }
    println!("ids of {} texts sum up to {sum}", texts.len());
    println!("{:.0} texts/s", texts.len() as f64 / best.as_secs_f64());
    Ok(())
}

/// Every thread takes a run of the texts, as the workers of the command do.
fn encode(tokenizer: &ClipBpe, texts: &[&str], threads: usize) -> Result<Vec<TokenBatch>> {
    let share = texts.len().div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let work = texts.chunks(share).map(|texts| {
            let of_batch = |texts: &[&str]| tokenizer.encode(texts);
            scope.spawn(move || texts.chunks(1024).map(of_batch).collect::<Result<Vec<_>>>())
        });
        let work: Vec<_> = work.collect();
        let mut all = Vec::new();
        for thread in work {
            all.extend(thread.join().map_err(|_| Error::invalid("a thread panicked"))??);
        }
        Ok(all)
    })
}

fn timed<T>(run: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let done = run()?;
    Ok((start.elapsed(), done))
}
