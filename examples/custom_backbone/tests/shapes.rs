//! The backbone in the whole command: a table of coloured shapes, a fresh model, training, evaluation.
//!
//! It runs the program that `main.rs` makes, as its user would, on 32 kinds of pictures (8 colours of 4 shapes). A tower
//! that tells neither colours nor shapes ranks by chance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clipzoo::clip_core::serde_json::{self, Value, json};
use custom_backbone::ConvNext;

const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [220, 30, 30]),
    ("green", [30, 160, 50]),
    ("blue", [30, 60, 210]),
    ("yellow", [240, 220, 40]),
    ("purple", [140, 40, 160]),
    ("orange", [250, 140, 20]),
    ("black", [20, 20, 20]),
    ("pink", [250, 150, 190]),
];

const SHAPES: [&str; 4] = ["circle", "square", "triangle", "cross"];

/// Side of a picture in pixels; not the model's, so that it is resized as any picture is.
const SIDE: i64 = 48;

/// Whether a shape of this radius covers a place, seen from its centre.
fn covers(shape: &str, radius: i64, x: i64, y: i64) -> bool {
    let inside = x.abs() <= radius && y.abs() <= radius;
    match shape {
        "circle" => x * x + y * y <= radius * radius,
        "square" => inside,
        "triangle" => inside && 2 * x.abs() <= y + radius,
        _ => inside && (x.abs() <= radius / 3 || y.abs() <= radius / 3),
    }
}

/// A shape on white as a BMP of 24 bits: rows from the bottom, blue first. `draw` moves and sizes it, no two alike below 504.
fn picture(shape: &str, [red, green, blue]: [u8; 3], draw: i64) -> Vec<u8> {
    let (radius, left, top) = (12 + draw * 5 % 7, 20 + draw * 3 % 8, 19 + draw * 2 % 9);
    let mut file = b"BM".to_vec();
    for field in [
        54 + 3 * SIDE * SIDE,
        0,
        54,
        40,
        SIDE,
        SIDE,
        1 | 24 << 16,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        file.extend((field as u32).to_le_bytes());
    }
    for y in (0..SIDE).rev() {
        for x in 0..SIDE {
            let covered = covers(shape, radius, x - left, y - top);
            file.extend(if covered { [blue, green, red] } else { [255; 3] });
        }
    }
    file
}

/// Writes one row for each kind and each drawing: text, picture in base64, kind.
fn table(path: &Path, draws: std::ops::Range<i64>) {
    let mut rows = String::new();
    for draw in draws {
        for (colour, rgb) in COLOURS {
            for shape in SHAPES {
                let cell = STANDARD.encode(picture(shape, rgb, draw));
                rows += &format!("a {colour} {shape}\t{cell}\t{colour}-{shape}\n");
            }
        }
    }
    fs::write(path, rows).unwrap();
}

/// Runs the command and gives what it printed.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_custom_backbone"))
        .args(arguments)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {messages}");
    String::from_utf8(output.stdout).unwrap()
}

fn run_json(arguments: &[&str]) -> Value {
    serde_json::from_str(&run(arguments)).unwrap()
}

const COLUMNS: [&str; 4] = ["--schema", "text:str:1,image:str:1,kind:str:1", "--item-column", "kind"];

const COMPUTING: [&str; 4] = ["--device", "cpu", "--threads", "1"];

/// Mean recall of texts to pictures and of pictures to texts, in percent.
fn recalls(model: &str, valid: &str) -> [f64; 2] {
    let arguments = ["evaluate", "--model", model, "--table", valid, "--json"];
    let result = run_json(&[&arguments[..], &COLUMNS, &COMPUTING].concat());
    ["text_to_image", "image_to_text"].map(|direction| {
        let figures = &result[direction];
        assert_eq!((&figures["queries"], &figures["gallery"]), (&json!(32), &json!(32)));
        let [r1, r5, r10, mrr] = ["r@1", "r@5", "r@10", "mrr"].map(|name| figures[name].as_f64().unwrap());
        assert!(0.0 <= r1 && r1 <= r5 && r5 <= r10 && r10 <= 100.0, "{figures}");
        assert!(0.0 < mrr && mrr <= 1.0, "{figures}");
        figures["mean_recall"].as_f64().unwrap()
    })
}

/// A folder of the test's own, in cargo's target folder.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("custom_backbone");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A ConvNeXt and a small text transformer of CLIP's kind, every weight fresh.
fn create(directory: &Path) {
    let mut zoo = clipzoo::zoo().unwrap();
    zoo.image::<ConvNext>().unwrap();
    let config = json!({
        "embed_dim": 64,
        "vision_config": { "model_type": "convnext_example", "image_size": 64, "layer_scale_init": 0.1 },
        "text_config": {
            "model_type": "clip_text_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 16,
        },
        "tokenizer": { "type": "clip_bpe" },
    });
    clipzoo::create(directory, &config, &zoo, 0).unwrap();
}

#[test]
fn a_fresh_model_with_it_learns_shapes_and_colours() {
    let folder = folder();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [start, train, valid, output] = ["start", "train.tsv", "valid.tsv", "run"].map(path);
    table(Path::new(&train), 0..12);
    table(Path::new(&valid), 12..13);
    create(Path::new(&start));
    // A right answer among 32 by chance: (1 + 5 + 10) / 32 / 3 = 16.7 percent.
    let chance = 100.0 * (1.0 + 5.0 + 10.0) / 32.0 / 3.0;
    let before = recalls(&start, &valid);

    let files = [
        "train", "--model", &start, "--train", &train, "--valid", &valid, "--output", &output,
    ];
    let settings = "--epochs 1 --batch-size 16 --lr 1e-3 --warmup-steps 8 --schedule constant --weight-decay 0.05";
    let settings: Vec<&str> = settings.split_whitespace().collect();
    run(&[&files, &settings[..], &COLUMNS, &COMPUTING].concat());

    // The loss of a pair among 16 is ln 16 = 2.8 where nothing is told apart.
    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let losses: Vec<f64> = metrics
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64())
        .collect();
    assert_eq!(losses.len(), 12 * 32 / 16);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..4]), mean(&losses[losses.len() - 4..]));
    assert!(last < 0.8 * first, "{losses:?}");

    // What was saved is a model of this backbone, and opens again.
    let best = path("run/best");
    let inspected = run_json(&["inspect", &best, "--json"]);
    assert_eq!(inspected["family"], "clipzoo");
    assert_eq!(inspected["config"]["vision_config"]["model_type"], "convnext_example");
    let tensors = inspected["tensors"].as_array().unwrap();
    let shape = |name: &str| &tensors.iter().find(|tensor| tensor["name"] == name).unwrap()["shape"];
    assert_eq!(shape("image.downsample_layers.0.0.weight"), &json!([16, 3, 4, 4]));
    assert_eq!(shape("image.stages.2.1.dwconv.weight"), &json!([64, 1, 7, 7]));
    assert_eq!(shape("image.stages.3.0.gamma"), &json!([128]));
    let of_the_tower = |tensor: &&Value| tensor["name"].as_str().unwrap().starts_with("image.");
    assert_eq!(tensors.iter().filter(of_the_tower).count(), 63);

    let after = recalls(&best, &valid);
    println!(
        "mean recall of {chance:.1} by chance: {before:.1?} before, {after:.1?} after; loss {first:.2} to {last:.2}"
    );
    for (before, after) in before.into_iter().zip(after) {
        assert!(after > 2.0 * chance && after > before, "{before} before, {after} after");
    }

    // The command without the backbone says what it lacks.
    let error = clipzoo::open(&best).err().unwrap().to_string();
    assert!(
        error.contains("convnext_example") && error.contains("efficientnet_lite0"),
        "{error}"
    );
}

#[test]
fn the_command_knows_it() {
    let known = run_json(&["models", "--json"]);
    let known = known["image_backbones"].as_array().unwrap();
    assert!(
        known.contains(&json!("convnext_example")) && known.contains(&json!("clip_vision_model")),
        "{known:?}"
    );
}
