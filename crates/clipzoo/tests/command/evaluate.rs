//! `evaluate`: known ranks, the object's exact keys, and the page.

use clipzoo::clip_core::serde_json::json;

use super::support::{Folder, SCHEMA, small_model, table, tensors};

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
    for (direction, figures) in got.as_object().unwrap() {
        assert!(["text_to_image", "image_to_text"].contains(&direction.as_str()));
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
                "mrr"
            ]
        );
        assert_eq!((&figures["queries"], &figures["gallery"]), (&json!(3), &json!(3)));
        let number = |name: &str| figures[name].as_f64().unwrap();
        assert_eq!(
            (number("r@5"), number("r@10"), number("median_rank")),
            (100.0, 100.0, 2.0)
        );
        assert!((number("mean_recall") - (100.0 / 3.0 + 200.0) / 3.0).abs() < 1e-3);
        assert!((number("mrr") - 2.0 / 3.0).abs() < 1e-5);
    }
    assert_eq!(got.as_object().unwrap().len(), 2);

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
