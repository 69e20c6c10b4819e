//! The page that `clipzoo evaluate --page` writes: queries drawn by a seed, and what they found.

use std::path::Path;

use clip_apps::{Evaluation, Gallery, PageOptions, Relevance, Rules, retrieval_page};
use clip_core::{EncodedImage, Error, PairTable, Result};

use super::evaluate_sides::{Side, Sides};
use super::pictures::small;

/// What the page shows samples of.
pub(super) struct Shown<'a> {
    pub(super) model: Option<&'a Path>,
    pub(super) sides: &'a Sides,
    pub(super) relevance: &'a Relevance,
}

/// Writes the page, whole or not at all.
pub(super) fn write(shown: &Shown<'_>, evaluation: &Evaluation, rules: Rules, path: &Path) -> Result<()> {
    let Sides { texts, images, .. } = shown.sides;
    // A row that was embedded a moment ago can be read; if the file changed since, its place stays empty. A gallery of pictures
    // alone has no words for them.
    let text = |row: usize| words(texts, row).unwrap_or_default();
    let picture = |row: usize| {
        let image = encoded(images, row)?;
        let words = words(images, row).unwrap_or_else(|| format!("picture {row}"));
        small(&image, words)
    };
    let gallery = Gallery {
        texts: &texts.features,
        images: &images.features,
        relevance: shown.relevance,
        text: &text,
        picture: &picture,
    };
    let mut facts: Vec<(String, String)> = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.into(), value));
    if let Some(model) = shown.model {
        fact("Model", model.display().to_string());
    }
    let named = |side: &Side| side.table.as_ref().map(|table| table.path().display().to_string());
    let (table, other) = (named(texts).unwrap_or_default(), named(images).unwrap_or_default());
    fact("Table", table.clone());
    if other != table {
        fact("Pictures", other);
    }
    fact("Protocol", evaluation.protocol.to_string());
    fact("Seed of the draw", rules.seed.to_string());
    let page_options = PageOptions {
        title: format!("{table}: what queries find"),
        facts,
        seed: rules.seed,
        rules,
        ..PageOptions::default()
    };
    retrieval_page(evaluation, gallery, &page_options)?.write(path)
}

fn words(side: &Side, row: usize) -> Option<String> {
    let pair = side.table.as_ref()?.get(*side.rows.get(row)?).ok()?;
    pair.texts.first().map(ToString::to_string)
}

fn encoded(side: &Side, row: usize) -> Result<EncodedImage> {
    let gone = || Error::invalid("the row has no picture").remedy("name the table that the pictures are in");
    let (Some(table), Some(&row)) = (&side.table, side.rows.get(row)) else {
        return Err(gone());
    };
    table.get(row)?.images.into_iter().next().ok_or_else(gone)
}
