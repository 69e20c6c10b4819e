//! `calibrate`, and `--dtype int8` and `auto` behind it.

use std::fs;

use clipzoo::clip_core::serde_json::{Value, json};

use super::support::{Folder, SCHEMA, floats, parse, small_model, table};

fn set_up() -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("t.tsv", table(0..24));
    folder
}

/// Unit features of both sides in a type.
fn features(folder: &Folder, dtype: &str) -> (Vec<f32>, String) {
    let line = format!("predict --model model --table t.tsv {SCHEMA} --dtype {dtype} --output out.safetensors --json");
    let said = folder.run(&line).json();
    let output = folder.read("out.safetensors");
    let both = ["text_features", "image_features"].map(|side| floats(&output, side).1);
    (both.concat(), said["dtype"].as_str().unwrap().to_owned())
}

/// The least cosine between unit rows of 8.
fn least_cosine(a: &[f32], b: &[f32]) -> f32 {
    let rows = a.chunks(8).zip(b.chunks(8));
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).sum())
        .fold(f32::INFINITY, f32::min)
}

#[test]
fn what_a_calibration_promises_the_features_keep() {
    let folder = set_up();
    let (plain, dtype) = features(&folder, "f32");
    assert_eq!(dtype, "f32");
    let said = folder
        .run(&format!(
            "calibrate --model model --table t.tsv {SCHEMA} --rows 16 --cosine 0.99 --json"
        ))
        .json();
    assert_eq!(
        (&said["image"]["rows"], &said["text"]["rows"]),
        (&json!(16), &json!(16))
    );
    for side in ["image", "text"] {
        assert!(said[side]["least"].as_f64().unwrap() >= 0.99, "{said}");
        assert!(said[side]["layers"].as_u64().unwrap() > 0, "{said}");
    }
    let (bytes, dtype) = features(&folder, "int8");
    assert_eq!(dtype, "int8");
    let near = least_cosine(&plain, &bytes);
    assert!((0.98..0.999_999).contains(&near), "{near}");
    // A type that nobody measured to be worth it is not taken: this model's cosine was asked to be 0.99 only.
    let (_, dtype) = features(&folder, "auto");
    let holds = ["image", "text"]
        .iter()
        .all(|side| said[*side]["least"].as_f64().unwrap() >= 0.9995);
    assert!(dtype != "int8" || holds, "{dtype} {said}");
}

#[test]
fn a_stricter_cosine_leaves_layers_out() {
    let folder = set_up();
    let run = |cosine: &str| {
        let line = format!("calibrate --model model --table t.tsv {SCHEMA} --cosine {cosine}");
        let text = folder.run(&line).ok();
        assert!(
            text.contains("linear layers multiply bytes") && text.contains("clipzoo_int8.json"),
            "{text}"
        );
        let kept: Value = parse(&fs::read_to_string(folder.path("model/clipzoo_int8.json")).unwrap());
        kept["layers"].as_object().unwrap().len()
    };
    let (all, none) = (run("0.5"), run("1"));
    assert!(all > 0 && none == 0, "{all} {none}");
}

#[test]
fn texts_alone_leave_the_image_tower_as_it_is() {
    let folder = set_up();
    folder.write("titles.tsv", "red shoe\nblue bag\n");
    let text = folder
        .run("calibrate --model model --table titles.tsv --schema text:str:1 --cosine 0.9")
        .ok();
    assert!(text.contains("pictures: none in the sample"), "{text}");
    let kept: Value = parse(&fs::read_to_string(folder.path("model/clipzoo_int8.json")).unwrap());
    assert_eq!(kept["image"], Value::Null);
    assert!(
        kept["layers"]
            .as_object()
            .unwrap()
            .keys()
            .all(|name| name.starts_with("text."))
    );
}

#[test]
fn a_file_of_another_model_or_of_rubbish_is_refused_where_int8_is_asked_for() {
    let folder = set_up();
    let line =
        |dtype: &str| format!("predict --model model --table t.tsv {SCHEMA} --dtype {dtype} --output o.safetensors");
    folder
        .run(&format!("calibrate --model model --table t.tsv {SCHEMA} --cosine 0.9"))
        .ok();
    let mut changed: Value = parse(&fs::read_to_string(folder.path("model/clipzoo_int8.json")).unwrap());
    changed["layers"] = json!({"image.blocks.99.attention.qkv": {"least": -1.0, "greatest": 1.0}});
    let foreign = r#"{"clipzoo": "1", "image": null, "text": null, "layers": {}}"#;
    for (content, says) in [
        ("{", "no calibration"),
        (foreign, "made of other weights"),
        (
            changed.to_string().as_str(),
            "no layer image.blocks.99.attention.qkv that fits",
        ),
        (
            r#"{"clipzoo": "1", "image": null, "text": null, "layers": {"a": {"least": 0, "greatest": 1e999}}}"#,
            "clipzoo_int8.json",
        ),
    ] {
        folder.write("model/clipzoo_int8.json", content);
        let message = folder.run(&line("int8")).failed();
        assert!(message.contains(says) && message.contains("calibrate"), "{message}");
        // Who does not ask for it is not kept from work.
        folder
            .run(&format!(
                "predict --model model --table t.tsv {SCHEMA} --output o.safetensors"
            ))
            .ok();
    }
}

#[test]
fn a_calibration_of_other_weights_counts_for_auto_as_none() {
    let folder = set_up();
    let calibrate = format!("calibrate --model model --table t.tsv {SCHEMA} --cosine 0.5");
    folder.run(&calibrate).ok();
    let path = folder.path("model/clipzoo_int8.json");
    let mut kept: Value = parse(&fs::read_to_string(&path).unwrap());
    // As if both towers held what `auto` asks for.
    for side in ["image", "text"] {
        kept[side]["least"] = json!(1.0);
    }
    fs::write(&path, kept.to_string()).unwrap();
    let (_, own) = features(&folder, "auto");
    kept["weights"] = json!("0".repeat(64));
    fs::write(&path, kept.to_string()).unwrap();
    let (_, foreign) = features(&folder, "auto");
    assert_ne!(foreign, "int8");
    assert!(own == "int8" || own == foreign, "{own} {foreign}");
}

#[test]
fn a_sample_of_nothing_is_wrong_usage() {
    let folder = set_up();
    let message = folder
        .run(&format!("calibrate --model model --table t.tsv {SCHEMA} --rows 0"))
        .misused();
    assert!(message.contains("--rows 0"), "{message}");
    let message = folder
        .run(&format!("calibrate --model model --table t.tsv {SCHEMA} --cosine 1.5"))
        .misused();
    assert!(message.contains("--cosine 1.5"), "{message}");
    folder.write("empty.tsv", "");
    let message = folder
        .run(&format!("calibrate --model model --table empty.tsv {SCHEMA}"))
        .failed();
    assert!(!message.is_empty());
}
