//! What every tokenizer promises for every string.

// A tokenizer that cannot be built fails the test.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use clip_core::Tokenizer;
use clip_tokenizers::{BpeOptions, ChineseWordPiece, Cleaning, ClipBpe, Flavour, WordPieceOptions};
use proptest::prelude::*;

const CONTEXT: usize = 12;

/// A tokenizer, its start and its end token.
type Case = (Box<dyn Tokenizer>, [u32; 2]);

static TOKENIZERS: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let clip = |cleaning| {
        ClipBpe::bundled(BpeOptions {
            context_length: CONTEXT,
            cleaning,
            ..BpeOptions::default()
        })
        .unwrap()
    };
    let bert = |flavour, lower_case| {
        ChineseWordPiece::bundled(WordPieceOptions {
            context_length: CONTEXT,
            flavour,
            lower_case,
        })
        .unwrap()
    };
    vec![
        (Box::new(clip(Cleaning::OpenClip)), [49406, 49407]),
        (Box::new(clip(Cleaning::HuggingFace)), [49406, 49407]),
        (Box::new(bert(Flavour::Bert, true)), [101, 102]),
        (Box::new(bert(Flavour::Bert, false)), [101, 102]),
        (Box::new(bert(Flavour::ChineseClip, true)), [101, 102]),
        (Box::new(bert(Flavour::ChineseClip, false)), [101, 102]),
    ]
});

/// Characters of misread text, of references, of whitespace and of scripts that need care.
fn hard() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "Ã",
        "Â",
        "â",
        "€",
        "™",
        "œ",
        "\u{fffd}",
        "\u{a0}",
        " ",
        "\u{81}",
        "\u{9d}",
        "í",
        "½",
        "ð",
        "Ÿ",
        "˜",
        "&",
        "&amp",
        ";",
        "&#x",
        "&#1234",
        "110000",
        "lt;",
        "<",
        "<start_of_text>",
        "<|endoftext|>",
        "[MASK]",
        "\u{1b}[",
        "1;2m",
        "\r\n",
        "\n",
        "\0",
        "İ",
        "Σ",
        "ſ",
        "ﬁ",
        "ﾞ",
        "ｶ",
        "각",
        "\u{345}",
        "\u{301}",
        "👍🏽",
        "字",
        "a",
        "'s",
        "7",
        "\u{e000}",
        "\u{10ffff}",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
}

fn check(text: &str) -> Result<(), TestCaseError> {
    for (tokenizer, [start, end]) in TOKENIZERS.iter() {
        let batch = tokenizer.encode(&[text]).unwrap();
        let row = batch.rows().next().unwrap();
        prop_assert!(row.len() <= CONTEXT);
        prop_assert_eq!([row[0], row[row.len() - 1]], [*start, *end]);
        let size = tokenizer.vocabulary().size;
        prop_assert!(row.iter().all(|&id| (id as usize) < size));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_string(text in any::<String>()) {
        check(&text)?;
    }

    #[test]
    fn any_hard_string(text in hard()) {
        check(&text)?;
    }

    #[test]
    fn a_batch_is_its_texts_one_by_one(texts in prop::collection::vec(hard(), 0..6)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        for (tokenizer, _) in TOKENIZERS.iter() {
            let batch = tokenizer.encode(&texts).unwrap();
            prop_assert_eq!(batch.len(), texts.len());
            for (row, text) in batch.rows().zip(&texts) {
                let alone = tokenizer.encode(&[text]).unwrap();
                prop_assert_eq!(Some(row), alone.rows().next());
            }
        }
    }
}

#[test]
fn threads_agree() {
    let texts = [
        "a photo of a cat",
        "红色连衣裙 &eacute; schÃ¶n",
        "<|endoftext|> [MASK]",
        "",
    ];
    for (tokenizer, _) in TOKENIZERS.iter() {
        let alone = tokenizer.encode(&texts).unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| tokenizer.encode(&texts).unwrap()))
                .collect();
            for thread in threads {
                assert_eq!(thread.join().unwrap(), alone);
            }
        });
    }
}

#[test]
fn large_texts_end_and_fit() {
    for text in [
        "a".repeat(1 << 20),
        "é ".repeat(1 << 18),
        "Ã©".repeat(1 << 16),
        "&amp;".repeat(1 << 16),
        "字".repeat(1 << 16),
    ] {
        for (tokenizer, [_, end]) in TOKENIZERS.iter() {
            let batch = tokenizer.encode(&[&text]).unwrap();
            let row = batch.rows().next().unwrap();
            assert!(row.len() <= CONTEXT && row.ends_with(&[*end]));
        }
    }
}
