//! `train` with the feature queue: what weight 0 changes, and that kills at any moment lose nothing of it.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clipzoo::clip_core::serde_json::Value;

use crate::support::{Folder, small_model, table};

/// A queue smaller than an epoch, so that it turns over, and every objective that looks at it.
const SETTINGS: &str = "batch_size = 8
epochs = 10
lr = 3e-3
seed = 7
checkpoint_every = 4
keep = 2

[data]
schema = \"text:str:1,image:str:1,concept:str:1,item:str:1\"
concept_column = \"concept\"
item_column = \"item\"

[queue]
capacity = 21
min_features = 2
max_concepts = 6

[objectives.info_nce]
label_smoothing = 0.2

[objectives.nearest_neighbour]
weight = 0.2

[objectives.concept_prototypes]
concept_text = 0.3
pair_image = 0.2
pair_prototype = 0.1
names = 3
bank_every = 3
bank_names = 2
";

/// 30 pairs of 15 products, each with one or two of eight concepts.
fn set_up(settings: &str) -> Folder {
    let folder = Folder::new();
    small_model(&folder, "model");
    let rows: String = (0..30)
        .map(|row| {
            let pair = table(row..row + 1);
            let (one, other) = (row % 5, 5 + row % 3);
            format!("{}\tkind {one}|kind {other}\tsku{}\n", pair.trim_end(), row % 15)
        })
        .collect();
    folder.write("train.tsv", rows);
    folder.write("run.toml", settings);
    folder
}

fn line(output: &str) -> String {
    format!(
        "train --model model --train train.tsv --config run.toml --output {output} --threads 1 --workers 1 --device cpu"
    )
}

/// All lines of a run's metrics, each number to the bit.
fn metrics(folder: &Folder, run: &str) -> Vec<Value> {
    folder.lines(&format!("{run}/metrics.jsonl"))
}

#[test]
fn objectives_of_weight_0_are_the_run_without_them() {
    let folder = set_up(SETTINGS);
    let only = SETTINGS.split("[objectives.nearest_neighbour]").next().unwrap();
    folder.write("run.toml", only);
    folder.run(&line("without")).ok();
    let off = SETTINGS
        .replace("weight = 0.2", "weight = 0.0")
        .replace("concept_text = 0.3", "weight = 0.0\nconcept_text = 0.3");
    folder.write("run.toml", off);
    folder.run(&line("off")).ok();
    assert_eq!(metrics(&folder, "off"), metrics(&folder, "without"));
    let name = "last/model.safetensors";
    assert!(folder.read(&format!("off/{name}")) == folder.read(&format!("without/{name}")));
    folder.write("run.toml", SETTINGS);
    folder.run(&line("on")).ok();
    assert_ne!(metrics(&folder, "on"), metrics(&folder, "off"));
    let last = metrics(&folder, "on").pop().unwrap();
    for term in [
        "info_nce",
        "nearest_neighbour",
        "concept_text",
        "pair_image",
        "pair_prototype",
    ] {
        assert!(last[term].as_f64().is_some_and(f64::is_finite), "{term} in {last}");
    }
    assert_eq!(last["queue"], 1.0);
}

/// The newest checkpoint's files, apart from the settings in its state.
fn checkpoint(folder: &Folder, run: &str) -> Vec<(String, Vec<u8>)> {
    let newest = folder
        .names(&format!("{run}/checkpoints"))
        .into_iter()
        .max_by_key(|name| name.rsplit('_').next().and_then(|step| step.parse::<u64>().ok()))
        .unwrap();
    let files = [
        "optimizer.safetensors",
        "queue.safetensors",
        "concepts.safetensors",
        "model/model.safetensors",
    ];
    files
        .map(|file| {
            (
                file.to_owned(),
                folder.read(&format!("{run}/checkpoints/{newest}/{file}")),
            )
        })
        .into()
}

#[test]
fn kills_at_twenty_moments_lose_nothing() {
    let folder = set_up(SETTINGS);
    folder.run(&line("whole")).ok();
    let (whole, files) = (metrics(&folder, "whole"), checkpoint(&folder, "whole"));
    assert_eq!(whole.len(), 40);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed of the moments: {seed}");
    let mut draw = u64::from(seed);
    let (mut kills, mut runs) = (0, 0);
    while kills < 20 || runs == 0 {
        let run = format!("killed{runs}");
        let mut child = folder
            .command(&format!("{} --resume", line(&run)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        draw = draw
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        if kills < 20 {
            sleep(Duration::from_millis((draw >> 33) % 900));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                continue;
            }
        }
        assert!(child.wait().unwrap().success(), "seed {seed}, after {kills} kills");
        assert_eq!(metrics(&folder, &run), whole, "seed {seed}, after {kills} kills");
        for ((name, killed), (_, whole)) in checkpoint(&folder, &run).iter().zip(&files) {
            assert!(killed == whole, "seed {seed}, after {kills} kills: {name} differs");
        }
        runs += 1;
    }
}

#[test]
fn inspect_shows_what_the_queue_holds_and_changes_nothing() {
    // The run keeps no names of concepts, so that they come out of the table.
    let settings = SETTINGS.split("[objectives.concept_prototypes]").next().unwrap();
    let folder = set_up(&settings.replace("epochs = 10", "epochs = 2"));
    folder.run(&line("run")).ok();
    let before = folder.names("run");
    let said = folder.run("inspect run --queue --top 2 --json").json();
    assert_eq!(said["step"], 8);
    assert_eq!((&said["filled"], &said["capacity"]), (&21.into(), &21.into()));
    // Batches of 8, 8, 8 and 6 an epoch: the last 21 pairs came in the last three steps.
    assert_eq!(said["oldest_steps"], 2);
    let (most, fewest) = (said["most"].as_array().unwrap(), said["fewest"].as_array().unwrap());
    assert_eq!((most.len(), fewest.len()), (2, 2));
    let titles: Vec<String> = folder
        .text("train.tsv")
        .lines()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect();
    let mut features = Vec::new();
    for concept in most.iter().chain(fewest.iter().rev()) {
        assert!(concept["name"].as_str().unwrap().starts_with("kind "), "{concept}");
        features.push(concept["features"].as_u64().unwrap());
        for of in ["image_prototype", "text_prototype"] {
            let near = &concept[of];
            for kind in ["texts", "concepts"] {
                let cosines: Vec<f64> = near[kind]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|one| one["cosine"].as_f64().unwrap())
                    .collect();
                assert!(
                    cosines.len() == 3 && cosines.is_sorted_by(|one, other| one >= other),
                    "{near}"
                );
            }
            let title = near["texts"][0]["title"].as_str().unwrap();
            assert!(titles.iter().any(|other| other == title), "{title}");
            assert!(near["concepts"][0]["name"].as_str().unwrap().starts_with("kind "));
        }
        // A concept's own texts' prototype is nearest to itself.
        assert_eq!(concept["text_prototype"]["concepts"][0]["id"], concept["id"]);
    }
    assert!(
        features.is_sorted_by(|one, other| one >= other) && features[3] >= 2,
        "{features:?}"
    );
    // More features are asked for than the rarest concepts have: those are shown, without a prototype.
    let needed = features[0];
    folder.write(
        "run.toml",
        settings
            .replace("epochs = 10", "epochs = 2")
            .replace("min_features = 2", &format!("min_features = {needed}")),
    );
    folder.run(&line("choosy")).ok();
    let choosy = folder.run("inspect choosy --queue --top 2 --json").json();
    assert!(
        choosy["live_concepts"].as_u64() < choosy["concepts"].as_u64(),
        "{choosy}"
    );
    let rare = &choosy["fewest"][0];
    assert!(
        rare["features"].as_u64().unwrap() < needed && rare["name"].is_string(),
        "{rare}"
    );
    assert!(
        rare["image_prototype"].is_null() && rare["text_prototype"].is_null(),
        "{rare}"
    );
    assert!(choosy["most"][0]["text_prototype"].is_object());
    let text = folder.run("inspect choosy --queue --top 2").ok();
    assert!(
        text.contains(&format!("have a prototype (at least {needed} features)")),
        "{text}"
    );
    let name = most[0]["name"].as_str().unwrap();
    let text = folder.run("inspect run --queue").ok();
    assert!(
        text.contains("queue       21 of 21 pairs (100.0 %) after step 8"),
        "{text}"
    );
    assert!(text.contains(&format!("       {}  {name}\n", features[0])), "{text}");
    // Without its table the run's queue is still shown.
    std::fs::remove_file(folder.path("train.tsv")).unwrap();
    let bare = folder.run("inspect run --queue --top 2 --json").json();
    assert_eq!(bare["most"][0]["id"], most[0]["id"]);
    assert!(bare["most"][0]["name"].is_null());
    assert_eq!(folder.names("run"), before);
    let message = folder.run("inspect model --queue").failed();
    assert!(message.contains("no checkpoint of a run here"), "{message}");
}

#[test]
fn a_queue_turned_on_in_mid_run_starts_empty() {
    let folder = set_up(SETTINGS);
    let (only, _) = SETTINGS.split_once("[objectives.nearest_neighbour]").unwrap();
    folder.write("run.toml", only.replace("epochs = 10", "epochs = 2"));
    folder.run(&line("run")).ok();
    folder.write("run.toml", SETTINGS);
    let said = folder.run(&format!("{} --resume", line("run"))).ok();
    assert!(said.is_empty() || !said.contains("error"), "{said}");
    let lines = metrics(&folder, "run");
    assert_eq!(lines.len(), 40);
    assert!(lines[7].get("queue").is_none() && lines[8]["queue"].as_f64().is_some());
    assert!(lines[39]["concept_text"].as_f64().is_some());
}
