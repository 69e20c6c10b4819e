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

#[test]
fn every_setting_stands_in_run_toml() {
    let folder = set_up("");
    folder.run(&line("plain", "--epochs 1")).json();
    let plain: toml::Table = folder.text("plain/run.toml").parse().unwrap();
    for (name, value) in [
        ("cooldown_steps", "0"),
        ("cooldown_power", "1.0"),
        ("ema", "0.0"),
        ("layer_decay", "1.0"),
        ("patch_dropout", "0.0"),
        ("batch_by_share", "0.5"),
    ] {
        assert_eq!(plain[name].to_string(), value, "{name}");
    }
    let layers = |settings: &toml::Table| ["image", "text"].map(|tower| settings["lock_layers"][tower].as_integer());
    assert_eq!(layers(&plain), [Some(0); 2]);

    let flags = "--epochs 1 --lock-image-layers 1 --lock-text-layers 1 --layer-decay 0.75 --patch-dropout 0.5 --ema 0.9 \
                 --schedule constant --cooldown-steps 2";
    folder.run(&line("run", flags)).json();
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(layers(&settings), [Some(1); 2]);
    assert_eq!(settings["patch_dropout"].as_float(), Some(0.5));
    let steps = folder.lines("run/metrics.jsonl");
    let rates: Vec<f64> = steps.iter().filter_map(|step| step["lr"].as_f64()).collect();
    assert_eq!(rates, [0.01, 0.01, 0.01, 0.005]);
    let mut names = changed(&folder, "model", "run/last");
    names.retain(|name| name.starts_with("image.") || name.starts_with("text."));
    names.sort();
    // What follows the last block learns.
    let behind = [
        "image.post_norm.bias",
        "image.post_norm.weight",
        "text.pooler.bias",
        "text.pooler.weight",
    ];
    assert_eq!(names, behind);
}

#[test]
fn whole_batches_come_of_one_category() {
    // Rows of one product are left out of each other's softmax, so that a batch of one product has no loss at all.
    let folder = set_up("[objectives.info_nce]\nsame_item = \"mask\"");
    let rows: String = (0..32)
        .map(|row| format!("{}\tcategory{}\n", table(row..row + 1).trim_end(), row % 4))
        .collect();
    folder.write("train.tsv", rows);
    let losses = |output: &str, rest: &str| -> Vec<f64> {
        let columns = "--schema text:str:1,image:str:1,category:str:1 --item-column category";
        let command = format!(
            "train --model model --train train.tsv {columns} --config settings.toml --output {output} --batch-size 8 \
             --epochs 1 --lr 0 --threads 1 --device cpu {rest}"
        );
        folder.run(&command).ok();
        let steps = folder.lines(&format!("{output}/metrics.jsonl"));
        steps.iter().map(|step| step["loss"].as_f64().unwrap()).collect()
    };
    assert!(losses("mixed", "").iter().all(|loss| *loss > 0.1));
    let pure = losses("pure", "--batch-by category --batch-by-share 1");
    assert!(pure.len() == 4 && pure.iter().all(|loss| loss.abs() < 1e-6), "{pure:?}");
    let half = losses("half", "--batch-by item");
    assert_eq!(half.iter().filter(|loss| loss.abs() < 1e-6).count(), 2, "{half:?}");

    let set = "--schema text:str:1,image:str:1 --model model --train train.tsv";
    for (flags, word) in [
        ("--batch-by category --unique-by category", "batch_by and unique_by"),
        ("--batch-by category --shuffle false", "shuffle is false"),
        ("--batch-by category --batch-by-share 2", "batch_by_share"),
        ("--cooldown-steps 3", "cooldown_steps"),
        ("--ema 1", "ema"),
        ("--patch-dropout -0.5", "patch_dropout"),
        ("--layer-decay 0", "layer_decay"),
    ] {
        let message = folder.run(&format!("train {set} --output none {flags}")).misused();
        assert!(message.contains(word), "{message}");
    }
    folder.write("train.tsv", table(0..32));
    let message = folder.run(&line("none", "--batch-by nowhere")).failed();
    assert!(message.contains("nowhere"), "{message}");
    assert!(!folder.path("none").exists(), "what is refused leaves nothing");
}

#[test]
fn a_pairs_weight_is_how_often_it_counts() {
    let folder = set_up("");
    let loss = |output: &str, weights: [u32; 4]| -> f64 {
        let rows: String = (0..4)
            .map(|row| format!("{}\t{}\n", table(row..row + 1).trim_end(), weights[row]))
            .collect();
        folder.write("train.tsv", rows);
        let columns = "--schema text:str:1,image:str:1,heft:str:1 --weight-column heft";
        let command = format!(
            "train --model model --train train.tsv {columns} --output {output} --batch-size 4 --epochs 1 --threads 1 \
             --device cpu"
        );
        folder.run(&command).ok();
        let steps = folder.lines(&format!("{output}/metrics.jsonl"));
        steps[0]["loss"].as_f64().unwrap()
    };
    let even = loss("even", [1; 4]);
    assert!((loss("doubled", [2; 4]) - even).abs() < 1e-6);
    let heavy: Vec<f64> = (0..4)
        .map(|row| {
            let mut weights = [1; 4];
            weights[row] = 3;
            loss(&format!("heavy{row}"), weights)
        })
        .collect();
    // (4 · even + 2 · alone) / 6 each, and the four alone have the mean `even`.
    let mean = heavy.iter().sum::<f64>() / 4.0;
    assert!((mean - even).abs() < 1e-5, "{heavy:?} and {even}");
    assert!(
        heavy.iter().any(|loss| (loss - even).abs() > 1e-3),
        "{heavy:?} and {even}"
    );
}
