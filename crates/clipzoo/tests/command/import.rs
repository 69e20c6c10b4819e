//! `import`: public layouts become tables that the other commands read.

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, base64, pair, small_model};

#[test]
fn fashion_gen_becomes_a_table_pixel_for_pixel() {
    let folder = Folder::new();
    small_model(&folder, "model");
    for name in ["fashion_gen", "fashion_gen_plain"] {
        folder.fixture(&format!("import/{name}.h5"), "f.h5");
        let said = folder.run("import fashion-gen f.h5 --output valid.tsv --json").json();
        assert_eq!(
            (&said["pairs"], &said["outputs"]),
            (&json!(7), &json!(["valid.tsv", "valid.relevance.jsonl"]))
        );
        let text = folder.text("valid.tsv");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("text\timage\titem\tcategory\tgender\tname"));
        let rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
        assert_eq!(rows.len(), 7);
        assert_eq!(rows[4][0], "Café shirt 4 in red. <br>Cotton.");
        assert_eq!(rows[4][2..], ["1001", "SHIRTS", "Women", "Shirt 4"]);
        // Every picture opens, and is the array's bytes.
        for (row, cells) in rows.iter().enumerate() {
            let wanted: Vec<u8> = (0..72).map(|at| ((row * 72 + at) * 7 % 251) as u8).collect();
            assert_eq!(cells[1], base64(&rgb_png(&wanted)), "{name}, row {row}");
        }
        let relevance = folder.lines("valid.relevance.jsonl");
        assert_eq!(relevance[4], json!({ "query": 4, "items": [3, 4, 5] }));
        assert_eq!(relevance[6], json!({ "query": 6, "items": [6] }));
    }
    let line = "evaluate --model model --table valid.tsv --header --item-column item --json";
    assert_eq!(folder.run(line).json()["text_to_image"]["queries"], json!(7));
    folder
        .run("import fashion-gen f.h5 --text name --output names.tsv")
        .ok();
    assert!(
        folder
            .text("names.tsv")
            .starts_with("text\timage\titem\tcategory\tdescription\tgender\nShirt 0\t")
    );
}

/// As the command writes pictures.
fn rgb_png(samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 6, 4);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(samples).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn files_that_are_not_fashion_gen_are_named() {
    let folder = Folder::new();
    folder.write("f.h5", "not HDF5 at all");
    let message = folder.run("import fashion-gen f.h5 --output valid.tsv").failed();
    assert!(
        message.starts_with("f.h5: cannot read it as HDF5: ") && message.contains("name a file such as"),
        "{message}"
    );
    folder.fixture("import/fashion_gen.h5", "f.h5");
    let whole = folder.read("f.h5");
    let message = folder
        .run("import fashion-gen f.h5 --text colour --output valid.tsv")
        .failed();
    assert!(
        message.contains("there is no field `colour`; there are: category, description, gender, image, "),
        "{message}"
    );
    // Cut, it is refused, and nothing is left behind.
    for cut in [100, whole.len() / 2] {
        folder.write("f.h5", &whole[..cut]);
        let message = folder.run("import fashion-gen f.h5 --output valid.tsv").failed();
        assert!(message.starts_with("f.h5: cannot read "), "{message}");
    }
    assert_eq!(folder.names(""), ["f.h5"]);
    assert!(
        folder
            .run("import fashion-gen gone.h5 --output valid.tsv")
            .failed()
            .starts_with("gone.h5: cannot read: ")
    );
}

#[test]
fn muge_is_trained_on_and_evaluated() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let pictures: String = (0..6)
        .map(|row| format!("{}\t{}\n", 100 + row, base64(&pair(row).1)))
        .collect();
    folder.write("imgs.tsv", pictures);
    let text =
        |row: usize, images: Value| json!({ "text_id": row, "text": pair(row).0, "image_ids": images }).to_string();
    folder.write(
        "texts.jsonl",
        [text(0, json!([100, 103])), text(1, json!([105]))].join("\n"),
    );
    let said = folder
        .run("import muge --texts texts.jsonl --images imgs.tsv --output valid.tsv --json")
        .json();
    assert_eq!(
        said,
        json!({
            "texts": 2, "images": 6, "pairs": 3, "missing": 0,
            "outputs": ["valid.texts.tsv", "valid.images.tsv", "valid.tsv", "valid.relevance.jsonl"],
        })
    );
    // The way that the help describes.
    folder
        .run("predict --model model --table valid.texts.tsv --header --output t.safetensors")
        .ok();
    folder
        .run("predict --model model --table valid.images.tsv --header --output i.safetensors")
        .ok();
    let line = "evaluate --text-features t.safetensors --image-features i.safetensors --relevance valid.relevance.jsonl --json";
    let said = folder.run(line).json();
    assert_eq!(
        (&said["text_to_image"]["queries"], &said["text_to_image"]["gallery"]),
        (&json!(2), &json!(6))
    );
    folder
        .run("evaluate --model model --table valid.tsv --header --item-column item")
        .ok();
    let message = folder
        .run("import muge --texts imgs.tsv --images imgs.tsv --output x.tsv")
        .failed();
    assert!(message.starts_with("imgs.tsv, row 1: the row is not JSON"), "{message}");
    folder.write("texts.jsonl", text(0, json!([7])));
    let line = "import muge --texts texts.jsonl --images imgs.tsv --output x.tsv";
    assert!(
        folder
            .run(line)
            .failed()
            .contains("there is no picture `7` in imgs.tsv")
    );
    folder.run(&format!("{line} --skip-missing")).ok();
}
