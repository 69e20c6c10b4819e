//! Every figure against its definition, written a second time: all scores of a query, sorted, walked through.
//!
//! Rows lie on a grid of eighths, where scores are exact in f32 and often tie.

#![allow(clippy::unwrap_used, reason = "tests may unwrap")]

mod brute;

use std::collections::BTreeMap;

use brute::{Brute, Row};
use clip_core::Embeddings;
use clip_index::{
    Cuts, Figures, Groups, Options, PositiveLists, Positives, PrecisionFigures, Ranks, Sample, chance,
    chance_precision, chance_sampled, precisions, precisions_both, rank, rank_both, rank_sampled,
};
use proptest::prelude::*;

fn grid(values: &[i8], dim: usize) -> Embeddings {
    Embeddings::new(values.iter().map(|&x| f32::from(x) / 8.0).collect(), dim).unwrap()
}

/// 64 times the scores of a query with all gallery rows: whole numbers.
fn scores(query: &[f32], gallery: &Embeddings) -> Vec<i64> {
    let whole = |x: &f32| (x * 8.0) as i64;
    let score = |row: &[f32]| query.iter().zip(row).map(|(a, b)| whole(a) * whole(b)).sum();
    gallery.rows().map(score).collect()
}

/// Texts and images, their products, and how right each image is for each text (0: wrong).
#[derive(Debug)]
struct Case {
    texts: Embeddings,
    images: Embeddings,
    text_groups: Vec<u64>,
    image_groups: Vec<u64>,
    grades: Vec<Vec<u8>>,
    cuts: Cuts,
    threads: usize,
}

impl Case {
    /// The same facts with images as queries.
    fn turned(&self) -> Self {
        let grades = (0..self.images.len()).map(|image| self.grades.iter().map(|grades| grades[image]).collect());
        Self {
            texts: self.images.clone(),
            images: self.texts.clone(),
            text_groups: self.image_groups.clone(),
            image_groups: self.text_groups.clone(),
            grades: grades.collect(),
            cuts: self.cuts.clone(),
            ..*self
        }
    }

    fn positives(&self) -> Positives {
        let mut lists = PositiveLists::default();
        for grades in &self.grades {
            // Backwards and twice: neither order nor repetition counts.
            let rows = grades.iter().enumerate().map(|(row, &grade)| (row, f32::from(grade)));
            lists.push_graded(rows.clone().rev().chain(rows)).unwrap();
        }
        Positives::Lists(lists)
    }

    fn brute(&self, grouped: bool) -> Vec<Option<Brute>> {
        let query = |(query, grades): (usize, &Vec<u8>)| {
            let mut rows: BTreeMap<u64, Row> = BTreeMap::new();
            let scored = scores(self.texts.row(query), &self.images);
            for (image, (score, &grade)) in scored.into_iter().zip(grades).enumerate() {
                let name = if grouped {
                    self.image_groups[image]
                } else {
                    image as u64
                };
                let row = rows.entry(name).or_insert(Row { score, grade });
                *row = Row {
                    score: row.score.max(score),
                    grade: row.grade.max(grade),
                };
            }
            Brute::of(rows.into_values().collect(), self.cuts.ranks())
        };
        self.grades.iter().enumerate().map(query).collect()
    }

    fn options(&self) -> Options {
        Options::default().threads(self.threads)
    }

    /// All figures of one direction, grouped and not.
    fn agrees(&self) -> Result<(), TestCaseError> {
        let (positives, groups) = (self.positives(), Groups::new(&self.image_groups));
        for groups in [None, Some(&groups)] {
            let wanted = self.brute(groups.is_some());
            let gallery = groups.map_or(self.images.len(), Groups::len);
            let found = precisions(
                &self.texts,
                &self.images,
                &positives,
                groups,
                &self.cuts,
                self.options(),
            )
            .unwrap();
            prop_assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                prop_assert_eq!(found.is_some(), wanted.is_some());
                let (Some(found), Some(wanted)) = (found, wanted) else {
                    continue;
                };
                prop_assert_eq!((found.rank.get(), found.right), (wanted.rank, wanted.right));
                close(found.average, wanted.average)?;
                close(found.ndcg, wanted.ndcg)?;
                for (at, &k) in self.cuts.ranks().iter().enumerate() {
                    close(found.precisions.get(k).unwrap(), wanted.precisions[at])?;
                    close(found.ndcgs.get(k).unwrap(), wanted.ndcgs[at])?;
                }
            }
            let wanted: Vec<Brute> = wanted.into_iter().flatten().collect();
            let ranks = Ranks::of_precisions(&found, gallery);
            self.sums(&wanted, &ranks, PrecisionFigures::new(&found, gallery).ok())?;
            if groups.is_none() {
                let alone = rank(&self.texts, &self.images, &positives, self.options()).unwrap();
                prop_assert_eq!(alone, ranks);
            }
        }
        Ok(())
    }

    /// The figures of all queries.
    fn sums(&self, wanted: &[Brute], ranks: &Ranks, found: Option<PrecisionFigures>) -> Result<(), TestCaseError> {
        let Some(found) = found else {
            prop_assert!(wanted.is_empty() && Figures::new(ranks, &self.cuts).is_err());
            return Ok(());
        };
        let figures = Figures::new(ranks, &self.cuts).unwrap();
        let count = wanted.len() as f64;
        let mean = |figure: &dyn Fn(&Brute) -> f64| wanted.iter().map(figure).sum::<f64>() / count;
        prop_assert_eq!((figures.queries, found.queries), (wanted.len(), wanted.len()));
        prop_assert_eq!((figures.gallery, found.gallery), (ranks.gallery(), ranks.gallery()));
        close(found.map, 100.0 * mean(&|one| one.average))?;
        close(found.ndcg, 100.0 * mean(&|one| one.ndcg))?;
        close(figures.mrr, mean(&|one| 1.0 / f64::from(one.rank)))?;
        close(figures.mean_rank, mean(&|one| f64::from(one.rank)))?;
        let mut sum = 0.0;
        for (at, &k) in self.cuts.ranks().iter().enumerate() {
            let recall = 100.0 * mean(&|one| f64::from(u8::from(one.rank <= k)));
            sum += recall;
            close(figures.recall(k).unwrap(), recall)?;
            close(ranks.recall(k), recall)?;
            close(
                found.precisions.get(k).unwrap(),
                100.0 * mean(&|one| one.precisions[at]),
            )?;
            close(found.ndcgs.get(k).unwrap(), 100.0 * mean(&|one| one.ndcgs[at]))?;
        }
        close(figures.mean_recall, sum / self.cuts.ranks().len() as f64)?;
        // The middle: as many ranks lie at or below it as at or above it.
        let at_most = wanted
            .iter()
            .filter(|one| f64::from(one.rank) <= figures.median_rank)
            .count();
        let at_least = wanted
            .iter()
            .filter(|one| f64::from(one.rank) >= figures.median_rank)
            .count();
        prop_assert!(2 * at_most >= wanted.len() && 2 * at_least >= wanted.len());
        Ok(())
    }
}

fn close(found: f64, wanted: f64) -> Result<(), TestCaseError> {
    prop_assert!((found - wanted).abs() < 1e-9, "{} instead of {}", found, wanted);
    Ok(())
}

prop_compose! {
    fn case(most: usize)(texts in 1..most, images in 1..most)(
        texts in prop::collection::vec(-4i8..=4, 2 * texts),
        images in prop::collection::vec(-4i8..=4, 2 * images),
        groups in prop::collection::vec(0u64..12, texts + images),
        // Most pairs are wrong, some queries have no right row at all.
        grades in prop::collection::vec(prop::collection::vec(prop_oneof![12 => Just(0u8), 2 => Just(1), 1 => 2u8..5], images), texts),
        cuts in prop::collection::btree_set(1u32..40, 1..4),
        threads in 1usize..3,
    ) -> Case {
        let (left, right) = (texts.len() / 2, images.len() / 2);
        Case {
            texts: grid(&texts, 2),
            images: grid(&images, 2),
            text_groups: groups[..left].to_vec(),
            image_groups: groups[left..left + right].to_vec(),
            grades,
            cuts: Cuts::new(cuts).unwrap(),
            threads,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn all_figures_are_those_of_the_definitions(case in case(130)) {
        case.agrees()?;
        case.turned().agrees()?;
        let (forth, back) = rank_both(&case.texts, &case.images, &case.positives(), case.options()).unwrap();
        let ranks = |case: &Case| case.brute(false).iter().map(|one| one.as_ref().map(|one| one.rank)).collect::<Vec<_>>();
        let found = |ranks: &Ranks| ranks.ranks().iter().map(|rank| rank.map(|rank| rank.get())).collect::<Vec<_>>();
        prop_assert_eq!(found(&forth), ranks(&case));
        prop_assert_eq!(found(&back), ranks(&case.turned()));
        let both = precisions_both(&case.texts, &case.images, &case.positives(), &case.cuts, case.options()).unwrap();
        let one = |case: &Case| precisions(&case.texts, &case.images, &case.positives(), None, &case.cuts, case.options()).unwrap();
        prop_assert_eq!(both, [one(&case), one(&case.turned())]);
    }

    /// Labels and the diagonal say shorter what lists say, and are found another way.
    #[test]
    fn labels_and_the_diagonal_are_lists(case in case(60), labels in prop::collection::vec(0u64..9, 120)) {
        let (texts, images) = (case.texts.len(), case.images.len());
        let (left, right) = (&labels[..texts], &labels[60..60 + images]);
        let list = |is_right: &dyn Fn(usize, usize) -> bool, texts: usize, images: usize| {
            let mut lists = PositiveLists::default();
            (0..texts).for_each(|text| lists.push((0..images).filter(|&image| is_right(text, image))).unwrap());
            Positives::Lists(lists)
        };
        let labelled = Positives::Labels { queries: left.to_vec(), gallery: right.to_vec() };
        let listed = list(&|text, image| left[text] == right[image], texts, images);
        let groups = Groups::new(&case.image_groups);
        for groups in [None, Some(&groups)] {
            let found = |positives| precisions(&case.texts, &case.images, positives, groups, &case.cuts, case.options()).unwrap();
            prop_assert_eq!(found(&labelled), found(&listed));
            let guessed = |positives| chance(positives, texts, images, groups, &case.cuts).ok();
            prop_assert_eq!(guessed(&labelled), guessed(&listed));
        }
        let found = |positives| precisions(&case.texts, &case.texts, positives, None, &case.cuts, case.options()).unwrap();
        prop_assert_eq!(found(&Positives::Diagonal), found(&list(&|text, image| text == image, texts, texts)));
    }

    /// Where more is to be drawn than there is, a query is ranked among its whole category.
    #[test]
    fn a_sample_of_all_is_the_category(case in case(60), seed: u64, others in 60usize..200) {
        let (positives, categories) = (case.positives(), &case.image_groups);
        let sample = Sample { others, seed, categories };
        let found = rank_sampled(&case.texts, &case.images, &positives, sample, case.options()).unwrap();
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for (text, rank) in found.ranks.ranks().iter().enumerate() {
            let grades = &case.grades[text];
            let scores = scores(case.texts.row(text), &case.images);
            // Its own row if that is right, else any: of these it is one that has the rank that was found.
            let own = grades.get(text).is_some_and(|&grade| grade > 0);
            let right: Vec<usize> = (0..grades.len()).filter(|&row| grades[row] > 0 && (!own || row == text)).collect();
            prop_assert_eq!(rank.is_some(), !right.is_empty());
            let Some(rank) = rank else { continue };
            let places = right.iter().map(|&row| {
                let others: Vec<usize> = (0..grades.len()).filter(|&other| categories[other] == categories[row] && grades[other] == 0).collect();
                let before = others.iter().filter(|&&other| scores[other] >= scores[row]).count();
                (1 + before as u32, 1 + others.len())
            });
            let places: Vec<(u32, usize)> = places.collect();
            let place = places.iter().find(|(place, _)| *place == rank.get());
            prop_assert!(place.is_some(), "{} is not in {:?}", rank, places);
            if let [(_, size)] = places[..] {
                *sizes.entry(size).or_default() += 1;
            }
        }
        for (size, queries) in sizes {
            prop_assert!(found.sizes[&size] >= queries);
        }
        prop_assert_eq!(found.sizes.values().sum::<usize>(), found.ranks.ranks().iter().flatten().count());
        prop_assert_eq!(found.sizes.keys().last().copied().unwrap_or(0), found.ranks.gallery());
        let turned = rank_sampled(&case.texts, &case.images, &positives, sample, Options::default().threads(3)).unwrap();
        prop_assert_eq!(found, turned);
    }

    /// Against the mean over every order of a few rows, products and grades.
    #[test]
    fn chance_is_the_mean_over_all_orders(
        grades in prop::collection::vec(0u8..3, 1..6), groups in prop::collection::vec(0u64..4, 5), grouped: bool, k in 1u32..8,
    ) {
        let mut lists = PositiveLists::default();
        lists.push_graded(grades.iter().enumerate().map(|(row, &grade)| (row, f32::from(grade)))).unwrap();
        let (positives, cuts) = (Positives::Lists(lists), Cuts::new([k]).unwrap());
        let labels = &groups[..grades.len()];
        let groups = Groups::new(labels);
        let mut worth: BTreeMap<u64, u8> = BTreeMap::new();
        for (row, &grade) in grades.iter().enumerate() {
            let best = worth.entry(if grouped { labels[row] } else { row as u64 }).or_default();
            *best = grade.max(*best);
        }
        let all: Vec<Option<Brute>> = orders(worth.len()).into_iter().map(|order| {
            let rows = worth.values().zip(order).map(|(&grade, place)| Row { score: -(place as i64), grade });
            Brute::of(rows.collect(), &[k])
        }).collect();
        let groups = grouped.then_some(&groups);
        let guessed = chance(&positives, 1, grades.len(), groups, &cuts);
        let precise = chance_precision(&positives, 1, grades.len(), groups, &cuts);
        prop_assert_eq!((guessed.is_ok(), precise.is_ok()), (all[0].is_some(), all[0].is_some()));
        let (Ok(guessed), Ok(precise)) = (guessed, precise) else { return Ok(()) };
        let mean = |figure: &dyn Fn(&Brute) -> f64| all.iter().flatten().map(figure).sum::<f64>() / all.len() as f64;
        close(guessed.mrr, mean(&|one| 1.0 / f64::from(one.rank)))?;
        close(guessed.mean_rank, mean(&|one| f64::from(one.rank)))?;
        close(guessed.recall(k).unwrap(), 100.0 * mean(&|one| f64::from(u8::from(one.rank <= k))))?;
        close(precise.map, 100.0 * mean(&|one| one.average))?;
        close(precise.ndcg, 100.0 * mean(&|one| one.ndcg))?;
        close(precise.precisions.get(k).unwrap(), 100.0 * mean(&|one| one.precisions[0]))?;
        close(precise.ndcgs.get(k).unwrap(), 100.0 * mean(&|one| one.ndcgs[0]))?;
    }
}

/// All orders of so many places.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |orders, next| {
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, next);
                order
            })
        };
        orders.into_iter().flat_map(insert).collect()
    })
}

/// Over many seeds, a draw is fair: the wrong rows before the right one are on average as many as a share says.
#[test]
fn samples_are_fair_and_guessing_among_them_is_known() {
    // One text; 40 images of its category, of which 12 score higher than the right one, and 30 of another.
    let angle = |row: usize| if row < 40 { row as f32 / 100.0 } else { 0.0 };
    let images: Vec<f32> = (0..70).flat_map(|row| [angle(row).cos(), angle(row).sin()]).collect();
    let images = Embeddings::new(images, 2).unwrap();
    let text = Embeddings::new(vec![1.0, 0.0], 2).unwrap();
    let categories: Vec<u64> = (0..70).map(|row| u64::from(row >= 40)).collect();
    let mut lists = PositiveLists::default();
    lists.push([12]).unwrap();
    let positives = Positives::Lists(lists);
    let rank = |seed: u64, others: usize| {
        let sample = Sample {
            others,
            seed,
            categories: &categories,
        };
        let found = rank_sampled(&text, &images, &positives, sample, Options::default()).unwrap();
        assert_eq!(
            (found.ranks.gallery(), &found.sizes),
            (1 + others, &BTreeMap::from([(1 + others, 1)]))
        );
        f64::from(found.ranks.ranks()[0].unwrap().get())
    };
    let draws = 4000;
    let mean = (0..draws).map(|seed| rank(seed, 10)).sum::<f64>() / draws as f64;
    // 10 of 39, 12 of which stand before it: variance 10 * 12/39 * 27/39 * 29/38.
    let wanted = 1.0 + 10.0 * 12.0 / 39.0;
    assert!(
        (mean - wanted).abs() < 4.0 * (1.63f64 / draws as f64).sqrt(),
        "{mean} {wanted}"
    );
    assert_eq!(rank(3, 39), 13.0);
    assert!((0..20).any(|seed| rank(seed, 10) != rank(seed + 1, 10)));

    let sample = Sample {
        others: 100,
        seed: 1,
        categories: &categories,
    };
    let guessed = chance_sampled(&positives, 1, 70, sample, &Cuts::default()).unwrap();
    assert_eq!((guessed.gallery, guessed.median_rank), (40, 20.5));
    assert!((guessed.recall(10).unwrap() - 25.0).abs() < 1e-9 && (guessed.mean_rank - 20.5).abs() < 1e-9);
}
