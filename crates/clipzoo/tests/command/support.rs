//! Runs the command in a folder of its own, and makes small models, pictures and tables for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clipzoo::clip_core::serde_json::{Value, json};
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// A folder that the command runs in, so that messages name files as a user typed them.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// JSON values, one a line.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(parse).collect()
    }

    /// What lies in a folder below, hidden files too, sorted. An empty name is the folder itself.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Copies a file or a folder of files out of the fixtures.
    pub(crate) fn fixture(&self, from: &str, to: &str) {
        let from = fixtures().join(from);
        if from.is_file() {
            return self.write(to, fs::read(from).unwrap());
        }
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            self.write(&format!("{to}/{name}"), fs::read(path).unwrap());
        }
    }

    /// The command with arguments, a word each, ready to be run here.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, line: &str) -> Ended {
        Ended::of(line, self.command(line).output().unwrap())
    }
}

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_clipzoo")
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

pub(crate) fn parse(text: &str) -> Value {
    clipzoo::clip_core::serde_json::from_str(text).unwrap()
}

/// What a run of the command left on its streams.
pub(crate) struct Ended {
    line: String,
    status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(line: &str, output: Output) -> Self {
        let ended = Self {
            line: line.to_owned(),
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!ended.stderr.contains("panicked"), "{line}: {}", ended.stderr);
        ended
    }

    /// It went well; gives stdout.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{}: {}", self.line, self.stderr);
        self.stdout
    }

    /// It went well and printed one JSON value.
    pub(crate) fn json(self) -> Value {
        parse(&self.ok())
    }

    /// It failed (status 1) with one message of one line, the last thing on stderr; gives the message.
    pub(crate) fn failed(self) -> String {
        self.message(1)
    }

    /// It was wrong usage (status 2) that the command itself found.
    pub(crate) fn misused(self) -> String {
        self.message(2)
    }

    /// It was wrong usage (status 2), found where flags are read; gives all of stderr.
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.status, Some(2), "{}: {}", self.line, self.stderr);
        self.stderr
    }

    fn message(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}: {}", self.line, self.stderr);
        let (before, message) = self.stderr.rsplit_once("error: ").unwrap();
        assert!(before.is_empty() || before.ends_with('\n'), "{}", self.stderr);
        assert!(!before.contains("error"), "{}", self.stderr);
        assert_eq!(message.lines().count(), 1, "{}", self.stderr);
        message.trim_end().to_owned()
    }
}

/// The words of the small model's vocabulary.
pub(crate) const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "green", "blue", "shoe", "bag", "0", "1", "2", "3", "4", "5",
];

/// A new model with a BERT tower over [`WORDS`] and 16 x 16 pictures.
pub(crate) fn small_model(folder: &Folder, name: &str) {
    let config = json!({
        "embed_dim": 8,
        "vision_config": {
            "model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, "hidden_size": 16,
            "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        },
        "text_config": {
            "model_type": "bert", "vocab_size": WORDS.len(), "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 16,
        },
        "tokenizer": { "type": "word_piece" },
    });
    clipzoo::create(folder.path(name), &config, &clipzoo::zoo().unwrap(), 5).unwrap();
    folder.write(&format!("{name}/vocab.txt"), WORDS.join("\n") + "\n");
}

/// A PNG of one colour, `side` x `side`.
pub(crate) fn png(side: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    let pixels = colour.repeat((side * side) as usize);
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The text and the picture of pair `row`; no two of the first 256 rows are alike.
pub(crate) fn pair(row: usize) -> (String, Vec<u8>) {
    let mut colour = [40; 3];
    colour[row % 3] = 255 - (row % 200) as u8;
    colour[(row + 1) % 3] = row as u8;
    let text = format!(
        "{} {} {} {}",
        WORDS[5 + row % 3],
        WORDS[8 + row % 2],
        row / 6 % 6,
        row / 36 % 6
    );
    (text, png(20, colour))
}

/// A table of `rows` pairs, text before picture.
pub(crate) fn table(rows: std::ops::Range<usize>) -> String {
    rows.map(pair)
        .map(|(text, picture)| format!("{text}\t{}\n", base64(&picture)))
        .collect()
}

/// The schema of [`table`].
pub(crate) const SCHEMA: &str = "--schema text:str:1,image:str:1";

/// A tensor of a safetensors file: its shape and its values.
pub(crate) fn floats(bytes: &[u8], name: &str) -> (Vec<usize>, Vec<f32>) {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let view = file.tensor(name).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    let values = view.data().as_chunks::<4>().0;
    (
        view.shape().to_vec(),
        values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    )
}

/// A safetensors file of f32 tensors.
pub(crate) fn tensors(list: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = list
        .iter()
        .map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = list.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        (name.to_string(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

/// The largest difference.
pub(crate) fn off(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
