//! The page that `clipzoo evaluate --page` writes: queries drawn by a seed, and what they found.

use std::path::Path;

use clip_apps::{Evaluation, Gallery, PageOptions, Relevance, retrieval_page};
use clip_core::{Embeddings, PairTable, Result};
use clip_data::Table;
use clip_index::Options;

use super::pictures::of_row;

/// What the page shows samples of. Row `i` of the features is row `rows[i]` of the table.
pub(super) struct Shown<'a> {
    pub(super) model: &'a Path,
    pub(super) table: &'a Table,
    pub(super) rows: &'a [usize],
    pub(super) texts: &'a Embeddings,
    pub(super) images: &'a Embeddings,
    pub(super) relevance: &'a Relevance,
}

/// Writes the page, whole or not at all.
pub(super) fn write(
    shown: &Shown<'_>,
    evaluation: &Evaluation,
    seed: u64,
    options: Options,
    path: &Path,
) -> Result<()> {
    let text = |row: usize| {
        // A row that was embedded a moment ago can be read; if the file changed since, its place stays empty.
        let pair = shown.table.get(shown.rows[row]);
        pair.ok()
            .and_then(|pair| pair.texts.first().map(ToString::to_string))
            .unwrap_or_default()
    };
    let picture = |row: usize| of_row(shown.table, shown.rows[row], text(row));
    let gallery = Gallery {
        texts: shown.texts,
        images: shown.images,
        relevance: shown.relevance,
        text: &text,
        picture: &picture,
    };
    let named = |path: &Path| path.display().to_string();
    let page_options = PageOptions {
        title: format!("{}: what queries find", shown.table.path().display()),
        facts: vec![
            ("Model".into(), named(shown.model)),
            ("Table".into(), named(shown.table.path())),
            ("Seed of the draw".into(), seed.to_string()),
        ],
        seed,
        options,
        ..PageOptions::default()
    };
    retrieval_page(evaluation, gallery, &page_options)?.write(path)
}
