//! Views of texts: what they are made of, and what never happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chinese::is_spaced;

const TEXTS: &str = "([a-zé]{1,5}|[0-9.]{1,4}|[A-Z][a-z]{1,3}[0-9]{0,2}|运动鞋|红色|男士|[鞋裙棉]|[,!（】-]|3.5mm){0,10}( ?([a-z]{1,5}|连衣裙|[0-9]{1,3}%?)){0,6}";

/// How often each run of letters and digits stands in a text, Han characters one by one.
fn runs(text: &str) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    let mut own = String::new();
    for c in text.chars().chain([' ']) {
        if is_spaced(c) {
            own.push(c);
            continue;
        }
        if !own.is_empty() {
            *runs.entry(std::mem::take(&mut own)).or_default() += 1;
        }
        if c.is_alphanumeric() {
            *runs.entry(c.to_string()).or_default() += 1;
        }
    }
    runs
}

fn within(part: &BTreeMap<String, usize>, whole: &BTreeMap<String, usize>) -> bool {
    part.iter()
        .all(|(run, count)| whole.get(run).is_some_and(|most| count <= most))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn swaps_keep_every_word(text in TEXTS, swap in 0.01f64..1.0, draw in any::<u64>()) {
        let augment = TextAugment { swap, drop: 0.0, synonyms: None };
        let view = augment.apply(&text, draw);
        prop_assert_eq!(runs(&view), runs(&text));
        prop_assert_eq!(&view, &augment.apply(&text, draw));
    }

    #[test]
    fn drops_leave_a_word_and_add_none(text in TEXTS, drop in 0.0f64..=1.0, draw in any::<u64>()) {
        let view = TextAugment { swap: 0.0, drop, synonyms: None }.apply(&text, draw);
        prop_assert!(within(&runs(&view), &runs(&text)), "{} of {}", view, text);
        prop_assert_eq!(runs(&view).is_empty(), runs(&text).is_empty());
    }

    #[test]
    fn any_text_and_any_shares_give_a_view(text in "\\PC{0,50}", swap in any::<f64>(), drop in any::<f64>(), draw in any::<u64>()) {
        let augment = TextAugment { swap, drop, synonyms: None };
        let view = augment.apply(&text, draw);
        prop_assert_eq!(view.is_empty(), text.is_empty());
        prop_assert_eq!(view, augment.apply(&text, draw));
    }
}

#[test]
fn each_way_is_taken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "shoe\tsneaker\ttrainer\n").unwrap();
    let augment = TextAugment {
        swap: 0.1,
        drop: 0.3,
        synonyms: Some(Synonyms::read(file.path()).unwrap()),
    };
    let text = "big red shoe for men";
    let (mut replaced, mut swapped, mut shorter) = (0, 0, 0);
    for draw in 0..3000 {
        let view = augment.apply(text, draw);
        let words: Vec<&str> = view.split(' ').collect();
        if view.contains("sneaker") || view.contains("trainer") {
            replaced += 1;
            assert!(
                view == "big red sneaker for men" || view == "big red trainer for men",
                "{view}"
            );
        } else if words.len() < 5 {
            shorter += 1;
        } else if view != text {
            swapped += 1;
            // Half a word is at least one swap, which moves two words.
            let moved = text.split(' ').zip(&words).filter(|(a, b)| a != *b).count();
            assert_eq!(moved, 2, "{view}");
        }
    }
    // A third each; 0.7^5 of the drops drop nothing.
    assert!(
        (900..1100).contains(&replaced) && (900..1100).contains(&swapped),
        "{replaced} {swapped}"
    );
    let expected = 1000.0 * (1.0 - 0.7f64.powi(5));
    assert!((f64::from(shorter) - expected).abs() < 100.0, "{shorter}");
}

#[test]
fn a_text_that_no_way_can_change_is_its_own_view() {
    let augment = TextAugment::default();
    for text in ["", "shoe", "  shoe  ", "!!", "运动鞋"] {
        assert_eq!(augment.apply(text, 3), text);
    }
    let off = TextAugment {
        swap: 0.0,
        drop: 0.0,
        synonyms: None,
    };
    assert_eq!(off.apply("red shoe", 3), "red shoe");
}

#[test]
fn shares_out_of_range_are_named() {
    TextAugment::default().check().unwrap();
    let augment = TextAugment {
        drop: 1.5,
        ..TextAugment::default()
    };
    assert_eq!(
        augment.check().unwrap_err().to_string(),
        "the text augmentation's `drop` is 1.5; it must be from 0 to 1"
    );
}
