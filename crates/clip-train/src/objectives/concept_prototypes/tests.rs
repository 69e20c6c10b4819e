//! The terms against the words of their definition in f64, their gradients against finite differences of that.

use std::ops::Range;

use clip_core::{Error, Id, Result};
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{
    Asking, ConceptBank, ConceptTexts, Context, FeatureQueue, Features, Modality, Neighbours, Objective, QueueRows,
    State, View,
};

use super::{Anchors, ConceptPrototypes, ConceptPrototypesConfig};

const DIM: usize = 5;

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

type Rows = Vec<Vec<f64>>;

fn drawn(seed: i64, rows: usize) -> Rows {
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
struct Case {
    images: Vec<Rows>,
    texts: Vec<Rows>,
    names: Rows,
    named: Vec<u64>,
    live: Vec<u64>,
    image_prototypes: Rows,
    text_prototypes: Rows,
    bank: Rows,
    banked: Vec<u64>,
    concepts: Vec<Vec<u64>>,
    captions: Vec<Option<u64>>,
    weights: Vec<f64>,
    step: u64,
}

fn case() -> Case {
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

const NONE: ConceptPrototypesConfig = ConceptPrototypesConfig {
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

fn only(name: &str) -> ConceptPrototypesConfig {
    let mut config = NONE;
    *match name {
        "concept_text" => &mut config.concept_text,
        "pair_image" => &mut config.pair_image,
        "pair_text" => &mut config.pair_text,
        _ => &mut config.pair_prototype,
    } = 0.5;
    config
}

const TERMS: [&str; 4] = ["concept_text", "pair_image", "pair_text", "pair_prototype"];

/// The leaves of a case: views of pictures, views of texts, names.
type Leaves = Vec<Tensor>;

impl Case {
    fn run(&self, config: ConceptPrototypesConfig, rows: Range<i64>) -> (Vec<(&'static str, Tensor)>, Leaves) {
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
    fn term(&self, name: &'static str, config: ConceptPrototypesConfig) -> (f64, Leaves) {
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
    fn by_hand(&self, name: &str, fixed: &Self) -> f64 {
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
    fn leaf(&mut self, leaf: usize) -> &mut Rows {
        let images = self.images.len();
        match leaf {
            leaf if leaf < images => &mut self.images[leaf],
            leaf if leaf < images + self.texts.len() => &mut self.texts[leaf - images],
            _ => &mut self.names,
        }
    }
}

fn close(got: f64, wanted: f64, tolerance: f64) -> bool {
    (got - wanted).abs() <= tolerance * wanted.abs().max(1.0)
}

#[test]
fn every_term_is_its_definition_and_so_is_its_gradient() {
    let case = case();
    for name in TERMS {
        let (value, leaves) = case.term(name, only(name));
        let wanted = case.by_hand(name, &case);
        assert!(close(value, wanted, 1e-6), "{name}: {value} against {wanted}");
        let mut reached = 0;
        for (number, leaf) in leaves.iter().enumerate() {
            let gradient = leaf.grad();
            for row in 0..leaf.size()[0] as usize {
                for at in 0..DIM {
                    let moved = |by: f64| {
                        let mut moved = case.clone();
                        moved.leaf(number)[row][at] += by;
                        moved.by_hand(name, &case)
                    };
                    let wanted = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    let got = match gradient.defined() {
                        true => gradient.double_value(&[row as i64, at as i64]),
                        false => 0.0,
                    };
                    assert!(
                        (got - wanted).abs() < 1e-5,
                        "{name} {number} {row} {at}: {got} against {wanted}"
                    );
                    reached += usize::from(got != 0.0);
                }
            }
        }
        assert!(reached >= 3 * DIM, "{name} moves {reached} numbers");
    }
}

#[test]
fn a_weight_of_nothing_asks_for_nothing() {
    let case = case();
    assert!(case.run(NONE, 0..5).0.is_empty());
    let needs = |config| ConceptPrototypes::new(config).unwrap().needs();
    assert_eq!(needs(NONE), clip_nn::Needs::default());
    let text = needs(only("concept_text"));
    assert_eq!((text.concept_texts, text.concept_bank, text.queue), (3, None, true));
    let image = needs(only("pair_image"));
    assert_eq!((image.concept_texts, image.concepts), (0, true));
    assert_eq!(image.concept_bank.map(|bank| (bank.every, bank.names)), Some((4, 2)));
    let all = ConceptPrototypesConfig {
        concept_text: 0.5,
        pair_image: 0.5,
        pair_text: 0.5,
        pair_prototype: 0.5,
        ..NONE
    };
    let names: Vec<&str> = case.run(all, 0..5).0.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TERMS);
}

#[test]
fn no_term_where_nothing_is_live_or_no_pair_has_a_concept() {
    let all = |name| only(name);
    let mut empty = case();
    (empty.live, empty.named, empty.banked) = (vec![], vec![], vec![]);
    (empty.image_prototypes, empty.text_prototypes) = (vec![], vec![]);
    (empty.names, empty.bank) = (vec![], vec![]);
    let mut without = case();
    without.concepts = vec![vec![]; 5];
    without.captions = vec![None; 5];
    let mut weightless = case();
    weightless.weights = vec![1.0, 0.0, 0.0, 0.0, 0.0];
    for name in TERMS {
        assert!(empty.run(all(name), 0..5).0.is_empty(), "{name}");
        if name != "concept_text" {
            assert!(without.run(all(name), 0..5).0.is_empty(), "{name}");
            assert!(weightless.run(all(name), 0..5).0.is_empty(), "{name}");
        }
    }
}

#[test]
fn pairs_without_concepts_add_nothing() {
    let mut fewer = case();
    for views in [&mut fewer.images, &mut fewer.texts] {
        views.iter_mut().for_each(|rows| drop(rows.remove(0)));
    }
    fewer.concepts.remove(0);
    fewer.captions.remove(0);
    fewer.weights.remove(0);
    for name in &TERMS[1..] {
        let (with, without) = (case().term(name, only(name)).0, fewer.term(name, only(name)).0);
        assert!(close(with, without, 1e-6), "{name}: {with} against {without}");
    }
}

#[test]
fn the_order_of_rows_changes_nothing_and_slices_sum_to_the_whole() {
    let case = case();
    let order = [3, 0, 4, 2, 1];
    let mut shuffled = case.clone();
    let shuffle = |rows: &Rows| order.iter().map(|&row| rows[row].clone()).collect::<Rows>();
    shuffled.images = case.images.iter().map(shuffle).collect();
    shuffled.texts = case.texts.iter().map(shuffle).collect();
    shuffled.concepts = order.iter().map(|&row| case.concepts[row].clone()).collect();
    shuffled.captions = order.iter().map(|&row| case.captions[row]).collect();
    shuffled.weights = order.iter().map(|&row| case.weights[row]).collect();
    for name in TERMS {
        let (whole, leaves) = case.term(name, only(name));
        assert!(close(shuffled.term(name, only(name)).0, whole, 1e-6), "{name}");
        // Rows 0 and 2 give some terms nothing: a slice without a target is a term of 0, not none.
        let mut sum = 0.0;
        let mut gradients: Vec<Tensor> = leaves.iter().map(Tensor::zeros_like).collect();
        for rows in [0..1, 1..2, 2..5] {
            let (terms, leaves) = case.run(only(name), rows);
            sum += terms[0].1.double_value(&[]);
            terms[0].1.backward();
            for (gradient, leaf) in gradients
                .iter_mut()
                .zip(&leaves)
                .filter(|(_, leaf)| leaf.grad().defined())
            {
                *gradient += leaf.grad();
            }
        }
        assert!(close(sum, whole, 1e-6), "{name}: {sum} against {whole}");
        for (gradient, leaf) in gradients.iter().zip(&leaves).filter(|(_, leaf)| leaf.grad().defined()) {
            assert!((gradient - leaf.grad()).abs().max().double_value(&[]) < 1e-6, "{name}");
        }
    }
}

#[test]
fn random_anchors_know_nothing_of_prototypes() {
    let case = case();
    let mut other = case.clone();
    (other.image_prototypes, other.text_prototypes, other.bank) = (drawn(8, 4), drawn(9, 4), drawn(10, 3));
    for name in TERMS {
        let random = ConceptPrototypesConfig {
            anchors: Anchors::Random,
            ..only(name)
        };
        let (value, same) = (case.term(name, random).0, other.term(name, random).0);
        // The spread of pair_prototype, too, is by the random anchors.
        assert!(close(value, same, 1e-7), "{name}");
        let [one, another] = [&case, &other].map(|case| case.term(name, only(name)).0);
        assert!(!close(one, another, 1e-4), "{name}: {one} and {another}");
        assert!(!close(value, one, 1e-4), "{name}: {value} and {one}");
        // Drawn anew in the next step, unless they are fixed.
        let later = Case {
            step: case.step + 1,
            ..case.clone()
        };
        assert!(!close(value, later.term(name, random).0, 1e-4), "{name}");
        let fixed = ConceptPrototypesConfig {
            anchors: Anchors::Fixed,
            ..random
        };
        assert_eq!(case.term(name, fixed).0, later.term(name, fixed).0, "{name}");
    }
}

#[test]
fn many_rows_are_taken_a_tile_at_a_time() {
    // 4 anchors and 2^19 rows are two tiles: the mean over equal rows is that of one row.
    let row = |rows: &Rows, count: usize| vec![rows[1].clone(); count];
    let copies = |count: usize| {
        let mut case = case();
        case.images.truncate(1);
        case.images[0] = row(&case.images[0], count);
        case.texts[0] = row(&case.texts[0], count);
        case.concepts = vec![vec![20, 40]; count];
        case.captions = vec![None; count];
        case.weights = vec![1.0; count];
        case.term("pair_text", only("pair_text"))
    };
    let ((one, single), (many, leaves)) = (copies(1), copies(1 << 19));
    assert!(close(many, one, 1e-4), "{many} against {one}");
    let gradient = leaves[1].grad().sum_dim_intlist(0, false, Kind::Double);
    let wanted = single[1].grad().squeeze_dim(0);
    assert!((gradient - wanted).abs().max().double_value(&[]) < 1e-4);
}

#[test]
fn settings_out_of_range_are_refused() {
    for (setting, name) in [
        (
            ConceptPrototypesConfig {
                pair_image: -0.1,
                ..NONE
            },
            "pair_image",
        ),
        (
            ConceptPrototypesConfig {
                concept_text: f64::NAN,
                ..NONE
            },
            "concept_text",
        ),
        (ConceptPrototypesConfig { tau: 0.0, ..NONE }, "tau"),
        (
            ConceptPrototypesConfig {
                match_tau: -1.0,
                ..NONE
            },
            "match_tau",
        ),
        (ConceptPrototypesConfig { names: 0, ..NONE }, "names"),
        (ConceptPrototypesConfig { names: 1 << 20, ..NONE }, "names"),
        (ConceptPrototypesConfig { bank_every: 0, ..NONE }, "bank_every"),
        (ConceptPrototypesConfig { bank_names: 0, ..NONE }, "bank_names"),
    ] {
        let error = ConceptPrototypes::new(setting).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
