//! Finds the nearest rows of a gallery to texts and pictures.

use std::sync::Arc;

use clip_core::{App, EmbedWorker, Embedder, Embeddings, Error, ImageDecoder, Result};
use clip_index::{Options, top_k};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::uploads::embed_uris;

/// Queries that one request may hold.
const MAX_QUERIES: usize = 1024;

/// Hits that one query may ask for.
const MAX_HITS: usize = 10_000;

/// Retrieval: nearest rows of a gallery, by the model that embedded the gallery.
///
/// The gallery holds pictures, texts or both; queries are texts and, with an [`ImageDecoder`], pictures.
pub struct Retrieval {
    worker: EmbedWorker,
    gallery: Embeddings,
    ids: Vec<String>,
    decoder: Option<Arc<dyn ImageDecoder>>,
    options: Options,
}

/// What [`Retrieval`] is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetrievalRequest {
    /// Query texts.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Query pictures, as data URIs in base64: `data:image/png;base64,…`.
    #[serde(default)]
    pub images: Vec<String>,
    /// Hits a query.
    #[serde(default = "ten")]
    pub k: usize,
}

fn ten() -> usize {
    10
}

/// What [`Retrieval`] answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetrievalResponse {
    /// The hits of each query text, best first.
    pub texts: Vec<Vec<RetrievalHit>>,
    /// The hits of each query picture, best first.
    pub images: Vec<Vec<RetrievalHit>>,
}

/// A gallery row that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RetrievalHit {
    /// The row's id.
    pub id: String,
    /// The row, from 0.
    pub row: usize,
    /// Cosine with the query, −1 to 1.
    pub score: f32,
}

impl Retrieval {
    /// Over a gallery of unit rows and the id of each; an error if ids or dimensions do not fit.
    pub fn new(worker: EmbedWorker, gallery: Embeddings, ids: Vec<String>) -> Result<Self> {
        check_gallery(&worker, &gallery, &ids)?;
        Ok(Self {
            worker,
            gallery,
            ids,
            decoder: None,
            options: Options::default(),
        })
    }

    /// Takes pictures as queries too.
    #[must_use]
    pub fn decoder(mut self, decoder: Arc<dyn ImageDecoder>) -> Self {
        self.decoder = Some(decoder);
        self
    }

    /// Says on how many threads to search.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    fn search(&self, queries: &Embeddings, k: usize) -> Result<Vec<Vec<RetrievalHit>>> {
        let hit = |hit: clip_index::Scored| RetrievalHit {
            id: self.ids[hit.row].clone(),
            row: hit.row,
            score: hit.score,
        };
        let found = top_k(queries, &self.gallery, k, self.options)?;
        Ok(found
            .into_iter()
            .map(|hits| hits.into_iter().map(hit).collect())
            .collect())
    }
}

/// An error if ids or dimensions do not fit.
pub(crate) fn check_gallery(worker: &EmbedWorker, gallery: &Embeddings, ids: &[String]) -> Result<()> {
    if ids.len() != gallery.len() {
        return Err(Error::invalid(format!(
            "{} ids for a gallery of {} rows",
            ids.len(),
            gallery.len()
        )));
    }
    let dim = worker.info().dim;
    if !gallery.is_empty() && gallery.dim() != dim {
        let what = format!("a gallery of {} dimensions, a model of {dim}", gallery.dim());
        return Err(Error::invalid(what).remedy("embed the gallery with this model"));
    }
    Ok(())
}

impl App for Retrieval {
    const NAME: &'static str = "retrieval";
    type Request = RetrievalRequest;
    type Response = RetrievalResponse;

    fn run(&self, request: RetrievalRequest) -> Result<RetrievalResponse> {
        let queries = request.texts.len() + request.images.len();
        if queries > MAX_QUERIES || request.k > MAX_HITS {
            let what = format!("{queries} queries of {} hits in one request", request.k);
            return Err(
                Error::invalid(what).remedy(format!("ask for up to {MAX_HITS} hits of up to {MAX_QUERIES} queries"))
            );
        }
        let mut response = RetrievalResponse {
            texts: Vec::new(),
            images: Vec::new(),
        };
        if !request.texts.is_empty() {
            let texts: Vec<&str> = request.texts.iter().map(String::as_str).collect();
            response.texts = self.search(&self.worker.embed_texts(&texts)?, request.k)?;
        }
        if !request.images.is_empty() {
            let Some(decoder) = &self.decoder else {
                return Err(Error::invalid("queries are texts here; pictures are not taken").column("images"));
            };
            let images = embed_uris(&self.worker, &**decoder, &request.images)?;
            response.images = self.search(&images, request.k)?;
        }
        Ok(response)
    }
}
