//! Runs from tables: workers, resumption, bad rows, statistics of projections.

use std::fs;

use clip_nn::clip_core::Tokenizer;
use clip_nn::tch::Kind;
use clip_train::{BadRows, Every, Existing, RunConfig, TextAugmentation};
use serde_json::{Value, json};

use crate::setting::{Setting, Words, config, locked, table};
use crate::tiny::{fresh, model, weights};

#[test]
fn the_numbers_do_not_depend_on_the_workers() {
    let mut setting = Setting::new();
    let mut outcomes = Vec::new();
    for (name, workers, config) in [
        ("one", 1, config()),
        ("five", 5, config()),
        ("locked_one", 1, locked()),
        ("locked_five", 5, locked()),
    ] {
        setting.workers = workers;
        let (trained, _) = setting.run(name, &config, Existing::Refuse, model(0.1));
        let trained = trained.unwrap();
        assert_eq!((trained.summary.step, trained.rejects), (12, None));
        outcomes.push(setting.outcome(name));
    }
    assert!(outcomes[0] == outcomes[1]);
    assert!(outcomes[2] == outcomes[3]);
}

#[test]
fn a_stopped_run_goes_on_to_the_bit() {
    let setting = Setting::new();
    for (name, config) in [("free", config()), ("locked", locked())] {
        let config = RunConfig {
            checkpoint_every: Every::Steps(1),
            keep: clip_train::Keep::All,
            ..config
        };
        setting.run(name, &config, Existing::Refuse, model(0.2)).0.unwrap();
        let wanted = setting.outcome(name);
        for step in [10, 8, 5, 2] {
            let checkpoints = setting.path(name).join("checkpoints");
            (step + 1..=12).for_each(|later| fs::remove_dir_all(checkpoints.join(format!("step_{later}"))).unwrap());
            let (trained, _) = setting.run(name, &config, Existing::Resume, model(0.2));
            assert_eq!(trained.unwrap().summary.done, 12 - step);
            assert!(setting.outcome(name) == wanted, "{name} from {step}");
        }
    }
}

#[test]
fn bad_rows_stop_the_run_or_are_listed() {
    let mut setting = Setting::new();
    setting.bad = vec![4, 22];
    for (name, config) in [("free", config()), ("locked", locked())] {
        let (stopped, _) = setting.run(&format!("{name}_stop"), &config, Existing::Refuse, model(0.0));
        let error = stopped.unwrap_err().to_string();
        assert!(
            error.contains("train.tsv, row 6") || error.contains("train.tsv, row 24"),
            "{error}"
        );
        let mut config = config;
        config.data.bad_rows = BadRows::Skip;
        let (trained, _) = setting.run(name, &config, Existing::Refuse, model(0.0));
        let trained = trained.unwrap();
        // Each of three epochs meets both.
        assert_eq!(trained.summary.refused, 6, "{name}");
        assert_eq!(trained.rejects, Some(setting.path(&format!("{name}.rejects.jsonl"))));
        let list = fs::read_to_string(trained.rejects.unwrap()).unwrap();
        let mut rows: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.sort_by_key(|row| row["row"].as_u64());
        assert_eq!(
            rows.iter().map(|row| row["row"].as_u64().unwrap()).collect::<Vec<_>>(),
            [6, 24]
        );
        for row in &rows {
            let reason = row["reason"].as_str().unwrap();
            assert!(!reason.contains("before training"), "{reason}");
        }
        let pairs: u64 = setting
            .metrics(name)
            .iter()
            .filter_map(|line| line["pairs"].as_u64())
            .sum();
        assert_eq!(pairs, 3 * 21);
    }
}

#[test]
fn a_table_without_a_batch_is_no_training() {
    let mut setting = Setting::new();
    setting.bad = (0..23).collect();
    let mut config = config();
    config.data.bad_rows = BadRows::Skip;
    let (trained, _) = setting.run("bad", &config, Existing::Refuse, model(0.0));
    let error = trained.unwrap_err().to_string();
    assert!(error.contains("no batch to train on: 23 rows were refused"), "{error}");
    let list = fs::read_to_string(setting.path("bad.rejects.jsonl")).unwrap();
    assert_eq!(list.lines().count(), 23);
    setting.bad = Vec::new();
    config.batch_size = 24;
    config.drop_last = true;
    let (trained, _) = setting.run("few", &config, Existing::Refuse, model(0.0));
    let error = trained.unwrap_err().to_string();
    assert!(error.contains("smaller --batch-size"), "{error}");
    // Neither leaves a model that looks trained.
    assert!(!setting.path("bad/last").exists() && !setting.path("few/last").exists());
}

#[test]
fn values_with_too_few_rows_for_a_batch_are_told() {
    let setting = Setting::new();
    let told = |batch_by_share: f64| {
        let config = RunConfig {
            batch_by: Some("tags".into()),
            batch_by_share,
            epochs: 1,
            ..config()
        };
        let (trained, told) = setting.run(&format!("run_{batch_by_share}"), &config, Existing::Refuse, model(0.0));
        trained.unwrap();
        told.lines().join("\n")
    };
    let note = "batches of one `tags` that are asked for in an epoch can be made";
    let lines = told(1.0);
    assert!(lines.contains(note), "{lines}");
    let lines = told(0.25);
    assert!(!lines.contains(note), "{lines}");
}

#[test]
fn a_stopped_run_keeps_its_list_and_adds_to_it() {
    let mut setting = Setting::new();
    setting.bad = vec![2, 22];
    let mut config = config();
    config.data.bad_rows = BadRows::Skip;
    config.shuffle = false;
    let list = setting.path("run.rejects.jsonl");
    let listed = || -> Vec<u64> {
        let text = fs::read_to_string(&list).unwrap();
        let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.map(|row| row["row"].as_u64().unwrap()).collect()
    };
    // The first batch holds one bad row, the last of an epoch the other.
    setting.stop_at = Some(1);
    let (stopped, _) = setting.run("run", &config, Existing::Refuse, model(0.0));
    assert!(stopped.unwrap_err().to_string().starts_with("stopped behind step 1"));
    assert_eq!(listed(), [4]);
    setting.stop_at = Some(9);
    let (stopped, _) = setting.run("run", &config, Existing::Resume, model(0.0));
    assert!(stopped.is_err());
    assert_eq!(listed(), [4, 24]);
    // Nothing is left of the epoch that could meet the first again.
    setting.stop_at = None;
    let (trained, _) = setting.run("run", &config, Existing::Resume, model(0.0));
    assert_eq!(trained.unwrap().rejects.as_ref(), Some(&list));
    assert_eq!(listed(), [4, 24]);
}

#[test]
fn a_projection_that_standardises_takes_its_statistics_from_the_training_pairs() {
    let setting = Setting::new();
    let make = || {
        fresh(json!({
            "embed_dim": 5,
            "image_projection": { "type": "mlp", "hidden": 8, "dropout": 0.1, "standardise": true },
            "text_projection": { "type": "mlp", "hidden": 8, "standardise": true },
            "vision_config": { "model_type": "tiny_image" },
            "text_config": { "model_type": "tiny_text" },
        }))
    };
    let mut config = locked();
    config.checkpoint_every = Every::Steps(5);
    let (trained, told) = setting.run("run", &config, Existing::Refuse, make());
    trained.unwrap();
    assert_eq!(
        told.lines()
            .iter()
            .filter(|line| line.contains("standardises by"))
            .count(),
        2
    );
    let kept = weights(&setting.path("run/last/model.safetensors"));
    assert!(kept["image_projection.mean"].abs().sum(Kind::Float).double_value(&[]) > 0.01);
    // Mean and deviation of the words' vectors, over the table's texts.
    let tower = make();
    let texts = table(setting.root.path(), "train.tsv", 23, &[]);
    let mut rows = Vec::new();
    for row in 0..23 {
        let pair = texts.get(row).unwrap();
        let batch = Words.encode(&[&*pair.texts[0]]).unwrap();
        let tokens = clip_nn::pad(&batch, 0, clip_nn::tch::Device::Cpu).unwrap();
        let input = clip_nn::TextInput::Tokens(tokens);
        rows.push(
            tower
                .encode_texts(&input, clip_nn::Pass::INFER)
                .unwrap()
                .pooled
                .detach(),
        );
    }
    let rows = clip_nn::tch::Tensor::cat(&rows, 0);
    let mean = rows.mean_dim(0, false, Kind::Float);
    let scale = rows.std_dim(&[0i64][..], false, false);
    assert!((&kept["text_projection.mean"] - mean).abs().max().double_value(&[]) < 1e-5);
    assert!((&kept["text_projection.scale"] - scale).abs().max().double_value(&[]) < 1e-5);
    // A run that goes on keeps them.
    let more = RunConfig { epochs: 4, ..config };
    let (trained, told) = setting.run("run", &more, Existing::Resume, make());
    assert_eq!(trained.unwrap().summary.done, 4);
    assert!(
        !told.lines().iter().any(|line| line.contains("standardises by")),
        "{:?}",
        told.lines()
    );
    let after = weights(&setting.path("run/last/model.safetensors"));
    assert!(after["text_projection.mean"].equal(&kept["text_projection.mean"]));
}

#[test]
fn a_text_that_comes_again_is_changed_but_for_kept_features() {
    let mut setting = Setting::new();
    let mut run = |name: &str, changed: bool, lock: &[&str], cache: bool, workers: usize| {
        let mut config = RunConfig {
            lock: lock.iter().map(|&name| name.to_owned()).collect(),
            objectives: [("multi_view".to_owned(), serde_json::Map::new())].into(),
            // Dropped words, since swapped ones change nothing for a tower that takes their mean.
            text_augmentation: TextAugmentation {
                swap: 0.0,
                drop: if changed { 0.5 } else { 0.0 },
                synonyms: None,
            },
            ..config()
        };
        config.cache.enabled = cache;
        setting.workers = workers;
        let (trained, told) = setting.run(name, &config, Existing::Refuse, model(0.0));
        trained.unwrap();
        let note = told
            .lines()
            .iter()
            .any(|line| line.contains("comes again in another view"));
        (setting.outcome(name), note)
    };
    let (changed, note) = run("changed", true, &[], true, 1);
    assert!(!note);
    assert!(run("five", true, &[], true, 5).0 == changed);
    assert!(run("plain", false, &[], true, 1).0 != changed);
    let (kept, note) = run("kept", true, &["text"], true, 1);
    assert!(note);
    assert!(run("kept_plain", false, &["text"], true, 1).0 == kept);
    let (encoded, note) = run("encoded", true, &["text"], false, 1);
    assert!(!note && encoded != kept);
}
