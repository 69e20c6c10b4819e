//! Whole pipelines from their files: the ids of the tokenizers library, whatever the model inside.

// A reference that is missing or malformed fails the test.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use clip_core::serde_json::{self, Value};
use clip_core::{Kind, Tokenizer};
use clip_tokenizers::JsonTokenizer;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json").join(name)
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(file("cases.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn ids_are_the_librarys_and_padding_and_truncation_of_the_file_do_not_count() {
    let cases = cases();
    assert_eq!(cases.len(), 23);
    for (name, special) in [("siglip", 3), ("siglip2", 260), ("roberta", 5)] {
        let tokenizer = JsonTokenizer::open(file(&format!("{name}.json")), 16).unwrap();
        assert_eq!(tokenizer.context_length(), 16);
        let vocabulary = tokenizer.vocabulary();
        assert_eq!(vocabulary.special.len(), special);
        assert_eq!(vocabulary.mask.is_some(), name == "roberta");
        let mut longest = 0;
        for case in &cases {
            let expected: Vec<u32> = serde_json::from_value(case[name].clone()).unwrap();
            let batch = tokenizer.encode(&[case["text"].as_str().unwrap()]).unwrap();
            assert_eq!(batch.rows().next().unwrap(), expected, "{name}: {}", case["text"]);
            assert!(expected.iter().all(|&id| (id as usize) < vocabulary.size));
            longest = longest.max(expected.len());
        }
        assert_eq!(longest, 16, "some are cut");
    }
}

#[test]
fn what_is_no_pipeline_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |content: &str| {
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, content).unwrap();
        JsonTokenizer::open(path, 16).err().unwrap().to_string()
    };
    assert!(write("[PAD]\n[UNK]\n[CLS]\n").contains("where a tokenizer.json is needed"));
    assert!(write("{\"model\": {\"type\": \"Unigram\"}}").contains("cannot be used"));
    // Without a token that ends a text no model knows where it ends.
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(file("siglip.json")).unwrap()).unwrap();
    json["post_processor"] = Value::Null;
    let error = write(&json.to_string());
    assert!(error.contains("it has no start and end token"), "{error}");
    let error = JsonTokenizer::open(file("roberta.json"), 1).err().unwrap();
    assert!(error.to_string().contains("a context of 1 has no place"), "{error}");
    let error = JsonTokenizer::open(file("nobody.json"), 16).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound);
}
