//! The table of figures, and what it is by.

use clip_page::Table;

use crate::evaluate::{Direction, Evaluation};
use crate::protocol::Protocol;

/// The figures of both directions, beside chance.
pub(super) fn table(evaluation: &Evaluation, guessed: &Evaluation) -> Table {
    // What matters most stands first, since a phone shows only the first few columns at once.
    let protocol = &evaluation.protocol;
    let forth = &evaluation.text_to_image;
    let mut columns = vec![format!("protocol {protocol}")];
    columns.extend(forth.figures.recalls.iter().map(|(k, _)| format!("R@{k} %")));
    columns.extend(["mean %", "median rank", "mean rank", "MRR"].map(str::to_owned));
    if forth.precision.is_some() {
        columns.extend(["mAP %", "nDCG %"].map(str::to_owned));
    }
    columns.extend(["queries", "gallery"].map(str::to_owned));
    let cells = |found: &Direction| {
        let figures = &found.figures;
        let recalls = figures.recalls.iter().map(|(_, recall)| recall);
        let mut cells: Vec<String> = recalls
            .chain([figures.mean_recall, figures.median_rank, figures.mean_rank])
            .map(|figure| format!("{figure:.1}"))
            .collect();
        cells.push(format!("{:.3}", figures.mrr));
        if forth.precision.is_some() {
            let shares = found.precision.as_ref().map(|found| [found.map, found.ndcg]);
            // One direction alone may have several right rows a query.
            cells.extend(shares.map_or(["", ""].map(str::to_owned), |shares| {
                shares.map(|share| format!("{share:.1}"))
            }));
        }
        cells.extend([figures.queries.to_string(), figures.gallery.to_string()]);
        cells
    };
    let caption = format!("Recalls and ranks by protocol {protocol}, and what guessing would reach");
    Table::new(caption, columns)
        .row("text to image", cells(&evaluation.text_to_image))
        .row("by chance", cells(&guessed.text_to_image))
        .row("image to text", cells(&evaluation.image_to_text))
        .row("by chance", cells(&guessed.image_to_text))
}

/// Where the figures are of something else than the cards show.
pub(super) fn note(evaluation: &Evaluation) -> Option<String> {
    match (evaluation.protocol, &evaluation.text_to_image.group_by) {
        (Protocol::Sampled { others }, _) => Some(format!(
            "The figures are by protocol {}: each query is ranked among its own and {others} others of the same category, drawn \
             at random. They cannot be compared with figures of the full gallery, which the queries below are ranked in.",
            evaluation.protocol
        )),
        (Protocol::Full, Some(name)) => Some(format!(
            "The figures rank groups of rows by their best row ({name}): a group counts once. The queries below are ranked \
             among single rows."
        )),
        (Protocol::Full, None) => None,
    }
}
