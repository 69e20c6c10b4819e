//! `train`: what a run leaves, how it resumes, and that a killed run loses nothing.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clipzoo::clip_core::serde_json::Value;

use super::support::{Folder, SCHEMA, base64, small_model, table};

fn set_up() -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    folder.write("train.tsv", table(0..48));
    folder.write("valid.tsv", table(100..112));
    folder
}

fn line(output: &str, rest: &str) -> String {
    format!(
        "train --model model --train train.tsv --valid valid.tsv {SCHEMA} --output {output} --batch-size 8 --lr 0.003 \
         --warmup-steps 4 --seed 7 --threads 1 --device cpu {rest}"
    )
}

/// Steps and evaluations of a run.
fn metrics(folder: &Folder, run: &str) -> (Vec<Value>, Vec<Value>) {
    let lines = folder.lines(&format!("{run}/metrics.jsonl"));
    assert!(lines.iter().all(|line| line["step"].is_u64()));
    lines.into_iter().partition(|line| line.get("loss").is_some())
}

#[test]
fn two_epochs_leave_models_metrics_and_settings() {
    let folder = set_up();
    let before = folder.names("model");
    let said = folder.run(&line("run", "--epochs 2 --json")).json();
    assert_eq!(said["step"], 12);
    let (steps, evaluations) = metrics(&folder, "run");
    assert_eq!(steps.len(), 12);
    for (number, step) in (1..).zip(&steps) {
        assert_eq!(step["step"], number);
        assert!(step["loss"].as_f64().unwrap().is_finite());
    }
    assert_eq!(
        evaluations.iter().map(|line| &line["step"]).collect::<Vec<_>>(),
        [6, 12]
    );
    for line in &evaluations {
        assert!(line.as_object().unwrap().keys().any(|key| key.starts_with("valid_")));
    }

    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["epochs"].as_integer(), Some(2));
    assert_eq!(settings["seed"].as_integer(), Some(7));

    for model in ["best", "last"] {
        assert_eq!(folder.names(&format!("run/{model}")), before, "{model}");
        let said = folder.run(&format!("inspect run/{model} --json")).json();
        assert_eq!(said["family"], "clipzoo");
    }
    // The last model, evaluated, is what the run measured at its end.
    let said = folder
        .run(&format!(
            "evaluate --model run/last --table valid.tsv {SCHEMA} --json --threads 1"
        ))
        .json();
    for direction in ["text_to_image", "image_to_text"] {
        let measured = evaluations[1][&format!("valid_mrr_{direction}")].as_f64().unwrap();
        let again = said[direction]["mrr"].as_f64().unwrap();
        assert!((measured - again).abs() < 1e-6, "{direction}: {measured} and {again}");
    }
    assert!(
        folder.names("run").iter().any(|name| name.contains("tfevents")) || folder.path("run/tensorboard").exists()
    );
}

#[test]
fn a_folder_with_something_in_it_is_wrong_usage() {
    let folder = set_up();
    folder.write("run/notes.txt", "mine");
    let message = folder.run(&line("run", "--epochs 1")).misused();
    assert!(message.contains("run") && message.contains("--resume"), "{message}");
    assert_eq!(folder.names("run"), ["notes.txt"]);
}

#[test]
fn a_finished_run_resumes_to_nothing_and_an_unborn_one_starts() {
    let folder = set_up();
    let said = folder.run(&line("run", "--epochs 1 --resume"));
    assert!(
        said.stderr.contains("anew") || said.stderr.contains("nothing to resume"),
        "{}",
        said.stderr
    );
    said.ok();
    let before = folder.read("run/metrics.jsonl");
    assert_eq!(metrics(&folder, "run").0.len(), 6);
    let again = folder.run(&line("run", "--epochs 1 --resume --json")).json();
    assert_eq!((&again["step"], &again["done"]), (&6.into(), &0.into()));
    assert_eq!(folder.read("run/metrics.jsonl"), before);
    // What a run wrote down is enough to go on with it.
    folder.run("train --config run/run.toml --output run --resume").ok();
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_happened() {
    let folder = set_up();
    let settings = "--epochs 40 --checkpoint-every 25";
    folder.run(&line("whole", settings)).ok();

    let mut child = folder
        .command(&line("killed", settings))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let path = folder.path("killed/metrics.jsonl");
    let start = Instant::now();
    let count = || std::fs::read(&path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
    while count() < 70 {
        assert!(start.elapsed() < Duration::from_secs(100), "the run does not get on");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let reached = count();
    assert!(reached < 240, "the run was over before it was killed");

    let said = folder
        .run(&line("killed", &format!("{settings} --resume --json")))
        .json();
    assert_eq!(said["step"], 240);
    assert!(said["done"].as_u64().unwrap() < 240, "it began anew");
    let ((whole, judged), (killed, judged_again)) = (metrics(&folder, "whole"), metrics(&folder, "killed"));
    let losses = |steps: &[Value]| -> Vec<_> {
        let bits = |step: &Value| (step["step"].as_u64(), step["loss"].as_f64().map(f64::to_bits));
        steps.iter().map(bits).collect()
    };
    assert_eq!(losses(&killed), losses(&whole));
    assert_eq!(whole.len(), 240);
    let figure = |lines: &[Value]| -> Vec<_> {
        let one = |line: &Value| (line["step"].clone(), line["valid_mean_recall"].clone());
        lines.iter().map(one).collect()
    };
    assert_eq!(figure(&judged_again), figure(&judged));
    for model in ["last", "best"] {
        let name = format!("{model}/model.safetensors");
        let (a, b) = (format!("whole/{name}"), format!("killed/{name}"));
        assert!(folder.read(&a) == folder.read(&b), "{model} differs");
    }
}

#[test]
fn a_broken_checkpoint_is_passed_over_for_the_one_before() {
    let folder = set_up();
    let settings = "--epochs 4 --checkpoint-every 6";
    folder.run(&line("whole", settings)).ok();
    folder.run(&line("run", settings)).ok();
    // As if the machine had gone down in the last steps: the newest checkpoint is cut, and no model was written after it.
    let newest = folder.names("run/checkpoints").pop().unwrap();
    for name in folder.names(&format!("run/checkpoints/{newest}")) {
        let path = format!("run/checkpoints/{newest}/{name}");
        if folder.path(&path).is_file() {
            let bytes = folder.read(&path);
            folder.write(&path, &bytes[..bytes.len() / 2]);
        }
    }
    let said = folder.run(&line("run", &format!("{settings} --resume --json"))).json();
    assert_eq!((&said["step"], &said["done"]), (&24.into(), &6.into()));
    let losses = |run: &str| -> Vec<Value> {
        metrics(&folder, run)
            .0
            .iter()
            .map(|step| step["loss"].clone())
            .collect()
    };
    assert_eq!(losses("run"), losses("whole"));
}

#[test]
fn a_bad_row_stops_the_run_or_is_listed() {
    let folder = set_up();
    let mut lines: Vec<String> = table(0..16).lines().map(str::to_owned).collect();
    lines[9] = format!("red shoe 0 0\t{}", base64(b"not a picture at all"));
    folder.write("train.tsv", lines.join("\n"));
    let message = folder.run(&line("run", "--epochs 1 --shuffle false")).failed();
    assert_eq!(
        message,
        "train.tsv, row 10, column `image`: this is no JPEG, PNG, WebP, GIF or BMP picture; convert it to one of these \
         formats, or leave the row out"
    );
    let said = folder.run(&line("other", "--epochs 1 --bad-rows skip --json")).json();
    assert_eq!(said["refused"], 1);
    let list = folder.lines("other.rejects.jsonl");
    assert_eq!((list.len(), &list[0]["row"]), (1, &10.into()));
    assert_eq!(list[0]["column"], "image");
}

#[test]
fn a_run_goes_on_with_its_own_settings() {
    let folder = set_up();
    folder.run(&line("run", "--epochs 1 --json")).json();
    // Nothing is said again but what changes.
    let said = folder
        .run("train --output run --resume --epochs 2 --threads 1 --device cpu --json")
        .json();
    assert_eq!(said["step"], 12);
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["seed"].as_integer(), Some(7));
    assert_eq!(settings["batch_size"].as_integer(), Some(8));
    // The threads it had, whatever the machine has; what is written how often changes no number.
    let ended =
        folder.run("train --output run --resume --set max_steps=15 --epochs 3 --device cpu --log-every 2 --workers 3");
    for key in ["`epochs` was 2", "`max_steps` was nothing"] {
        assert!(ended.stderr.contains(key), "{}", ended.stderr);
    }
    for key in ["environment", "log_every"] {
        assert!(!ended.stderr.contains(key), "{}", ended.stderr);
    }
    ended.ok();
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["environment"]["threads"].as_integer(), Some(1));
}

#[test]
fn a_run_that_is_not_there_and_one_that_is_no_model_are_told() {
    let folder = set_up();
    let message = folder.run("train --output typo --resume --device cpu").misused();
    assert_eq!(
        message,
        "typo: there is no run to go on with; check --output, or leave --resume out and name the pairs with --train"
    );
    assert!(!folder.path("typo").exists());
    folder.run(&line("run", "--epochs 1")).ok();
    let message = folder.run("inspect run").failed();
    assert_eq!(
        message,
        "run: this is a training run, not a model; name the model in it, run/best or run/last; `clipzoo inspect RUN --queue` \
         shows its feature queue"
    );
    let checkpoint = format!("run/checkpoints/{}", folder.names("run/checkpoints")[0]);
    let message = folder.run(&format!("inspect {checkpoint}")).failed();
    assert!(
        message.ends_with(&format!("name the model in it, {checkpoint}/model")),
        "{message}"
    );
    let message = folder.run("inspect openai/clip-vit-base-patch32").failed();
    assert!(
        message.ends_with("a model on a hub is named hf:openai/clip-vit-base-patch32"),
        "{message}"
    );
    folder.write("t.txt", "red shoe\n");
    folder
        .run("predict --model run/last --texts t.txt --output f.safetensors")
        .ok();
    let message = folder.run("inspect f.safetensors").failed();
    assert!(message.contains("this is a file of features, not a model"), "{message}");
    let message = folder.run(&line("other", "--epochs 1 --set lora=4")).misused();
    assert!(message.contains("--set lora.rank=8"), "{message}");
}

#[test]
fn unique_by_item_is_the_product_whatever_its_column() {
    let folder = set_up();
    let table: String = (0..12)
        .map(|row| format!("{}\tsku{}\n", table(row..row + 1).trim_end(), row % 6))
        .collect();
    folder.write("train.tsv", table);
    let columns = "--schema text:str:1,image:str:1,sku:str:1 --item-column sku";
    let said = folder
        .run(&format!(
            "train --model model --train train.tsv {columns} --unique-by item --output run --batch-size 6 --epochs 1 \
             --threads 1 --device cpu --json"
        ))
        .json();
    // Twelve rows of six products make two batches in which none comes twice.
    assert_eq!(said["step"], 2);
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["unique_by"].as_str(), Some("sku"));
}

#[test]
fn pairs_that_no_batch_holds_are_told() {
    let folder = set_up();
    let table: String = (0..12)
        .map(|row| format!("{}\tsku{}\n", table(row..row + 1).trim_end(), row.saturating_sub(8)))
        .collect();
    folder.write("train.tsv", table);
    let line = "train --model model --train train.tsv --schema text:str:1,image:str:1,sku:str:1 --unique-by sku --output run \
                --batch-size 2 --epochs 1 --threads 1 --device cpu";
    // Nine rows are of one product: three others find one of them each, and one makes a short batch.
    let ended = folder.run(line);
    let said = "an epoch has 7 of the 12 pairs: no batch of 2 holds a value of `sku` twice";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    ended.ok();
}

#[test]
fn a_run_that_diverges_fails_and_leaves_no_model() {
    let folder = set_up();
    let message = folder
        .run(&line("run", "--epochs 2").replace("--lr 0.003", "--lr 1e30"))
        .failed();
    assert!(message.contains("not finite") && message.contains("--lr"), "{message}");
    assert!(!folder.path("run/best").exists() && !folder.path("run/last").exists());
}

#[test]
fn the_type_that_a_flag_names_overrides_the_settings() {
    let folder = set_up();
    folder.run(&line("run", "--epochs 1 --set dtype=bf16 --dtype f32")).ok();
    let settings: toml::Table = folder.text("run/run.toml").parse().unwrap();
    assert_eq!(settings["dtype"].as_str(), Some("f32"));
}

#[test]
fn a_type_that_is_not_there_yet_is_refused() {
    let folder = set_up();
    let message = folder.run(&line("run", "--dtype int8")).misused();
    assert!(message.contains("int8"), "{message}");
}

#[test]
fn where_every_checkpoint_is_broken_nothing_is_overwritten() {
    let folder = set_up();
    folder.run(&line("run", "--epochs 1")).ok();
    for step in folder.names("run/checkpoints") {
        folder.write(&format!("run/checkpoints/{step}/optimizer.safetensors"), "cut");
    }
    let before = folder.read("run/best/model.safetensors");
    let message = folder.run(&line("run", "--epochs 2 --resume")).failed();
    assert!(message.contains("every checkpoint of the run is broken"), "{message}");
    assert_eq!(folder.read("run/best/model.safetensors"), before);
}

#[test]
fn flags_of_no_meaning_are_wrong_usage() {
    let folder = set_up();
    for (flags, word) in [
        ("--epochs 0", "epochs"),
        ("--epochs 1 --lr -1", "lr"),
        ("--epochs 1 --log-every 0", "log_every"),
    ] {
        let message = folder.run(&line("run", flags).replace("--lr 0.003", "")).misused();
        assert!(message.contains(word), "{message}");
    }
    // A column that is not there leaves nothing that the corrected command would stumble over.
    let message = folder.run(&line("run", "--epochs 1 --unique-by nowhere")).failed();
    assert!(message.contains("nowhere"), "{message}");
    folder.run(&line("run", "--epochs 1")).ok();
}

#[test]
fn a_start_that_failed_leaves_room_for_the_corrected_command() {
    let folder = set_up();
    let good = folder.read("train.tsv");
    folder.write("train.tsv", "red shoe 0 0\tnot-a-picture\n");
    // A locked tower's features are computed, and the run's files opened, before the row is met.
    for lock in ["", "--lock image"] {
        folder.run(&line("run", &format!("--epochs 1 {lock}"))).failed();
        assert!(!folder.path("run/run.toml").exists());
    }
    folder.write("train.tsv", &good);
    folder.run(&line("run", "--epochs 1")).ok();
    // A file that a user wrote there is no remains of a start.
    folder.write("mine/run.toml", "epochs = 1\n");
    let message = folder.run(&line("mine", "--config mine/run.toml")).misused();
    assert!(message.contains("not empty"), "{message}");
    assert_eq!(folder.text("mine/run.toml"), "epochs = 1\n");
}

#[test]
fn run_toml_says_all_and_is_enough_to_repeat_the_run() {
    let folder = set_up();
    folder.run(&line("run", "--epochs 1 --checkpoint-every epoch")).ok();
    let text = folder.text("run/run.toml");
    let settings: toml::Table = text.parse().unwrap();
    assert_eq!(settings["context_length"].as_integer(), Some(16));
    assert_eq!(settings["checkpoint_every"].as_str(), Some("epoch"));
    assert_eq!(settings["model"].as_str(), Some("model"));
    let environment = settings["environment"].as_table().unwrap();
    assert_eq!(environment["threads"].as_integer(), Some(1));
    assert!(environment["libtorch"].as_str().unwrap().contains('.'));
    let here = folder.path("").canonicalize().unwrap();
    assert_eq!(environment["directory"].as_str(), here.to_str());
    assert!(text.contains("\n# id_column: not set\n") && text.contains("\n# max_steps: not set\n"));
    folder
        .run("train --config run/run.toml --output again --threads 1 --device cpu")
        .ok();
    let models = ["run", "again"].map(|run| folder.read(&format!("{run}/last/model.safetensors")));
    assert!(models[0] == models[1]);
    assert_eq!(folder.text("again/run.toml"), text);
}

#[test]
fn patience_needs_something_to_wait_for() {
    let folder = set_up();
    let message = folder
        .run(&line("run", "--epochs 1 --patience 2").replace("--valid valid.tsv", ""))
        .misused();
    assert!(
        message.contains("--patience") && message.contains("--valid"),
        "{message}"
    );
    // At a rate of 0 only the first evaluation is a new best.
    let flags = line("run", "--epochs 9 --patience 2").replace("--lr 0.003", "--lr 0");
    let said = folder.run(&flags);
    assert!(
        said.stderr.contains("stopped after step 18, since 2 evaluations"),
        "{}",
        said.stderr
    );
    said.ok();
    let again = folder.run(&format!("{flags} --resume"));
    assert!(
        again.stderr.contains("the run is finished: stopped after step 18"),
        "{}",
        again.stderr
    );
    again.ok();
}
