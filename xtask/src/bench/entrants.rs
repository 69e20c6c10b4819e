//! Who runs in each bench, by what command line.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::Places;
use super::name::{Encoded, Name, OPEN_CLIP, Peer, Program};
use super::race::{Entrant, Race};

/// Steps of which the best counts, behind one that does not.
const TIMED: &str = "2";
/// Rounds of encoding of which the best counts.
const TIMED_ROUNDS: &str = "5";
/// What the table of `predict` is in multiples of.
const LOADER: &str = "open_clip f32, 2 loaders";

/// The types that ours is measured in, and how near each is to be to the peer's f32.
pub(super) fn types() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = [("f32", "features"), ("bf16", "lowered"), ("int8", "lowered")];
    all.into_iter()
        .filter(|(dtype, _)| *dtype != "bf16" || multiplies_bf16())
}

/// Whether the processor has instructions for products of bf16. Without them everybody's bf16 takes many times as long as
/// f32 (a round of `image-8` two more minutes), which nobody would use.
fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let multiplies = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let multiplies = true;
    multiplies
}

impl Encoded {
    /// The file of features by a peer, or by `clipzoo` in a type.
    pub(super) fn output(&self, [by, dtype]: Peer) -> String {
        format!("{}-{}.{by}.{dtype}.safetensors", self.model, self.what)
    }
}

impl Places<'_> {
    /// Who runs; ours is the first.
    pub(super) fn race(&self, name: Name) -> Race<'_> {
        let (mut entrants, base) = match (name, name.encoded()) {
            (_, Some(encoded)) => self.encode(encoded),
            (Name::Preprocess, _) => (self.preprocess(), None),
            (Name::Tokenize, _) => (self.tokenize(), None),
            (Name::ColdStart, _) => (self.cold_start("model"), None),
            (Name::ColdStartLarge, _) => (self.cold_start("large"), None),
            (Name::Predict, _) => (self.predict(), Some(LOADER)),
            (Name::Rank, _) => (self.rank(), None),
            (Name::TrainBf16, _) => (self.train("bf16", TIMED), None),
            _ => (self.train("f32", TIMED), None),
        };
        entrants.retain(|entrant| multiplies_bf16() || !entrant.name.contains("bf16"));
        Race {
            measure: name.measure(self.threads),
            base,
            entrants,
            python: &self.python,
            wrapper: self.peer("measure.py"),
            output: self.folder.join("output"),
        }
    }

    fn preprocess(&self) -> Vec<Entrant> {
        let pictures = self.pictures();
        let mut ours = vec![self.program(Program::PreprocessSpeed), "224".into()];
        ours.extend(pictures.iter().map(OsString::from));
        let peer = |way: &str, pixels: &str| {
            let pixels = self.output(pixels);
            let mut arguments = vec![Path::new(way), &pixels];
            arguments.extend(pictures.iter().map(PathBuf::as_path));
            self.script("preprocess.py", &arguments)
        };
        vec![
            Entrant::new("clipzoo", ours),
            Entrant::new("Pillow + open_clip's transform", peer("pillow", "pillow.safetensors")),
            Entrant::new("torchvision, tensors", peer("torchvision", "torchvision.safetensors")),
        ]
    }

    fn tokenize(&self) -> Vec<Entrant> {
        let (titles, threads) = (self.data("titles/titles.txt"), self.threads.to_string());
        let ours = vec![
            self.program(Program::TokenizerSpeed),
            titles.clone().into(),
            threads.clone().into(),
        ];
        let peer = |kind: &str| self.script("tokens.py", &[&titles, Path::new(kind), Path::new(&threads)]);
        vec![
            Entrant::new("clipzoo", ours),
            Entrant::new("open_clip, one thread", peer("open_clip")),
            Entrant::new("transformers, fast", peer("transformers")),
        ]
    }

    fn cold_start(&self, model: &str) -> Vec<Entrant> {
        let (model, texts) = (self.data(model), self.data("model/texts.txt"));
        let picture = self.data("pictures/coffee.jpg");
        let [ours, theirs] =
            ["features.ours.safetensors", "features.open_clip.safetensors"].map(|name| self.output(name));
        let words: [&dyn AsRef<OsStr>; 9] = [
            &"predict",
            &"--model",
            &model,
            &"--texts",
            &texts,
            &"--images",
            &picture,
            &"--output",
            &ours,
        ];
        let mut command = vec![self.program(Program::Clipzoo)];
        command.extend(words.iter().map(|word| word.as_ref().to_owned()));
        vec![
            Entrant::new("clipzoo predict", command),
            Entrant::new(
                "open_clip",
                self.script("cold_start.py", &[&model, &texts, &picture, &theirs]),
            ),
        ]
    }

    /// Ours in every type, calibrated; the peer in both of its types behind one and behind two loader processes.
    fn predict(&self) -> Vec<Entrant> {
        let (model, table) = (self.data("model"), self.data("table/pictures.tsv"));
        let ours = |name: &'static str, dtype: &str| {
            let output = self.output(&format!("predict.{dtype}.safetensors"));
            let mut words = vec![self.program(Program::Clipzoo), "predict".into(), "--model".into()];
            words.push(model.clone().into());
            words.extend(["--table".into(), table.clone().into(), "--header".into()]);
            words.extend(["--dtype", dtype, "--output"].map(OsString::from));
            words.push(output.into());
            Entrant::of_rows(name, words, super::prepare::TABLE_ROWS)
        };
        let peer = |name: &'static str, dtype: &str, loaders: &str| {
            let output = self.output("predict.open_clip.safetensors");
            let output = if dtype == "f32" {
                output
            } else {
                self.output("predict.open_clip.bf16.safetensors")
            };
            let words = [&*model, &*table, Path::new(dtype), Path::new(loaders), &*output];
            Entrant::new(name, self.script("predict.py", &words))
        };
        vec![
            ours("clipzoo predict, int8", "int8"),
            ours("clipzoo predict, bf16", "bf16"),
            ours("clipzoo predict, f32", "f32"),
            peer("open_clip bf16, 1 loader", "bf16", "1"),
            peer("open_clip bf16, 2 loaders", "bf16", "2"),
            peer("open_clip f32, 1 loader", "f32", "1"),
            peer(LOADER, "f32", "2"),
        ]
    }

    fn rank(&self) -> Vec<Entrant> {
        let [texts, images] = ["texts", "images"].map(|name| self.data(&format!("features/{name}.safetensors")));
        let mut ours = vec![self.program(Program::Clipzoo), "evaluate".into(), "--json".into()];
        ours.extend([
            "--text-features".into(),
            texts.clone().into(),
            "--image-features".into(),
            images.clone().into(),
        ]);
        vec![
            Entrant::new("clipzoo evaluate", ours),
            Entrant::new("PyTorch, chunks of 1,024", self.script("rank.py", &[&texts, &images])),
            Entrant::new(
                "faiss flat, one direction, best 10",
                self.script("rank_faiss.py", &[&texts, &images]),
            ),
        ]
    }

    pub(super) fn train(&self, dtype: &'static str, steps: &'static str) -> Vec<Entrant> {
        let (model, batch) = (self.data("model"), self.data("pairs/batch.safetensors"));
        let mut ours = vec![
            self.program(Program::TrainSpeed),
            model.clone().into(),
            batch.clone().into(),
        ];
        ours.extend(["--dtype", dtype, "--steps", steps].map(OsString::from));
        let theirs: [&Path; 4] = [&model, &batch, Path::new(dtype), Path::new(steps)];
        vec![
            Entrant::new("clipzoo", ours),
            Entrant::new("open_clip's loop", self.script("train.py", &theirs)),
        ]
    }

    /// Every type of ours, and of the peers' that open such a model. Ours in bytes comes first, calibrated.
    fn encode(&self, encoded: Encoded) -> (Vec<Entrant>, Option<&'static str>) {
        let mut entrants = vec![
            self.encoder("clipzoo int8", encoded, ["clipzoo", "int8"]),
            self.encoder("clipzoo bf16", encoded, ["clipzoo", "bf16"]),
            self.encoder("clipzoo f32", encoded, ["clipzoo", "f32"]),
        ];
        if encoded.reference == OPEN_CLIP {
            entrants.extend([
                self.encoder("onnxruntime int8", encoded, ["onnxruntime", "int8"]),
                self.encoder("onnxruntime f32", encoded, ["onnxruntime", "f32"]),
                self.encoder("open_clip bf16", encoded, ["open_clip", "bf16"]),
            ]);
        }
        entrants.push(self.encoder("transformers f32", encoded, ["transformers", "f32"]));
        let base = if encoded.reference == OPEN_CLIP {
            "open_clip f32"
        } else {
            "cn_clip f32"
        };
        entrants.push(self.encoder(base, encoded, encoded.reference));
        (entrants, Some(base))
    }

    fn encoder(&self, name: &'static str, encoded: Encoded, peer: Peer) -> Entrant {
        let Encoded { what, rows, .. } = encoded;
        let [by, dtype] = peer;
        let model = match by {
            "transformers" => self.data(&format!("{}-hf", encoded.model)),
            _ => self.data(encoded.model),
        };
        let batch = self.data(encoded.batch).join("batch.safetensors");
        let output = self.output(&encoded.output(peer));
        let threads = self.threads.to_string();
        if by == "clipzoo" {
            let mut words = vec![self.program(Program::EncodeSpeed), model.into(), batch.into()];
            words.extend([what, "--dtype", dtype, "--rows", rows, "--rounds", TIMED_ROUNDS].map(OsString::from));
            words.extend(["--threads", &threads, "--output"].map(OsString::from));
            words.push(output.into());
            return Entrant::new(name, words);
        }
        let words = [what, by, dtype, rows, TIMED_ROUNDS, &threads].map(Path::new);
        let words: Vec<&Path> = [&*model, &*batch].into_iter().chain(words).chain([&*output]).collect();
        Entrant::new(name, self.script("encode.py", &words))
    }
}
