//! Whole models beside the Python peers that their layouts belong to.
//!
//! The stored references that the tests read are small. Here models of full size are written at random by the peers, opened
//! by `clipzoo`, rewritten in every layout that can hold them, and loaded strictly by the peer of each layout. The work on one
//! model is `xtask/parity/peers/check.py`, a process a model, so that memory is given back; this is the table around it.

mod regenerate;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::demo;
use crate::prerequisites::Need;
use crate::process;
use crate::python::Environment;
use crate::setup;
use crate::workspace::{Workspace, remove, write_whole};

const PEERS: Environment = Environment {
    variable: "CLIPZOO_PARITY_VENV",
    imports: "open_clip, cn_clip.clip, transformers, timm, safetensors.torch, tokenizers, ftfy, regex",
};

/// Which models, and by which command.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Models, as --list shows them [default: all]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Show which models there are; do nothing
    #[arg(long)]
    list: bool,
    /// Use this command instead of building target/release/clipzoo
    #[arg(long, value_name = "FILE")]
    clipzoo: Option<PathBuf>,
    /// Keep each model in target/parity (up to 2 GB); else it is removed when it is done
    #[arg(long)]
    keep: bool,
    /// Run the scripts of xtask/parity that made the stored references, all or those named, and show what changed
    #[arg(long, value_name = "SCRIPT", num_args = 0.., conflicts_with_all = ["models", "list", "clipzoo", "keep"])]
    regenerate: Option<Vec<String>>,
}

/// One comparison.
#[derive(Deserialize)]
struct Row {
    model: String,
    what: String,
    /// The largest differences of unit features, and of cosines between the two.
    image: Option<f64>,
    text: Option<f64>,
    cosine: Option<f64>,
    /// Tensors that came back to the first layout bit for bit.
    tensors: Option<usize>,
    fault: Option<String>,
}

/// Compares, and fails where anything differs.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    setup::ensure(workspace, &[Need::Pip])?;
    let folder = workspace.target().join("parity");
    let python = PEERS.python(workspace)?;
    if let Some(scripts) = &options.regenerate {
        return regenerate::run(workspace, &python, scripts);
    }
    let check = |words: &[&str]| {
        let mut command = Command::new(&python);
        command
            .current_dir(workspace.root())
            .arg("xtask/parity/peers/check.py")
            .args(words);
        command
    };
    let listed = process::output(&mut check(&["--list"]))?;
    if options.list {
        print!("{listed}");
        return Ok(());
    }
    let known: Vec<&str> = listed.lines().collect();
    let models = chosen(&options.models, &known)?;
    let clipzoo = match &options.clipzoo {
        Some(clipzoo) => std::path::absolute(clipzoo)?,
        None => built(workspace)?,
    };
    let mut rows = Vec::new();
    for model in models {
        let place = folder.join("models").join(model);
        remove(&place)?;
        let mut command = check(&[model]);
        command.arg("--clipzoo").arg(&clipzoo).arg("--folder").arg(&place);
        println!("$ {}", process::shown(&command));
        rows.extend(read(model, process::output(&mut command)));
        if !options.keep {
            remove(&place)?;
        }
    }
    report(workspace, &folder.join("table.md"), &rows)
}

/// The models to compare, in the order of the list.
fn chosen<'a>(wanted: &[String], known: &[&'a str]) -> Result<Vec<&'a str>> {
    if let Some(stranger) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no model is called {stranger}; there are: {}", known.join(", "));
    }
    let is_wanted = |name: &&str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    Ok(known.iter().copied().filter(is_wanted).collect())
}

fn built(workspace: &Workspace) -> Result<PathBuf> {
    process::build_release(workspace, &["--package", "clipzoo"])?;
    Ok(demo::binary(workspace, "clipzoo"))
}

/// The comparisons of a model; one that could not be made is a row with its fault.
fn read(model: &str, output: Result<String>) -> Vec<Row> {
    let rows = output.and_then(|lines| {
        let rows = lines.lines().map(serde_json::from_str);
        rows.collect::<Result<Vec<Row>, _>>()
            .with_context(|| format!("the comparison of {model} did not write lines of JSON"))
    });
    rows.unwrap_or_else(|error| {
        vec![Row {
            model: model.to_owned(),
            what: "the whole".to_owned(),
            image: None,
            text: None,
            cosine: None,
            tensors: None,
            fault: Some(format!("{error:#}")),
        }]
    })
}

/// Prints and writes the table; fails with what differs.
fn report(workspace: &Workspace, path: &Path, rows: &[Row]) -> Result<()> {
    let table = table(rows);
    write_whole(path, &table)?;
    println!("\n{table}\nwritten to {}", workspace.shown(path));
    let faults: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}, {}: {}", row.model, row.what, row.fault.as_ref()?)))
        .collect();
    if !faults.is_empty() {
        bail!(
            "{} of {} do not agree:\n  {}",
            faults.len(),
            rows.len(),
            faults.join("\n  ")
        );
    }
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut table = "| model | what | image features | text features | cosines | tensors back, bit for bit |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1e}"));
    for row in rows {
        let tensors = row.tensors.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let fault = if row.fault.is_some() { " **differs**" } else { "" };
        table += &format!(
            "| {} | {}{fault} | {} | {} | {} | {tensors} |\n",
            row.model,
            row.what,
            number(row.image),
            number(row.text),
            number(row.cosine)
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_shown_and_a_fault_stands_out() {
        let lines = concat!(
            r#"{"model": "a", "what": "b", "image": 1.2e-7, "text": 3e-8, "cosine": 0.0, "tensors": 7}"#,
            "\n",
            r#"{"model": "a", "what": "c", "fault": "no"}"#,
        );
        let rows = read("a", Ok(lines.to_owned()));
        let table = table(&rows);
        assert!(table.ends_with("| a | b | 1.2e-7 | 3.0e-8 | 0.0e0 | 7 |\n| a | c **differs** | – | – | – | – |\n"));
        let broken = read("a", Ok("Traceback".to_owned()));
        assert!(broken[0].fault.as_ref().unwrap().contains("lines of JSON"));
        let folder = tempfile::tempdir().unwrap();
        let workspace = Workspace::find().unwrap();
        let error = report(&workspace, &folder.path().join("t.md"), &rows).unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 do not agree:\n  a, c: no");
        report(&workspace, &folder.path().join("t.md"), &rows[..1]).unwrap();
    }

    #[test]
    fn a_model_that_nobody_knows_is_told() {
        let known = ["a", "b", "c"];
        assert_eq!(chosen(&[], &known).unwrap(), known);
        assert_eq!(chosen(&["c".to_owned(), "a".to_owned()], &known).unwrap(), ["a", "c"]);
        let error = chosen(&["d".to_owned()], &known).unwrap_err().to_string();
        assert_eq!(error, "no model is called d; there are: a, b, c");
    }
}
