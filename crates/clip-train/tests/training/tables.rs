//! Runs from tables: loading, kept features, bad rows.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use clip_data::{ClipTransform, Columns, Decoder, Table, TableOptions, TransformConfig};
use clip_nn::DualEncoder;
use clip_nn::clip_core::{PairTable, Result, TokenBatch, Tokenizer, Vocabulary};
use clip_nn::tch::Kind;
use clip_train::{
    Augmentation, BadRows, Every, Existing, Job, Reading, RunConfig, RunDir, TextAugmentation, Trained, train,
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use crate::tiny::{Told, Writer, fresh, model, open, weights, zoo};

/// A word is one of 19 ids, by its letters.
struct Words;

impl Tokenizer for Words {
    fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let id = |word: &str| 1 + word.bytes().map(u32::from).sum::<u32>() % 19;
        let rows: Vec<Vec<u32>> = texts
            .iter()
            .map(|text| text.split_whitespace().take(5).map(id).collect())
            .collect();
        Ok(rows.iter().map(Vec::as_slice).collect())
    }

    fn context_length(&self) -> usize {
        5
    }

    fn vocabulary(&self) -> Vocabulary {
        Vocabulary {
            size: 20,
            mask: None,
            special: Vec::new(),
        }
    }
}

/// A BMP of 8 x 8 pixels whose colours depend on `row`.
fn picture(row: u32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend((54u32 + 192).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54u32.to_le_bytes());
    bytes.extend([40u32, 8, 8].map(u32::to_le_bytes).concat());
    bytes.extend([1u16, 24].map(u16::to_le_bytes).concat());
    bytes.extend([0u32, 192, 2835, 2835, 0, 0].map(u32::to_le_bytes).concat());
    bytes.extend((0..192u32).map(|at| ((at / 24 + 3 * (at % 3)) * (row * 7 + 1) % 251) as u8));
    bytes
}

/// `rows` pairs, every third picture a file beside the table; `bad` rows hold no picture.
fn table(folder: &Path, name: &str, rows: u32, bad: &[u32]) -> Arc<dyn PairTable> {
    let mut text = String::from("id\ttext\timage\titem\ttags\n");
    for row in 0..rows {
        let cell = if bad.contains(&row) {
            base64::engine::general_purpose::STANDARD.encode("no picture at all")
        } else if row % 3 == 0 {
            fs::write(folder.join(format!("{row}.bmp")), picture(row)).unwrap();
            format!("{row}.bmp")
        } else {
            base64::engine::general_purpose::STANDARD.encode(picture(row))
        };
        text += &format!(
            "k{row}\tword{row} thing{} of{}\t{cell}\ti{}\t{}\n",
            row % 5,
            row % 7,
            row / 2,
            ["", "blue|soft", "long red", "soft"][row as usize % 4],
        );
    }
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    let options = TableOptions {
        header: Some(true),
        columns: Columns {
            item: Some("item".into()),
            concept: Some("tags".into()),
            id: Some("id".into()),
            ..Columns::default()
        },
        ..TableOptions::default()
    };
    Arc::new(Table::open(&path, options).unwrap())
}

pub(crate) struct Setting {
    root: tempfile::TempDir,
    bad: Vec<u32>,
    workers: usize,
    threads: i32,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            bad: Vec::new(),
            workers: 2,
            threads: 1,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn run(
        &self,
        name: &str,
        config: &RunConfig,
        existing: Existing,
        fresh: DualEncoder,
    ) -> (Result<Trained>, Told) {
        let told = Told::default();
        let run = RunDir::open(self.path(name), existing).unwrap();
        let job = Job {
            concepts: None,
            model: run.checkpoint().map_or(fresh, |checkpoint| open(&checkpoint.model())),
            writer: Box::new(Writer),
            reading: Reading {
                decoder: Arc::new(Decoder::default()),
                transform: Arc::new(ClipTransform::new(TransformConfig::open_clip(4)).unwrap()),
                tokenizer: Arc::new(Words),
                workers: self.workers,
            },
            train: table(self.root.path(), "train.tsv", 23, &self.bad),
            valid: Some(table(self.root.path(), "valid.tsv", 9, &[])),
            config: config.clone(),
            observers: vec![Box::new(told.clone())],
            run,
        };
        clip_nn::tch::set_num_threads(self.threads);
        let trained = train(job, &zoo());
        assert_eq!(clip_nn::tch::get_num_threads(), self.threads);
        (trained, told)
    }

    pub(crate) fn metrics(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn outcome(&self, name: &str) -> [Vec<u8>; 2] {
        ["metrics.jsonl", "last/model.safetensors"].map(|file| fs::read(self.path(name).join(file)).unwrap())
    }
}

fn config() -> RunConfig {
    RunConfig {
        epochs: 3,
        batch_size: 6,
        lr: 0.02,
        augmentation: Augmentation {
            flip: 0.5,
            rotate: 10.0,
            scale: [0.7, 1.0],
            colour: 0.2,
            ..Augmentation::default()
        },
        ..RunConfig::default()
    }
}

fn locked() -> RunConfig {
    RunConfig {
        lock: vec!["image".into(), "text".into()],
        augmentation: Augmentation {
            views: 3,
            ..config().augmentation
        },
        ..config()
    }
}

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
            keep: 100,
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
fn soft_targets_follow_the_queue_once_it_has_prototypes() {
    let setting = Setting::new();
    let mut config = locked();
    config.data.concept_column = Some("tags".into());
    config.queue.min_features = 2;
    for (name, share) in [("even", 0.0), ("soft", 1.0)] {
        let text = format!("[objectives.info_nce]\nlabel_smoothing = 0.5\nsoft_tau = 0.05\nsoft_targets = {share:?}");
        config.objectives = RunConfig::from_toml(&text, "run.toml").unwrap().objectives;
        setting.run(name, &config, Existing::Refuse, model(0.0)).0.unwrap();
    }
    let losses = |name| -> Vec<f64> {
        let lines = setting.metrics(name);
        lines.iter().filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (even, soft) = (losses("even"), losses("soft"));
    // The queue stands empty before the first batch.
    assert_eq!(even[0], soft[0]);
    assert!(
        even[1..].iter().zip(&soft[1..]).all(|(a, b)| (a - b).abs() > 1e-5),
        "{even:?} {soft:?}"
    );
}

/// Features of 23 rows, pictures' and texts' alike, that say which third of the table a row is in.
fn teacher(path: &Path) {
    let row = |row: usize| [0, 1, 2].map(|third| f32::from(third == row / 8));
    let bytes: Vec<u8> = (0..23).flat_map(row).flat_map(f32::to_le_bytes).collect();
    let view = || TensorView::new(Dtype::F32, vec![23, 3], &bytes).unwrap();
    let arrays = [("image_features", view()), ("text_features", view())];
    fs::write(path, safetensors::serialize(arrays, None).unwrap()).unwrap();
}

#[test]
fn a_teacher_is_learnt_from() {
    let setting = Setting::new();
    teacher(&setting.path("teacher.safetensors"));
    let text = "[objectives.distill]\ndim = 3\n[objectives.info_nce]\nweight = 0.0\n[teacher]\nscale = 20.0";
    let mut config = RunConfig {
        objectives: RunConfig::from_toml(text, "run.toml").unwrap().objectives,
        teacher: RunConfig::from_toml(text, "run.toml").unwrap().teacher,
        epochs: 12,
        ..locked()
    };
    let error = setting
        .run("none", &config, Existing::Refuse, model(0.0))
        .0
        .unwrap_err()
        .to_string();
    assert!(error.contains("[teacher]"), "{error}");
    config.teacher.features = Some(setting.path("teacher.safetensors"));
    setting.run("taught", &config, Existing::Refuse, model(0.0)).0.unwrap();
    let steps: Vec<Value> = setting
        .metrics("taught")
        .into_iter()
        .filter(|line| line.get("loss").is_some())
        .collect();
    let of = |line: &Value, name: &str| line[name].as_f64().unwrap();
    let (first, last) = (&steps[0], steps.last().unwrap());
    for name in ["distill_features", "distill_logits"] {
        assert!(of(last, name) < 0.9 * of(first, name), "{name}: {first} {last}");
    }
    assert!((of(first, "loss") - of(first, "distill_features") - of(first, "distill_logits")).abs() < 1e-6);
    assert!(first.get("info_nce").is_none());
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

fn weights_rows(file: &Path) -> i64 {
    let bytes = fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor("features").unwrap().shape()[0] as i64
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
