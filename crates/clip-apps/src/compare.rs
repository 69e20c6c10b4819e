//! Two models on the same queries over the same gallery: where they agree, and who finds what is right.

mod figures;
mod page;

use std::collections::HashMap;

use clip_core::{App, EmbedWorker, Embedder, Embeddings, Error, Result};
use clip_index::{Options, PositiveLists, Ranks, Scored, rank, top_k};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use figures::{CompareSummary, Judged, SideFigures, Winner};
pub use page::{ComparePage, compare_page};

use crate::evaluate::unit;
use crate::relevance::Relevance;
use crate::retrieval::{RetrievalHit, check_gallery};

/// Queries that one request may hold.
const MAX_QUERIES: usize = 1024;

/// Hits that one query may ask for.
const MAX_HITS: usize = 1000;

/// One model's view: queries and gallery as it embeds them. Rows of both sides stand for the same queries and pictures.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// The queries, a row each.
    pub queries: &'a Embeddings,
    /// The gallery, a row each.
    pub gallery: &'a Embeddings,
}

/// What two models found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Query by query.
    pub queries: Vec<Compared>,
    /// All of them together.
    pub summary: CompareSummary,
}

/// What two models found for one query.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What each found, A's first.
    pub sides: [FoundBy; 2],
    /// How many rows both have among their first.
    pub common: usize,
}

/// What one model found for one query.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundBy {
    /// The best gallery rows, best first.
    pub hits: Vec<Scored>,
    /// The rank of the best right row in the whole gallery, where one is known. A tie counts against.
    pub rank: Option<u32>,
}

impl Compared {
    /// Who wins, among the first `top`; `None` where nothing is known to be right.
    pub fn winner(&self, top: usize) -> Option<Winner> {
        let [a, b] = &self.sides;
        Some(Winner::of(a.rank?, b.rank?, top))
    }
}

/// Compares two models. With a relevance their ranks are compared too; without one only what they show.
///
/// Rows that are not of length 1 are brought there first; memory grows with `top` a query and not with the gallery.
///
/// # Errors
/// The sides differ in their numbers of rows, there is no query or no gallery, dimensions of one side differ, a value is not
/// finite, or the relevance does not fit.
pub fn compare(
    sides: [Contender<'_>; 2],
    relevance: Option<&Relevance>,
    top: usize,
    options: Options,
) -> Result<Comparison> {
    let [a, b] = sides;
    let (queries, gallery) = (a.queries.len(), a.gallery.len());
    if (queries, gallery) != (b.queries.len(), b.gallery.len()) {
        let what = format!(
            "{queries} queries over {gallery} pictures on one side, {} over {} on the other",
            b.queries.len(),
            b.gallery.len()
        );
        return Err(Error::invalid(what).remedy("give both models the same queries and the same gallery"));
    }
    if queries == 0 || gallery == 0 || top == 0 {
        let what = format!("{queries} queries over {gallery} pictures, {top} shown, are nothing to compare");
        return Err(Error::invalid(what));
    }
    let (found_a, ranks_a) = find(a, relevance, top, options)?;
    let (found_b, ranks_b) = find(b, relevance, top, options)?;
    let rank_of = |ranks: &Option<Ranks>, query: usize| -> Option<u32> {
        let rank = ranks.as_ref()?.ranks().get(query).copied().flatten();
        rank.map(std::num::NonZeroU32::get)
    };
    let pairs = found_a.into_iter().zip(found_b).enumerate();
    let queries: Vec<Compared> = pairs
        .map(|(query, (a, b))| Compared {
            common: a
                .iter()
                .filter(|hit| b.iter().any(|other| other.row == hit.row))
                .count(),
            sides: [
                FoundBy {
                    hits: a,
                    rank: rank_of(&ranks_a, query),
                },
                FoundBy {
                    hits: b,
                    rank: rank_of(&ranks_b, query),
                },
            ],
        })
        .collect();
    let judged = match (ranks_a, ranks_b) {
        (Some(a), Some(b)) => Some(Judged::new(&a, &b, &queries, top)?),
        _ => None,
    };
    let summary = CompareSummary::new(&queries, gallery, top, judged);
    Ok(Comparison { queries, summary })
}

fn find(
    side: Contender<'_>,
    relevance: Option<&Relevance>,
    top: usize,
    options: Options,
) -> Result<(Vec<Vec<Scored>>, Option<Ranks>)> {
    let (queries, gallery) = (unit(side.queries), unit(side.gallery));
    let ranks = relevance
        .map(|relevance| rank(&queries, &gallery, relevance.positives(), options))
        .transpose()?;
    Ok((top_k(&queries, &gallery, top, options)?, ranks))
}

/// Comparison of two models over one gallery, each with its own embeddings of it.
pub struct Compare {
    workers: [EmbedWorker; 2],
    galleries: [Embeddings; 2],
    ids: Vec<String>,
    rows: HashMap<String, usize>,
    options: Options,
}

/// What [`Compare`] is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// Query texts.
    pub texts: Vec<String>,
    /// The ids of the right gallery rows of each query, where they are known; empty for a query without any.
    #[serde(default)]
    pub relevant: Vec<Vec<String>>,
    /// Hits a query.
    #[serde(default = "ten")]
    pub k: usize,
}

fn ten() -> usize {
    10
}

/// What [`Compare`] answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CompareResponse {
    /// Query by query.
    pub queries: Vec<ComparedQuery>,
    /// All of them together.
    pub summary: CompareSummary,
}

/// What two models found for one query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedQuery {
    /// The hits of model A, best first.
    pub a: Vec<RetrievalHit>,
    /// The hits of model B, best first.
    pub b: Vec<RetrievalHit>,
    /// How many rows are among both.
    pub common: usize,
    /// Who put a right row further ahead; null where none is known.
    pub winner: Option<Winner>,
}

impl Compare {
    /// Over each model's own embeddings of one gallery, and the id of each row.
    ///
    /// # Errors
    /// Ids or galleries differ in length, dimensions do not fit the models, or an id stands for two rows.
    pub fn new(workers: [EmbedWorker; 2], galleries: [Embeddings; 2], ids: Vec<String>) -> Result<Self> {
        for (worker, gallery) in workers.iter().zip(&galleries) {
            check_gallery(worker, gallery, &ids)?;
        }
        let mut rows = HashMap::new();
        for (row, id) in ids.iter().enumerate() {
            if rows.insert(id.clone(), row).is_some() {
                return Err(Error::invalid(format!("the id `{id}` stands for two rows")));
            }
        }
        Ok(Self {
            workers,
            galleries,
            ids,
            rows,
            options: Options::default(),
        })
    }

    /// Says on how many threads to search.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn relevance(&self, request: &CompareRequest) -> Result<Option<Relevance>> {
        if request.relevant.is_empty() {
            return Ok(None);
        }
        if request.relevant.len() != request.texts.len() {
            let what = format!(
                "{} lists of right rows for {} texts",
                request.relevant.len(),
                request.texts.len()
            );
            let remedy = "give one list a text; an empty one where nothing is known";
            return Err(Error::invalid(what).column("relevant").remedy(remedy));
        }
        let mut lists = PositiveLists::default();
        for (number, ids) in request.relevant.iter().enumerate() {
            let row = |id: &String| {
                let unknown =
                    || Error::invalid(format!("no row has the id `{id}`")).column(format!("relevant[{number}]"));
                self.rows.get(id).copied().ok_or_else(unknown)
            };
            lists.push(ids.iter().map(row).collect::<Result<Vec<usize>>>()?)?;
        }
        Ok(Some(Relevance::lists(lists)))
    }

    fn hits(&self, hits: &[Scored]) -> Vec<RetrievalHit> {
        let hit = |hit: &Scored| RetrievalHit {
            id: self.ids.get(hit.row).cloned().unwrap_or_default(),
            row: hit.row,
            score: hit.score,
        };
        hits.iter().map(hit).collect()
    }
}

impl App for Compare {
    const NAME: &'static str = "compare";
    type Request = CompareRequest;
    type Response = CompareResponse;

    fn run(&self, request: CompareRequest) -> Result<CompareResponse> {
        let queries = request.texts.len();
        if queries > MAX_QUERIES || request.k > MAX_HITS {
            let what = format!("{queries} queries of {} hits in one request", request.k);
            let remedy = format!("ask for up to {MAX_HITS} hits of up to {MAX_QUERIES} queries");
            return Err(Error::invalid(what).remedy(remedy));
        }
        let relevance = self.relevance(&request)?;
        let texts: Vec<&str> = request.texts.iter().map(String::as_str).collect();
        let [a, b] = &self.workers;
        let (a, b) = (a.embed_texts(&texts)?, b.embed_texts(&texts)?);
        let [gallery_a, gallery_b] = &self.galleries;
        let sides = [
            Contender {
                queries: &a,
                gallery: gallery_a,
            },
            Contender {
                queries: &b,
                gallery: gallery_b,
            },
        ];
        let comparison = compare(sides, relevance.as_ref(), request.k, self.options)?;
        let query = |query: &Compared| ComparedQuery {
            a: self.hits(&query.sides[0].hits),
            b: self.hits(&query.sides[1].hits),
            common: query.common,
            winner: query.winner(request.k),
        };
        Ok(CompareResponse {
            queries: comparison.queries.iter().map(query).collect(),
            summary: comparison.summary,
        })
    }
}
