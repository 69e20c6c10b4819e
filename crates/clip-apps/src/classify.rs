//! Says which of some labels a picture shows, without training for them: zero-shot classification.

mod figures;
mod page;
mod templates;
mod zero_shot;

use std::sync::Arc;

use clip_core::{App, EmbedWorker, Error, ImageDecoder, Result};
use clip_index::Options;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use figures::{ClassFigures, ClassifyFigures, Sample, Tally};
pub use page::{ClassifyPage, classify_page};
pub use templates::{TEMPLATE_SETS, Templates};
pub use zero_shot::{Class, Classes, Guess, ZeroShot};

use crate::uploads::embed_uris;

/// Pictures that one request may hold.
const MAX_IMAGES: usize = 256;

/// Texts (names in templates) that one request with labels of its own may ask to embed.
const MAX_PROMPTS: usize = 4096;

/// Classification: the likeliest labels of pictures, by a model that reads the labels.
///
/// It holds labels whose embeddings are made once; a request may bring others.
pub struct Classify {
    worker: EmbedWorker,
    decoder: Arc<dyn ImageDecoder>,
    own: Option<ZeroShot>,
    options: Options,
}

/// What [`Classify`] is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassifyRequest {
    /// Pictures, as data URIs in base64: `data:image/png;base64,…`.
    pub images: Vec<String>,
    /// The labels to choose from; those that the app holds where there are none.
    #[serde(default)]
    pub labels: Vec<Class>,
    /// Sentences around the labels of this request, `{}` standing for the label; `A photo of a {}.` where there are none.
    #[serde(default)]
    pub templates: Vec<String>,
    /// Labels a picture.
    #[serde(default = "five")]
    pub k: usize,
}

fn five() -> usize {
    5
}

/// What [`Classify`] answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassifyResponse {
    /// The likeliest labels of each picture, best first.
    pub images: Vec<Vec<LabelHit>>,
}

/// A label and how likely it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LabelHit {
    /// The label.
    pub label: String,
    /// From 0 to 1, by the model's own temperature: softmax over the labels, or each label by itself (SigLIP).
    pub probability: f32,
    /// Cosine of picture and label, −1 to 1.
    pub score: f32,
}

impl Classify {
    /// Over the labels of each request.
    pub fn new(worker: EmbedWorker, decoder: Arc<dyn ImageDecoder>) -> Self {
        Self {
            worker,
            decoder,
            own: None,
            options: Options::default(),
        }
    }

    /// Holds labels for requests that bring none.
    ///
    /// # Errors
    /// The labels cannot be embedded.
    pub fn labels(mut self, classes: Classes, templates: &Templates) -> Result<Self> {
        self.own = Some(ZeroShot::new(&self.worker, classes, templates, &mut |_| {})?);
        Ok(self)
    }

    /// Says on how many threads to score.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The labels of a request, embedded.
    fn asked(&self, labels: Vec<Class>, templates: Vec<String>) -> Result<ZeroShot> {
        let templates = if templates.is_empty() {
            Templates::default()
        } else {
            Templates::new(templates).map_err(|error| error.column("templates"))?
        };
        let classes = Classes::new(labels).map_err(|error| error.column("labels"))?;
        let prompts = classes.names().saturating_mul(templates.sentences().len());
        if prompts > MAX_PROMPTS {
            let what = format!("{prompts} texts of labels in templates in one request");
            return Err(Error::invalid(what).remedy(format!("ask for up to {MAX_PROMPTS}")));
        }
        ZeroShot::new(&self.worker, classes, &templates, &mut |_| {})
    }
}

impl App for Classify {
    const NAME: &'static str = "classify";
    type Request = ClassifyRequest;
    type Response = ClassifyResponse;

    fn run(&self, request: ClassifyRequest) -> Result<ClassifyResponse> {
        let count = request.images.len();
        if count > MAX_IMAGES {
            let what = format!("{count} pictures in one request");
            return Err(Error::invalid(what).remedy(format!("send up to {MAX_IMAGES}")));
        }
        let asked;
        let zero_shot = match (&self.own, request.labels.is_empty()) {
            (Some(own), true) if request.templates.is_empty() => own,
            (Some(_), true) => {
                let error = Error::invalid("templates are for labels of the same request, and it brings none");
                return Err(error.column("templates").remedy("send the labels too"));
            }
            (None, true) => return Err(Error::invalid("there are no labels to choose from").column("labels")),
            (_, false) => {
                asked = self.asked(request.labels, request.templates)?;
                &asked
            }
        };
        let images = embed_uris(&self.worker, &*self.decoder, &request.images)?;
        let label = |guess: Guess| LabelHit {
            label: zero_shot.classes().label(guess.class).to_owned(),
            probability: guess.probability,
            score: guess.score,
        };
        let guesses = zero_shot.guesses(&images, request.k, self.options)?;
        Ok(ClassifyResponse {
            images: guesses
                .into_iter()
                .map(|guesses| guesses.into_iter().map(label).collect())
                .collect(),
        })
    }
}
