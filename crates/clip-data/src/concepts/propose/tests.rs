//! Proposals from titles: what is counted, what is left out, and the bound.

use super::*;

fn counts(titles: &[&str], language: TitleLanguage) -> PhraseCounts {
    let mut counts = PhraseCounts::default();
    for (number, title) in (0..).zip(titles) {
        counts.add(number, TitlePhrases::of([*title], language));
    }
    counts
}

fn proposed(titles: &[&str], min_count: u64) -> Vec<String> {
    let proposed = counts(titles, TitleLanguage::Auto).propose(min_count, 100);
    let mut names: Vec<String> = proposed.into_iter().map(|p| p.phrase).collect();
    names.sort();
    names
}

#[test]
fn nouns_stay_and_the_rest_goes() {
    let titles = [
        "New Leather Handbag for Women, Large, 30cm SKU-8812",
        "Leather handbag with free shipping XL",
        "The best leather wallet 2024",
        "Adjustable leather wallets (brown)",
        "Canvas handbag",
    ];
    // `leather` stands in two phrases and beside; `large`, `adjustable`, sizes and numbers are in none.
    assert_eq!(
        proposed(&titles, 2),
        ["handbag", "leather", "leather handbag", "leather wallet"]
    );
}

#[test]
fn what_only_comes_inside_a_longer_phrase_is_left_out() {
    let titles = ["stainless steel bottle"; 4];
    assert_eq!(proposed(&titles, 2), ["stainless steel bottle"]);
    let more = [&titles[..], &["glass bottle"; 2]].concat();
    assert_eq!(proposed(&more, 2), ["bottle", "glass bottle", "stainless steel bottle"]);
}

#[test]
fn chinese_segments_make_phrases() {
    let titles = [
        "新款男士运动鞋包邮",
        "透气运动鞋 女士",
        "男士运动鞋 42码",
        "纯棉T恤 男士",
        "纯棉T恤 Nike",
        "Nike 运动鞋",
        "男包邮",
        "男包邮",
    ];
    let names = proposed(&titles, 2);
    for name in ["运动鞋", "男士运动鞋", "nike"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    assert!(
        names.iter().all(|name| !name.contains('邮') && !name.contains("新款")),
        "{names:?}"
    );
    let english = counts(&titles, TitleLanguage::English).propose(2, 9);
    assert_eq!(english.iter().map(|p| &*p.phrase).collect::<Vec<_>>(), ["nike"]);
    let chinese = counts(&titles, TitleLanguage::Chinese).propose(1, 99);
    assert!(chinese.iter().all(|p| p.phrase != "nike"));
}

/// By hand: 4 titles, 9 words, `wool hat` in 3 of them, `wool` in 3, `hat` in 4.
#[test]
fn counts_and_information_are_the_formulas() {
    let titles = ["wool hat", "wool hats red", "straw hat", "wool hat"];
    let proposed = counts(&titles, TitleLanguage::Auto).propose(1, 99);
    let find = |name: &str| proposed.iter().find(|p| p.phrase == name).unwrap();
    let wool = find("wool hat");
    assert_eq!((wool.count, wool.example), (3, 0));
    assert!((wool.pmi - (3.0f64 * 9.0 / (3.0 * 4.0)).log2()).abs() < 1e-12);
    // The plural is counted with the singular, which is the more frequent spelling.
    assert_eq!(find("hat").count, 4);
    assert_eq!(find("hat").pmi, 0.0);
    assert!(proposed.iter().all(|p| p.phrase != "wool"));
    let best = counts(&titles, TitleLanguage::Auto).propose(1, 1);
    assert_eq!(best.len(), 1);
}

#[test]
fn rare_phrases_are_forgotten_where_there_is_no_room() {
    let mut counts = PhraseCounts::with_limit(100);
    let letters = |number: u64| -> String {
        (0..4)
            .map(|place| char::from(b'a' + (number / 26u64.pow(place) % 26) as u8))
            .collect()
    };
    for number in 0..2000 {
        let title = format!("wool hat, {}q", letters(number * 7919));
        counts.add(number, TitlePhrases::of([&*title], TitleLanguage::Auto));
        assert!(counts.counted.len() <= 100);
    }
    assert!(counts.lost() > 0);
    let lost = counts.lost();
    let proposed = counts.propose(1000, 9);
    assert_eq!(proposed.len(), 1);
    assert_eq!(
        (&*proposed[0].phrase, proposed[0].count + lost >= 2000),
        ("wool hat", true)
    );
}

#[test]
fn the_order_of_titles_changes_no_count() {
    let titles = [
        "red wool hat",
        "wool hats",
        "blue wool scarf",
        "wool scarves",
        "红色 围巾",
        "羊毛围巾",
    ];
    let mut backwards = titles;
    backwards.reverse();
    let names = |titles: &[&str]| -> Vec<(String, u64)> {
        let proposed = counts(titles, TitleLanguage::Auto).propose(1, 99);
        proposed.into_iter().map(|p| (p.phrase, p.count)).collect()
    };
    assert_eq!(names(&titles), names(&backwards));
}

#[test]
fn a_novel_in_a_cell_is_cut_short() {
    let text = "鞋 wool".repeat(100_000);
    assert!(TitlePhrases::of([&*text], TitleLanguage::Auto).words < 10_000);
}
