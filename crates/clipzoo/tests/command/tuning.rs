//! `train`: what of a model is trained, and how fast.

use super::support::{Folder, SCHEMA, floats, small_model, table};

fn set_up(settings: &str) -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("train.tsv", table(0..32));
    folder.write("valid.tsv", table(100..112));
    folder.write("settings.toml", settings);
    folder
}

fn line(output: &str, rest: &str) -> String {
    format!(
        "train --model model --train train.tsv --valid valid.tsv {SCHEMA} --output {output} --batch-size 8 --lr 0.01 \
         --seed 7 --threads 1 --device cpu --json {rest}"
    )
}

/// The weights of a model directory that differ between two, by name.
fn changed(folder: &Folder, one: &str, two: &str) -> Vec<String> {
    let [one, two] = [one, two].map(|model| folder.read(&format!("{model}/model.safetensors")));
    let names = safetensors::SafeTensors::deserialize(&one)
        .unwrap()
        .names()
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let differs = |name: &String| floats(&one, name) != floats(&two, name);
    names.into_iter().filter(differs).collect()
}

#[test]
fn adapters_are_merged_into_an_ordinary_model() {
    let folder = set_up("lora = { rank = 2, targets = [\"qkv\"] }");
    let said = folder.run(&line("run", "--config settings.toml --epochs 2")).json();
    assert_eq!(said["step"], 8);
    assert_eq!(folder.names("run/last"), folder.names("model"));
    let mut names = changed(&folder, "model", "run/last");
    names.retain(|name| name.starts_with("image.") || name.starts_with("text."));
    names.sort();
    assert_eq!(
        names,
        [
            "image.blocks.0.attention.qkv.weight",
            "text.blocks.0.attention.qkv.weight"
        ]
    );
    let newest = folder.names("run/checkpoints").pop().unwrap();
    let mut kept = changed(&folder, "model", &format!("run/checkpoints/{newest}/model"));
    kept.retain(|name| name.starts_with("image.") || name.starts_with("text."));
    assert!(kept.is_empty(), "{kept:?}");
    // It goes on with its adapters.
    let said = folder
        .run("train --output run --resume --epochs 3 --threads 1 --device cpu --json")
        .json();
    assert_eq!(said["done"], 4);
}

#[test]
fn an_adapter_of_no_layer_lists_the_layers() {
    let folder = set_up("lora = { targets = [\"query\"] }");
    let message = folder.run(&line("run", "--config settings.toml")).failed();
    assert!(
        message.contains("`query`") && message.contains("fc1, fc2, out"),
        "{message}"
    );
    folder.write("settings.toml", "lora = { rank = 0 }");
    let message = folder.run(&line("run", "--config settings.toml")).failed();
    assert!(message.contains("lora.rank"), "{message}");
    folder.write("settings.toml", "lora = { ranks = 3 }");
    let message = folder.run(&line("run", "--config settings.toml")).failed();
    assert!(message.contains("did you mean `rank`"), "{message}");
}
