//! The command with the family in it: models of the layout are opened, trained, written and listed as any other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clipzoo::clip_core::serde_json::{self, Value, json};
use clipzoo::clip_format::WeightsFile;

/// Runs the command and gives what it printed.
fn run(arguments: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_custom_family"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

fn run_json(arguments: &str) -> Value {
    serde_json::from_str(&run(arguments).unwrap()).unwrap()
}

/// A folder of the test's own, in cargo's target folder.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("custom_family").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A new model of CLIP's kind in the project's own layout.
fn create(directory: &Path) {
    let tower = json!({
        "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_act": "gelu",
    });
    let mut config =
        json!({ "embed_dim": 16, "vision_config": tower, "text_config": tower, "tokenizer": { "type": "clip_bpe" } });
    config["vision_config"]["model_type"] = "clip_vision_model".into();
    config["vision_config"]["image_size"] = 16.into();
    config["vision_config"]["patch_size"] = 8.into();
    config["text_config"]["model_type"] = "clip_text_model".into();
    config["text_config"]["max_position_embeddings"] = 16.into();
    clipzoo::create(directory, &config, &clipzoo::zoo().unwrap(), 3).unwrap();
}

/// A file's tensors, sorted by name.
fn tensors(file: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let file = WeightsFile::open(file).unwrap();
    let view = |name: &str| file.tensors.view(name).unwrap().unwrap();
    let names = file.tensors.names().into_iter();
    let mut tensors: Vec<_> = names
        .map(|name| (name.to_owned(), view(name).shape, view(name).data.into_owned()))
        .collect();
    tensors.sort();
    tensors
}

#[test]
fn a_model_goes_there_trains_and_comes_back() {
    let folder = folder("there");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    create(Path::new(&at("own")));
    let converted = run_json(&format!(
        "convert --model {} --to loupe --output {} --json",
        at("own"),
        at("loupe")
    ));
    assert_eq!(
        (&converted["from"], &converted["to"]),
        (&json!("clipzoo"), &json!("loupe"))
    );
    let config: Value = serde_json::from_str(&fs::read_to_string(at("loupe/config.json")).unwrap()).unwrap();
    assert_eq!((&config["loupe"], &config["title"]["longest"]), (&json!(1), &json!(16)));
    assert!(folder.join("loupe/vocab.txt").is_file());
    let theirs = tensors(&folder.join("loupe/model.safetensors"));
    let shape = |name: &str| {
        theirs
            .iter()
            .find(|tensor| tensor.0 == name)
            .map(|tensor| tensor.1.clone())
    };
    assert_eq!(shape("temperature"), Some(vec![1]));
    assert_eq!(shape("picture/space"), Some(vec![32, 16]));
    assert_eq!(shape("title/1/value.bias"), Some(vec![32]));

    // There and back it is the same to the bit, and in either layout it gives the same features.
    run(&format!(
        "convert --model {} --to clipzoo --output {}",
        at("loupe"),
        at("back")
    ))
    .unwrap();
    assert!(tensors(&folder.join("back/model.safetensors")) == tensors(&folder.join("own/model.safetensors")));
    fs::write(at("titles.txt"), "red shoe\nblue bag with a long strap\n").unwrap();
    let features = |model: &str| {
        let output = at(&format!("{model}.npy"));
        let titles = at("titles.txt");
        run(&format!(
            "predict --model {} --texts {titles} --output {output} --device cpu",
            at(model)
        ))
        .unwrap();
        fs::read(output).unwrap()
    };
    assert!(features("own") == features("loupe"));

    // What is trained from such a model is one.
    let picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";
    fs::write(at("pairs.tsv"), format!("red shoe\t{picture}\nblue bag\t{picture}\n")).unwrap();
    run(&format!(
        "train --model {} --train {} --output {} --epochs 1 --batch-size 2 --device cpu --threads 1",
        at("loupe"),
        at("pairs.tsv"),
        at("run")
    ))
    .unwrap();
    let inspected = run_json(&format!("inspect {} --json", at("run/best")));
    assert_eq!(inspected["family"], "loupe");
    assert_eq!(tensors(&folder.join("run/best/model.safetensors")).len(), theirs.len());
}

#[test]
fn the_command_knows_it() {
    let known = run_json("models --json");
    let known = known["layouts"].as_array().unwrap();
    let loupe = known.iter().find(|family| family["name"] == "loupe").unwrap();
    assert_eq!(loupe["mark"], "a config with `loupe`");
    let folder = folder("errors");
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    create(Path::new(&at("own")));
    // A family is known to its own command alone, and a layout that nobody has is told.
    let error = run(&format!(
        "convert --model {} --to magnifier --output {}",
        at("own"),
        at("x")
    ))
    .unwrap_err();
    assert!(error.contains("no such layout") && error.contains("loupe"), "{error}");
    run(&format!(
        "convert --model {} --to loupe --output {}",
        at("own"),
        at("loupe")
    ))
    .unwrap();
    let error = clipzoo::open(at("loupe")).err().unwrap().to_string();
    assert!(error.contains("config.json fits no known family"), "{error}");
}
