//! What `clipzoo classify` writes or prints of each picture.

use std::io::Write;
use std::path::Path;

use clip_apps::{Classes, Guess};
use clip_core::serde_json::{Map, Value, json};
use clip_core::{Error, Result};
use clip_data::PendingFile;

use super::args::print;
use super::classify_pictures::Pictures;

/// Where the labels of single pictures go.
pub(super) enum Lines {
    /// Nowhere: only figures are wanted.
    None,
    /// To stdout, for people.
    Printed,
    /// Into the one object that is printed at the end.
    Kept(Vec<Value>),
    /// An object a line.
    Json(PendingFile),
    /// A row a line, of so many labels.
    Tsv(PendingFile, usize),
}

impl Lines {
    /// A file, in the format of its extension.
    pub(super) fn file(path: &Path, pictures: &Pictures, top_k: usize) -> Result<Self> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("jsonl") => Ok(Self::Json(PendingFile::create(path)?)),
            Some("tsv") => {
                let mut file = PendingFile::create(path)?;
                let mut heading = String::from("row");
                for name in [pictures.name_heading(), pictures.has_truths().then_some("truth")]
                    .into_iter()
                    .flatten()
                {
                    heading += &format!("\t{name}");
                }
                (1..=top_k).for_each(|k| heading += &format!("\tlabel_{k}\tprobability_{k}"));
                writeln!(file, "{heading}").map_err(|error| file.error(error))?;
                Ok(Self::Tsv(file, top_k))
            }
            _ => Err(
                Error::invalid("the extension does not say how the labels are to be written")
                    .file(path)
                    .remedy("name it .jsonl (an object a picture) or .tsv"),
            ),
        }
    }

    /// Takes in a picture's guesses; `None` if it was refused.
    pub(super) fn push(
        &mut self,
        row: u64,
        pictures: &Pictures,
        classes: &Classes,
        truth: Option<usize>,
        guesses: Option<&[Guess]>,
    ) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Printed => print(&for_people(row, pictures, classes, guesses)),
            Self::Kept(objects) => {
                objects.push(object(row, pictures, classes, truth, guesses));
                Ok(())
            }
            Self::Json(file) => {
                let line = object(row, pictures, classes, truth, guesses);
                writeln!(file, "{line}").map_err(|error| file.error(error))
            }
            Self::Tsv(file, top_k) => {
                let line = cells(row, pictures, classes, truth, guesses, *top_k).join("\t");
                writeln!(file, "{line}").map_err(|error| file.error(error))
            }
        }
    }

    /// Makes the file appear; gives the objects that were kept.
    pub(super) fn finish(self) -> Result<Option<Vec<Value>>> {
        match self {
            Self::None | Self::Printed => Ok(None),
            Self::Kept(objects) => Ok(Some(objects)),
            Self::Json(file) | Self::Tsv(file, _) => file.commit().map(|()| None),
        }
    }
}

fn for_people(row: u64, pictures: &Pictures, classes: &Classes, guesses: Option<&[Guess]>) -> String {
    let name = pictures.name(row).unwrap_or_else(|| format!("row {row}"));
    let Some(guesses) = guesses else {
        return format!("{name}: refused");
    };
    let guess = |guess: &Guess| format!("{} {:.1} %", classes.label(guess.class), 100.0 * guess.probability);
    format!("{name}: {}", guesses.iter().map(guess).collect::<Vec<_>>().join(", "))
}

fn object(row: u64, pictures: &Pictures, classes: &Classes, truth: Option<usize>, guesses: Option<&[Guess]>) -> Value {
    let mut object = Map::new();
    object.insert("row".into(), row.into());
    if let Some(heading) = pictures.name_heading() {
        object.insert(heading.into(), json!(pictures.name(row)));
    }
    if pictures.has_truths() {
        object.insert("truth".into(), json!(truth.map(|class| classes.label(class))));
    }
    let guess = |guess: &Guess| json!({ "label": classes.label(guess.class), "probability": short(guess.probability), "score": short(guess.score) });
    let labels = guesses.map(|guesses| guesses.iter().map(guess).collect::<Vec<_>>());
    object.insert("labels".into(), json!(labels));
    Value::Object(object)
}

/// As short as the number can be told from others of its type, and not with the digits of a longer one.
fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The cells of a row: always as many, empty where there is nothing to say.
fn cells(
    row: u64,
    pictures: &Pictures,
    classes: &Classes,
    truth: Option<usize>,
    guesses: Option<&[Guess]>,
    top_k: usize,
) -> Vec<String> {
    // A cell cannot hold what parts cells and rows.
    let cell = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let mut cells = vec![row.to_string()];
    cells.extend(
        pictures
            .name_heading()
            .map(|_| cell(&pictures.name(row).unwrap_or_default())),
    );
    cells.extend(
        pictures
            .has_truths()
            .then(|| cell(truth.map_or("", |class| classes.label(class)))),
    );
    let mut guesses = guesses.unwrap_or_default().iter();
    for _ in 0..top_k {
        let guess = guesses.next();
        cells.push(guess.map_or_else(String::new, |guess| cell(classes.label(guess.class))));
        cells.push(guess.map_or_else(String::new, |guess| guess.probability.to_string()));
    }
    cells
}
