//! The objective in the whole command: a table of coloured squares, a fresh model, training by a run.toml that names it.
//!
//! It runs the program that `main.rs` makes, as its user would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clipzoo::clip_core::serde_json::{self, Value, json};

/// Side of a picture in pixels.
const SIDE: u32 = 32;

/// Colours of the upper and the lower half: 8 x 8 kinds of pictures.
const COLOURS: [(&str, [u8; 3]); 8] = [
    ("red", [220, 30, 30]),
    ("green", [30, 160, 50]),
    ("blue", [30, 60, 210]),
    ("yellow", [240, 220, 40]),
    ("purple", [140, 40, 160]),
    ("orange", [250, 140, 20]),
    ("black", [20, 20, 20]),
    ("white", [240, 240, 240]),
];

/// Two colours one above the other as a BMP of 24 bits: rows from the bottom, blue first.
fn picture(upper: [u8; 3], lower: [u8; 3]) -> Vec<u8> {
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
        file.extend(field.to_le_bytes());
    }
    for row in 0..SIDE {
        let [red, green, blue] = if row < SIDE / 2 { lower } else { upper };
        (0..SIDE).for_each(|_| file.extend([blue, green, red]));
    }
    file
}

fn table(path: &Path) {
    let mut rows = String::from("text\timage\n");
    for (upper, above) in COLOURS {
        for (lower, below) in COLOURS {
            let cell = STANDARD.encode(picture(above, below));
            rows += &format!("{upper} above {lower}\t{cell}\n");
        }
    }
    fs::write(path, rows).unwrap();
}

/// A folder of a test's own, in cargo's target folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("custom_objective")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn command(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_custom_objective"));
    command.current_dir(folder).args(arguments).output().unwrap()
}

/// Runs the command and gives what it printed.
fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {messages}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two small transformers of CLIP's kind, every weight fresh.
fn create(directory: &Path) {
    let config = json!({
        "embed_dim": 32,
        "vision_config": {
            "model_type": "clip_vision_model",
            "image_size": 32,
            "patch_size": 16,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        },
        "text_config": {
            "model_type": "clip_text_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 8,
        },
        "tokenizer": { "type": "clip_bpe" },
    });
    clipzoo::create(directory, &config, &clipzoo::zoo().unwrap(), 0).unwrap();
}

const TRAIN: &str = "train --model start --train table.tsv --valid table.tsv --header --output run --config run.toml \
                     --device cpu --threads 1";

#[test]
fn a_run_toml_turns_it_on() {
    let folder = folder("run");
    table(&folder.join("table.tsv"));
    create(&folder.join("start"));
    let config = "epochs = 15\nbatch_size = 32\nlr = 2e-3\nwarmup_steps = 5\n\n[objectives.info_nce]\n\n\
                  [objectives.hard_negative]\nweight = 0.5\nmargin = 0.3\n";
    fs::write(folder.join("run.toml"), config).unwrap();
    run(&folder, &TRAIN.split_whitespace().collect::<Vec<_>>());

    let metrics = fs::read_to_string(folder.join("run/metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |name: &str| lines.iter().filter_map(|line| line[name].as_f64()).collect::<Vec<_>>();
    let (loss, contrast, hinge) = (of("loss"), of("info_nce"), of("hard_negative"));
    assert_eq!((loss.len(), hinge.len()), (30, 30));
    for step in 0..30 {
        assert!((loss[step] - contrast[step] - 0.5 * hinge[step]).abs() < 1e-4);
    }
    let recall = of("valid_mean_recall");
    println!("hinge {:.2} to {:.2}, mean recall {recall:.1?}", hinge[0], hinge[29]);
    assert!(hinge[29] < 0.8 * hinge[0], "{hinge:?}");
    // A right answer among 64 by chance: (1 + 5 + 10) / 64 / 3 = 8.3 percent.
    assert!(recall[recall.len() - 1] > 50.0, "{recall:?}");

    // What was run stands in the run's own run.toml.
    let written = fs::read_to_string(folder.join("run/run.toml")).unwrap();
    assert!(
        written.contains("[objectives.hard_negative]") && written.contains("margin = 0.3"),
        "{written}"
    );
}

#[test]
fn the_command_knows_it_and_its_settings() {
    let folder = folder("settings");
    let known: Value = serde_json::from_str(&run(&folder, &["models", "--json"])).unwrap();
    let known = known["objectives"].as_array().unwrap();
    assert!(
        known.contains(&json!("hard_negative")) && known.contains(&json!("info_nce")),
        "{known:?}"
    );
    table(&folder.join("table.tsv"));
    create(&folder.join("start"));
    for (setting, word) in [("margin = 3", "margin"), ("margins = 0.1", "margins")] {
        fs::write(
            folder.join("run.toml"),
            format!("[objectives.hard_negative]\n{setting}\n"),
        )
        .unwrap();
        let output = command(&folder, &TRAIN.split_whitespace().collect::<Vec<_>>());
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(word), "{message}");
    }
}
