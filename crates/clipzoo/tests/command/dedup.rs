//! `dedup`: what is there twice is found and reported, and nothing is touched.

use std::collections::BTreeSet;

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, base64, pair, png, small_model};

/// The same pixels in other bytes: a grey picture as RGB.
fn grey(level: u8, colour: png::ColorType) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 20, 20);
    encoder.set_color(colour);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![level; 400 * colour.samples()]).unwrap();
    writer.finish().unwrap();
    bytes
}

fn rows(line: &Value) -> Vec<u64> {
    line["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["row"].as_u64().unwrap())
        .collect()
}

#[test]
fn equal_pixels_are_found_whatever_the_file() {
    let folder = Folder::new();
    let pictures = [
        pair(0).1,
        grey(90, png::ColorType::Grayscale),
        pair(1).1,
        grey(90, png::ColorType::Rgb),
        pair(0).1,
        grey(91, png::ColorType::Rgb),
        pair(0).1,
    ];
    let table: String = (0..)
        .zip(&pictures)
        .map(|(row, picture)| format!("sku-{row}\tt\t{}\n", base64(picture)))
        .collect();
    folder.write("t.tsv", format!("item\ttext\timage\n{table}"));
    let before = folder.read("t.tsv");
    let line = "dedup --table t.tsv --header --item-column item --output twice.jsonl";
    let said = folder.run(&format!("{line} --json")).json();
    assert_eq!(
        said,
        json!({ "output": "twice.jsonl", "pictures": 7, "refused": 0, "exact": { "groups": 2, "rows": 5 }, "near": null })
    );
    let lines = folder.lines("twice.jsonl");
    assert_eq!(lines.iter().map(rows).collect::<Vec<_>>(), [vec![2, 6, 8], vec![3, 5]]);
    assert_eq!(lines[1]["rows"][1], json!({ "row": 5, "item": "sku-3", "score": 1.0 }));
    assert!(lines.iter().all(|line| line["kind"] == "exact"));
    assert_eq!(folder.read("t.tsv"), before);
    // A folder of pictures names them by path.
    folder.write("photos/a.png", pair(0).1);
    folder.write("photos/b/c.png", pair(0).1);
    folder.write("photos/d.png", pair(1).1);
    folder.run("dedup --table photos --output photos.jsonl").ok();
    let lines = folder.lines("photos.jsonl");
    let files: BTreeSet<&str> = lines[0]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["file"].as_str().unwrap())
        .collect();
    assert_eq!(
        (lines.len(), files),
        (1, BTreeSet::from(["photos/a.png", "photos/b/c.png"]))
    );
}

#[test]
fn near_pictures_are_found_by_a_model() {
    let folder = Folder::new();
    small_model(&folder, "model");
    // Two shades of one red, and of one blue, are nearer than red and blue.
    let pictures = [
        png(20, [200, 10, 10]),
        png(20, [10, 10, 200]),
        png(20, [201, 10, 10]),
        png(20, [10, 10, 201]),
        png(20, [200, 10, 10]),
    ];
    let table: String = pictures
        .iter()
        .map(|picture| format!("t\t{}\n", base64(picture)))
        .collect();
    folder.write("t.tsv", table);
    let line = "dedup --table t.tsv --model model --threshold 0.99995 --output";
    let said = folder.run(&format!("{line} twice.jsonl --json")).json();
    assert_eq!(
        (&said["exact"]["groups"], &said["near"]["groups"]),
        (&json!(1), &json!(2)),
        "{}",
        folder.text("twice.jsonl")
    );
    let lines = folder.lines("twice.jsonl");
    assert_eq!(
        lines.iter().map(rows).collect::<Vec<_>>(),
        [vec![1, 5], vec![1, 3], vec![2, 4]]
    );
    assert!(lines[1]["rows"][0]["score"].as_f64().unwrap() >= 0.99995);
    folder.run(&format!("{line} twice.html")).ok();
    let page = folder.text("twice.html");
    assert!(
        page.contains("2 groups.") && page.contains("2 near pictures") && page.matches("data:image/png").count() == 6
    );
}

#[test]
fn bad_pictures_and_bad_flags() {
    let folder = Folder::new();
    folder.write("t.tsv", format!("a\t{0}\nb\tAAAA\nc\t{0}\n", base64(&pair(0).1)));
    let line = "dedup --table t.tsv --output twice.jsonl";
    assert!(folder.run(line).failed().starts_with("t.tsv, row 2, column `image`: "));
    assert_eq!(folder.names(""), ["t.tsv"]);
    let said = folder.run(&format!("{line} --bad-rows skip --json")).json();
    assert_eq!(
        (&said["pictures"], &said["refused"], &said["exact"]["rows"]),
        (&json!(2), &json!(1), &json!(2))
    );
    assert_eq!(folder.lines("twice.jsonl.rejects.jsonl").len(), 1);
    assert!(
        folder
            .run("dedup --table t.tsv --output twice.csv")
            .misused()
            .contains("name it .jsonl or .html")
    );
    assert!(
        folder
            .run(&format!("{line} --threshold 0.9"))
            .refused()
            .contains("--model")
    );
    assert!(
        folder
            .run(&format!("{line} --model m --threshold 1.5"))
            .misused()
            .contains("no cosine to ask for")
    );
}
