//! `evaluate`: known ranks, the object's exact keys, and the page.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Ended, Folder, SCHEMA, floats, small_model, table, tensors};

#[test]
fn a_tie_counts_against() {
    let folder = Folder::new();
    // Text 0 meets its picture alone. Text 1's picture and picture 2 are the same, so it ranks second; text 2 likewise.
    let texts = [1.0, 0.0, 0.0, 3.0, 0.0, 0.5];
    let images = [2.0, 0.0, 0.0, 1.0, 0.0, 4.0];
    folder.write("t.safetensors", tensors(&[("text_features", &[3, 2], &texts)]));
    folder.write("i.safetensors", tensors(&[("image_features", &[3, 2], &images)]));
    let line = "evaluate --text-features t.safetensors --image-features i.safetensors --json";
    let got = folder.run(line).json();
    let third = got["text_to_image"]["r@1"].as_f64().unwrap();
    assert!((third - 100.0 / 3.0).abs() < 1e-4, "{third}");
    assert_eq!(got["protocol"], "full");
    for direction in ["text_to_image", "image_to_text"] {
        let figures = &got[direction];
        let keys: Vec<&String> = figures.as_object().unwrap().keys().collect();
        assert_eq!(
            keys,
            [
                "queries",
                "gallery",
                "r@1",
                "r@5",
                "r@10",
                "mean_recall",
                "median_rank",
                "mrr",
                "mean_rank",
                "protocol"
            ]
        );
        assert_eq!(figures["protocol"], "full");
        assert_eq!((&figures["queries"], &figures["gallery"]), (&json!(3), &json!(3)));
        let number = |name: &str| figures[name].as_f64().unwrap();
        assert_eq!(
            (number("r@5"), number("r@10"), number("median_rank")),
            (100.0, 100.0, 2.0)
        );
        assert!((number("mean_recall") - (100.0 / 3.0 + 200.0) / 3.0).abs() < 1e-3);
        assert!((number("mrr") - 2.0 / 3.0).abs() < 1e-5);
        assert!((number("mean_rank") - 5.0 / 3.0).abs() < 1e-5);
    }
    let keys: Vec<&String> = got.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["text_to_image", "image_to_text", "protocol", "chance"]);
    // Each of three places is as likely: what the table prints beside.
    let third = got["chance"]["text_to_image"]["r@1"].as_f64().unwrap();
    assert!((third - 100.0 / 3.0).abs() < 1e-4, "{third}");

    // Other ranks to look down to, and the mean of these recalls.
    let got = folder.run(&format!("{line} --k 50,1,2")).json();
    let figures = got["text_to_image"].as_object().unwrap();
    let keys: Vec<&str> = figures
        .keys()
        .map(String::as_str)
        .filter(|key| key.starts_with("r@"))
        .collect();
    assert_eq!(keys, ["r@1", "r@2", "r@50"]);
    assert!((figures["mean_recall"].as_f64().unwrap() - (100.0 / 3.0 + 200.0) / 3.0).abs() < 1e-3);
    for bad in ["0", "", "1,x"] {
        let mut command = folder.command(line);
        let said = Ended::of(bad, command.args(["--k", bad]).output().unwrap()).refused();
        assert!(said.contains("--k"), "{said}");
    }

    // Told that picture 0 is right for every text, texts 1 and 2 find it last.
    folder.write(
        "r.jsonl",
        "{\"query\": 0, \"items\": [0]}\n{\"query\": 1, \"items\": [0]}\n{\"query\": 2, \"items\": [0, 2]}\n",
    );
    let got = folder.run(&format!("{line} --relevance r.jsonl")).json();
    let mrr = got["text_to_image"]["mrr"].as_f64().unwrap();
    assert!((mrr - (1.0 + 1.0 / 3.0 + 0.5) / 3.0).abs() < 1e-5, "{mrr}");
}

#[test]
fn a_table_gives_a_report_and_a_page() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", table(0..12));
    let line = format!("evaluate --model model --table t.tsv {SCHEMA}");
    let report = folder.run(&format!("{line} --page page.html")).ok();
    assert!(report.contains("12 texts, 12 pictures"), "{report}");
    assert!(report.contains("by chance") && report.contains("R@10"), "{report}");
    let page = folder.text("page.html");
    assert!(page.starts_with("<!doctype html>") || page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("Content-Security-Policy") && page.contains("data:image/"));
    assert!(!page.contains("src=\"http"));

    // Features written by predict, ranked on their own, are the same evaluation.
    let whole = folder.run(&format!("{line} --json")).json();
    folder
        .run(&format!(
            "predict --model model --table t.tsv {SCHEMA} --output f.safetensors"
        ))
        .ok();
    let parts = "evaluate --text-features f.safetensors --image-features f.safetensors --json";
    assert_eq!(folder.run(parts).json(), whole);
}

#[test]
fn features_that_do_not_fit_together_are_refused() {
    let folder = Folder::new();
    folder.write(
        "t.safetensors",
        tensors(&[("text_features", &[2, 2], &[1.0, 0.0, 0.0, 1.0])]),
    );
    folder.write(
        "i.safetensors",
        tensors(&[("image_features", &[1, 3], &[1.0, 0.0, 0.0])]),
    );
    folder.write(
        "n.safetensors",
        tensors(&[("image_features", &[2, 2], &[1.0, f32::NAN, 0.0, 1.0])]),
    );
    let run = |images: &str| {
        folder
            .run(&format!(
                "evaluate --text-features t.safetensors --image-features {images}"
            ))
            .failed()
    };
    assert!(run("i.safetensors").contains('3'));
    assert!(run("t.safetensors").contains("image_features"));
    assert!(run("n.safetensors").to_lowercase().contains("nan") || run("n.safetensors").contains("finite"));
}

#[test]
fn rows_of_zeros_are_no_pairs() {
    let folder = Folder::new();
    let texts = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    let images = [1.0, 0.0, 0.5, 0.5, 0.0, 1.0];
    folder.write("t.safetensors", tensors(&[("text_features", &[3, 2], &texts)]));
    folder.write("i.safetensors", tensors(&[("image_features", &[3, 2], &images)]));
    let said = folder.run("evaluate --text-features t.safetensors --image-features i.safetensors --json");
    assert!(said.stderr.contains("1 pairs with a row of zeros"), "{}", said.stderr);
    let got = said.json();
    assert_eq!(
        (&got["text_to_image"]["queries"], &got["text_to_image"]["r@1"]),
        (&json!(2), &json!(100.0))
    );
}

#[test]
fn a_header_that_nobody_spoke_of_is_noticed() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", format!("text\timage\n{}", table(0..4)));
    let message = folder.run("evaluate --model model --table t.tsv --threads 1").misused();
    assert!(
        message.contains("row 1: the first row holds the columns' names; pass --header"),
        "{message}"
    );
    folder
        .run("evaluate --model model --table t.tsv --header --threads 1")
        .ok();
}

#[test]
fn a_page_that_cannot_be_written_does_not_cost_the_figures() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", table(0..4));
    let said = folder.run(&format!(
        "evaluate --model model --table t.tsv {SCHEMA} --page no/p.html --threads 1"
    ));
    assert!(said.stdout.contains("text to image"), "{}", said.stdout);
    said.failed();
}

/// Against the definition, from the features that `predict` writes.
#[test]
fn concepts_are_queries_where_a_column_names_them() {
    let folder = Folder::new();
    small_model(&folder, "model");
    // Pictures of rows i and i + 3 are of one hue.
    let carried = |row: usize| [["red", "green", "blue"][row % 3], ["shoe", "bag"][row % 2]];
    let rows: String = table(0..24)
        .lines()
        .enumerate()
        .map(|(row, line)| format!("{line}\t{}\n", carried(row).join("|")))
        .collect();
    folder.write("t.tsv", rows);
    let schema = "--schema text:str:1,image:str:1,kind:str:1";
    let line = format!("evaluate --model model --table t.tsv {schema} --threads 1");
    let plain = folder.run(&format!("{line} --json")).json();
    let with = folder.run(&format!("{line} --concept-column kind --json")).json();
    for direction in ["text_to_image", "image_to_text"] {
        assert_eq!(with[direction], plain[direction]);
    }
    let found = &with["concept_to_image"];
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    let wanted = "queries gallery map precision@1 precision@5 precision@10 ndcg ndcg@1 ndcg@5 ndcg@10 protocol";
    assert_eq!(
        keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(" "),
        wanted
    );
    assert_eq!(found["protocol"], "full");
    assert_eq!((&found["queries"], &found["gallery"]), (&json!(5), &json!(24)));
    let by_chance = with["chance"]["concept_to_image"]["precision@10"].as_f64().unwrap();
    let carried_share = (0..24).map(|row| carried(row).len()).sum::<usize>() as f64 / (5.0 * 24.0);
    assert!((by_chance - 100.0 * carried_share).abs() < 1e-6, "{by_chance}");

    folder.write(
        "names.txt",
        "a red thing\na green thing\na blue thing\na shoe thing\na bag thing\n",
    );
    folder
        .run(&format!(
            "predict --model model --table t.tsv {schema} --output f.safetensors --threads 1"
        ))
        .ok();
    folder
        .run("predict --model model --texts names.txt --output n.safetensors --threads 1")
        .ok();
    let (_, images) = floats(&folder.read("f.safetensors"), "image_features");
    let (_, names) = floats(&folder.read("n.safetensors"), "text_features");
    let naive = |wanted: &[&str]| {
        let (mut sum, mut first) = (0.0, 0.0);
        for name in wanted {
            let query = ["red", "green", "blue", "shoe", "bag"]
                .iter()
                .position(|other| other == name)
                .unwrap();
            let score = |row: usize| -> f64 {
                (0..8)
                    .map(|i| f64::from(names[query * 8 + i]) * f64::from(images[row * 8 + i]))
                    .sum()
            };
            let right = |row: usize| carried(row).contains(name);
            let mut order: Vec<usize> = (0..24).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(right(a).cmp(&right(b))));
            let places: Vec<usize> = (0..24).filter(|&place| right(order[place])).collect();
            let at = |(found, place): (usize, &usize)| (found + 1) as f64 / (place + 1) as f64;
            sum += places.iter().enumerate().map(at).sum::<f64>() / places.len() as f64;
            first += places.iter().filter(|place| **place < 10).count() as f64 / 10.0;
        }
        [100.0 * sum / wanted.len() as f64, 100.0 * first / wanted.len() as f64]
    };
    let templated = format!("{line} --concept-column kind --json");
    let got = |more: &[&str]| {
        let mut command = folder.command(&templated);
        command.args(["--concept-template", "a {} thing"]).args(more);
        let found = Ended::of(&templated, command.output().unwrap()).json()["concept_to_image"].clone();
        (
            found["queries"].clone(),
            ["map", "precision@10"].map(|figure| found[figure].as_f64().unwrap()),
        )
    };
    let close = |left: [f64; 2], right: [f64; 2]| left.iter().zip(right).all(|(a, b)| (a - b).abs() < 1e-6);
    let (queries, figures) = got(&[]);
    let wanted = naive(&["red", "green", "blue", "shoe", "bag"]);
    assert!(queries == 5 && close(figures, wanted), "{figures:?} {wanted:?}");
    // Twelve pictures carry `shoe`, eight a colour.
    let (queries, figures) = got(&["--concept-min", "9"]);
    assert!(queries == 2 && close(figures, naive(&["shoe", "bag"])));
    folder.write("only.txt", "# mine\nblue\nhat\n");
    let (queries, figures) = got(&["--concepts-file", "only.txt"]);
    assert!(queries == 1 && close(figures, naive(&["blue"])));

    let report = folder.run(&format!("{line} --concept-column kind --concepts-file only.txt"));
    assert!(
        report
            .stderr
            .contains("only.txt: no picture carries 1 of its 2 concepts"),
        "{}",
        report.stderr
    );
    let report = report.ok();
    assert!(
        report.contains("1 concepts\n") && report.contains("concept to image"),
        "{report}"
    );
    let message = folder
        .run(&format!("{line} --concept-column kind --concept-min 13"))
        .failed();
    assert_eq!(
        message,
        "t.tsv, column `kind`: no concept is carried by 13 pictures or more; check the column, --concepts-file and --concept-min"
    );
    folder
        .run(&format!("{line} --concept-column kind --concept-template name"))
        .misused();
    folder.run(&format!("{line} --concept-min 2")).refused();
    let features = "evaluate --text-features f.safetensors --image-features f.safetensors --concept-column kind";
    assert!(folder.run(features).misused().contains("--concept-column"));
}

#[test]
fn products_of_a_concept_count_once_by_their_best_picture() {
    let folder = Folder::new();
    small_model(&folder, "model");
    // Two pictures of each product, rows i and i + 6; a product carries what one of its pictures carries.
    let rows: String = table(0..12)
        .lines()
        .enumerate()
        .map(|(row, line)| {
            format!(
                "{line}\tp{}\t{}\n",
                row % 6,
                if row < 6 { ["red", "blue"][row % 2] } else { "" }
            )
        })
        .collect();
    folder.write("t.tsv", rows);
    let line = "evaluate --model model --table t.tsv --schema text:str:1,image:str:1,item:str:1,kind:str:1 --concept-column kind --threads 1";
    let single = folder.run(&format!("{line} --json --k 3")).json();
    let grouped = folder.run(&format!("{line} --json --k 3 --group-by item")).json();
    let found = |got: &Value| got["concept_to_image"].clone();
    assert_eq!(
        (&found(&single)["gallery"], &found(&grouped)["gallery"]),
        (&json!(12), &json!(6))
    );
    assert_eq!(
        (&found(&grouped)["group_by"], &found(&grouped)["queries"]),
        (&json!("item"), &json!(2))
    );
    // Three of six products are right for each of the two.
    let at_3 = found(&grouped)["precision@3"].as_f64().unwrap();
    assert!((at_3 * 6.0 / 100.0).fract().abs() < 1e-9 && found(&grouped)["precision@1"].is_null());
    let report = folder.run(&format!("{line} --group-by item")).ok();
    assert!(
        report.contains("pictures count by their best in 6 groups, texts in 6 (item)"),
        "{report}"
    );
    assert!(report.contains("precision in %, full"), "{report}");
}

#[test]
fn codes_are_asked_for_by_their_names() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let rows = |codes: [&str; 3]| -> String {
        let lines = table(0..12);
        let row = |(row, line): (usize, &str)| format!("{line}\t{}\n", codes[row % 3]);
        lines.lines().enumerate().map(row).collect()
    };
    folder.write("codes.tsv", rows(["c1", "c2", "c3"]));
    folder.write("names.tsv", rows(["red", "green", "blue"]));
    folder.write("table.tsv", "c1\tred\nc2\tgreen\nc3\tblue\n");
    let run = |line: &str| {
        let schema = "--schema text:str:1,image:str:1,kind:str:1 --concept-column kind --threads 1";
        folder
            .run(&format!("evaluate --model model {schema} --json {line}"))
            .json()
    };
    let named = run("--table codes.tsv --concept-names table.tsv");
    assert_eq!(named, run("--table names.tsv"));
    folder.write("only.txt", "c2\n");
    folder.write("only-names.txt", "green\n");
    let one = run("--table codes.tsv --concept-names table.tsv --concepts-file only.txt");
    assert_eq!(one["concept_to_image"]["queries"], 1);
    assert_eq!(
        one,
        run("--table codes.tsv --concept-names table.tsv --concepts-file only-names.txt")
    );
}
