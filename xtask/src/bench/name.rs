//! The benches by name: what each measures, in which unit, and which of our programs it runs.

use clap::ValueEnum;

use super::race::Measure;

/// A bench.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Name {
    /// JPEGs of 800 x 600 to pixels, one core, beside Pillow + open_clip's transform and torchvision's tensors
    Preprocess,
    /// Product titles to token ids, beside open_clip's tokenizer and transformers' fast one
    Tokenize,
    /// `predict` of one picture and five texts with a ViT-B/32, the whole process, beside open_clip
    ColdStart,
    /// The same with a ViT-L/14 (1.7 GB)
    ColdStartLarge,
    /// `predict` of a table of JPEGs with a ViT-B/32 on all cores, beside open_clip behind torch's DataLoader
    Predict,
    /// Recall both ways over 32,528 pairs from feature files, the whole process, beside PyTorch and faiss
    Rank,
    /// Training steps of a ViT-B/32 on 16 pairs with short titles, in f32, one core, beside open_clip's loop
    Train,
    /// The same in bf16
    TrainBf16,
    /// Features of one picture at a time by a ViT-B/32, beside open_clip, transformers and onnxruntime in all types
    #[value(name = "image-1")]
    Image1,
    /// The same of 8 at a time
    #[value(name = "image-8")]
    Image8,
    /// The same of 32 at a time
    #[value(name = "image-32")]
    Image32,
    /// Features of 32 titles of 8 to 20 tokens, likewise
    Text,
    /// Features of 8 pictures at a time by a Chinese ViT-B/16, beside cn_clip and transformers
    ChineseImage,
    /// Features of 32 Chinese titles of 8 to 20 tokens by its RoBERTa, likewise
    ChineseText,
}

/// A way of encoding that `encode.py` knows.
pub(super) type Peer = [&'static str; 2];

pub(super) const OPEN_CLIP: Peer = ["open_clip", "f32"];
pub(super) const CN_CLIP: Peer = ["cn_clip", "f32"];

/// What an encoder's bench is about.
#[derive(Clone, Copy)]
pub(super) struct Encoded {
    /// The folder of the model under `data`.
    pub(super) model: &'static str,
    /// The folder of the batch under `data`.
    pub(super) batch: &'static str,
    /// `images` or `texts`.
    pub(super) what: &'static str,
    /// Rows at a time.
    pub(super) rows: &'static str,
    /// The peer that all are compared with.
    pub(super) reference: Peer,
}

/// A program of ours that a bench runs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Program {
    Clipzoo,
    PreprocessSpeed,
    TokenizerSpeed,
    TrainSpeed,
    EncodeSpeed,
}

impl Program {
    fn example(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Clipzoo => None,
            Self::PreprocessSpeed => Some(["clip-data", "preprocess_speed"]),
            Self::TokenizerSpeed => Some(["clip-tokenizers", "tokenizer_speed"]),
            Self::TrainSpeed => Some(["clipzoo-benches", "train_speed"]),
            Self::EncodeSpeed => Some(["clipzoo-benches", "encode_speed"]),
        }
    }

    /// What cargo builds it by.
    pub(super) fn target(self) -> Vec<&'static str> {
        match self.example() {
            None => vec!["--package", "clipzoo"],
            Some([package, name]) => vec!["--package", package, "--example", name],
        }
    }

    /// Where it then lies, under `target/release`.
    pub(super) fn path(self) -> String {
        self.example()
            .map_or_else(|| "clipzoo".to_string(), |[_, name]| format!("examples/{name}"))
    }
}

impl Name {
    pub(super) fn title(self, threads: u32) -> String {
        let one = "one thread on one core";
        let how = match threads {
            1 => one.to_string(),
            _ => format!("{threads} threads"),
        };
        match self {
            Self::Preprocess => format!("JPEG of 800 x 600 to 3 x 224 x 224 pixels, {one}"),
            Self::Tokenize => format!("Product titles to token ids, {how}"),
            Self::ColdStart => "One picture and five texts through a ViT-B/32, the whole process".into(),
            Self::ColdStartLarge => "One picture and five texts through a ViT-L/14, the whole process".into(),
            Self::Predict => "A table of JPEGs to features by a ViT-B/32, all cores".into(),
            Self::Rank => "Recall both ways, 32,528 pairs of 512 numbers, the whole process".into(),
            Self::Train => format!("Training steps of a ViT-B/32 on 16 pairs, f32, {one}"),
            Self::TrainBf16 => format!("Training steps of a ViT-B/32 on 16 pairs, bf16, {one}"),
            Self::Image1 => format!("Features of pictures by a ViT-B/32, 1 at a time, {how}"),
            Self::Image8 => format!("Features of pictures by a ViT-B/32, 8 at a time, {how}"),
            Self::Image32 => format!("Features of pictures by a ViT-B/32, 32 at a time, {how}"),
            Self::Text => format!("Features of titles of 8 to 20 tokens, 32 at a time, {how}"),
            Self::ChineseImage => format!("Features of pictures by a Chinese ViT-B/16, 8 at a time, {how}"),
            Self::ChineseText => {
                format!("Features of Chinese titles of 8 to 20 tokens by RoBERTa, 32 at a time, {how}")
            }
        }
    }

    /// The name of the table's file.
    pub(super) fn file(self, threads: u32) -> String {
        let name = self.to_possible_value();
        let name = name.as_ref().map_or("bench", |name| name.get_name());
        match threads {
            1 => name.to_string(),
            _ => format!("{name}-threads-{threads}"),
        }
    }

    pub(super) fn measure(self, threads: u32) -> Measure {
        let one = threads == 1;
        match self {
            Self::ColdStart | Self::ColdStartLarge | Self::Rank => Measure::Seconds,
            Self::Preprocess => Measure::printed("pictures/s", true),
            Self::Tokenize => Measure::printed("texts/s", one),
            Self::Predict => Measure::printed("pictures/s", false),
            Self::Train | Self::TrainBf16 => Measure::printed("pairs per CPU second", true),
            Self::Image1 | Self::Image8 | Self::Image32 | Self::ChineseImage => match threads {
                1 => Measure::printed("pictures per CPU second", true),
                _ => Measure::printed("pictures/s", false),
            },
            Self::Text | Self::ChineseText => match threads {
                1 => Measure::printed("texts per CPU second", true),
                _ => Measure::printed("texts/s", false),
            },
        }
    }

    /// What is encoded, and how many at a time.
    pub(super) fn encoded(self) -> Option<Encoded> {
        let english = |what, rows| Encoded {
            model: "model",
            batch: "pairs",
            what,
            rows,
            reference: OPEN_CLIP,
        };
        let chinese = |what, rows| Encoded {
            model: "chinese",
            batch: "chinese-pairs",
            reference: CN_CLIP,
            ..english(what, rows)
        };
        match self {
            Self::Image1 => Some(english("images", "1")),
            Self::Image8 => Some(english("images", "8")),
            Self::Image32 => Some(english("images", "32")),
            Self::Text => Some(english("texts", "32")),
            Self::ChineseImage => Some(chinese("images", "8")),
            Self::ChineseText => Some(chinese("texts", "32")),
            _ => None,
        }
    }

    /// Which of our programs it runs.
    pub(super) fn programs(self) -> &'static [Program] {
        match self {
            Self::Preprocess => &[Program::Clipzoo, Program::PreprocessSpeed],
            Self::Tokenize => &[Program::TokenizerSpeed],
            Self::ColdStart | Self::ColdStartLarge | Self::Predict | Self::Rank => &[Program::Clipzoo],
            Self::Train | Self::TrainBf16 => &[Program::TrainSpeed],
            // The command writes the model in Hugging Face's layout.
            _ => &[Program::Clipzoo, Program::EncodeSpeed],
        }
    }
}
