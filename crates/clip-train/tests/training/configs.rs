//! The settings in configs/: each can be read, and each trains.

use std::fs;
use std::path::{Path, PathBuf};

use clip_train::{Existing, RunConfig};
use serde_json::Value;

use crate::deep::deep;
use crate::setting::Setting;
use crate::tiny::zoo;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{files:?}");
    files
}

/// The settings on a small table and a small model: sizes and times are cut, everything else stays.
fn small(file: &Path) -> RunConfig {
    let mut config = RunConfig::load(file).unwrap().resolved(&zoo()).unwrap();
    config.batch_size = 6;
    config.micro_batch = config.micro_batch.min(4);
    config.max_steps = Some(20);
    config.queue.capacity = 64;
    config.queue.min_features = 2;
    config.warmup_steps = 2;
    for table in config.objectives.values_mut().filter(|table| table["start"] != 0) {
        table["start"] = 5.into();
    }
    config
}

#[test]
fn each_trains_with_every_term_it_names() {
    for file in files() {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let (setting, config) = (Setting::new(), small(&file));
        let (trained, _) = setting.run(name, &config, Existing::Refuse, deep(None));
        assert_eq!(trained.unwrap().summary.step, 20, "{name}");
        let metrics = setting.metrics(name);
        let last = metrics.iter().rfind(|line| line.get("loss").is_some()).unwrap();
        let terms: &[&str] = match name {
            "declip" => &["multi_view", "nearest_neighbour", "sim_siam", "masked_language"],
            _ => &["info_nce", "concept_text", "pair_image"],
        };
        for term in terms {
            assert!(
                last[term].as_f64().is_some_and(|value| value != 0.0),
                "{name}: {term} in {last}"
            );
        }
    }
}

#[test]
fn declips_weights_are_those_published() {
    let file = files().into_iter().find(|file| file.ends_with("declip.toml")).unwrap();
    let config = RunConfig::load(file).unwrap();
    let weight = |name: &str| config.objectives[name]["weight"].as_f64();
    let weights = ["multi_view", "nearest_neighbour", "sim_siam", "masked_language"].map(weight);
    assert_eq!(weights, [0.4, 0.2, 0.2, 0.2].map(Some));
    assert_eq!(config.objectives.len(), 4);
    assert_eq!(config.queue.capacity, 65_536);
    let share = |table: &Value| table["share"].as_f64();
    assert_eq!(
        share(&Value::Object(config.objectives["masked_language"].clone())),
        Some(0.15)
    );
}
