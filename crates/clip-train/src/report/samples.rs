//! What sample titles find: before training, and with the best model.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clip_core::{Embeddings, Id, Result};
use clip_index::{Options, top_k};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::evaluate::{Embedded, Evaluation};

/// What a model found, and how good it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shot {
    /// Steps done.
    pub(super) step: u64,
    /// Its evaluation's figures.
    pub(super) figures: Map<String, Value>,
    /// How many pictures were searched.
    pub(super) gallery: usize,
    pub(super) queries: Vec<Query>,
}

/// A title and the pictures it finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Query {
    pub(super) text: String,
    /// The rank of the first right picture, from 1. A tie counts against.
    pub(super) rank: usize,
    /// Best first.
    pub(super) found: Vec<Found>,
}

/// A picture that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    /// Its row among the pairs evaluated, from 0.
    pub(super) row: usize,
    pub(super) score: f32,
    pub(super) right: bool,
}

/// A picture and its title, as a report shows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Exhibited {
    pub(super) text: String,
    /// A small PNG, in base64; nothing where the picture could not be opened again.
    pub(super) picture: Option<String>,
}

/// How many titles, and how many pictures of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) queries: usize,
    pub(super) pictures: usize,
}

impl Shot {
    /// What titles spread evenly over the pairs find; the same titles whatever the model.
    pub(super) fn take(
        step: u64,
        embedded: &Embedded,
        figures: &Map<String, Value>,
        evaluation: &mut dyn Evaluation,
        extent: Extent,
    ) -> Result<Self> {
        let pairs = embedded.items.len();
        let count = extent.queries.min(pairs);
        let rows: Vec<usize> = (0..count).map(|at| at * pairs / count).collect();
        let dim = embedded.texts.dim();
        let values = rows.iter().flat_map(|&row| embedded.texts.row(row).iter().copied());
        let texts = Embeddings::new(values.collect(), dim)?;
        let found = top_k(&texts, &embedded.images, extent.pictures, Options::default())?;
        let mut queries = Vec::new();
        for (at, (&row, found)) in rows.iter().zip(found).enumerate() {
            let right = |other: usize| is_right(&embedded.items, row, other);
            queries.push(Query {
                text: evaluation.shown(row)?.map(|shown| shown.text).unwrap_or_default(),
                rank: rank(texts.row(at), &embedded.images, &right),
                found: found
                    .into_iter()
                    .map(|scored| Found {
                        row: scored.row,
                        score: scored.score,
                        right: right(scored.row),
                    })
                    .collect(),
            });
        }
        let mut figures = figures.clone();
        figures.shift_remove("step");
        Ok(Self {
            step,
            figures,
            gallery: pairs,
            queries,
        })
    }

    /// The rows that it shows.
    pub(super) fn rows(&self) -> impl Iterator<Item = usize> {
        self.queries
            .iter()
            .flat_map(|query| query.found.iter().map(|found| found.row))
    }
}

/// Whether a picture is right for a title: its own, or one of its product.
fn is_right(items: &[Option<Id>], query: usize, other: usize) -> bool {
    query == other || (items[query].is_some() && items[query] == items[other])
}

fn rank(query: &[f32], images: &Embeddings, right: &dyn Fn(usize) -> bool) -> usize {
    let score = |row: usize| -> f32 { query.iter().zip(images.row(row)).map(|(a, b)| a * b).sum() };
    let scores: Vec<f32> = (0..images.len()).map(score).collect();
    let own = (0..scores.len()).filter(|row| right(*row)).map(|row| scores[row]);
    let best = own.fold(f32::NEG_INFINITY, f32::max);
    let before = (0..scores.len()).filter(|row| !right(*row) && scores[*row] >= best);
    1 + before.count()
}

/// Adds what `shot` shows to the pictures there are, and drops what neither it nor `other` shows.
pub(super) fn exhibit(
    pictures: &mut BTreeMap<usize, Exhibited>,
    shot: &Shot,
    other: Option<&Shot>,
    evaluation: &mut dyn Evaluation,
) -> Result<()> {
    let kept: Vec<usize> = shot.rows().chain(other.into_iter().flat_map(Shot::rows)).collect();
    pictures.retain(|row, _| kept.contains(row));
    for row in shot.rows() {
        if !pictures.contains_key(&row)
            && let Some(shown) = evaluation.shown(row)?
        {
            pictures.insert(
                row,
                Exhibited {
                    text: shown.text,
                    picture: shown.picture.map(|bytes| STANDARD.encode(bytes)),
                },
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Shown;
    use clip_nn::DualEncoder;

    struct Titles;

    impl Evaluation for Titles {
        fn embed(&mut self, _: &DualEncoder, _: clip_nn::Compute) -> Result<Embedded> {
            Err(clip_core::Error::internal("not asked for"))
        }

        fn shown(&mut self, row: usize) -> Result<Option<Shown>> {
            Ok(Some(Shown {
                text: format!("title {row}"),
                picture: Some(vec![row as u8]),
            }))
        }
    }

    fn embedded() -> Embedded {
        // Texts and pictures on a circle; pictures are one place further than their titles.
        let around = |shift: usize| {
            let angles = (0..8).map(|row| (row + shift) as f32 * std::f32::consts::TAU / 8.0);
            Embeddings::new(angles.flat_map(|angle| [angle.cos(), angle.sin()]).collect(), 2).unwrap()
        };
        let mut items = vec![None; 8];
        (items[4], items[3]) = (Some(Id(9)), Some(Id(9)));
        Embedded {
            texts: around(0),
            images: around(1),
            items,
        }
    }

    #[test]
    fn titles_find_pictures_and_know_the_right_ones() {
        let figures = Map::from_iter([("step".to_owned(), 3.into()), ("valid_mrr".to_owned(), 0.5.into())]);
        let extent = Extent {
            queries: 2,
            pictures: 3,
        };
        let shot = Shot::take(3, &embedded(), &figures, &mut Titles, extent).unwrap();
        assert_eq!((shot.step, shot.gallery, shot.figures.len()), (3, 8, 1));
        let texts: Vec<&str> = shot.queries.iter().map(|query| query.text.as_str()).collect();
        assert_eq!(texts, ["title 0", "title 4"]);
        // Title 0 lies where picture 7 does; its own picture and number 6 are as far away, and the tie counts against.
        assert_eq!((shot.queries[0].found[0].row, shot.queries[0].rank), (7, 3));
        // Picture 3, where title 4 lies, is of the same product.
        let first = &shot.queries[1].found[0];
        assert_eq!((first.row, first.right, shot.queries[1].rank), (3, true, 1));
        let mut pictures = BTreeMap::from([(
            99,
            Exhibited {
                text: String::new(),
                picture: None,
            },
        )]);
        exhibit(&mut pictures, &shot, None, &mut Titles).unwrap();
        let mut rows: Vec<usize> = shot.rows().collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(pictures.keys().copied().collect::<Vec<_>>(), rows);
        assert_eq!(pictures[&3].text, "title 3");
    }

    #[test]
    fn few_pairs_are_all_titles() {
        let extent = Extent {
            queries: 99,
            pictures: 99,
        };
        let shot = Shot::take(0, &embedded(), &Map::new(), &mut Titles, extent).unwrap();
        assert!(shot.queries.len() == 8 && shot.queries.iter().all(|query| query.found.len() == 8));
    }
}
