//! An evaluation to look at: figures beside chance, and what single queries found.

mod figures;

use clip_core::{Embeddings, Error, Id, Result};
use clip_index::{PositiveLists, Positives, Ranks, rank, top_k};
use clip_page::{Card, Cards, Exhibit, Facts, Page, Picture, Tone, Verdict};

use crate::evaluate::{Evaluation, chance};
use crate::protocol::Rules;
use crate::relevance::Relevance;

/// Queries that are ranked in search of good and bad examples.
const DRAWN: usize = 1024;

/// What [`retrieval_page`] shows samples of. Rows of both sides are unit rows.
#[derive(Clone, Copy)]
pub struct Gallery<'a> {
    /// The texts' embeddings.
    pub texts: &'a Embeddings,
    /// The images' embeddings.
    pub images: &'a Embeddings,
    /// Which belong together.
    pub relevance: &'a Relevance,
    /// The words of a text, by row.
    pub text: &'a dyn Fn(usize) -> String,
    /// The picture of an image, by row, with words for those who do not see it. Small ones: each is written as often
    /// as it is shown.
    pub picture: &'a dyn Fn(usize) -> Result<Picture>,
}

/// How [`retrieval_page`] looks.
#[derive(Debug, Clone)]
pub struct PageOptions {
    /// The page's title.
    pub title: String,
    /// A sentence or two below it; empty for none.
    pub introduction: String,
    /// Names and values to show on top: model, data set, …
    pub facts: Vec<(String, String)>,
    /// Decides which queries are drawn.
    pub seed: u64,
    /// Queries to show in each direction.
    pub queries: usize,
    /// Answers to show for each.
    pub top: usize,
    /// What the evaluation was made by.
    pub rules: Rules,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self {
            title: "Retrieval".into(),
            introduction: String::new(),
            facts: Vec::new(),
            seed: 0,
            queries: 12,
            top: 5,
            rules: Rules::default(),
        }
    }
}

/// A page of an evaluation's figures beside those of chance, and of queries in both directions with what they found.
/// Queries are drawn by the seed, half of them such whose first answer is right, half of them others, as far as there
/// are enough of each.
pub fn retrieval_page(evaluation: &Evaluation, gallery: Gallery<'_>, options: &PageOptions) -> Result<Page> {
    let (texts, images) = (gallery.texts.len(), gallery.images.len());
    let guessed = chance(gallery.relevance, texts, images, &options.rules)?;
    let mut page = Page::new(options.title.as_str(), "en");
    if !options.introduction.is_empty() {
        page.paragraph(&options.introduction);
    }
    if !options.facts.is_empty() {
        page.add(
            &options
                .facts
                .iter()
                .fold(Facts::new(), |facts, (name, value)| facts.fact(name, value)),
        );
    }
    page.add(&figures::table(evaluation, &guessed));
    let note = figures::note(evaluation);
    // The cards are of single rows of the full gallery: other figures do not say how often what they show happens.
    let how_often = match note {
        None => "can be seen: how often each happens is in the table",
        Some(_) => "can be seen",
    };
    if let Some(note) = note {
        page.paragraph(&note);
    }
    page.paragraph(&format!(
        "Below are queries drawn with seed {}. About half found a right answer first and half did not, so that both {how_often}.",
        options.seed
    ));
    let positives = gallery.relevance.positives();
    let forth = Direction {
        queries: gallery.texts,
        answers: gallery.images,
        positives: positives.clone(),
        noun: "picture",
    };
    let back = Direction {
        queries: gallery.images,
        answers: gallery.texts,
        positives: positives.transposed(gallery.images.len())?,
        noun: "text",
    };
    let as_text = |row: usize| Ok(Exhibit::words((gallery.text)(row)));
    let as_picture = |row: usize| Ok(Exhibit::picture((gallery.picture)(row)?, ""));
    page.heading("Texts find pictures");
    page.add(&Cards::new(forth.cards(options, &as_text, &as_picture)?));
    page.heading("Pictures find texts");
    page.add(&Cards::new(back.cards(options, &as_picture, &as_text)?));
    Ok(page)
}

/// Shows a row of one side.
type Show<'a> = &'a dyn Fn(usize) -> Result<Exhibit>;

/// Queries of one side, answers of the other.
struct Direction<'a> {
    queries: &'a Embeddings,
    answers: &'a Embeddings,
    positives: Positives,
    noun: &'static str,
}

impl Direction<'_> {
    fn cards(&self, options: &PageOptions, query: Show<'_>, answer: Show<'_>) -> Result<Vec<Card>> {
        let (rows, ranks) = self.draw(options)?;
        let chosen = choose(&ranks, options.queries);
        let rows: Vec<(usize, usize)> = chosen.into_iter().map(|(place, rank)| (rows[place], rank)).collect();
        let queries = gather(self.queries, rows.iter().map(|&(row, _)| row))?;
        let found = top_k(&queries, self.answers, options.top, options.rules.options)?;
        let mut cards = Vec::with_capacity(rows.len());
        for (&(row, rank), hits) in rows.iter().zip(found) {
            let right = self.positives.rows(row);
            let mut card = Card::new(query(row)?, self.verdict(rank, options.top));
            for hit in hits {
                let mark = right
                    .binary_search(&hit.row)
                    .is_ok()
                    .then(|| Verdict::new(Tone::Good, "right"));
                card = card.answer(answer(hit.row)?, format!("{:.3}", hit.score), mark);
            }
            // Who sees a miss wants to see what was missed.
            if rank > options.top {
                let missed = top_k(
                    &gather(self.queries, [row])?,
                    &gather(self.answers, right.iter().copied())?,
                    1,
                    options.rules.options,
                )?;
                for hit in missed.into_iter().flatten() {
                    let mark = Verdict::new(Tone::Bad, "missed");
                    card = card.answer(
                        answer(right[hit.row])?,
                        format!("{:.3} at rank {rank}", hit.score),
                        Some(mark),
                    );
                }
            }
            cards.push(card);
        }
        Ok(cards)
    }

    /// Rows of queries in an order that the seed decides, and their ranks.
    fn draw(&self, options: &PageOptions) -> Result<(Vec<usize>, Ranks)> {
        let stream = format!("{} by seed {}", self.noun, options.seed);
        let mut rows: Vec<usize> = (0..self.queries.len()).collect();
        rows.sort_by_cached_key(|&row| Id::of_row(&stream, row as u64));
        rows.truncate(DRAWN);
        let mut lists = PositiveLists::default();
        for &row in &rows {
            lists.push(self.positives.rows(row))?;
        }
        let queries = gather(self.queries, rows.iter().copied())?;
        let ranks = rank(&queries, self.answers, &Positives::Lists(lists), options.rules.options)?;
        Ok((rows, ranks))
    }

    fn verdict(&self, rank: usize, top: usize) -> Verdict {
        let noun = self.noun;
        match rank {
            1 => Verdict::new(Tone::Good, format!("right {noun} first")),
            rank if rank <= top => Verdict::new(Tone::Plain, format!("right {noun} at rank {rank}")),
            rank => Verdict::new(
                Tone::Bad,
                format!("missed: right {noun} at rank {rank} of {}", self.answers.len()),
            ),
        }
    }
}

/// Places and ranks of up to `count` queries: as many of rank 1 as of others, as far as there are; in drawn order.
fn choose(ranks: &Ranks, count: usize) -> Vec<(usize, usize)> {
    let ranked = ranks
        .ranks()
        .iter()
        .enumerate()
        .filter_map(|(place, rank)| Some((place, rank.as_ref()?.get() as usize)));
    let (first, later): (Vec<_>, Vec<_>) = ranked.partition(|&(_, rank)| rank == 1);
    let firsts = first.len().min((count / 2).max(count.saturating_sub(later.len())));
    let mut chosen: Vec<_> = first
        .into_iter()
        .take(firsts)
        .chain(later.into_iter().take(count - firsts))
        .collect();
    chosen.sort_unstable();
    chosen
}

fn gather(embeddings: &Embeddings, rows: impl IntoIterator<Item = usize>) -> Result<Embeddings> {
    let data: Vec<f32> = rows
        .into_iter()
        .flat_map(|row| embeddings.row(row).iter().copied())
        .collect();
    if data.is_empty() {
        return Ok(Embeddings::default());
    }
    Embeddings::new(data, embeddings.dim()).map_err(|error| Error::internal(error.what().to_owned()).source(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::protocol::{Grouping, Labels, Protocol};

    fn ring(rows: usize, turn: f32) -> Embeddings {
        let angle = |row: usize| row as f32 / rows as f32 * std::f32::consts::TAU + turn;
        Embeddings::new(
            (0..rows).flat_map(|row| [angle(row).cos(), angle(row).sin()]).collect(),
            2,
        )
        .unwrap()
    }

    fn page(turn: f32, seed: u64) -> String {
        ruled(turn, seed, Relevance::diagonal(), Rules::default())
    }

    fn ruled(turn: f32, seed: u64, relevance: Relevance, rules: Rules) -> String {
        let (texts, images) = (ring(40, turn), ring(40, 0.0));
        let evaluation = evaluate(&texts, &images, &relevance, &rules).unwrap();
        let gallery = Gallery {
            texts: &texts,
            images: &images,
            relevance: &relevance,
            text: &|row| format!("text number {row} <b>"),
            picture: &|row| Picture::new(b"GIF89a", format!("picture {row}")),
        };
        let options = PageOptions {
            seed,
            queries: 4,
            top: 3,
            rules,
            ..PageOptions::default()
        };
        retrieval_page(&evaluation, gallery, &options).unwrap().render()
    }

    #[test]
    fn a_model_that_finds_all_shows_no_miss() {
        let html = page(0.0, 1);
        assert_eq!(
            (
                html.matches("right picture first").count(),
                html.matches("right text first").count()
            ),
            (4, 4)
        );
        assert!(!html.contains("missed") && html.contains("&lt;b&gt;") && !html.contains("<b>"));
        // Each figure stands below its own heading.
        let cells = |row: usize, name: &str| -> Vec<String> {
            let row = html.split("<tr>").nth(row).unwrap().split("</tr>").next().unwrap();
            let start = format!("<{name} ");
            let cells = row.split(start.as_str()).skip(1);
            cells
                .map(|cell| cell.split('>').nth(1).unwrap().split('<').next().unwrap().to_owned())
                .collect()
        };
        let headings = [
            "protocol full",
            "R@1 %",
            "R@5 %",
            "R@10 %",
            "mean %",
            "median rank",
            "mean rank",
            "MRR",
            "queries",
            "gallery",
        ];
        assert_eq!(cells(1, "th"), headings);
        assert_eq!(
            cells(2, "td"),
            ["100.0", "100.0", "100.0", "100.0", "1.0", "1.0", "1.000", "40", "40"]
        );
        assert_eq!(
            (&cells(3, "th")[0][..], &cells(3, "td")[..4]),
            ("by chance", &["2.5", "12.5", "25.0", "13.3"].map(str::to_owned)[..])
        );
    }

    #[test]
    fn a_miss_shows_what_was_missed() {
        // Turned by half a circle, each text is farthest from its own picture.
        let html = page(std::f32::consts::PI, 1);
        assert_eq!(html.matches("missed: right picture at rank 40 of 40").count(), 4);
        assert_eq!(html.matches(" at rank 40</span>").count(), 8);
    }

    #[test]
    fn the_protocol_stands_beside_the_figures() {
        let labels = |modulus: u64| Labels {
            texts: (0..40).map(|row| row % modulus).collect(),
            images: (0..40).map(|row| row % modulus).collect(),
        };
        let rules = Rules {
            protocol: Protocol::Sampled { others: 5 },
            categories: Some(labels(2)),
            ..Rules::default()
        };
        let html = ruled(0.0, 1, Relevance::diagonal(), rules);
        assert!(html.contains("protocol sampled:5") && html.contains("5 others of the same category"));
        let rules = Rules {
            grouping: Some(Grouping {
                name: "item".into(),
                labels: labels(10),
            }),
            ..Rules::default()
        };
        let html = ruled(0.0, 1, Relevance::diagonal(), rules);
        assert!(html.contains("protocol full") && html.contains("by their best row (item)") && !html.contains("mAP"));
        let html = ruled(0.0, 1, Relevance::by_labels(labels(10)), Rules::default());
        assert!(html.contains("mAP %") && !html.contains("by their best row"));
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(page(0.0, 1), page(0.0, 1));
        assert_ne!(page(0.0, 1), page(0.0, 2));
    }

    #[test]
    fn both_kinds_are_shown_where_there_are_both() {
        let ranks = |ranks: &[u32]| Ranks::new(ranks.iter().map(|&rank| std::num::NonZeroU32::new(rank)).collect(), 9);
        assert_eq!(
            choose(&ranks(&[1, 1, 0, 1, 5, 1, 2]), 4),
            [(0, 1), (1, 1), (4, 5), (6, 2)]
        );
        assert_eq!(choose(&ranks(&[1, 1, 1, 5]), 3), [(0, 1), (1, 1), (3, 5)]);
        assert_eq!(choose(&ranks(&[4, 3]), 5), [(0, 4), (1, 3)]);
    }
}
