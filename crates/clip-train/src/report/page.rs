//! The report's page.

use std::fs;
use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{Error, Result};
use clip_page::{Card, Cards, Exhibit, Facts, Listing, Page, Picture, Plot, Plots, Table, Tone, Verdict};
use serde_json::{Map, Value};

use super::Record;
use super::curves::{Curve, Curves};
use super::samples::{Query, Shot};

/// Both directions of an evaluation, as names end and as people say it.
const DIRECTIONS: [(&str, &str); 2] = [("text_to_image", "text to image"), ("image_to_text", "image to text")];

/// The page of a run's directory.
pub(super) fn page(folder: &Path, curves: &Curves, record: &Record) -> Result<Page> {
    let settings = text(&folder.join("run.toml"))?.unwrap_or_default();
    let config: toml::Table = toml::from_str(&settings).unwrap_or_default();
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = name.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let mut page = Page::new(format!("Training run {name}"), "en");
    page.add(&facts(curves, record, &config));
    if record.before.is_some() || !curves.evaluation.is_empty() {
        page.add(&figures(curves, record));
    }
    page.heading("Curves").add(&Plots::new(plots(curves)));
    samples(&mut page, record);
    if let Some(average) = text(&folder.join("average.json"))? {
        sweep(&mut page, &serde_json::from_str(&average).unwrap_or_default());
    }
    page.heading("Settings").add(&Listing::new("run.toml", settings));
    Ok(page)
}

fn text(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// A number with four digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.2}"),
        1e-3.. => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

fn number(figures: &Map<String, Value>, name: &str) -> Option<f64> {
    figures.get(name).and_then(Value::as_f64)
}

/// What a reader wants to know first.
fn facts(curves: &Curves, record: &Record, config: &toml::Table) -> Facts {
    let mut facts = Facts::new();
    let step = number(&curves.step, "step").unwrap_or(0.0);
    let ending = record.ending.as_ref();
    if let Some(best) = ending.and_then(|ending| ending.best.as_ref()) {
        let name = readable(best.metric.strip_prefix("valid_").unwrap_or(&best.metric));
        facts = facts.fact(
            format!("Best {name}"),
            format!("{} (step {})", short(best.value), best.step),
        );
    }
    facts = facts.fact(
        "Steps",
        match ending {
            Some(ending) if ending.step < record.steps => format!("{} of {}, ended early", ending.step, record.steps),
            Some(ending) => ending.step.to_string(),
            None => format!("{step:.0} of {}, under way", record.steps),
        },
    );
    if let Some(epoch) = number(&curves.step, "epoch") {
        facts = facts.fact("Epochs", format!("{:.0}", epoch + 1.0));
    }
    if let Some(loss) = number(&curves.step, "loss") {
        facts = facts.fact("Last loss", short(loss));
    }
    if let Some(ending) = ending.filter(|ending| ending.seconds > 0.0 && ending.done > 0) {
        facts = facts.fact("Pairs a second", short(ending.pairs / ending.seconds));
    }
    if let Some(ending) = ending {
        facts = facts.fact("Rows refused", ending.refused.to_string());
    }
    facts = facts.fact("Steps left out", curves.left_out.to_string());
    let towers = ["image_tower", "text_tower"].map(|name| config.get(name).and_then(toml::Value::as_str));
    let model = config.get("model").and_then(toml::Value::as_str);
    let model = model.map(str::to_owned).or(match towers {
        [Some(image), Some(text)] => Some(format!("{image} + {text}")),
        _ => None,
    });
    if let Some(model) = model {
        facts = facts.fact("From", model);
    }
    if let Some(environment) = config.get("environment").and_then(toml::Value::as_table) {
        let value = |name: &str| environment.get(name).map(|value| value.to_string().replace('"', ""));
        if let (Some(device), Some(threads), Some(libtorch)) = (value("device"), value("threads"), value("libtorch")) {
            facts = facts.fact("On", format!("{device}, threads {threads}, libtorch {libtorch}"));
        }
    }
    facts
}

/// `mean_recall` as words.
fn readable(name: &str) -> String {
    name.replace('_', " ").replace("r@", "R@").replace("mrr", "MRR")
}

/// Evaluations before, at the best and at the last, side by side.
fn figures(curves: &Curves, record: &Record) -> Table {
    let columns = [("r@1", "R@1"), ("r@5", "R@5"), ("r@10", "R@10"), ("mrr", "MRR")];
    let heads = DIRECTIONS.iter().flat_map(|(_, words)| {
        let short = if *words == "text to image" { "t→i" } else { "i→t" };
        columns.map(|(_, head)| format!("{head} {short}"))
    });
    let head = std::iter::once(String::new()).chain(heads);
    let table = Table::new(
        "Evaluations: recall in percent, text to image (t→i) and image to text (i→t)",
        head,
    );
    let before = record.before.as_ref();
    let before = before.map(|shot| ("before training".to_owned(), &shot.figures));
    let best = record.best.as_ref();
    let best = best.map(|shot| (format!("best, step {}", shot.step), &shot.figures));
    let last = number(&curves.evaluation, "step");
    let last = last.map(|step| (format!("last, step {step:.0}"), &curves.evaluation));
    [before, best, last]
        .into_iter()
        .flatten()
        .fold(table, |table, (name, figures)| {
            let cells = DIRECTIONS.iter().flat_map(|(direction, _)| {
                columns.map(
                    |(column, _)| match number(figures, &format!("valid_{column}_{direction}")) {
                        Some(value) if column == "mrr" => format!("{value:.3}"),
                        Some(value) => format!("{value:.1}"),
                        None => "–".into(),
                    },
                )
            });
            table.row(name, cells)
        })
}

/// What a figure becomes before it is drawn.
type Change = fn(f64) -> f64;

fn plots(curves: &Curves) -> Vec<Plot> {
    let mut plots = Vec::new();
    let points = |curve: &Curve| curve.points().collect::<Vec<_>>();
    let mut loss = Plot::new("loss");
    if let Some(curve) = curves.get("loss") {
        loss = loss.line("loss", points(curve));
    }
    // A single term of weight 1 is the loss itself.
    for (name, curve) in curves.terms().filter(|(_, curve)| Some(*curve) != curves.get("loss")) {
        loss = loss.line(name, points(curve));
    }
    plots.push(loss);
    let own: [(&str, &str, Change); 5] = [
        ("lr", "learning rate", |rate| rate),
        ("logit_scale", "temperature", |scale| (-scale).exp()),
        ("grad_norm", "gradient norm", |norm| norm),
        ("queue", "queue fill, percent", |share| 100.0 * share),
        ("concepts", "concepts in the queue", |count| count),
    ];
    for (name, title, change) in own {
        if let Some(curve) = curves.get(name) {
            let points = curve.points().map(|(step, value)| (step, change(value)));
            plots.push(Plot::new(title).line(title, points));
        }
    }
    plots.extend(evaluations(curves));
    plots.retain(|plot| !plot.is_empty());
    plots
}

/// A plot a figure of evaluations, a line a direction.
fn evaluations(curves: &Curves) -> Vec<Plot> {
    let mut plots: Vec<(String, Plot)> = Vec::new();
    for (name, curve) in curves.evaluations().filter(|(name, _)| *name != "queries") {
        let direction = DIRECTIONS.iter().find_map(|(ending, words)| {
            let figure = name.strip_suffix(ending)?.strip_suffix('_')?;
            Some((figure, *words))
        });
        let (figure, line) = direction.unwrap_or((name, "both"));
        let title = readable(figure);
        let points = curve.points();
        match plots.iter_mut().find(|(known, _)| known == figure) {
            Some((_, plot)) => *plot = std::mem::replace(plot, Plot::new("")).line(line, points),
            None => {
                let line = if direction.is_none() && figure != "mean_recall" {
                    &title
                } else {
                    line
                };
                let plot = Plot::new(title.clone()).line(line, points);
                plots.push((figure.to_owned(), plot));
            }
        }
    }
    plots.into_iter().map(|(_, plot)| plot).collect()
}

/// What sample titles find, before and with the best model.
fn samples(page: &mut Page, record: &Record) {
    let shots = [(&record.before, "before training"), (&record.best, "best model")];
    let shown: Vec<(&Shot, &str)> = shots
        .into_iter()
        .filter_map(|(shot, words)| Some((shot.as_ref()?, words)))
        .collect();
    let count = shown.iter().map(|(shot, _)| shot.queries.len()).max().unwrap_or(0);
    if count == 0 {
        return;
    }
    page.heading("What titles find").paragraph(
        "Titles of the pairs evaluated, the rank of the first right picture, and the pictures nearest to them. A picture \
         is right if it is the title's own or of the same product.",
    );
    let mut cards = Vec::new();
    for at in 0..count {
        for (shot, words) in &shown {
            if let Some(query) = shot.queries.get(at) {
                cards.push(card(query, shot, words, record));
            }
        }
    }
    page.add(&Cards::new(cards));
}

fn card(query: &Query, shot: &Shot, words: &str, record: &Record) -> Card {
    let tone = match query.rank {
        1 => Tone::Good,
        rank if rank <= query.found.len() => Tone::Plain,
        _ => Tone::Bad,
    };
    let verdict = Verdict::new(tone, format!("{words}: rank {} of {}", query.rank, shot.gallery));
    let mut card = Card::new(Exhibit::words(query.text.clone()), verdict);
    for found in &query.found {
        let exhibited = record.pictures.get(&found.row);
        let text = exhibited.map_or("", |exhibited| exhibited.text.as_str());
        let bytes = exhibited.and_then(|exhibited| STANDARD.decode(exhibited.picture.as_ref()?).ok());
        let exhibit = match bytes.and_then(|bytes| Picture::new(bytes, text).ok()) {
            Some(picture) => Exhibit::picture(picture, text),
            None => Exhibit::words(text),
        };
        let mark = if found.right {
            Verdict::new(Tone::Good, "right")
        } else {
            // Most are wrong: a colour for each would hide the right ones.
            Verdict::new(Tone::Plain, "wrong")
        };
        card = card.answer(exhibit, format!("{:.3}", found.score), Some(mark));
    }
    card
}

/// The sweep between the initial model and the trained one.
fn sweep(page: &mut Page, average: &Value) {
    let sweep = average.get("sweep").and_then(Value::as_array);
    let Some(sweep) = sweep.filter(|sweep| !sweep.is_empty()) else {
        return;
    };
    let columns = [
        ("valid_r@1_text_to_image", "R@1 t→i"),
        ("valid_r@1_image_to_text", "R@1 i→t"),
        ("valid_mean_recall", "mean recall"),
    ];
    let head = ["share of the training"]
        .into_iter()
        .chain(columns.map(|(_, head)| head));
    let mut table = Table::new(
        "Weights averaged between the initial model (0) and the trained one (1)",
        head,
    );
    for figures in sweep.iter().filter_map(Value::as_object) {
        let cell = |name: &str| number(figures, name).map_or_else(|| "–".into(), |value| format!("{value:.1}"));
        let share = number(figures, "alpha").map(short).unwrap_or_default();
        table = table.row(share, columns.map(|(name, _)| cell(name)));
    }
    page.heading("Between the initial model and the trained one")
        .add(&table);
    if let Some(alpha) = average.get("alpha").and_then(Value::as_f64) {
        page.paragraph(&format!("The model in averaged/ is the one at {}.", short(alpha)));
    }
}
