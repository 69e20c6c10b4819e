//! `average`, and `train --average-init`.

use clipzoo::clip_core::serde_json::Value;

use super::support::{Folder, SCHEMA, small_model, table};

fn set_up() -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("train.tsv", table(0..48));
    folder.write("valid.tsv", table(0..24));
    folder
}

const TRAIN: &str = "train --model model --train train.tsv --schema text:str:1,image:str:1 --output run --batch-size 8 \
                     --epochs 40 --lr 0.01 --threads 1 --device cpu";

#[test]
fn a_run_ends_with_a_sweep_and_the_average() {
    let folder = set_up();
    let flags = format!("{TRAIN} --valid valid.tsv --average-init 0.4");
    let said = folder.run(&format!("{flags} --json")).json();
    let written: Value = super::support::parse(&folder.text("run/average.json"));
    assert_eq!(said["averaged"], written);
    let sweep = written["sweep"].as_array().unwrap();
    let shares: Vec<f64> = sweep.iter().map(|at| at["alpha"].as_f64().unwrap()).collect();
    assert_eq!(shares, [0.0, 0.25, 0.4, 0.5, 0.75, 1.0]);
    // The ends are the two models, as `evaluate` finds them, and the average is between.
    for (at, model) in [(0, "model"), (2, "run/averaged"), (5, "run/last")] {
        let line = format!("evaluate --model {model} --table valid.tsv {SCHEMA} --json --threads 1");
        let found = folder.run(&line).json();
        for direction in ["text_to_image", "image_to_text"] {
            let figure = sweep[at][&format!("valid_mrr_{direction}")].as_f64().unwrap();
            assert!(
                (figure - found[direction]["mrr"].as_f64().unwrap()).abs() < 1e-6,
                "{model}"
            );
        }
    }
    assert_ne!(sweep[0]["valid_mrr_text_to_image"], sweep[5]["valid_mrr_text_to_image"]);
    folder.run("average model run/last --alpha 0.4 --output again").ok();
    let weights = |model: &str| folder.read(&format!("{model}/model.safetensors"));
    assert!(weights("again") == weights("run/averaged") && weights("again") != weights("run/last"));
    assert_eq!(folder.names("again"), folder.names("model"));
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["average_init"].as_float(), Some(0.4));
    // A run that was killed between its last checkpoint and the average gets it when it is resumed.
    let before = weights("run/averaged");
    std::fs::remove_dir_all(folder.path("run/averaged")).unwrap();
    folder.run(&format!("{flags} --resume")).ok();
    assert!(weights("run/averaged") == before);
    let said = folder.run(&format!("{flags} --resume --json")).json();
    assert!(said["averaged"].is_null());
    // So does one that was killed in the sweep behind further epochs: the average there is that of an earlier step.
    let mut earlier = written.clone();
    earlier["step"] = (written["step"].as_u64().unwrap() / 2).into();
    folder.write("run/average.json", earlier.to_string());
    let said = folder.run(&format!("{flags} --resume --json")).json();
    assert_eq!(said["averaged"], written);
    // Another share is another average.
    let other = flags.replace("--average-init 0.4", "--average-init 0.8");
    let said = folder.run(&format!("{other} --resume --json")).json();
    assert_eq!(said["averaged"]["alpha"], 0.8);
    assert!(weights("run/averaged") != before);
}

#[test]
fn without_pairs_to_evaluate_on_only_the_model_is_written() {
    let folder = set_up();
    let said = folder.run(&format!("{TRAIN} --average-init 0.5 --json")).json();
    assert_eq!(said["averaged"]["sweep"].as_array().unwrap().len(), 0);
    folder.run("inspect run/averaged").ok();
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let folder = set_up();
    small_model(&folder, "other");
    let config = folder.text("other/config.json");
    let changed = config.replace("\"num_attention_heads\": 2", "\"num_attention_heads\": 4");
    assert_ne!(changed, config);
    folder.write("other/config.json", changed);
    let message = folder.run("average model other --output out").failed();
    assert!(
        message.contains("model and other are not two states of one model"),
        "{message}"
    );
    assert!(
        message.contains("config `vision_config.num_attention_heads` is 2 and 4"),
        "{message}"
    );
    assert!(!folder.path("out").exists());
    assert!(
        folder
            .run("average model model --alpha 2 --output out")
            .misused()
            .contains("--alpha 2")
    );
    folder.write("used/file", "");
    assert!(
        folder
            .run("average model model --output used")
            .misused()
            .contains("not empty")
    );
    let towers = TRAIN.replace("--model model", "--image-tower model --text-tower model");
    let message = folder.run(&format!("{towers} --average-init 0.5")).misused();
    assert!(
        message.contains("average_init") && message.contains("two towers"),
        "{message}"
    );
    assert!(!folder.path("run/run.toml").exists());
}

#[test]
fn another_layout_than_the_models_own_is_told() {
    let folder = Folder::new();
    folder.fixture("models/hf_clip_tiny", "m");
    let ended = folder.run("average m m --output same");
    assert!(!ended.stderr.contains("layout"), "{}", ended.stderr);
    ended.ok();
    // Hugging Face's processors have no word for a picture that is made to fit and padded.
    folder.write(
        "m/preprocessor_config.json",
        r#"{"preprocess_cfg": {"size": 32, "resize_mode": "longest"}}"#,
    );
    let ended = folder.run("average m m --output other");
    let said =
        "the layout hf-clip cannot express this model's config and transform: it is written in the layout clipzoo";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    ended.ok();
}
