//! Who computes something else is not faster: results are compared before anything is measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Places;
use super::entrants::types;
use super::name::{Encoded, Name, Program};
use super::race::{self, Entrant, Race};
use crate::process;

impl Places<'_> {
    /// Runs every program once, which also brings its files into memory, and compares ours with the peer's results.
    pub(super) fn check(&self, name: Name, race: &Race) -> Result<()> {
        if let Some(encoded) = name.encoded() {
            race.run(1, |_| ())?;
            return self.same_features(encoded);
        }
        match name {
            Name::Preprocess => {
                race.run(1, |_| ())?;
                let pixels = self.output("pixels.ours.safetensors");
                let mut ours = Command::new(self.program(Program::Clipzoo));
                ours.arg("preprocess")
                    .arg("--model")
                    .arg(self.data("model"))
                    .args(self.pictures());
                process::output(ours.arg("--output").arg(&pixels))?;
                self.agree("pixels", &pixels, &self.output("pillow.safetensors"))
            }
            Name::ColdStart | Name::ColdStartLarge => {
                race.run(1, |_| ())?;
                let [ours, theirs] =
                    ["features.ours.safetensors", "features.open_clip.safetensors"].map(|name| self.output(name));
                self.agree("features", &ours, &theirs)
            }
            Name::Predict => {
                race.run(1, |_| ())?;
                let theirs = self.output("predict.open_clip.safetensors");
                for (dtype, kind) in types() {
                    self.agree(kind, &self.output(&format!("predict.{dtype}.safetensors")), &theirs)?;
                }
                Ok(())
            }
            Name::Tokenize => same_ids(race),
            Name::Rank => {
                let figures = |entrant: &Entrant| -> Result<Value> {
                    let text = process::output(&mut race::command(&entrant.words))?;
                    serde_json::from_str(&text).with_context(|| format!("{} did not print JSON", entrant.name))
                };
                let figures = race.entrants.iter().map(figures).collect::<Result<Vec<_>>>()?;
                let (ours, peers) = figures.split_first().context("nobody ranks")?;
                peers.iter().try_for_each(|theirs| same_recalls(ours, theirs))
            }
            Name::TrainBf16 => self.same_losses("bf16", 1e-2),
            _ => self.same_losses("f32", 1e-4),
        }
    }

    fn agree(&self, what: &str, ours: &Path, theirs: &Path) -> Result<()> {
        let words = self.script("agree.py", &[Path::new(what), ours, theirs]);
        process::run(&mut race::command(&words))
    }

    /// Ours in every type against the peer's f32.
    fn same_features(&self, encoded: Encoded) -> Result<()> {
        let theirs = self.output(&encoded.output(encoded.reference));
        for (dtype, kind) in types() {
            self.agree(kind, &self.output(&encoded.output(["clipzoo", dtype])), &theirs)?;
        }
        Ok(())
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

/// Fails unless all programs print the same line `ids ...` about what they made of the texts.
fn same_ids(race: &Race) -> Result<()> {
    let ids = |entrant: &Entrant| -> Result<String> {
        let text = process::output(&mut race::command(&entrant.words))?;
        let line = text.lines().find(|line| line.starts_with("ids "));
        Ok(line
            .with_context(|| format!("{} printed no ids", entrant.name))?
            .to_string())
    };
    let ours = ids(&race.entrants[0])?;
    println!("{ours}");
    for entrant in &race.entrants[1..] {
        let theirs = ids(entrant)?;
        if theirs != ours {
            bail!(
                "{} has {theirs}, and we have {ours}: the two do not compute the same",
                entrant.name
            );
        }
    }
    Ok(())
}

/// Reads `step 1: loss 2.1902957, 9.55 CPU s`, which both programs print alike.
fn loss(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("step ")?.split_once(": loss ")?;
    rest.split(',').next()?.parse().ok()
}

/// Fails unless two objects of figures hold the same recalls, in the directions that the peer has. Scores that differ in
/// the last bit move single rows.
fn same_recalls(ours: &Value, theirs: &Value) -> Result<()> {
    const ROWS_APART: f64 = 0.02;
    let directions = ["text_to_image", "image_to_text"];
    let theirs_are = directions.iter().filter(|direction| theirs[**direction].is_object());
    if theirs_are.clone().count() == 0 {
        bail!("the peer printed no figures: {theirs}");
    }
    for direction in theirs_are {
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
        let one = |figures: Value| json!({ "text_to_image": figures });
        let recalls = json!({"r@1": 40.0, "r@5": 50.0, "r@10": 60.0});
        same_recalls(&figures(40.0), &one(recalls)).unwrap();
        let message = same_recalls(&figures(40.0), &one(json!({}))).unwrap_err().to_string();
        assert!(message.starts_with("no text_to_image r@1"), "{message}");
        let message = same_recalls(&figures(40.0), &json!({})).unwrap_err().to_string();
        assert!(message.starts_with("the peer printed no figures"), "{message}");
    }
}
