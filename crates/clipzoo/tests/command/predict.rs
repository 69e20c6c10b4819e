//! `predict`: the same features by every way in and out.

use std::fs;

use clipzoo::clip_core::serde_json::json;
use safetensors::SafeTensors;

use super::support::{Folder, SCHEMA, base64, fixtures, floats, off, pair, parse, small_model, table};

/// Features of rows `range` through the model, by the table.
fn features(folder: &Folder, flags: &str, output: &str) {
    folder
        .run(&format!(
            "predict --model model --table t.tsv {SCHEMA} {flags} --output {output}"
        ))
        .ok();
}

fn set_up(rows: usize) -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", table(0..rows));
    folder
}

/// Prepared inputs under the names that `--inputs` asks for.
fn inputs(io: &[u8]) -> Vec<u8> {
    let file = SafeTensors::deserialize(io).unwrap();
    let tensors = file.tensors().into_iter().filter_map(|(name, view)| {
        let name = match name.as_str() {
            "pixel_values" => "pixels".to_owned(),
            "input_ids" | "attention_mask" => name,
            _ => return None,
        };
        Some((name, view))
    });
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn prepared_inputs_give_the_references_features() {
    for model in ["oc_vit_tiny", "oc_vit_tiny_quickgelu", "hf_vtde_bert_clipvision_tiny"] {
        let folder = Folder::new();
        let path = fixtures().join("models").join(model);
        let io = fs::read(path.join("io.safetensors")).unwrap();
        folder.write("in.safetensors", inputs(&io));
        let line = format!(
            "predict --model {} --inputs in.safetensors --batch-size 2 --output out.safetensors --json",
            path.display()
        );
        let said = folder.run(&line).json();
        assert_eq!((&said["texts"], &said["images"]), (&json!(5), &json!(5)));
        let output = folder.read("out.safetensors");
        for side in ["text_features", "image_features"] {
            let (shape, got) = floats(&output, side);
            let (wanted_shape, wanted) = floats(&io, &format!("{side}_norm"));
            assert_eq!(shape, wanted_shape);
            assert!(
                off(&got, &wanted) < 1e-5,
                "{model}: {side} off by {}",
                off(&got, &wanted)
            );
        }
    }
}

#[test]
fn a_table_goes_to_every_format_alike() {
    let folder = set_up(7);
    features(&folder, "", "out.safetensors");
    let output = folder.read("out.safetensors");
    let (shape, texts) = floats(&output, "text_features");
    let (_, images) = floats(&output, "image_features");
    assert_eq!(shape, [7, 8]);
    for row in texts.chunks(8).chain(images.chunks(8)) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }

    features(&folder, "", "out.jsonl");
    let lines = folder.lines("out.jsonl");
    assert_eq!(lines.len(), 7);
    for (name, wanted) in [("text_features", &texts), ("image_features", &images)] {
        let got: Vec<f32> = lines
            .iter()
            .flat_map(|line| line[name].as_array().unwrap())
            .map(|x| x.as_f64().unwrap() as f32)
            .collect();
        assert!(off(&got, wanted) < 1e-6, "{name}");
    }

    features(&folder, "", "out.parquet");
    let parquet = folder.read("out.parquet");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));

    // One kind of features a file: what these two formats hold.
    for name in ["out.npy", "out.tsv"] {
        let line = format!("predict --model model --table t.tsv {SCHEMA} --output {name}");
        let message = folder.run(&line).failed();
        assert!(
            message.starts_with(name) && message.contains(".safetensors"),
            "{message}"
        );
    }
    let words: String = (0..7).map(|row| pair(row).0 + "\n").collect();
    folder.write("t.txt", words);
    folder.run("predict --model model --texts t.txt --output out.npy").ok();
    let npy = folder.read("out.npy");
    let values: Vec<f32> = npy[npy.len() - 7 * 8 * 4..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    assert!(off(&values, &texts) < 1e-6);
    folder.run("predict --model model --texts t.txt --output out.tsv").ok();
    assert_eq!(folder.text("out.tsv").lines().count(), 7);
}

#[test]
fn texts_and_pictures_of_their_own_are_the_tables() {
    let folder = set_up(5);
    for row in 0..5 {
        let (_, picture) = pair(row);
        folder.write(&format!("photos/{row}.png"), picture);
    }
    let words: String = (0..5).map(|row| pair(row).0 + "\n").collect();
    folder.write("t.txt", words);
    features(&folder, "", "a.safetensors");
    let line = "predict --model model --texts t.txt --images photos --output b.safetensors";
    folder.run(line).ok();
    let (a, b) = (folder.read("a.safetensors"), folder.read("b.safetensors"));
    for side in ["text_features", "image_features"] {
        assert!(off(&floats(&a, side).1, &floats(&b, side).1) < 1e-6, "{side}");
    }
}

#[test]
fn rows_keep_their_order_whatever_the_workers() {
    let folder = set_up(100);
    features(&folder, "--workers 1 --batch-size 9", "one.safetensors");
    features(&folder, "--workers 3 --batch-size 9", "three.safetensors");
    let (one, three) = (folder.read("one.safetensors"), folder.read("three.safetensors"));
    for side in ["text_features", "image_features"] {
        assert!(off(&floats(&one, side).1, &floats(&three, side).1) < 1e-6, "{side}");
    }
    // Row 77 alone is row 77 of all.
    folder.write("t.tsv", table(77..78));
    features(&folder, "", "row.safetensors");
    let (_, row) = floats(&folder.read("row.safetensors"), "image_features");
    assert!(off(&row, &floats(&one, "image_features").1[77 * 8..78 * 8]) < 1e-5);
}

#[test]
fn skipped_rows_leave_their_places_and_a_list() {
    let folder = set_up(6);
    features(&folder, "", "good.safetensors");
    let mut lines: Vec<String> = table(0..6).lines().map(str::to_owned).collect();
    lines[2] = format!("red shoe 0 0\t{}", base64(b"not a picture at all"));
    lines[4] = "red shoe 0 0".to_owned();
    folder.write("t.tsv", lines.join("\n"));
    let line = format!("predict --model model --table t.tsv {SCHEMA} --bad-rows skip --output out.safetensors --json");
    let said = folder.run(&line).json();
    assert_eq!(said["refused"], json!(2));
    let rejects = folder.lines("out.safetensors.rejects.jsonl");
    let rows: Vec<_> = rejects.iter().map(|line| line["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [3, 5]);
    assert!(rejects.iter().all(|line| !line["reason"].as_str().unwrap().is_empty()));
    assert_eq!(rejects[0]["column"], json!("image"));
    let (good, got) = (folder.read("good.safetensors"), folder.read("out.safetensors"));
    for side in ["text_features", "image_features"] {
        let ((_, good), (shape, got)) = (floats(&good, side), floats(&got, side));
        assert_eq!(shape, [6, 8]);
        for row in 0..6 {
            let (good, got) = (&good[row * 8..][..8], &got[row * 8..][..8]);
            if [2, 4].contains(&row) {
                assert!(got.iter().all(|x| *x == 0.0));
            } else {
                assert!(off(good, got) < 1e-5);
            }
        }
    }
    // With nothing refused, the list of before goes.
    folder.write("t.tsv", table(0..6));
    folder.run(&line).ok();
    assert!(!folder.path("out.safetensors.rejects.jsonl").exists());
}

#[test]
fn columns_may_have_other_names_and_stand_elsewhere() {
    let folder = set_up(3);
    features(&folder, "", "a.safetensors");
    let rows: String = (0..3)
        .map(pair)
        .map(|(text, picture)| format!("x,data:image/png;base64,{},\"{text}\"\n", base64(&picture)))
        .collect();
    // A comma stands in every data URI, so the cell is quoted.
    let rows = rows.replace("x,data", "x,\"data").replace(",\"red", "\",\"red");
    let rows = rows.replace(",\"green", "\",\"green").replace(",\"blue", "\",\"blue");
    folder.write("t.csv", format!("id,photo,title\n{rows}"));
    let line = "predict --model model --table t.csv --text-column title --image-column photo --output b.safetensors";
    folder.run(line).ok();
    let jsonl: String = (0..3)
        .map(pair)
        .map(|(text, picture)| json!({ "title": text, "photo": base64(&picture) }).to_string() + "\n")
        .collect();
    folder.write("t.jsonl", &jsonl);
    folder
        .run(&line.replace("t.csv", "t.jsonl").replace("b.safe", "c.safe"))
        .ok();
    let a = folder.read("a.safetensors");
    for other in ["b.safetensors", "c.safetensors"] {
        let other = folder.read(other);
        for side in ["text_features", "image_features"] {
            assert!(off(&floats(&a, side).1, &floats(&other, side).1) < 1e-6);
        }
    }
    // A bad cell is named by the column's own name.
    let broken = jsonl.replacen(&base64(&pair(1).1), &base64(b"no picture"), 1);
    assert_eq!(
        parse(broken.lines().nth(1).unwrap())["photo"],
        json!(base64(b"no picture"))
    );
    folder.write("t.jsonl", broken);
    let message = folder.run(&line.replace("t.csv", "t.jsonl")).failed();
    assert!(message.starts_with("t.jsonl, row 2, column `photo`: "), "{message}");
}

#[test]
fn columns_go_along_as_they_stand() {
    let folder = Folder::new();
    small_model(&folder, "model");
    let rows: String = (0..4)
        .map(|row| format!("{}\tsku {row}\t007\t{}\n", base64(&pair(row).1), pair(row).0))
        .collect();
    folder.write("t.tsv", rows);
    let schema = "--schema image:str:1,sku:str:1,n:int:1,text:str:1";
    let line =
        format!("predict --model model --table t.tsv {schema} --id-column sku --append-cols n,sku,text --output");
    folder.run(&format!("{line} out.jsonl")).ok();
    let first = &folder.lines("out.jsonl")[1];
    let names: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(names, ["sku", "n", "text", "text_features", "image_features"]);
    assert_eq!((&first["sku"], &first["n"]), (&json!("sku 1"), &json!("007")));
    assert_eq!(first["text"], json!(pair(1).0));
    for name in ["out.safetensors", "out.parquet"] {
        folder.run(&format!("{line} {name}")).ok();
    }
    let beside = folder.lines("out.safetensors.columns.jsonl");
    assert_eq!(beside.len(), 4);
    assert_eq!(beside[3], json!({ "sku": "sku 3", "n": "007", "text": pair(3).0 }));
    assert!(!folder.path("out.parquet.columns.jsonl").exists());
    // EasyNLP's format: numbers, then the columns, in one line of cells.
    let pictures = "--schema image:str:1,sku:str:1 --append-cols sku,image --output out.tsv";
    folder
        .run(&format!("predict --model model --table t.tsv {pictures}"))
        .ok();
    for (row, line) in folder.text("out.tsv").lines().enumerate() {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!(cells.len(), 8 + 2);
        assert_eq!(cells[8..], [format!("sku {row}"), base64(&pair(row).1)]);
    }
}

#[test]
fn json_values_and_refused_rows_keep_their_columns() {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write(
        "t.jsonl",
        "{\"text\": \"red shoe\", \"id\": 1, \"tags\": [\"a\", null]}\n{\"text\": \" \", \"id\": 2, \"tags\": {}}\n{\"text\": \"blue bag\", \"id\": 3}\n",
    );
    let line = "predict --model model --table t.jsonl --append-cols id,tags --bad-rows skip --output out.jsonl";
    folder.run(line).ok();
    let lines = folder.lines("out.jsonl");
    let columns: Vec<_> = lines
        .iter()
        .map(|line| (line["id"].clone(), line["tags"].clone()))
        .collect();
    assert_eq!(
        columns,
        [
            (json!(1), json!(["a", null])),
            (json!(2), json!({})),
            (json!(3), json!(null))
        ]
    );
    let there: Vec<bool> = lines.iter().map(|line| line["text_features"].is_array()).collect();
    assert_eq!(there, [true, false, false]);
    let reasons: Vec<_> = folder
        .lines("out.jsonl.rejects.jsonl")
        .iter()
        .map(|line| line["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        reasons,
        ["the text is empty", "the row has no `tags`; it has: text, id"]
    );
}

#[test]
fn columns_that_are_not_there_are_named() {
    let folder = set_up(2);
    let line = format!("predict --model model --table t.tsv {SCHEMA} --output out.jsonl");
    assert_eq!(
        folder.run(&format!("{line} --append-cols sku")).misused(),
        "--append-cols sku: t.tsv has no such column; it has: text, image; name columns of the table; \
         --header or --schema says what they are called"
    );
    folder.write("t.txt", "red shoe\n");
    let message = folder
        .run(&format!("{line} --append-cols text --texts t.txt"))
        .misused();
    assert!(
        message.starts_with("columns are carried along from a table"),
        "{message}"
    );
    let named = folder
        .run(&format!("{line} --append-cols text_features,text"))
        .misused();
    assert!(named.contains("text_features"), "{named}");
    assert_eq!(folder.names("").len(), 3);
}
