//! `report.html`, the page about a run.

use clipzoo::clip_core::serde_json::Value;

use super::support::{Folder, parse, small_model, table};

const TRAIN: &str = "train --model model --train train.tsv --valid valid.tsv --schema text:str:1,image:str:1 --output run \
                     --batch-size 8 --lr 0.01 --threads 1 --device cpu";

fn set_up() -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("train.tsv", table(0..48));
    folder.write("valid.tsv", table(0..24));
    folder
}

/// What stands between two words, each time.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Vec<&'a str> {
    let pieces = text.split(before).skip(1);
    pieces.map(|piece| piece.split(after).next().unwrap()).collect()
}

#[test]
fn the_page_has_curves_settings_and_what_titles_find() {
    let folder = set_up();
    folder.run(&format!("{TRAIN} --epochs 3 --average-init 0.5")).ok();
    let page = folder.text("run/report.html");
    // Loss, rate, temperature, gradient; six figures of evaluations.
    assert_eq!(page.matches("<svg ").count(), 10);
    for words in [
        "Best mean recall",
        "Steps",
        "Pairs a second",
        "Rows refused",
        "Steps left out",
        "18",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for words in [
        "before training",
        "best, step",
        "last, step 18",
        ": rank ",
        "share of the training",
    ] {
        assert!(page.contains(words), "{words}");
    }
    // run.toml stands in it, escaped.
    assert!(page.contains("batch_size = 8\n") && page.contains("# max_steps: not set\n"));
    assert!(page.contains("model = &quot;model&quot;"));
    // Eight titles before and after, five pictures each, none from elsewhere.
    let sources = between(&page, "src=\"", "\"");
    assert_eq!(sources.len(), 2 * 8 * 5);
    assert!(
        sources
            .iter()
            .all(|source| source.starts_with("data:image/png;base64,"))
    );
    assert!(!page.contains("<script") && !page.contains("href=") && !page.contains(" style="));
    assert!(page.contains("Content-Security-Policy"));
    let left: Vec<String> = folder
        .names("run")
        .into_iter()
        .filter(|name| name.contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_was_found_before_training_survives_a_resume() {
    let folder = set_up();
    folder.run(&format!("{TRAIN} --epochs 1")).ok();
    let record = |name: &str| -> Value { parse(&folder.text("run/report.json"))[name].clone() };
    let before = record("before");
    assert_eq!(
        (&before["step"], before["queries"].as_array().unwrap().len()),
        (&0.into(), 8)
    );
    folder.run(&format!("{TRAIN} --epochs 3 --resume")).ok();
    assert_eq!(record("before"), before);
    let best = record("best");
    let figures = |shot: &Value| shot["figures"]["valid_mean_recall"].as_f64().unwrap();
    assert!(
        figures(&best) > figures(&before),
        "{} {}",
        figures(&best),
        figures(&before)
    );
    let page = folder.text("run/report.html");
    assert!(page.contains("before training") && page.contains("last, step 18"));
    // Every picture that is named is kept, and no other.
    let mut rows: Vec<u64> = [&before, &best]
        .iter()
        .flat_map(|shot| shot["queries"].as_array().unwrap())
        .flat_map(|query| query["found"].as_array().unwrap())
        .map(|found| found["row"].as_u64().unwrap())
        .collect();
    rows.sort_unstable();
    rows.dedup();
    let mut kept: Vec<u64> = record("pictures")
        .as_object()
        .unwrap()
        .keys()
        .map(|row| row.parse().unwrap())
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, rows);
}

#[test]
fn it_can_be_left_out() {
    let folder = set_up();
    folder.write("settings.toml", "[report]\nenabled = false\n");
    folder.run(&format!("{TRAIN} --epochs 1 --config settings.toml")).ok();
    assert!(!folder.path("run/report.html").exists() && !folder.path("run/report.json").exists());
    // Without pairs to evaluate on there are curves all the same.
    let alone = TRAIN
        .replace("--valid valid.tsv", "")
        .replace("--output run", "--output alone");
    folder.run(&format!("{alone} --epochs 1")).ok();
    let page = folder.text("alone/report.html");
    assert!(page.contains("<svg ") && !page.contains("<img"));
}
