//! Phrases in texts: cases by hand, and the rule word by word.

use std::path::PathBuf;

use clip_core::Origin;
use proptest::prelude::*;

use super::*;

fn names(phrases: &[&str], text: &str) -> Vec<String> {
    let found = PhraseConcepts::new(phrases).unwrap().find(text);
    found.iter().map(|concept| concept.name.to_string()).collect()
}

#[test]
fn english_between_word_boundaries() {
    assert_eq!(names(&["dress"], "Two DRESSES"), ["dress"]);
    assert_eq!(names(&["dress"], "dresser, address"), [""; 0]);
    assert_eq!(names(&["Dresses"], "a dress"), ["Dresses"]);
    assert_eq!(
        names(&["box", "baby", "shoe"], "shoes in boxes for babies"),
        ["shoe", "box", "baby"]
    );
    // A longer match that ends within a word hides nothing.
    assert_eq!(names(&["red shoe", "red"], "red shoelace"), ["red"]);
    assert_eq!(
        names(&["shoe", "running shoe"], "running\u{a0} shoes"),
        ["running shoe"]
    );
    assert_eq!(names(&["t-shirt", "shirt"], "T-Shirts"), ["t-shirt"]);
    assert_eq!(names(&["xl", "5g"], "2XL 15G"), [""; 0]);
    assert_eq!(names(&["men"], "men's hat"), ["men"]);
    // Phrases may end in what is no word.
    assert_eq!(
        names(&["c++", "100% cotton"], "C++ 100% Cotton"),
        ["c++", "100% cotton"]
    );
    // An accent is the same letter however it is composed, and never a word's end.
    assert_eq!(names(&["caf\u{e9}", "cafe"], "Cafe\u{301}s"), ["caf\u{e9}"]);
}

#[test]
fn a_listed_spelling_is_its_own_phrase() {
    assert_eq!(names(&["glass", "glasses"], "glasses"), ["glasses"]);
    assert_eq!(names(&["glasses", "glass"], "glass of water"), ["glass"]);
    assert_eq!(names(&["Shoe", "SHOE", "shoe"], "shoe"), ["Shoe"]);
    // Both have this plural; the first listed has it.
    assert_eq!(names(&["axe", "ax"], "axes"), ["axe"]);
}

#[test]
fn chinese_anywhere() {
    let list = ["运动鞋", "鞋", "t恤", "hoodie", "运动"];
    assert_eq!(names(&list, "李宁男运动鞋女鞋子"), ["运动鞋", "鞋"]);
    // Letters beside Han characters are a word of their own.
    assert_eq!(names(&list, "纯棉T恤加绒Hoodie卫衣"), ["t恤", "hoodie"]);
    assert_eq!(names(&list, "加绒hoodieX卫衣"), [""; 0]);
}

#[test]
fn each_once_over_all_texts_by_first_place() {
    let source = PhraseConcepts::new(["hat", "red", "wool"]).unwrap();
    let pair = Pair {
        key: Id(0),
        item: None,
        texts: vec!["red hat, red".into(), "wool hat".into()],
        images: Vec::new(),
        concepts: Vec::new(),
        weight: 1.0,
        origin: Origin {
            file: Arc::new(PathBuf::from("t.tsv")),
            row: 1,
        },
    };
    let concepts = source.concepts(&pair).unwrap();
    let names: Vec<&str> = concepts.iter().map(|concept| &*concept.name).collect();
    assert_eq!(names, ["red", "hat", "wool"]);
    assert_eq!(concepts[2].id, Id::of("wool"));
}

#[test]
fn lists_are_read_and_bad_ones_named() {
    let folder = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = folder.path().join("p.tsv");
        std::fs::write(&path, text).unwrap();
        PhraseConcepts::read(&path).map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "p.tsv"))
    };
    let list = read(
        "\u{feff}# phrase\tcount\n\nrunning shoe\t12\t3.5\tRed running shoes\r\n  #note\n运动鞋\nRunning  Shoe\t1\n",
    )
    .unwrap();
    let all: Vec<&str> = list.all().iter().map(|concept| &*concept.name).collect();
    assert_eq!(all, ["running shoe", "运动鞋"]);
    assert_eq!(
        read("a\n\t3\n").unwrap_err(),
        "p.tsv, row 2: the first column is empty; write the phrase there, or delete the row"
    );
    assert_eq!(
        read("# none\n").unwrap_err(),
        "p.tsv: the list holds no phrase; write a phrase a row"
    );
    assert!(PhraseConcepts::new([" "]).is_err());
    let long = "x".repeat(MAX_PHRASE_BYTES / 2 + 1);
    assert_eq!(
        PhraseConcepts::new([&long, &long]).unwrap_err().kind(),
        clip_core::Kind::Exhausted
    );
}

/// The rule, place by place and phrase by phrase.
fn naive(phrases: &[String], text: &str) -> Vec<String> {
    let text: Vec<char> = fold(text).chars().collect();
    // Exact spellings before other ones, both in the order of the list.
    let mut spellings: Vec<(Vec<char>, usize)> = Vec::new();
    let mut add = |spelling: &str, phrase: usize| {
        let spelling: Vec<char> = spelling.chars().collect();
        if spellings.iter().all(|(known, _)| *known != spelling) {
            spellings.push((spelling, phrase));
        }
    };
    for (number, phrase) in phrases.iter().enumerate() {
        add(&fold(phrase), number);
    }
    for (number, phrase) in phrases.iter().enumerate() {
        if !has_han(phrase) {
            other_forms(&fold(phrase)).iter().for_each(|form| add(form, number));
        }
    }
    let word = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|&c| is_spaced(c));
    let edge = |at: usize| !(word(at.checked_sub(1)) && word(Some(at)));
    let (mut at, mut found) = (0, Vec::new());
    while at < text.len() {
        let fits = |(spelling, _): &&(Vec<char>, usize)| {
            text[at..].starts_with(spelling)
                && (spelling.iter().any(|&c| crate::chinese::is_han(c)) || (edge(at) && edge(at + spelling.len())))
        };
        match spellings.iter().filter(fits).max_by_key(|(spelling, _)| spelling.len()) {
            Some((spelling, phrase)) => {
                at += spelling.len();
                let name = phrases[*phrase].trim().to_owned();
                // A phrase that comes again is the first one, which `spellings` has seen to.
                if !found.contains(&name) {
                    found.push(name);
                }
            }
            None => at += 1,
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Over few letters, so that phrases nest, overlap and touch.
    #[test]
    fn found_as_the_rule_says(
        phrases in prop::collection::vec("[abysx鞋运 ]{0,3}[abysxAé鞋]{1,3}(e?s|y| b)?", 1..12),
        text in "[abysxeABé鞋运动\\- ,2]{0,40}",
    ) {
        let found: Vec<String> = PhraseConcepts::new(&phrases).unwrap().find(&text).iter().map(|c| c.name.to_string()).collect();
        prop_assert_eq!(found, naive(&phrases, &text));
    }

    /// Any text at all, and phrases cut out of it.
    #[test]
    fn any_text_is_searched(text in "\\PC{0,60}", cuts in prop::collection::vec((0usize..60, 1usize..6), 1..8)) {
        let characters: Vec<char> = text.chars().collect();
        let phrases: Vec<String> = cuts.iter()
            .map(|&(from, length)| characters.iter().skip(from).take(length).collect::<String>())
            .filter(|phrase| !fold(phrase).is_empty())
            .collect();
        prop_assume!(!phrases.is_empty());
        let found: Vec<String> = PhraseConcepts::new(&phrases).unwrap().find(&text).iter().map(|c| c.name.to_string()).collect();
        prop_assert_eq!(found, naive(&phrases, &text));
    }
}
