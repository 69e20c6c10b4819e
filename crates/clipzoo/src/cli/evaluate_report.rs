//! What `clipzoo evaluate` prints for people: short tables, against chance, each with its protocol.

use clip_apps::{Direction, Evaluation, Protocol, Rules};
use clip_index::PrecisionFigures;

use super::args::note;

/// Both directions of an evaluation of so many texts and pictures.
pub(super) fn report(evaluation: &Evaluation, chance: &Evaluation, rows: [usize; 2], rules: &Rules) -> String {
    let mut text = heading(evaluation, rows, rules) + "\n";
    let pairs = [
        ("text to image", &evaluation.text_to_image, &chance.text_to_image),
        ("image to text", &evaluation.image_to_text, &chance.image_to_text),
    ];
    let mut recalls = Table::new(format!("recall in %, {}", evaluation.protocol));
    recalls.columns(rules.cuts.ranks().iter().map(|k| format!("R@{k}")));
    recalls.columns(["mean", "median rank", "mean rank", "MRR"].map(str::to_owned));
    for (name, found, guessed) in pairs {
        recalls.row(name, ranks(found));
        recalls.row("  by chance", ranks(guessed));
    }
    text += &recalls.write();
    if pairs.iter().any(|(_, found, _)| found.precision.is_some()) {
        let mut precisions = of_precisions(&evaluation.protocol.to_string(), rules);
        for (name, found, guessed) in pairs {
            if let Some(found) = &found.precision {
                precisions.row(name, shares(found));
                precisions.row("  by chance", guessed.precision.as_ref().map_or(Vec::new(), shares));
            }
        }
        text += "\n";
        text += &precisions.write();
    }
    text
}

/// A query by a concept's name among pictures.
pub(super) fn concept_report(found: &PrecisionFigures, chance: &PrecisionFigures, rules: &Rules) -> String {
    let mut table = of_precisions(&Protocol::Full.to_string(), rules);
    table.row("concept to image", shares(found));
    table.row("  by chance", shares(chance));
    format!("{} concepts\n{}", found.queries, table.write())
}

/// Says of which queries the protocol could not have what it names.
pub(super) fn tell_short(evaluation: &Evaluation) {
    let Protocol::Sampled { others } = evaluation.protocol else {
        return;
    };
    for (name, found) in [
        ("text to image", &evaluation.text_to_image),
        ("image to text", &evaluation.image_to_text),
    ] {
        let (short, queries) = (found.short_queries, found.figures.queries);
        if short > 0 {
            note(&format!(
                "{name}: for {short} of {queries} queries their category has fewer than {others} others; they are ranked \
                 among all of them"
            ));
        }
    }
}

fn heading(evaluation: &Evaluation, [texts, images]: [usize; 2], rules: &Rules) -> String {
    let forth = &evaluation.text_to_image.figures;
    let queries = match forth.queries {
        all if all == texts => String::new(),
        some => format!(" ({some} with a right picture)"),
    };
    let groups = rules.grouping.as_ref().map_or_else(String::new, |grouping| {
        let (pictures, words) = (forth.gallery, evaluation.image_to_text.figures.gallery);
        format!(
            "; pictures count by their best in {pictures} groups, texts in {words} ({})",
            grouping.name
        )
    });
    let protocol = match evaluation.protocol {
        Protocol::Full => String::new(),
        Protocol::Sampled { others } => format!(
            ": a right row and {others} of its category, drawn by seed {}",
            rules.seed
        ),
    };
    let name = evaluation.protocol;
    format!("{texts} texts{queries}, {images} pictures{groups}\nprotocol {name}{protocol}")
}

fn ranks(found: &Direction) -> Vec<String> {
    let figures = &found.figures;
    let recalls = figures.recalls.iter().map(|(_, recall)| recall);
    let mut cells: Vec<String> = recalls
        .chain([figures.mean_recall])
        .map(|share| format!("{share:.2}"))
        .collect();
    cells.extend([figures.median_rank, figures.mean_rank].map(|rank| format!("{rank:.1}")));
    cells.push(format!("{:.4}", figures.mrr));
    cells
}

fn of_precisions(protocol: &str, rules: &Rules) -> Table {
    let mut table = Table::new(format!("precision in %, {protocol}"));
    table.columns(["mAP", "nDCG"].map(str::to_owned));
    for name in ["P", "nDCG"] {
        table.columns(rules.cuts.ranks().iter().map(|k| format!("{name}@{k}")));
    }
    table
}

fn shares(found: &PrecisionFigures) -> Vec<String> {
    let cuts = found
        .precisions
        .iter()
        .chain(found.ndcgs.iter())
        .map(|(_, share)| share);
    [found.map, found.ndcg]
        .into_iter()
        .chain(cuts)
        .map(|share| format!("{share:.2}"))
        .collect()
}

/// Rows of cells below their headings.
struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: String) -> Self {
        Self {
            headings: vec![title],
            rows: Vec::new(),
        }
    }

    fn columns(&mut self, names: impl IntoIterator<Item = String>) {
        self.headings.extend(names);
    }

    fn row(&mut self, name: &str, cells: Vec<String>) {
        self.rows.push([vec![name.to_owned()], cells].concat());
    }

    fn write(&self) -> String {
        let all = || std::iter::once(&self.headings).chain(&self.rows);
        let width = |column: usize| {
            all()
                .filter_map(|row| row.get(column))
                .map(String::len)
                .max()
                .unwrap_or(0)
        };
        let cell = |(column, cell): (usize, &String)| match column {
            0 => format!("{cell:<0$}", width(0)),
            _ => format!("{cell:>0$}", width(column).max(5) + 2),
        };
        let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<String>();
        all().map(line).collect::<Vec<_>>().join("\n")
    }
}
