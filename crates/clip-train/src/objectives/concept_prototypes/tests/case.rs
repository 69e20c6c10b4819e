//! A batch, its terms as they are computed, and the words of their definition in f64.

use std::ops::Range;

use clip_core::{Error, Id, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{
    Asking, ConceptBank, ConceptTexts, Context, FeatureQueue, Features, Modality, Neighbours, Objective, QueueRows,
    State, View,
};

use crate::objectives::concept_prototypes::{Anchors, ConceptPrototypes, ConceptPrototypesConfig};

pub(super) const DIM: usize = 5;

/// A queue that is nothing but its prototypes.
struct Prototypes {
    live: Vec<Id>,
    images: Tensor,
    texts: Tensor,
}

impl FeatureQueue for Prototypes {
    fn push(&mut self, _: &QueueRows<'_>) -> Result<()> {
        Err(Error::internal("never pushed"))
    }

    fn neighbours(&self, _: Modality, _: &Tensor, _: Asking<'_>, _: usize) -> Result<Neighbours> {
        Err(Error::internal("never asked"))
    }

    fn live(&self) -> &[Id] {
        &self.live
    }

    fn prototypes(&self, of: Modality, concepts: &[Id]) -> Result<Tensor> {
        let at: Vec<i64> = concepts
            .iter()
            .map(|id| self.live.binary_search(id).map(|at| at as i64))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::invalid("a concept that is not live"))?;
        let rows = match of {
            Modality::Image => &self.images,
            Modality::Text => &self.texts,
        };
        Ok(rows.index_select(0, &Tensor::from_slice(&at)))
    }

    fn filled(&self) -> usize {
        9
    }

    fn capacity(&self) -> usize {
        9
    }

    fn state(&self) -> Result<State> {
        Err(Error::internal("never kept"))
    }

    fn restore(&mut self, _: &State) -> Result<()> {
        Err(Error::internal("never kept"))
    }
}

pub(super) type Rows = Vec<Vec<f64>>;

pub(super) fn drawn(seed: i64, rows: usize) -> Rows {
    clip_nn::tch::manual_seed(seed);
    let flat = Tensor::randn([rows as i64, DIM as i64], (Kind::Float, Device::Cpu));
    (0..rows as i64)
        .map(|row| (0..DIM as i64).map(|at| flat.double_value(&[row, at])).collect())
        .collect()
}

fn unit(row: &[f64]) -> Vec<f64> {
    let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
    row.iter().map(|x| x / norm).collect()
}

fn units(rows: &Rows) -> Rows {
    rows.iter().map(|row| unit(row)).collect()
}

fn tensor(rows: &Rows) -> Tensor {
    let flat: Vec<f32> = rows.iter().flatten().map(|&x| x as f32).collect();
    Tensor::from_slice(&flat).view([rows.len() as i64, DIM as i64])
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    unit(a).iter().zip(unit(b)).map(|(a, b)| a * b).sum()
}

/// `−Σ target · log softmax(cosine / tau)`.
fn entropy(of: &[f64], among: &Rows, target: &[f64], tau: f64) -> f64 {
    let logits: Vec<f64> = among.iter().map(|row| cosine(of, row) / tau).collect();
    let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    -logits
        .iter()
        .zip(target)
        .map(|(logit, share)| share * (logit - log_sum))
        .sum::<f64>()
}

/// A batch of pairs, and what they are compared with. Concepts 10, 20, 30, 40 are live; the bank lacks 30.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) images: Vec<Rows>,
    pub(super) texts: Vec<Rows>,
    pub(super) names: Rows,
    pub(super) named: Vec<u64>,
    pub(super) live: Vec<u64>,
    pub(super) image_prototypes: Rows,
    pub(super) text_prototypes: Rows,
    pub(super) bank: Rows,
    pub(super) banked: Vec<u64>,
    pub(super) concepts: Vec<Vec<u64>>,
    pub(super) captions: Vec<Option<u64>>,
    pub(super) weights: Vec<f64>,
    pub(super) step: u64,
}

pub(super) fn case() -> Case {
    Case {
        images: vec![drawn(1, 5), drawn(2, 5)],
        texts: vec![drawn(3, 5)],
        names: drawn(4, 3),
        named: vec![40, 10, 30],
        live: vec![10, 20, 30, 40],
        image_prototypes: drawn(5, 4),
        text_prototypes: drawn(6, 4),
        bank: drawn(7, 3),
        banked: vec![10, 20, 40],
        // None; two, one of them twice and one that is not live; one outside of the bank; three; one.
        concepts: vec![vec![], vec![40, 10, 40, 99], vec![30], vec![20, 30, 40], vec![20, 10]],
        captions: vec![None, None, None, None, Some(10)],
        weights: vec![1.0, 2.0, 0.5, 1.0, 3.0],
        step: 7,
    }
}

pub(super) const NONE: ConceptPrototypesConfig = ConceptPrototypesConfig {
    concept_text: 0.0,
    pair_image: 0.0,
    pair_text: 0.0,
    pair_prototype: 0.0,
    names: 3,
    tau: 0.2,
    match_tau: 0.3,
    bank_every: 4,
    bank_names: 2,
    anchors: Anchors::Queue,
};

/// The leaves of a case: views of pictures, views of texts, names.
pub(super) type Leaves = Vec<Tensor>;

impl Case {
    pub(super) fn run(
        &self,
        config: ConceptPrototypesConfig,
        rows: Range<i64>,
    ) -> (Vec<(&'static str, Tensor)>, Leaves) {
        let ids = |numbers: &[u64]| numbers.iter().map(|&id| Id(id)).collect::<Vec<_>>();
        let mut leaves = Vec::new();
        let mut view = |rows: &Rows| {
            let leaf = tensor(rows).set_requires_grad(true);
            leaves.push(leaf.shallow_clone());
            View::new(leaf)
        };
        let (images, texts) = (
            self.images.iter().map(&mut view).collect(),
            self.texts.iter().map(&mut view).collect(),
        );
        let mut features = Features::new(images, texts);
        features.concept_texts = Some(ConceptTexts {
            ids: ids(&self.named),
            view: view(&self.names),
        });
        let queue = Prototypes {
            live: ids(&self.live),
            images: tensor(&units(&self.image_prototypes)),
            texts: tensor(&units(&self.text_prototypes)),
        };
        let bank = ConceptBank {
            ids: ids(&self.banked),
            texts: tensor(&units(&self.bank)),
        };
        let keys: Vec<Id> = (0..self.weights.len() as u64).map(Id).collect();
        let concepts: Vec<Vec<Id>> = self.concepts.iter().map(|own| ids(own)).collect();
        let captions: Vec<Option<Id>> = self.captions.iter().map(|caption| caption.map(Id)).collect();
        let weights = Tensor::from_slice(&self.weights).to_kind(Kind::Float);
        let scale = Tensor::from(9f32);
        let context = Context {
            rows,
            keys: &keys,
            items: &vec![None; keys.len()],
            concepts: &concepts,
            captions: &captions,
            weights: &weights,
            scale: &scale,
            bias: None,
            queue: Some(&queue),
            bank: Some(&bank).filter(|bank| !bank.ids.is_empty()),
            step: self.step,
            seed: 3,
        };
        let terms = ConceptPrototypes::new(config).unwrap().loss(&features, &context);
        (terms.unwrap().0, leaves)
    }

    /// The one term of a setting over the whole batch.
    pub(super) fn term(&self, name: &'static str, config: ConceptPrototypesConfig) -> (f64, Leaves) {
        let (mut terms, leaves) = self.run(config, 0..self.weights.len() as i64);
        assert_eq!(terms.len(), 1, "{name}");
        let (found, term) = terms.remove(0);
        assert_eq!(found, name);
        term.backward();
        (term.double_value(&[]), leaves)
    }

    fn column(ids: &[u64], id: u64) -> Option<usize> {
        ids.iter().position(|&other| other == id)
    }

    /// Own concepts of a pair among `ids`, for its text or its picture.
    fn own(&self, row: usize, ids: &[u64], text: bool) -> Vec<usize> {
        let own = match self.captions[row].filter(|_| text) {
            Some(caption) => vec![caption],
            None => self.concepts[row].clone(),
        };
        (0..ids.len()).filter(|&at| own.contains(&ids[at])).collect()
    }

    /// The mean over views, and over pairs with concepts by their weights.
    fn mean(&self, views: &[Rows], among: &Rows, target: impl Fn(usize) -> Vec<f64>) -> f64 {
        let (mut sum, mut whole) = (0.0, 0.0);
        for (row, weight) in self.weights.iter().enumerate() {
            let target = target(row);
            if target.iter().sum::<f64>() == 0.0 {
                continue;
            }
            whole += weight;
            for view in views {
                sum += weight * entropy(&view[row], among, &target, NONE.tau) / views.len() as f64;
            }
        }
        sum / whole
    }

    fn even(&self, row: usize, ids: &[u64], text: bool) -> Vec<f64> {
        let own = self.own(row, ids, text);
        (0..ids.len())
            .map(|at| f64::from(own.contains(&at)) / own.len().max(1) as f64)
            .collect()
    }

    /// Features whose match decides a spread: not those that are moved for a finite difference, since they are constants.
    fn matched(&self, fixed: &Self, row: usize, text: bool) -> Vec<f64> {
        let own = self.own(row, &self.live, text);
        let side = |views: &[Rows], prototypes: &Rows, at: usize| {
            let cosines = views.iter().map(|view| cosine(&view[row], &prototypes[at]));
            cosines.sum::<f64>() / views.len() as f64
        };
        let power = |at: usize| {
            let image = side(&fixed.images, &self.image_prototypes, at);
            let text = side(&fixed.texts, &self.text_prototypes, at);
            ((image + text) / 2.0 / NONE.match_tau).exp()
        };
        let sum: f64 = own.iter().map(|&at| power(at)).sum();
        (0..self.live.len())
            .map(|at| if own.contains(&at) { power(at) / sum } else { 0.0 })
            .collect()
    }

    /// A term by the words of its definition, times its weight of a half.
    pub(super) fn by_hand(&self, name: &str, fixed: &Self) -> f64 {
        0.5 * match name {
            "concept_text" => {
                let at = |id: &u64| Self::column(&self.live, *id).unwrap();
                let prototypes: Rows = self
                    .named
                    .iter()
                    .map(|id| self.image_prototypes[at(id)].clone())
                    .collect();
                let one = |row: usize| -> Vec<f64> { (0..self.named.len()).map(|at| f64::from(at == row)).collect() };
                let both = (0..self.named.len()).map(|row| {
                    entropy(&self.names[row], &prototypes, &one(row), NONE.tau)
                        + entropy(&prototypes[row], &self.names, &one(row), NONE.tau)
                });
                both.sum::<f64>() / (2 * self.named.len()) as f64
            }
            "pair_image" => self.mean(&self.images, &self.bank, |row| self.even(row, &self.banked, false)),
            "pair_text" => self.mean(&self.texts, &self.image_prototypes, |row| {
                self.even(row, &self.live, true)
            }),
            _ => {
                let image = self.mean(&self.images, &self.text_prototypes, |row| {
                    self.matched(fixed, row, false)
                });
                let text = self.mean(&self.texts, &self.image_prototypes, |row| {
                    self.matched(fixed, row, true)
                });
                (image + text) / 2.0
            }
        }
    }

    /// The rows of leaf number `leaf`.
    pub(super) fn leaf(&mut self, leaf: usize) -> &mut Rows {
        let images = self.images.len();
        match leaf {
            leaf if leaf < images => &mut self.images[leaf],
            leaf if leaf < images + self.texts.len() => &mut self.texts[leaf - images],
            _ => &mut self.names,
        }
    }
}
