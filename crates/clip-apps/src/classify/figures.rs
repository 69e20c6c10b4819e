//! How often the first label is the right one, class by class.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::zero_shot::{Classes, Guess};

/// Pictures kept as samples of each pair of truth and guess.
const SAMPLES: usize = 6;

/// A picture that was taken for a class, by its number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The picture, by its number.
    pub row: u64,
    /// How sure the model was.
    pub probability: f32,
}

/// Counts what pictures were taken for, one after the other: memory grows with the pairs of classes that occur and not with
/// the pictures.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pictures: u64,
    within_5: u64,
    known: u64,
    pairs: HashMap<(Option<usize>, usize), Pair>,
}

/// Pictures of one class that were taken for one class.
#[derive(Debug, Clone, Default)]
struct Pair {
    count: u64,
    /// The surest, surest first.
    samples: Vec<Sample>,
}

/// What is reported where the true labels are known. All but the counts are in percent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassifyFigures {
    /// Pictures whose label is known.
    pub pictures: u64,
    /// Labels to choose from.
    pub labels: usize,
    /// Pictures whose first label is the right one.
    #[serde(rename = "accuracy@1")]
    pub accuracy_1: f64,
    /// Pictures whose right label is among the first five.
    #[serde(rename = "accuracy@5")]
    pub accuracy_5: f64,
    /// Mean F1 of the classes that occur, as truth or as guess.
    pub macro_f1: f64,
    /// The accuracy that guessing blindly would reach on average.
    pub chance: f64,
    /// The accuracy of always naming the commonest true label.
    pub commonest: f64,
    /// Class by class, in the order of the labels.
    pub classes: Vec<ClassFigures>,
}

/// One class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassFigures {
    /// The label.
    pub label: String,
    /// Pictures of it.
    pub pictures: u64,
    /// Pictures taken for it.
    pub guessed: u64,
    /// Of those taken for it, how many are; null where none is.
    pub precision: Option<f64>,
    /// Of those that are, how many were taken for it; null where there is none.
    pub recall: Option<f64>,
    /// The harmonic mean of both, 2 · right / (pictures + guessed); null where both are 0.
    pub f1: Option<f64>,
}

impl Tally {
    /// Takes in a picture's guesses, likeliest first, and its true class where that is known. Without a guess nothing is counted.
    pub fn add(&mut self, row: u64, truth: Option<usize>, guesses: &[Guess]) {
        let Some(first) = guesses.first() else { return };
        self.pictures += 1;
        if let Some(truth) = truth {
            self.known += 1;
            self.within_5 += u64::from(guesses.iter().take(5).any(|guess| guess.class == truth));
        }
        let pair = self.pairs.entry((truth, first.class)).or_default();
        pair.count += 1;
        let probability = first.probability;
        let place = pair.samples.partition_point(|sample| sample.probability >= probability);
        if place < SAMPLES {
            pair.samples.insert(place, Sample { row, probability });
            pair.samples.truncate(SAMPLES);
        }
    }

    /// Pictures counted.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }

    /// How many pictures of class `truth` (`None`: of no known one) were taken for class `guess`.
    pub fn count(&self, truth: Option<usize>, guess: usize) -> u64 {
        self.pairs.get(&(truth, guess)).map_or(0, |pair| pair.count)
    }

    /// The pictures of class `truth` that were taken for `guess` most surely, surest first; a few.
    pub fn samples(&self, truth: Option<usize>, guess: usize) -> &[Sample] {
        self.pairs.get(&(truth, guess)).map_or(&[], |pair| &pair.samples)
    }

    /// Pairs of true and guessed class that occur, with their counts: the most frequent first, then by class.
    pub fn pairs(&self) -> Vec<(usize, usize, u64)> {
        let known = self.pairs.iter();
        let mut pairs: Vec<_> = known
            .filter_map(|(&(truth, guess), pair)| Some((truth?, guess, pair.count)))
            .collect();
        pairs.sort_unstable_by_key(|&(truth, guess, count)| (std::cmp::Reverse(count), truth, guess));
        pairs
    }

    /// The figures; `None` where no true label is known.
    pub fn figures(&self, classes: &Classes) -> Option<ClassifyFigures> {
        if self.known == 0 {
            return None;
        }
        let mut counts = vec![(0u64, 0u64, 0u64); classes.len()];
        for (truth, guess, count) in self.pairs() {
            if let Some((pictures, _, right)) = counts.get_mut(truth) {
                *pictures += count;
                *right += if truth == guess { count } else { 0 };
            }
            if let Some((_, guessed, _)) = counts.get_mut(guess) {
                *guessed += count;
            }
        }
        let percent = |part: u64, whole: u64| (whole > 0).then(|| 100.0 * part as f64 / whole as f64);
        let of_class = |(class, &(pictures, guessed, right)): (usize, &(u64, u64, u64))| ClassFigures {
            label: classes.label(class).to_owned(),
            pictures,
            guessed,
            precision: percent(right, guessed),
            recall: percent(right, pictures),
            f1: percent(2 * right, pictures + guessed),
        };
        let right: u64 = counts.iter().map(|&(_, _, right)| right).sum();
        let commonest = counts.iter().map(|&(pictures, ..)| pictures).max().unwrap_or(0);
        let classes: Vec<ClassFigures> = counts.iter().enumerate().map(of_class).collect();
        let f1: Vec<f64> = classes.iter().filter_map(|class| class.f1).collect();
        Some(ClassifyFigures {
            pictures: self.known,
            labels: classes.len(),
            accuracy_1: percent(right, self.known)?,
            accuracy_5: percent(self.within_5, self.known)?,
            macro_f1: f1.iter().sum::<f64>() / f1.len().max(1) as f64,
            chance: 100.0 / classes.len().max(1) as f64,
            commonest: percent(commonest, self.known)?,
            classes,
        })
    }
}

#[cfg(test)]
mod tests {
    use clip_core::serde_json::to_value;
    use proptest::prelude::*;

    use super::super::zero_shot::Class;
    use super::*;

    fn classes(count: usize) -> Classes {
        let class = |number: usize| Class {
            label: format!("c{number}"),
            synonyms: Vec::new(),
        };
        Classes::new((0..count).map(class).collect()).unwrap()
    }

    fn guesses(classes: &[usize]) -> Vec<Guess> {
        let guess = |&class: &usize| Guess {
            class,
            score: 0.5,
            probability: 0.25,
        };
        classes.iter().map(guess).collect()
    }

    #[test]
    fn by_hand() {
        let mut tally = Tally::default();
        for (row, (truth, guess)) in [(0, 0), (0, 0), (0, 1), (1, 1), (2, 1)].into_iter().enumerate() {
            tally.add(row as u64, Some(truth), &guesses(&[guess]));
        }
        tally.add(5, None, &guesses(&[3]));
        tally.add(6, Some(0), &[]);
        let figures = tally.figures(&classes(4)).unwrap();
        assert_eq!((figures.pictures, tally.pictures(), figures.labels), (5, 6, 4));
        assert_eq!(
            (
                figures.accuracy_1,
                figures.accuracy_5,
                figures.chance,
                figures.commonest
            ),
            (60.0, 60.0, 25.0, 60.0)
        );
        // F1: 2·2/(3+2), 2·1/(1+3), 2·0/(1+0); class 3 occurs nowhere.
        assert!((figures.macro_f1 - 100.0 * (0.8 + 0.5 + 0.0) / 3.0).abs() < 1e-9);
        let third = &figures.classes[2];
        assert_eq!((third.precision, third.recall, third.f1), (None, Some(0.0), Some(0.0)));
        assert_eq!(figures.classes[3].f1, None);
        assert_eq!(tally.pairs()[..2], [(0, 0, 2), (0, 1, 1)]);
        assert!(to_value(&figures).unwrap()["accuracy@1"].is_number());
        assert_eq!(Tally::default().figures(&classes(2)), None);
    }

    #[test]
    fn the_surest_are_kept_and_no_more() {
        let mut tally = Tally::default();
        for row in 0..100u64 {
            let probability = ((row * 37) % 100) as f32 / 100.0;
            tally.add(
                row,
                Some(1),
                &[Guess {
                    class: 0,
                    score: 0.0,
                    probability,
                }],
            );
        }
        let samples = tally.samples(Some(1), 0);
        let sure: Vec<f32> = samples.iter().map(|sample| sample.probability).collect();
        assert_eq!(sure, [0.99, 0.98, 0.97, 0.96, 0.95, 0.94]);
        assert!(
            samples
                .iter()
                .all(|sample| ((sample.row * 37) % 100) as f32 / 100.0 == sample.probability)
        );
        assert!(tally.samples(None, 0).is_empty());
    }

    /// A picture's truth and guesses.
    type Row = (usize, Vec<usize>);

    proptest! {
        /// Each figure by its definition, counted picture by picture.
        #[test]
        fn as_counted_by_hand(
            rows in prop::collection::vec((0usize..6, prop::collection::vec(0usize..6, 1..7)), 1..60),
        ) {
            let mut tally = Tally::default();
            for (row, (truth, guessed)) in rows.iter().enumerate() {
                tally.add(row as u64, Some(*truth), &guesses(guessed));
            }
            let figures = tally.figures(&classes(6)).unwrap();
            let n = rows.len() as f64;
            let share = |what: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| what(row)).count() as f64;
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            prop_assert!(near(figures.accuracy_1, 100.0 * share(&|(truth, guessed)| guessed[0] == *truth) / n));
            prop_assert!(near(figures.accuracy_5, 100.0 * share(&|(truth, guessed)| guessed[..guessed.len().min(5)].contains(truth)) / n));
            let mut sum = (0.0, 0);
            for class in 0..6 {
                let right = share(&|(truth, guessed)| *truth == class && guessed[0] == class);
                let (is, said) = (share(&|(truth, _)| *truth == class), share(&|(_, guessed)| guessed[0] == class));
                let got = &figures.classes[class];
                prop_assert_eq!((got.pictures as f64, got.guessed as f64), (is, said));
                prop_assert_eq!(got.recall.is_some(), is > 0.0);
                prop_assert!(got.recall.is_none_or(|recall| near(recall, 100.0 * right / is)));
                prop_assert!(got.precision.is_none_or(|precision| near(precision, 100.0 * right / said)));
                if is + said > 0.0 {
                    // The harmonic mean, as it is usually written.
                    let (p, r) = (if said > 0.0 { right / said } else { 0.0 }, if is > 0.0 { right / is } else { 0.0 });
                    let f1 = if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 };
                    prop_assert!(near(got.f1.unwrap(), 100.0 * f1));
                    sum = (sum.0 + 100.0 * f1, sum.1 + 1);
                } else {
                    prop_assert_eq!(got.f1, None);
                }
            }
            prop_assert!(near(figures.macro_f1, sum.0 / f64::from(sum.1)));
        }
    }
}
