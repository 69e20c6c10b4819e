//! `classify`: labels, templates, outputs in each format, figures against the rows that were written, pages, errors.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, SCHEMA, base64, floats, off, pair, png, small_model, table};

const LABELS: &str = "shoe\tred 1\nbag\nblue\tgreen\n";

/// A model, labels, and a table of pairs with an id and a true label, the empty one and a synonym among them.
fn folder() -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("labels.tsv", LABELS);
    let row = |row: usize| {
        let (text, picture) = pair(row);
        let label = ["shoe", "BAG", "red 1", "", "green"][row % 5];
        format!("{text}\t{}\t{label}\tp{row}\n", base64(&picture))
    };
    folder.write(
        "t.tsv",
        format!("text\timage\tlabel\tid\n{}", (0..23).map(row).collect::<String>()),
    );
    folder
}

const KNOWN: &str =
    "classify --model model --labels labels.tsv --threads 1 --table t.tsv --header --label-column label";

#[test]
fn figures_are_those_of_the_rows() {
    let folder = folder();
    let line = format!("{KNOWN} --id-column id --top-k 2");
    let got = folder.run(&format!("{line} --output o.jsonl --json")).json();
    assert_eq!(
        (&got["pictures"], &got["refused"], &got["labels"], &got["results"]),
        (&json!(23), &json!(0), &json!(3), &json!(null))
    );
    let rows = folder.lines("o.jsonl");
    assert_eq!(rows.len(), 23);
    assert_eq!(rows[7]["id"], "p7");
    let truths: Vec<&Value> = rows[..5].iter().map(|row| &row["truth"]).collect();
    assert_eq!(
        truths,
        [
            &json!("shoe"),
            &json!("bag"),
            &json!("shoe"),
            &json!(null),
            &json!("blue")
        ]
    );
    let known: Vec<&Value> = rows.iter().filter(|row| !row["truth"].is_null()).collect();
    let right = known
        .iter()
        .filter(|row| row["labels"][0]["label"] == row["truth"])
        .count();
    let figures = &got["figures"];
    assert_eq!(figures["pictures"], json!(known.len()));
    let accuracy = figures["accuracy@1"].as_f64().unwrap();
    assert!(
        (accuracy - 100.0 * right as f64 / known.len() as f64).abs() < 1e-9,
        "{accuracy}"
    );
    assert_eq!(figures["accuracy@5"], json!(100.0));
    let shoe = &figures["classes"][0];
    let is_shoe = |value: &Value| value == "shoe";
    assert_eq!(
        shoe["pictures"],
        json!(known.iter().filter(|row| is_shoe(&row["truth"])).count())
    );
    assert_eq!(
        shoe["guessed"],
        json!(known.iter().filter(|row| is_shoe(&row["labels"][0]["label"])).count())
    );

    // The same as a table, and what a person reads.
    let said = folder.run(&format!("{line} --output o.tsv --page p.html --language zh"));
    assert!(
        said.stderr.contains("o.tsv: labels of 23 pictures") && said.stderr.contains("page: p.html"),
        "{}",
        said.stderr
    );
    let report = said.ok();
    assert!(report.contains(&format!("accuracy{:>21.2} %", accuracy)), "{report}");
    assert!(
        report.contains("by chance") && report.contains("33.33 %") && !report.contains("first 5"),
        "{report}"
    );
    let text = folder.text("o.tsv");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(
        lines[0],
        [
            "row",
            "id",
            "truth",
            "label_1",
            "probability_1",
            "label_2",
            "probability_2"
        ]
    );
    for (line, row) in lines[1..].iter().zip(&rows) {
        assert_eq!(line[3], row["labels"][0]["label"]);
        assert_eq!(
            line[6].parse::<f64>().unwrap(),
            row["labels"][1]["probability"].as_f64().unwrap()
        );
        assert_eq!(line[2], row["truth"].as_str().unwrap_or(""));
    }
    let page = folder.text("p.html");
    assert!(page.contains("混淆情况") && page.contains("class=\"matrix\"") && page.contains("给出的标签"));
    assert!(page.contains("Content-Security-Policy") && !page.contains("src=\"http"));
}

/// Against the definition, from the features that `predict` writes.
#[test]
fn probabilities_are_those_of_the_features() {
    let folder = folder();
    folder.write("names.txt", "a red 1 here\nred 1\na shoe here\nshoe\na bag here\nbag\n");
    folder
        .run("predict --model model --texts names.txt --output n.safetensors --threads 1")
        .ok();
    folder
        .run("predict --model model --table t.tsv --header --output i.safetensors --threads 1")
        .ok();
    folder.write(
        "two.jsonl",
        "{\"label\": \"shoe\", \"synonyms\": [\"red 1\"]}\n{\"label\": \"bag\"}\n",
    );
    let mut command =
        folder.command("classify --model model --labels two.jsonl --table t.tsv --header --output o.jsonl --threads 1");
    command.args(["--template", "a {} here", "--template", "{}"]);
    assert!(command.status().unwrap().success());

    let (shape, names) = floats(&folder.read("n.safetensors"), "text_features");
    let (_, images) = floats(&folder.read("i.safetensors"), "image_features");
    let dim = shape[1];
    let unit = |sum: Vec<f32>| {
        let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        sum.into_iter().map(|x| x / norm).collect::<Vec<f32>>()
    };
    let name = |row: usize| &names[row * dim..(row + 1) * dim];
    let mean = |a: &[f32], b: &[f32]| unit(a.iter().zip(b).map(|(a, b)| a + b).collect());
    let classes = [
        mean(&mean(name(0), name(1)), &mean(name(2), name(3))),
        mean(name(4), name(5)),
    ];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (row, line) in folder.lines("o.jsonl").iter().enumerate() {
        let image = &images[row * dim..(row + 1) * dim];
        let scores = [dot(image, &classes[0]), dot(image, &classes[1])];
        let best = usize::from(scores[1] > scores[0]);
        let hit = &line["labels"][0];
        assert_eq!(hit["label"], ["shoe", "bag"][best], "{row}");
        assert!(off(&[hit["score"].as_f64().unwrap() as f32], &[scores[best]]) < 1e-5);
        // Two classes: softmax is a sigmoid of the scaled difference. The new model's temperature is CLIP's, 1/0.07.
        let wanted = 1.0 / (1.0 + (-(scores[best] - scores[1 - best]) / 0.07).exp());
        assert!(off(&[hit["probability"].as_f64().unwrap() as f32], &[wanted]) < 1e-4);
    }
}

#[test]
fn pictures_are_named_by_their_files() {
    let folder = folder();
    for (name, colour) in [
        ("photos/b.png", [9, 200, 9]),
        ("photos/a.png", [200, 9, 9]),
        ("c.png", [9, 9, 200]),
    ] {
        folder.write(name, png(20, colour));
    }
    let line = "classify --model model --labels labels.tsv --threads 1 --top-k 1 --images c.png photos";
    let printed = folder.run(line).ok();
    let names: Vec<&str> = printed.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(names, ["c.png", "photos/a.png", "photos/b.png"]);
    assert!(printed.lines().all(|line| line.ends_with(" %")), "{printed}");
    let got = folder
        .run(&format!("{line} --json --page p.html --templates fashion"))
        .json();
    assert_eq!(got["figures"], json!(null));
    let results = got["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[1]["image"]), (3, &json!("photos/a.png")));
    assert_eq!(results[0]["labels"].as_array().unwrap().len(), 1);
    let page = folder.text("p.html");
    assert!(
        page.contains("Labels given") && page.contains("alt=\"photos/a.png\"") && !page.contains("class=\"matrix\"")
    );
}

#[test]
fn refused_rows_keep_their_place() {
    let folder = folder();
    let good = table(0..3);
    let bad = good.replace('\n', "\tshoe\n")
        + "x\tAAAA\tshoe\n"
        + &table(3..4).replace('\n', "\that\n")
        + &table(4..5).replace('\n', "\tbag\n");
    folder.write("bad.tsv", format!("text\timage\tlabel\n{bad}"));
    let line = "classify --model model --labels labels.tsv --threads 1 --table bad.tsv --header --label-column label --output o.jsonl";
    let message = folder.run(line).failed();
    assert_eq!(
        message,
        "bad.tsv, row 6, column `label`: `hat` is none of the labels; add it to the labels file, as a label or as a synonym"
    );
    assert!(!folder.path("o.jsonl").exists());
    let got = folder.run(&format!("{line} --bad-rows skip --json")).json();
    assert_eq!(
        (&got["pictures"], &got["refused"], &got["figures"]["pictures"]),
        (&json!(4), &json!(2), &json!(4))
    );
    let rows = folder.lines("o.jsonl");
    let empty: Vec<bool> = rows.iter().map(|row| row["labels"].is_null()).collect();
    assert_eq!(empty, [false, false, false, true, true, false]);
    let rejects = folder.lines("o.jsonl.rejects.jsonl");
    assert_eq!((&rejects[0]["row"], &rejects[1]["row"]), (&json!(5), &json!(6)));
    assert_eq!(rejects[1]["reason"], "`hat` is none of the labels");
}

#[test]
fn codes_stand_for_labels() {
    let folder = folder();
    folder.write("codes.tsv", folder.text("t.tsv").replace("\tBAG\t", "\tc17\t"));
    folder.write("names.tsv", "c17\tbag\n");
    let line =
        "classify --model model --labels labels.tsv --threads 1 --table codes.tsv --header --label-column label --json";
    assert!(folder.run(line).failed().contains("`c17` is none of the labels"));
    let got = folder.run(&format!("{line} --label-names names.tsv")).json();
    assert_eq!(got["figures"], folder.run(&format!("{KNOWN} --json")).json()["figures"]);
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let folder = folder();
    folder.write("twice.tsv", "shoe\tbag\nbag\n");
    folder.write("c.png", png(20, [1, 2, 3]));
    let line = "classify --model model --threads 1";
    let said = folder.run(&format!("{line} --labels labels.tsv")).misused();
    assert_eq!(said, "there are no pictures to classify; give --images or --table");
    let said = folder
        .run(&format!("{line} --labels twice.tsv --images c.png"))
        .failed();
    assert_eq!(
        said,
        "twice.tsv: `bag` stands for two labels, `shoe` and `bag`; keep it with one of them"
    );
    let said = folder
        .run(&format!("{line} --labels labels.tsv --images c.png --templates shoes"))
        .misused();
    assert_eq!(
        said,
        "there are no templates `shoes`; there are: general, fashion, chinese"
    );
    let said = folder
        .run(&format!("{line} --labels labels.tsv --images c.png --template photo"))
        .misused();
    assert!(
        said.starts_with("the template `photo` has no place for the label"),
        "{said}"
    );
    let said = folder
        .run(&format!("{line} --labels labels.tsv --images c.png --output o.csv"))
        .failed();
    assert_eq!(
        said,
        "o.csv: the extension does not say how the labels are to be written; name it .jsonl (an object a picture) or .tsv"
    );
    let said = folder
        .run(&format!("{line} --labels labels.tsv --images c.png --bad-rows skip"))
        .misused();
    assert!(said.contains("give --output"), "{said}");
    let said = folder
        .run(&format!(
            "{line} --labels labels.tsv --table t.tsv --header --label-column no"
        ))
        .failed();
    assert!(said.contains("there is no column `no`"), "{said}");
    let said = folder
        .run(&format!(
            "{line} --labels labels.tsv --images c.png --label-column label"
        ))
        .misused();
    assert_eq!(
        said,
        "--label-column names a column, and there is no table; give --table"
    );
    let said = folder
        .run(&format!(
            "{line} --labels labels.tsv --table t.tsv {SCHEMA} --images c.png"
        ))
        .refused();
    assert!(said.contains("cannot be used with"), "{said}");
}
