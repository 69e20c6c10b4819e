//! What came of the demo: the file that others read, and the table that a user reads.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{HELD_OUT, Places, SEED};
use crate::workspace::{Workspace, write_whole};

/// Puts the figures of the evaluation into the form that others read.
pub(super) fn write(places: &Places) -> Result<()> {
    let training = read(&places.training)?;
    let evaluation = read(&places.evaluation)?;
    let candidates = evaluation["text_to_image"]["gallery"]
        .as_u64()
        .context("the evaluation names no gallery")?;
    let result = json!({
        "dataset": "emoji catalogue: 853 things by four artists",
        "held_out": HELD_OUT,
        "seed": SEED,
        "seconds_per_step": training["seconds_per_step"],
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

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

/// A short table, and where to look next.
pub(super) fn show(workspace: &Workspace, places: &Places) -> Result<()> {
    let result = read(&places.result)?;
    print!("{}", table(&result)?);
    println!("\nresult:    {}", workspace.shown(&places.result));
    println!("page:      {}", workspace.shown(&places.page));
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
    let concepts = &result["result"]["concept_to_image"];
    if let (Some(queries), Some(map)) = (concepts["queries"].as_u64(), concepts["map"].as_f64()) {
        text += &format!("concepts' names to the pictures that carry them: mAP {map:.1} over {queries} names\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_beside_chance() {
        let direction = json!({"r@1": 50.25, "r@5": 80.0, "r@10": 90.0});
        let concepts = json!({"queries": 7, "gallery": 200, "map": 26.43, "precision@10": 18.1});
        let result = json!({"candidates": 200, "result": {"text_to_image": direction, "image_to_text": direction,
            "concept_to_image": concepts}});
        let table = table(&result).unwrap();
        assert!(table.ends_with(
            "text to image        50.2     80.0     90.0\nimage to text        50.2     80.0     90.0\nchance                0.5      2.5      5.0\n\
            concepts' names to the pictures that carry them: mAP 26.4 over 7 names\n"
        ), "{table}");
        assert!(super::table(&json!({"candidates": 200})).is_err());
    }
}
