//! Small vocabularies in every format: opened from files, told apart by content, and equal to the references.

// A reference that is missing or malformed fails the test.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};

use clip_core::serde_json::{self, Value};
use clip_core::{Kind, Result, Tokenizer, Truncation};
use clip_tokenizers::{BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, VocabularyKind, WordPieceOptions};

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny").join(name)
}

fn clip(path: impl AsRef<Path>, cleaning: Cleaning) -> Result<ClipBpe> {
    ClipBpe::open(
        path,
        BpeOptions {
            context_length: 16,
            cleaning,
            ..BpeOptions::default()
        },
    )
}

fn bert(path: impl AsRef<Path>, flavour: Flavour) -> Result<ChineseWordPiece> {
    ChineseWordPiece::open(
        path,
        WordPieceOptions {
            context_length: 16,
            flavour,
            lower_case: true,
        },
    )
}

fn gzip(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let file = std::fs::File::create(&path).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
    path
}

/// All cases of the column, and what every tokenizer promises.
fn check(tokenizer: &dyn Tokenizer, column: &str, size: usize) {
    let vocabulary = tokenizer.vocabulary();
    assert_eq!(vocabulary.size, size, "{column}");
    let cases = std::fs::read_to_string(tiny("cases.jsonl")).unwrap();
    assert_eq!(cases.lines().count(), 60);
    for case in cases.lines() {
        let case: Value = serde_json::from_str(case).unwrap();
        let expected: Vec<u32> = serde_json::from_value(case[column].clone()).unwrap();
        let batch = tokenizer.encode(&[case["text"].as_str().unwrap()]).unwrap();
        assert_eq!(batch.rows().next().unwrap(), expected, "{column}: {}", case["text"]);
        assert!(
            expected.iter().all(|&id| (id as usize) < size),
            "{column}: {}",
            case["text"]
        );
    }
}

#[test]
fn merges_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    let merges = std::fs::read_to_string(tiny("merges.txt")).unwrap();
    assert_eq!(
        VocabularyKind::of_file(tiny("merges.txt")).unwrap(),
        VocabularyKind::Merges
    );
    check(&clip(tiny("merges.txt"), Cleaning::OpenClip).unwrap(), "cut", 814);
    check(
        &clip(tiny("merges.txt"), Cleaning::HuggingFace).unwrap(),
        "hf_clip",
        814,
    );
    let packed = gzip(folder.path(), "vocab.txt", &merges);
    assert_eq!(VocabularyKind::of_file(&packed).unwrap(), VocabularyKind::GzipMerges);
    check(&clip(packed, Cleaning::OpenClip).unwrap(), "cut", 814);
    let with_break = gzip(folder.path(), "break.txt", &format!("{merges}\n"));
    check(
        &clip(with_break, Cleaning::OpenClip).unwrap(),
        "cut_with_line_break",
        815,
    );
}

#[test]
fn tokenizer_json_of_clip() {
    let path = tiny("clip-tokenizer.json");
    assert_eq!(VocabularyKind::of_file(&path).unwrap(), VocabularyKind::TokenizerJson);
    let tokenizer = clip(&path, Cleaning::HuggingFace).unwrap();
    check(&tokenizer, "hf_clip", 814);
    assert_eq!(tokenizer.vocabulary().special, [812, 813]);
    check(&clip(&path, Cleaning::OpenClip).unwrap(), "open_clip_hf", 814);
}

#[test]
fn a_tokenizer_json_that_frames_nothing_gets_clips_frame() {
    let folder = tempfile::tempdir().unwrap();
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(tiny("clip-tokenizer.json")).unwrap()).unwrap();
    json["post_processor"] = Value::Null;
    json["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).unwrap();
    check(&clip(&path, Cleaning::HuggingFace).unwrap(), "hf_clip", 814);
}

#[test]
fn word_pieces() {
    let size = std::fs::read_to_string(tiny("bert-vocab.txt")).unwrap().lines().count();
    assert_eq!(
        VocabularyKind::of_file(tiny("bert-vocab.txt")).unwrap(),
        VocabularyKind::WordPiece
    );
    let tokenizer = bert(tiny("bert-vocab.txt"), Flavour::Bert).unwrap();
    check(&tokenizer, "hf_bert", size);
    assert_eq!(
        (tokenizer.vocabulary().mask, tokenizer.vocabulary().special),
        (Some(4), vec![0, 1, 2, 3, 4])
    );
    check(
        &bert(tiny("bert-vocab.txt"), Flavour::ChineseClip).unwrap(),
        "cn_clip",
        size,
    );
    let tokenizer = bert(tiny("bert-tokenizer.json"), Flavour::Bert).unwrap();
    check(&tokenizer, "hf_bert", size);
    assert_eq!(
        (tokenizer.vocabulary().mask, tokenizer.vocabulary().special),
        (Some(4), vec![0, 1, 2, 3, 4])
    );
    check(
        &bert(tiny("bert-tokenizer.json"), Flavour::ChineseClip).unwrap(),
        "cn_clip",
        size,
    );
}

#[test]
fn windows_line_breaks_are_line_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.txt");
    let pieces = std::fs::read_to_string(tiny("bert-vocab.txt")).unwrap();
    std::fs::write(&path, pieces.replace('\n', "\r\n")).unwrap();
    check(&bert(&path, Flavour::Bert).unwrap(), "hf_bert", pieces.lines().count());
}

#[test]
fn the_wrong_file_is_refused_with_its_name() {
    let wrong: [(Result<()>, &str); 2] = [
        (
            clip(tiny("bert-vocab.txt"), Cleaning::OpenClip).map(|_| ()),
            "bert-vocab.txt",
        ),
        (bert(tiny("merges.txt"), Flavour::Bert).map(|_| ()), "merges.txt"),
    ];
    for (result, name) in wrong {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.to_string().contains(name) && error.remedy_text().is_some(),
            "{error}"
        );
    }
}

#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for content in [
        "[PAD]\n[UNK]\n[CLS]\n",
        "{\"model\": {}}",
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
            "post_processor":null,"decoder":null,"model":{"type":"BPE","vocab":{"a":0,"bc":1},"merges":["bc bc"]}}"#,
        "",
    ] {
        std::fs::write(&path, content).unwrap();
        for error in [
            bert(&path, Flavour::Bert).err().unwrap(),
            clip(&path, Cleaning::OpenClip).err().unwrap(),
        ] {
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert_eq!(error.place().file.as_deref(), Some(&*path));
        }
    }
    assert_eq!(
        clip(folder.path().join("gone"), Cleaning::OpenClip)
            .err()
            .unwrap()
            .kind(),
        Kind::NotFound
    );
}

#[test]
fn a_context_without_room_for_the_frame_is_refused() {
    let options = BpeOptions {
        context_length: 1,
        ..BpeOptions::default()
    };
    let error = ClipBpe::open(tiny("merges.txt"), options).err().unwrap();
    assert!(error.remedy_text().unwrap().contains("2 or more"), "{error}");
    let options = WordPieceOptions {
        context_length: 2,
        ..WordPieceOptions::default()
    };
    let batch = ChineseWordPiece::open(tiny("bert-vocab.txt"), options)
        .unwrap()
        .encode(&["a b"])
        .unwrap();
    assert_eq!(batch.lengths(), [2]);
}

#[test]
fn easynlps_truncation_loses_the_end_token_of_a_text_that_is_too_long() {
    let [theirs, ours] = [Truncation::EasyNlp, Truncation::KeepEnd].map(|truncation| {
        let options = BpeOptions {
            truncation,
            ..BpeOptions::default()
        };
        let tokenizer = ClipBpe::bundled(options).unwrap();
        move |words: usize| {
            let text = "a ".repeat(words);
            let batch = tokenizer.encode(&[text.as_str()]).unwrap();
            batch.rows().next().unwrap().to_vec()
        }
    });
    for words in [0, 3, 75] {
        assert_eq!(theirs(words), ours(words));
    }
    let framed: Vec<u32> = [49406].into_iter().chain([320; 76]).collect();
    for words in [76, 77, 200] {
        assert_eq!(theirs(words), framed);
        assert_eq!(ours(words), [&framed[..76], &[49407]].concat());
    }
}
