//! Features of locked towers that are computed once and kept.

use std::fs;
use std::path::{Path, PathBuf};

use clip_train::{Augmentation, Existing, RunConfig};

use crate::setting::{Setting, locked};
use crate::tiny::model;

fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for tower in fs::read_dir(folder).unwrap() {
        files.extend(
            fs::read_dir(tower.unwrap().path())
                .unwrap()
                .map(|file| file.unwrap().path()),
        );
    }
    files.sort();
    files
}

fn weights_rows(file: &Path) -> i64 {
    let bytes = fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor("features").unwrap().shape()[0] as i64
}

#[test]
fn kept_features_are_those_of_the_tower_and_are_shared() {
    let setting = Setting::new();
    let mut kept = locked();
    kept.augmentation.views = 1;
    let mut anew = kept.clone();
    anew.cache.enabled = false;
    anew.augmentation = Augmentation::default();
    kept.cache.directory = Some(setting.path("shared"));
    setting.run("kept", &kept, Existing::Refuse, model(0.0)).0.unwrap();
    setting.run("anew", &anew, Existing::Refuse, model(0.0)).0.unwrap();
    let (kept_lines, anew_lines) = (setting.metrics("kept"), setting.metrics("anew"));
    assert_eq!(kept_lines.len(), 15);
    for (a, b) in kept_lines.iter().zip(&anew_lines) {
        if let (Some(a), Some(b)) = (a["loss"].as_f64(), b["loss"].as_f64()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
    // The same pictures and texts again, in another run with another seed: nothing is computed. A run that reads the
    // files a row at a time has the same numbers.
    let files = shards(&setting.path("shared"));
    assert_eq!(files.len(), 2, "{files:?}");
    let before = files
        .iter()
        .map(|file| fs::metadata(file).unwrap().modified().unwrap())
        .collect::<Vec<_>>();
    let mut again = kept.clone();
    again.cache.memory = 0;
    setting.run("again", &again, Existing::Refuse, model(0.0)).0.unwrap();
    assert!(setting.outcome("again") == setting.outcome("kept"));
    assert_eq!(shards(&setting.path("shared")), files);
    let after = files
        .iter()
        .map(|file| fs::metadata(file).unwrap().modified().unwrap())
        .collect::<Vec<_>>();
    assert_eq!(before, after);
    // Other weights are another tower.
    let other = model(0.0);
    {
        let _guard = clip_nn::tch::no_grad_guard();
        let weight = other
            .parameters()
            .iter()
            .find(|parameter| parameter.name == "image.weight")
            .unwrap();
        let _ = weight.tensor.shallow_clone().g_add_scalar_(0.5);
    }
    setting.run("other", &kept, Existing::Refuse, other).0.unwrap();
    assert_eq!(shards(&setting.path("shared")).len(), 3);
}

#[test]
fn names_of_concepts_stand_in_for_texts_and_are_kept_as_well() {
    let setting = Setting::new();
    let mut plain = locked();
    plain.augmentation = Augmentation::default();
    let mut kept = plain.clone();
    kept.data.caption_share = 0.5;
    let error = setting
        .run("nothing", &kept, Existing::Refuse, model(0.0))
        .0
        .unwrap_err();
    assert!(error.to_string().contains("--concept-column"), "{error}");
    kept.data.concept_column = Some("tags".into());
    kept.concepts.template = "a {} thing".into();
    let mut anew = kept.clone();
    anew.cache.enabled = false;
    for (name, config) in [("plain", &plain), ("kept", &kept), ("anew", &anew)] {
        setting.run(name, config, Existing::Refuse, model(0.0)).0.unwrap();
    }
    let losses = |name| -> Vec<f64> {
        setting
            .metrics(name)
            .iter()
            .filter_map(|line| line["loss"].as_f64())
            .collect()
    };
    let (plain, kept, anew) = (losses("plain"), losses("kept"), losses("anew"));
    assert_eq!(kept.len(), 12);
    assert!(
        kept.iter().zip(&anew).all(|(a, b)| (a - b).abs() < 1e-4),
        "{kept:?} {anew:?}"
    );
    assert!((kept[0] - plain[0]).abs() > 1e-3);
    assert!(RunConfig::from_toml("[data]\ncaption_share = 1.5", "run.toml").is_err());
}

#[test]
fn kept_features_do_not_depend_on_the_threads() {
    let mut setting = Setting::new();
    let mut config = locked();
    config.cache.batch_size = 4;
    let mut files = Vec::new();
    for threads in [1, 3] {
        setting.threads = threads;
        let name = threads.to_string();
        setting.run(&name, &config, Existing::Refuse, model(0.0)).0.unwrap();
        let shards = shards(&setting.path(&name).join("cache"));
        let named = shards.into_iter().map(|file| {
            let bytes = fs::read(&file).unwrap();
            (file.file_name().unwrap().to_owned(), bytes)
        });
        files.push(named.collect::<Vec<_>>());
    }
    assert!(files[0] == files[1] && files[0].len() == 2);
}

#[test]
fn views_are_kept_too_and_a_broken_file_is_made_again() {
    let setting = Setting::new();
    setting.run("one", &locked(), Existing::Refuse, model(0.0)).0.unwrap();
    let files = shards(&setting.path("one/cache"));
    assert_eq!(files.len(), 2);
    let rows = |file: &Path| weights_rows(file);
    // 23 pictures in 3 views; the 9 of the valid table are among them. Texts: 23.
    let mut counts: Vec<i64> = files.iter().map(|file| rows(file)).collect();
    counts.sort_unstable();
    assert_eq!(counts, [23, 69]);
    let wanted = setting.outcome("one");
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        let at = bytes.len() - 9;
        bytes[at] ^= 0x40;
        fs::write(file, bytes).unwrap();
    }
    let mut config = locked();
    config.cache.directory = Some(setting.path("one/cache"));
    let (trained, told) = setting.run("two", &config, Existing::Refuse, model(0.0));
    trained.unwrap();
    assert_eq!(
        told.lines().iter().filter(|line| line.contains("is broken")).count(),
        2,
        "{:?}",
        told.lines()
    );
    assert!(setting.outcome("two")[0] == wanted[0]);
}
