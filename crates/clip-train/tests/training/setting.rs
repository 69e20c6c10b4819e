//! What runs from tables share: a tokenizer, pictures, a table, a run in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use clip_data::{ClipTransform, Columns, Decoder, Table, TableOptions, TransformConfig};
use clip_nn::DualEncoder;
use clip_nn::clip_core::{Observer, PairTable, Result, TokenBatch, Tokenizer, Vocabulary};
use clip_train::{Augmentation, Existing, Job, Reading, RunConfig, RunDir, Stop, Trained, train};
use serde_json::Value;

use crate::resume::AskAt;
use crate::tiny::{Told, Writer, open, zoo};

/// A word is one of 19 ids, by its letters.
pub(crate) struct Words;

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
pub(crate) fn table(folder: &Path, name: &str, rows: u32, bad: &[u32]) -> Arc<dyn PairTable> {
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
    pub(crate) root: tempfile::TempDir,
    pub(crate) bad: Vec<u32>,
    pub(crate) workers: usize,
    pub(crate) threads: i32,
    /// The step behind which runs are asked to stop.
    pub(crate) stop_at: Option<u64>,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            bad: Vec::new(),
            workers: 2,
            threads: 1,
            stop_at: None,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn run(
        &self,
        name: &str,
        config: &RunConfig,
        existing: Existing,
        fresh: DualEncoder,
    ) -> (Result<Trained>, Told) {
        let (told, stop) = (Told::default(), Stop::default());
        let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(told.clone())];
        if let Some(step) = self.stop_at {
            observers.push(Box::new(AskAt(step, stop.clone())));
        }
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
            observers,
            run,
            stop,
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

    pub(crate) fn outcome(&self, name: &str) -> [Vec<u8>; 2] {
        ["metrics.jsonl", "last/model.safetensors"].map(|file| fs::read(self.path(name).join(file)).unwrap())
    }
}

pub(crate) fn config() -> RunConfig {
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

pub(crate) fn locked() -> RunConfig {
    RunConfig {
        lock: vec!["image".into(), "text".into()],
        augmentation: Augmentation {
            views: 3,
            ..config().augmentation
        },
        ..config()
    }
}
