//! `compare`: the summary against `evaluate`, the page, both ways of saying what is right, errors.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, SCHEMA, small_model, table};

/// Two models, the second of other weights: the first one after a little training.
pub(super) fn two_models(folder: &Folder) {
    small_model(folder, "a");
    folder.write("train.tsv", table(0..24));
    let line = format!(
        "train --model a --train train.tsv {SCHEMA} --epochs 4 --batch-size 8 --lr 1e-2 --threads 1 --seed 1 --output run"
    );
    folder.run(&line).ok();
}

fn folder() -> Folder {
    let folder = Folder::new();
    two_models(&folder);
    folder.write("g.tsv", table(0..20));
    folder
}

const BOTH: &str =
    "compare --model a --model run/best --table g.tsv --schema text:str:1,image:str:1 --threads 1 --output r.html";

#[test]
fn the_tables_own_texts_give_the_figures_of_evaluate() {
    let folder = folder();
    let got = folder.run(&format!("{BOTH} --json")).json();
    assert_eq!(
        (&got["queries"], &got["gallery"], &got["top"], &got["a"]),
        (&json!(20), &json!(20), &json!(6), &json!("a"))
    );
    for (side, model) in [("a", "a"), ("b", "run/best")] {
        let figures = folder
            .run(&format!(
                "evaluate --model {model} --table g.tsv {SCHEMA} --threads 1 --json"
            ))
            .json();
        let (mine, wanted) = (&got["judged"][side], &figures["text_to_image"]);
        for key in ["r@1", "r@5", "r@10", "median_rank", "mrr"] {
            assert_eq!(mine[key], wanted[key], "{side} {key}");
        }
    }
    let count = |name: &str| got["judged"][name].as_u64().unwrap();
    assert_eq!(
        count("wins_a") + count("wins_b") + count("draws") + count("neither"),
        20
    );
    assert!(count("wins_b") > 0 && got["overlap"].as_f64().unwrap() < 100.0, "{got}");

    let report = folder
        .run(&format!("{BOTH} --name old --name new --show 3 --seed 5"))
        .ok();
    assert!(
        report.starts_with("A: old\nB: new\n20 queries over 20 pictures: ") && report.ends_with("page: r.html\n"),
        "{report}"
    );
    let page = folder.text("r.html");
    assert!(page.contains("3 of 20 queries, drawn with seed 5") && page.matches("class=\"card versus\"").count() == 3);
    assert!(page.contains("Content-Security-Policy") && !page.contains("src=\"http") && page.contains("only A"));
}

#[test]
fn queries_of_a_file_in_two_languages() {
    let folder = folder();
    folder.write("q.txt", "red shoe\n红色的鞋\n");
    let got = folder
        .run(&format!("{BOTH} --queries q.txt --json --language zh --top 4"))
        .json();
    assert_eq!((&got["queries"], &got["judged"]), (&json!(2), &json!(null)));
    let page = folder.text("r.html");
    assert!(page.contains("红色的鞋") && page.contains("lang=\"zh-Hans\"") && page.contains("逐条查询"));
    assert!(!page.contains("谁找得更准"));

    // The same model twice agrees with itself.
    let same = BOTH.replace("run/best", "a");
    let got = folder.run(&format!("{same} --queries q.txt --json")).json();
    assert_eq!((&got["overlap"], &got["same_first"]), (&json!(100.0), &json!(100.0)));
}

#[test]
fn what_is_right_comes_from_relevance_or_from_items() {
    let folder = folder();
    let rows: String = table(0..12)
        .lines()
        .enumerate()
        .map(|(row, line)| format!("{line}\ti{}\tp{row}\n", row / 3))
        .collect();
    folder.write("g.tsv", format!("text\timage\titem\tid\n{rows}"));
    let both = "compare --model a --model run/best --table g.tsv --header --threads 1 --output r.html --json";
    folder.write("q.txt", "red shoe\nblue bag\nred\n");
    folder.write("q.tsv", "red shoe\ti0\nblue bag\ti2\nred\ti9\n");
    folder.write(
        "r.jsonl",
        "{\"query\": 0, \"items\": [\"p0\", \"p1\", \"p2\"]}\n{\"query\": 1, \"items\": [\"p6\", \"p7\", \"p8\"]}\n",
    );
    let by_items = folder.run(&format!("{both} --queries q.tsv --item-column item"));
    assert!(
        by_items
            .stderr
            .contains("1 queries name an item of which the gallery has no picture"),
        "{}",
        by_items.stderr
    );
    let by_items = by_items.json();
    let by_file = folder
        .run(&format!("{both} --queries q.txt --relevance r.jsonl --id-column id"))
        .json();
    assert_eq!(by_items["judged"], by_file["judged"]);
    assert_eq!(by_file["judged"]["queries"], json!(2));

    // A row that is refused moves no other: the same pictures stay right.
    let bad = rows.replacen('\n', "\nbad\tAAAA\ti7\tp99\n", 1);
    folder.write("g.tsv", format!("text\timage\titem\tid\n{bad}"));
    assert!(
        folder
            .run(&format!("{both} --queries q.tsv --item-column item"))
            .failed()
            .starts_with("g.tsv, row 3, column `image`")
    );
    let skipped = folder
        .run(&format!("{both} --queries q.tsv --item-column item --bad-rows skip"))
        .json();
    assert_eq!(
        (&skipped["judged"], &skipped["refused"]),
        (&by_items["judged"], &json!(1))
    );
    let rejects: Vec<Value> = folder.lines("r.html.rejects.jsonl");
    assert_eq!(rejects[0]["row"], json!(3));
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let folder = Folder::new();
    small_model(&folder, "a");
    folder.write("g.tsv", table(0..3));
    folder.write("q.tsv", "red\ti0\n");
    folder.write("q.txt", "red\n\nblue\n");
    folder.write("none.txt", "");
    let line = format!("compare --table g.tsv {SCHEMA} --output r.html --threads 1");
    let said = folder.run(&format!("{line} --model a --queries q.txt")).misused();
    assert_eq!(said, "1 models are no comparison of two; give --model twice");
    let line = format!("{line} --model a --model a");
    let said = folder.run(&format!("{line} --name x --queries q.txt")).misused();
    assert_eq!(said, "1 name for two models; give --name twice, or not at all");
    let said = folder.run(&format!("{line} --queries q.tsv")).misused();
    assert_eq!(
        said,
        "q.tsv names items, and the gallery's column of items is not known; give --item-column, or the queries as .txt"
    );
    let said = folder.run(&format!("{line} --queries q.txt")).failed();
    assert_eq!(said, "q.txt, row 2: the query is empty; leave the line out");
    assert!(
        folder
            .run(&format!("{line} --queries none.txt"))
            .failed()
            .starts_with("none.txt: the file is empty")
    );
    assert!(
        folder
            .run(&format!("{line} --queries gone.txt"))
            .failed()
            .starts_with("gone.txt: cannot read")
    );
    assert!(
        folder
            .run(&format!("{line} --relevance r.jsonl"))
            .refused()
            .contains("--queries")
    );
    folder.write("q.csv", "red\n");
    let said = folder.run(&format!("{line} --queries q.csv")).failed();
    assert!(
        said.ends_with(".jsonl (a JSON string a line) or .tsv (query<TAB>item)"),
        "{said}"
    );
    // Both are told before a model is opened, let alone two.
    folder.write("q.txt", "red\n");
    let said = folder
        .run(&format!("{line} --queries q.txt").replace("r.html", "no/r.html"))
        .failed();
    assert!(said.contains("there is no folder `no`"), "{said}");
    let said = folder.run(&format!("{line} --queries q.txt").replace("--model a --model a", "--model a --model gone"));
    assert_eq!(said.failed(), "gone: there is no such model; check the path");
    assert!(!folder.path("r.html").exists());
}
