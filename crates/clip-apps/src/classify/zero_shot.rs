//! Labels as points on the sphere, and what a picture's nearness to them says.

use std::collections::HashMap;
use std::ops::Range;

use clip_core::{Embedder, Embeddings, Error, Probability, Result};
use clip_index::{Options, top_k};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::templates::Templates;

/// Texts that are embedded at once.
const BATCH: usize = 64;

/// A label and other words for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// What it is called in the answer.
    pub label: String,
    /// Other words for it; the model reads them too.
    #[serde(default)]
    pub synonyms: Vec<String>,
}

/// The labels to choose from. Every name, label or synonym, stands for one class; upper and lower case are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    classes: Vec<Class>,
    names: HashMap<String, usize>,
}

impl Classes {
    /// Takes labels, in order.
    ///
    /// # Errors
    /// There is no label, a name is empty, or one stands for two classes.
    pub fn new(classes: Vec<Class>) -> Result<Self> {
        let mut names = HashMap::new();
        for (number, class) in classes.iter().enumerate() {
            for name in class.names() {
                if name.trim().is_empty() {
                    let what = format!("label {} (`{}`) has an empty name", number + 1, class.label);
                    return Err(Error::invalid(what).remedy("write a word, or leave the place out"));
                }
                let before = names.insert(key(name), number);
                if let Some(other) = before.filter(|&before| before != number) {
                    let what = format!(
                        "`{name}` stands for two labels, `{}` and `{}`",
                        classes[other].label, class.label
                    );
                    return Err(Error::invalid(what).remedy("keep it with one of them"));
                }
                if before.is_some() {
                    let what = format!("`{name}` stands twice with the label `{}`", class.label);
                    return Err(Error::invalid(what).remedy("keep one of the two"));
                }
            }
        }
        if classes.is_empty() {
            return Err(Error::invalid("there are no labels to choose from"));
        }
        Ok(Self { classes, names })
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no label.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many names, synonyms included.
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// The label of class `class`; empty if there is no such class.
    pub fn label(&self, class: usize) -> &str {
        self.classes.get(class).map_or("", |class| &class.label)
    }

    /// The class that a label or a synonym stands for.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(&key(name)).copied()
    }
}

impl Class {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.label).chain(&self.synonyms).map(String::as_str)
    }
}

fn key(name: &str) -> String {
    name.trim().to_lowercase()
}

/// A label that a picture may show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// The class, by its place in the list.
    pub class: usize,
    /// Cosine with the class, −1 to 1.
    pub score: f32,
    /// From 0 to 1: softmax over all classes, or each by itself (SigLIP), by the model's own temperature.
    pub probability: f32,
}

/// A classifier made of words alone.
///
/// A name's row is the mean of the unit rows of its sentences, brought back to length 1 (prompt ensembling, Radford et al.
/// 2021, §3.1.4); a class with synonyms is the mean of its names' rows, brought to length 1 again, so that each name counts
/// alike.
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroShot {
    classes: Classes,
    /// Unit rows `[classes, dim]`.
    rows: Embeddings,
    scale: f32,
    bias: f32,
    probability: Probability,
}

impl ZeroShot {
    /// Embeds all names in all templates; `progress` hears how many sentences are done.
    ///
    /// # Errors
    /// The sentences cannot be embedded.
    pub fn new(
        embedder: &dyn Embedder,
        classes: Classes,
        templates: &Templates,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let names = embed_names(embedder, &classes, templates, progress)?;
        let (mut rows, mut first) = (Embeddings::default(), 0);
        for class in &classes.classes {
            let next = first + class.names().count();
            rows.append(&unit_mean(&names, first..next)?)?;
            first = next;
        }
        let info = embedder.info();
        Ok(Self {
            classes,
            rows,
            scale: info.logit_scale,
            bias: info.logit_bias.unwrap_or(0.0),
            probability: info.probability,
        })
    }

    /// The labels.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// The `k` likeliest classes of each picture, best first. Of equal scores the class that stands first in the list comes first.
    ///
    /// # Errors
    /// Dimensions differ, or a value is not finite.
    pub fn guesses(&self, images: &Embeddings, k: usize, options: Options) -> Result<Vec<Vec<Guess>>> {
        let scored = top_k(images, &self.rows, self.rows.len(), options)?;
        Ok(scored
            .into_iter()
            .map(|scored| {
                let logits: Vec<f32> = scored.iter().map(|hit| self.scale * hit.score + self.bias).collect();
                let probabilities = probabilities(&logits, self.probability);
                let guess = |(hit, probability): (clip_index::Scored, f32)| Guess {
                    class: hit.row,
                    score: hit.score,
                    probability,
                };
                scored.into_iter().zip(probabilities).map(guess).take(k).collect()
            })
            .collect())
    }
}

/// A unit row for each name of each class, in order: the mean of its sentences.
fn embed_names(
    embedder: &dyn Embedder,
    classes: &Classes,
    templates: &Templates,
    progress: &mut dyn FnMut(u64),
) -> Result<Embeddings> {
    let mut prompts = classes
        .classes
        .iter()
        .flat_map(|class| class.names().flat_map(|name| templates.fill(name.trim())));
    let (mut sentences, mut names, mut done) = (Embeddings::default(), Embeddings::default(), 0);
    loop {
        let batch: Vec<String> = prompts.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return Ok(names);
        }
        let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
        sentences.append(&embedder.embed_texts(&texts)?)?;
        done += texts.len() as u64;
        progress(done);
        // What is whole is averaged at once, so that memory holds rows of names and not of sentences.
        sentences = average(&sentences, templates.sentences().len(), &mut names)?;
    }
}

/// Of logits, the greatest first.
fn probabilities(logits: &[f32], how: Probability) -> Vec<f32> {
    match how {
        Probability::Sigmoid => logits.iter().map(|&logit| 1.0 / (1.0 + (-logit).exp())).collect(),
        Probability::Softmax => {
            let greatest = logits.first().copied().unwrap_or(0.0);
            let powers: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - greatest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| (power / sum) as f32).collect()
        }
    }
}

/// Appends the unit mean of each whole group of `group` rows to `means`, and gives the rows that are left.
fn average(rows: &Embeddings, group: usize, means: &mut Embeddings) -> Result<Embeddings> {
    let whole = rows.len() / group.max(1);
    for number in 0..whole {
        means.append(&unit_mean(rows, number * group..(number + 1) * group)?)?;
    }
    Embeddings::new(rows.data()[whole * group * rows.dim()..].to_vec(), rows.dim())
}

/// The mean of some rows, each taken at length 1, at length 1.
fn unit_mean(rows: &Embeddings, range: Range<usize>) -> Result<Embeddings> {
    let mut sum = vec![0.0f64; rows.dim()];
    for row in range.map(|row| rows.row(row)) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        // A row of zeros points nowhere and adds nothing.
        let norm = if norm > 0.0 { norm } else { 1.0 };
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, &x)| *sum += f64::from(x) / norm);
    }
    let mean = sum.into_iter().map(|x| x as f32).collect();
    Ok(Embeddings::new(mean, rows.dim())?.normalised())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(label: &str, synonyms: &[&str]) -> Class {
        Class {
            label: label.into(),
            synonyms: synonyms.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn a_name_stands_for_one_class() {
        let classes = Classes::new(vec![class("Shoe", &["trainer"]), class("bag", &[])]).unwrap();
        assert_eq!((classes.len(), classes.names()), (2, 3));
        assert_eq!(
            ["shoe ", "Trainer", "BAG", "hat"].map(|name| classes.find(name)),
            [Some(0), Some(0), Some(1), None]
        );
        assert_eq!((classes.label(1), classes.label(2)), ("bag", ""));
        for (bad, said) in [
            (vec![], "there are no labels to choose from"),
            (
                vec![class("a", &["B"]), class("b", &[])],
                "`b` stands for two labels, `a` and `b`; keep it with one of them",
            ),
            (
                vec![class("a", &["A"])],
                "`A` stands twice with the label `a`; keep one of the two",
            ),
            (
                vec![class("a", &[" "])],
                "label 1 (`a`) has an empty name; write a word, or leave the place out",
            ),
        ] {
            assert_eq!(Classes::new(bad).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn means_are_taken_on_the_sphere() {
        // A long row counts no more than a short one, and a row of zeros nothing.
        let rows = Embeddings::new(vec![9.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, -2.0, 1.0, 1.0], 2).unwrap();
        let mut means = Embeddings::default();
        let rest = average(&rows, 2, &mut means).unwrap();
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert!((means.row(0)[0] - half).abs() < 1e-6 && (means.row(0)[1] - half).abs() < 1e-6);
        assert_eq!((means.row(1), rest.data()), (&[0.0, -1.0][..], &[1.0, 1.0][..]));
    }

    #[test]
    fn probabilities_are_those_of_the_formula() {
        let softmax = probabilities(&[300.0, 299.0, 200.0], Probability::Softmax);
        let e = 1.0f64.exp();
        assert!((f64::from(softmax[0]) - e / (e + 1.0)).abs() < 1e-6 && softmax[2] < 1e-30);
        let sigmoid = probabilities(&[0.0, -200.0], Probability::Sigmoid);
        assert!(sigmoid[0] == 0.5 && sigmoid[1] >= 0.0 && sigmoid[1] < 1e-30);
        assert!(probabilities(&[], Probability::Softmax).is_empty());
    }

    #[test]
    fn the_first_of_equals_comes_first() {
        let zero_shot = ZeroShot {
            classes: Classes::new(["a", "b", "c"].map(|name| class(name, &[])).to_vec()).unwrap(),
            rows: Embeddings::new(vec![0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 2).unwrap(),
            scale: 2.0,
            bias: 0.0,
            probability: Probability::Softmax,
        };
        let image = Embeddings::new(vec![1.0, 0.0], 2).unwrap();
        let guesses = zero_shot.guesses(&image, 2, Options::default()).unwrap();
        let classes: Vec<usize> = guesses[0].iter().map(|guess| guess.class).collect();
        assert_eq!(classes, [1, 2]);
        // All three share the softmax, whatever is shown.
        let e = 2.0f32.exp();
        assert!((guesses[0][0].probability - e / (2.0 * e + 1.0)).abs() < 1e-6);
    }
}
