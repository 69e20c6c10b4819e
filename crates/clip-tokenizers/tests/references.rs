//! Ids against those of open_clip 3.3.0, transformers 5.23.0 and cn_clip 1.6.0, on ordinary and on hard strings.
//!
//! `FUZZ=FILE cargo test -p clip-tokenizers` takes the hard strings from another file of `xtask/parity/tokenizers.py`.

// A reference that is missing or malformed fails the test.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clip_core::Tokenizer;
use clip_core::serde_json::{self, Value};
use clip_tokenizers::{BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, WordPieceOptions};

fn clip(cleaning: Cleaning, context_length: usize) -> ClipBpe {
    ClipBpe::bundled(BpeOptions {
        context_length,
        cleaning,
        ..BpeOptions::default()
    })
    .unwrap()
}

fn chinese(flavour: Flavour, context_length: usize) -> ChineseWordPiece {
    ChineseWordPiece::bundled(WordPieceOptions {
        context_length,
        flavour,
        lower_case: true,
    })
    .unwrap()
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Fails with every case that differs, after running all.
fn check(tokenizer: &dyn Tokenizer, cases: &[Value], expected: impl Fn(&Value) -> Vec<u32>) {
    let texts: Vec<&str> = cases.iter().map(|case| case["text"].as_str().unwrap()).collect();
    let batch = tokenizer.encode(&texts).unwrap();
    let wrong: Vec<String> = batch
        .rows()
        .zip(cases)
        .filter(|(row, case)| *row != expected(case))
        .map(|(row, case)| format!("{}\n  expected {:?}\n  got      {row:?}", case["text"], expected(case)))
        .collect();
    let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {} differ:\n{shown}", wrong.len(), cases.len());
}

/// The fixtures are padded to the context, with `pad`; the tokenizer does not pad.
fn check_padded(tokenizer: &dyn Tokenizer, file: &str, count: usize, [end, pad]: [u32; 2]) {
    let cases = read(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/tokenizers")
            .join(file),
    );
    assert_eq!(cases.len(), count, "{file}");
    check(tokenizer, &cases, |case| {
        let mut row = ids(&case["ids"]);
        assert_eq!(row.len(), tokenizer.context_length());
        row.truncate(row.iter().rposition(|&id| id != pad).unwrap() + 1);
        // Where padding looks like the end token, the end token is the first of it.
        row.extend((end == pad && row.len() < tokenizer.context_length()).then_some(end));
        row
    });
}

fn hard_strings() -> Vec<Value> {
    let bundled = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz.jsonl");
    read(&std::env::var_os("FUZZ").map_or_else(bundled, PathBuf::from))
}

#[test]
fn open_clip_fixture() {
    check_padded(&clip(Cleaning::OpenClip, 77), "open_clip_simple.jsonl", 124, [49407, 0]);
    check_padded(
        &clip(Cleaning::OpenClip, 16),
        "open_clip_simple_ctx16.jsonl",
        62,
        [49407, 0],
    );
}

#[test]
fn hugging_face_clip_fixture() {
    check_padded(&clip(Cleaning::HuggingFace, 77), "hf_clip.jsonl", 124, [49407, 49407]);
}

#[test]
fn chinese_clip_fixture() {
    check_padded(&chinese(Flavour::ChineseClip, 52), "cn_clip.jsonl", 124, [102, 0]);
    check_padded(&chinese(Flavour::ChineseClip, 24), "cn_clip_ctx24.jsonl", 62, [102, 0]);
}

#[test]
fn bert_fixture() {
    check_padded(&chinese(Flavour::Bert, 52), "hf_bert_zh.jsonl", 124, [102, 0]);
}

#[test]
fn hard_strings_open_clip() {
    check(&clip(Cleaning::OpenClip, 77), &hard_strings(), |case| {
        ids(&case["open_clip"])
    });
}

#[test]
fn hard_strings_hugging_face_clip() {
    check(&clip(Cleaning::HuggingFace, 77), &hard_strings(), |case| {
        ids(&case["hf_clip"])
    });
}

#[test]
fn hard_strings_chinese_clip() {
    check(&chinese(Flavour::ChineseClip, 52), &hard_strings(), |case| {
        ids(&case["cn_clip"])
    });
}

#[test]
fn hard_strings_bert() {
    check(&chinese(Flavour::Bert, 52), &hard_strings(), |case| {
        ids(&case["hf_bert"])
    });
}

#[test]
fn hard_strings_bert_cased() {
    let options = WordPieceOptions {
        context_length: 52,
        flavour: Flavour::Bert,
        lower_case: false,
    };
    check(&ChineseWordPiece::bundled(options).unwrap(), &hard_strings(), |case| {
        ids(&case["hf_bert_cased"])
    });
}
