//! Ours and the Python peers, side by side in one run on one machine, on the same files.
//!
//! A figure alone says little about a machine that nobody else has, so each round runs every program once, as a whole
//! process, and a table holds how many times ours is better. Before anything is measured, the results are compared:
//! who computes something else is not faster. The peers are the scripts in `benches/peers`; everything made lies in
//! `target/bench`.

mod prepare;
mod race;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::prerequisites::Need;
use crate::process;
use crate::setup;
use crate::steps;
use crate::workspace::{Workspace, write_whole};

use race::{Entrant, Measure, Race};

/// Steps of which the best counts, behind one that does not.
const TIMED: &str = "2";
/// Rounds of encoding of which the best counts.
const TIMED_ROUNDS: &str = "5";
/// What the encoders' tables are in multiples of.
const OPEN_CLIP: &str = "open_clip f32";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The bench; all of them without a name
    #[arg(value_enum)]
    name: Option<Name>,
    /// How often each program is measured, after one round that is not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// JPEGs of 800 x 600 to pixels, one core, beside Pillow + open_clip's transform and torchvision's tensors
    Preprocess,
    /// `predict` of one picture and five texts with a ViT-B/32, the whole process, beside open_clip
    ColdStart,
    /// Recall both ways over 32,528 pairs from feature files, the whole process, beside PyTorch
    Rank,
    /// Training steps of a ViT-B/32 on 16 pairs with short titles, in f32, one core, beside open_clip's loop
    Train,
    /// The same in bf16
    TrainBf16,
    /// Features of one picture at a time by a ViT-B/32, one core, beside open_clip and onnxruntime in all types
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
}

/// Where things are.
struct Places<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    python: PathBuf,
}

/// Prepares what is missing, then measures.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, &[Need::Pip])?;
    let folder = workspace.target().join("bench");
    let places = Places {
        workspace,
        python: prepare::python(workspace, &folder)?,
        folder,
    };
    let names = options
        .name
        .map_or_else(|| Name::value_variants().to_vec(), |name| vec![name]);
    places.build(&names)?;
    steps::take(workspace, &places.folder.join("marks"), places.preparation(&names))?;
    for name in names {
        let title = name.title();
        println!("\n== {title}");
        let race = places.race(name);
        places.check(name, &race)?;
        let table = race.table(options.rounds)?;
        let path = places.folder.join(format!("{}.md", name.text()));
        write_whole(&path, format!("## {title}\n\n{table}"))?;
        println!("\n{table}\nwritten to {}", workspace.shown(&path));
    }
    Ok(())
}

impl Places<'_> {
    /// Builds what the benches of these names run.
    fn build(&self, names: &[Name]) -> Result<()> {
        let cargo = |arguments: &[&str]| {
            process::run(
                process::cargo(self.workspace)
                    .args(["build", "--release"])
                    .args(arguments),
            )
        };
        let trains = |name: &Name| matches!(name, Name::Train | Name::TrainBf16);
        let encodes = |name: &Name| name.encoded().is_some();
        // Apart: together they would share features, and the command would be built once more.
        if !names.iter().all(trains) {
            cargo(&["--package", "clipzoo"])?;
        }
        if names.iter().any(encodes) {
            cargo(&["--package", "clipzoo-benches", "--example", "encode_speed"])?;
        }
        if names.contains(&Name::Preprocess) {
            cargo(&["--package", "clip-data", "--example", "preprocess_speed"])?;
        }
        if names.iter().any(trains) {
            cargo(&["--package", "clipzoo-benches", "--example", "train_speed"])?;
        }
        Ok(())
    }

    fn peer(&self, script: &str) -> PathBuf {
        self.workspace.root().join("benches/peers").join(script)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.join("data").join(name)
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.join("output").join(name)
    }

    fn release(&self, name: &str) -> OsString {
        self.workspace.target().join("release").join(name).into()
    }

    /// A peer's command line.
    fn script(&self, name: &str, arguments: &[&Path]) -> Vec<OsString> {
        let program = [self.python.clone(), self.peer(name)];
        program
            .iter()
            .map(PathBuf::as_path)
            .chain(arguments.iter().copied())
            .map(Into::into)
            .collect()
    }

    fn pictures(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.data("pictures")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    /// Who runs; ours is the first.
    fn race(&self, name: Name) -> Race<'_> {
        let entrants = match name {
            Name::Preprocess => self.preprocess(),
            Name::ColdStart => self.cold_start(),
            Name::Rank => self.rank(),
            Name::Train => self.train("f32", TIMED),
            Name::TrainBf16 => self.train("bf16", TIMED),
            Name::Image1 | Name::Image8 | Name::Image32 | Name::Text => self.encode(name, TIMED_ROUNDS),
        };
        Race {
            measure: match name {
                Name::Preprocess => Measure::PicturesPerSecond,
                Name::ColdStart | Name::Rank => Measure::Seconds,
                Name::Train | Name::TrainBf16 => Measure::PairsPerCpuSecond,
                Name::Image1 | Name::Image8 | Name::Image32 => Measure::PicturesPerCpuSecond,
                Name::Text => Measure::TextsPerCpuSecond,
            },
            base: name.encoded().map(|_| OPEN_CLIP),
            entrants,
            python: &self.python,
            wrapper: self.peer("measure.py"),
            output: self.folder.join("output"),
        }
    }

    fn preprocess(&self) -> Vec<Entrant> {
        let pictures = self.pictures();
        let mut ours = vec![self.release("examples/preprocess_speed"), "224".into()];
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

    fn cold_start(&self) -> Vec<Entrant> {
        let (model, texts) = (self.data("model"), self.data("model/texts.txt"));
        let picture = self.data("pictures/coffee.jpg");
        let [ours, theirs] =
            ["features.ours.safetensors", "features.open_clip.safetensors"].map(|name| self.output(name));
        let words: [&dyn AsRef<std::ffi::OsStr>; 9] = [
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
        let mut command = vec![self.release("clipzoo")];
        command.extend(words.iter().map(|word| word.as_ref().to_owned()));
        vec![
            Entrant::new("clipzoo predict", command),
            Entrant::new(
                "open_clip",
                self.script("cold_start.py", &[&model, &texts, &picture, &theirs]),
            ),
        ]
    }

    fn rank(&self) -> Vec<Entrant> {
        let [texts, images] = ["texts", "images"].map(|name| self.data(&format!("features/{name}.safetensors")));
        let mut ours = vec![self.release("clipzoo"), "evaluate".into(), "--json".into()];
        ours.extend([
            "--text-features".into(),
            texts.clone().into(),
            "--image-features".into(),
            images.clone().into(),
        ]);
        vec![
            Entrant::new("clipzoo evaluate", ours),
            Entrant::new("PyTorch, chunks of 1,024", self.script("rank.py", &[&texts, &images])),
        ]
    }

    fn train(&self, dtype: &'static str, steps: &'static str) -> Vec<Entrant> {
        let (model, batch) = (self.data("model"), self.data("pairs/batch.safetensors"));
        let mut ours = vec![
            self.release("examples/train_speed"),
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

    /// Every type of ours, of open_clip's and of onnxruntime's. Ours in bytes comes first, calibrated.
    fn encode(&self, name: Name, rounds: &str) -> Vec<Entrant> {
        let (what, rows) = name.encoded().unwrap_or(("images", "1"));
        let (model, batch) = (self.data("model"), self.data("pairs/batch.safetensors"));
        let ours = |dtype: &str| {
            let output = self.output(&format!("{what}.ours.{dtype}.safetensors"));
            let mut words = vec![
                self.release("examples/encode_speed"),
                model.clone().into(),
                batch.clone().into(),
            ];
            words.extend([what, "--dtype", dtype, "--rows", rows, "--rounds", rounds, "--output"].map(OsString::from));
            words.push(output.into());
            words
        };
        let peer = |kind: &str| {
            let output = self.output(&format!("{what}.{kind}.safetensors"));
            let words = [what, kind, rows, rounds, "1"].map(Path::new);
            let words: Vec<&Path> = [&*model, &*batch].into_iter().chain(words).chain([&*output]).collect();
            self.script("encode.py", &words)
        };
        vec![
            Entrant::new("clipzoo int8", ours("int8")),
            Entrant::new("clipzoo bf16", ours("bf16")),
            Entrant::new("clipzoo f32", ours("f32")),
            Entrant::new("onnxruntime int8", peer("ort-int8")),
            Entrant::new("onnxruntime f32", peer("ort-f32")),
            Entrant::new("open_clip bf16", peer("bf16")),
            Entrant::new(OPEN_CLIP, peer("f32")),
        ]
    }

    /// Ours in f32 and in bytes against open_clip's features.
    fn same_features(&self, name: Name) -> Result<()> {
        let (what, _) = name.encoded().unwrap_or(("images", "1"));
        let theirs = self.output(&format!("{what}.f32.safetensors"));
        for (dtype, kind) in [("f32", "features"), ("bf16", "lowered"), ("int8", "lowered")] {
            let ours = self.output(&format!("{what}.ours.{dtype}.safetensors"));
            process::run(&mut race::command(
                &self.script("agree.py", &[Path::new(kind), &ours, &theirs]),
            ))?;
        }
        Ok(())
    }

    /// Runs every program once, which also brings its files into memory, and compares ours with the peer's results.
    fn check(&self, name: Name, race: &Race) -> Result<()> {
        let agree = |what: &str, ours: &Path, theirs: &Path| {
            process::run(&mut race::command(
                &self.script("agree.py", &[Path::new(what), ours, theirs]),
            ))
        };
        match name {
            Name::Preprocess => {
                race.run(1, |_| ())?;
                let pixels = self.output("pixels.ours.safetensors");
                let mut ours = Command::new(self.release("clipzoo"));
                ours.arg("preprocess")
                    .arg("--model")
                    .arg(self.data("model"))
                    .args(self.pictures());
                process::output(ours.arg("--output").arg(&pixels))?;
                agree("pixels", &pixels, &self.output("pillow.safetensors"))
            }
            Name::ColdStart => {
                race.run(1, |_| ())?;
                agree(
                    "features",
                    &self.output("features.ours.safetensors"),
                    &self.output("features.open_clip.safetensors"),
                )
            }
            Name::Rank => {
                let figures = |entrant: &Entrant| -> Result<Value> {
                    let text = process::output(&mut race::command(&entrant.words))?;
                    serde_json::from_str(&text).with_context(|| format!("{} did not print JSON", entrant.name))
                };
                let figures = race.entrants.iter().map(figures).collect::<Result<Vec<_>>>()?;
                same_recalls(&figures[0], &figures[1])
            }
            Name::Train => self.same_losses("f32", 1e-4),
            Name::TrainBf16 => self.same_losses("bf16", 1e-2),
            Name::Image1 | Name::Image8 | Name::Image32 | Name::Text => {
                race.run(1, |_| ())?;
                self.same_features(name)
            }
        }
    }

    /// Fails unless the losses of the first steps agree within a share of them. The later ones have the optimizer's
    /// steps before them in them.
    fn same_losses(&self, dtype: &'static str, within: f64) -> Result<()> {
        let losses = |entrant: &Entrant| -> Result<Vec<f64>> {
            let text = process::output(&mut race::command(&entrant.words))?;
            let losses: Vec<f64> = text.lines().filter_map(loss).collect();
            match losses.len() {
                0 => bail!("{} printed no losses: {text}", entrant.name),
                _ => Ok(losses),
            }
        };
        let all = self.train(dtype, "1").iter().map(losses).collect::<Result<Vec<_>>>()?;
        for (step, (ours, theirs)) in all[0].iter().zip(&all[1]).enumerate() {
            println!("loss of step {step}: {ours:.6} and {theirs:.6}");
            if (ours - theirs).abs() > within * theirs.abs() {
                bail!(
                    "the loss of step {step} is {ours} by us and {theirs} by the peer: the two do not compute the same"
                );
            }
        }
        Ok(())
    }
}

/// Reads `step 1: loss 2.1902957, 9.55 CPU s`, which both programs print alike.
fn loss(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("step ")?.split_once(": loss ")?;
    rest.split(',').next()?.parse().ok()
}

/// Fails unless two objects of figures hold the same recalls. Scores that differ in the last bit move single rows.
fn same_recalls(ours: &Value, theirs: &Value) -> Result<()> {
    const ROWS_APART: f64 = 0.02;
    for direction in ["text_to_image", "image_to_text"] {
        for k in ["r@1", "r@5", "r@10"] {
            let of = |figures: &Value| {
                figures[direction][k]
                    .as_f64()
                    .with_context(|| format!("no {direction} {k} in {figures}"))
            };
            let (ours, theirs) = (of(ours)?, of(theirs)?);
            if (ours - theirs).abs() > ROWS_APART {
                bail!("{direction} {k} is {ours} by us and {theirs} by the peer: the two do not compute the same");
            }
            println!("{direction} {k}: {ours:.3} and {theirs:.3} %");
        }
    }
    Ok(())
}

impl Name {
    fn text(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_string())
            .unwrap_or_default()
    }

    fn title(self) -> &'static str {
        match self {
            Self::Preprocess => "JPEG of 800 x 600 to 3 x 224 x 224 pixels, one thread on one core",
            Self::ColdStart => "One picture and five texts through a ViT-B/32, the whole process",
            Self::Rank => "Recall both ways, 32,528 pairs of 512 numbers, the whole process",
            Self::Train => "Training steps of a ViT-B/32 on 16 pairs, f32, one thread on one core",
            Self::TrainBf16 => "Training steps of a ViT-B/32 on 16 pairs, bf16, one thread on one core",
            Self::Image1 => "Features of pictures by a ViT-B/32, 1 at a time, one thread on one core",
            Self::Image8 => "Features of pictures by a ViT-B/32, 8 at a time, one thread on one core",
            Self::Image32 => "Features of pictures by a ViT-B/32, 32 at a time, one thread on one core",
            Self::Text => "Features of titles of 8 to 20 tokens, 32 at a time, one thread on one core",
        }
    }

    /// What is encoded, and how many at a time.
    fn encoded(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Image1 => Some(("images", "1")),
            Self::Image8 => Some(("images", "8")),
            Self::Image32 => Some(("images", "32")),
            Self::Text => Some(("texts", "32")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn losses_are_read_from_the_steps() {
        assert_eq!(loss("step 0: loss 2.8281200"), Some(2.82812));
        assert_eq!(loss("step 1: loss 2.1902957, 9.55 CPU s"), Some(2.1902957));
        assert_eq!(loss("peak 4011 MiB"), None);
    }

    #[test]
    fn recalls_that_differ_are_an_error_that_names_them() {
        let figures = |r1: f64| {
            let recalls = json!({"r@1": r1, "r@5": 50.0, "r@10": 60.0});
            json!({"text_to_image": recalls, "image_to_text": recalls})
        };
        same_recalls(&figures(40.0), &figures(40.01)).unwrap();
        let message = same_recalls(&figures(40.0), &figures(41.0)).unwrap_err().to_string();
        assert!(message.starts_with("text_to_image r@1 is 40 by us and 41"), "{message}");
        let message = same_recalls(&figures(40.0), &json!({})).unwrap_err().to_string();
        assert!(message.starts_with("no text_to_image r@1"), "{message}");
    }
}
