//! Where all right rows stand: the passes over the scores.

use std::borrow::Cow;
use std::ops::Range;

use clip_core::{Embeddings, Error, Result};
use rayon::prelude::*;

use crate::cuts::Cuts;
use crate::groups::Groups;
use crate::positives::{Lookup, Positives};
use crate::precision::Precision;
use crate::steps::{Steps, count_columns, count_groups, count_rows};
use crate::sweep::{check, sweep};
use crate::threads::Options;

/// Right rows that are kept at a time, 12 bytes each: as many queries pass the gallery together as have so few.
const TOGETHER: usize = 1 << 20;

/// Right rows of texts up to which both directions are kept, at 24 bytes each, and take one pass.
const BOTH: usize = 4 << 20;

/// Where all right rows of each query stand; `None` for a query without any. With `groups`, gallery rows of one group
/// count once, by the best score among them, and a group is right if one of its rows is, by the most it is worth.
///
/// A right row at rank `i` adds its gain divided by `log2(1 + i)` (Järvelin and Kekäläinen, "Cumulated gain-based
/// evaluation of IR techniques", 2002, with the discount of Burges et al., "Learning to rank using gradient descent",
/// 2005, which also discounts the second rank). Gains are grades as they are, or 1.
///
/// The scores are never held: what is kept is a score and a number for each right row, of as many queries at a time as
/// have a million of them.
///
/// An error if the dimensions differ, a row is not finite, or `positives` or `groups` do not fit the rows.
///
/// ```
/// use clip_core::Embeddings;
/// use clip_index::{Cuts, Options, PositiveLists, Positives, precisions};
/// let concept = Embeddings::new(vec![1.0, 0.0], 2)?;
/// let images = Embeddings::new(vec![0.8, 0.6, 1.0, 0.0, 0.0, 1.0], 2)?;
/// let mut carried = PositiveLists::default();
/// carried.push([0, 1])?;
/// let carried = Positives::Lists(carried);
/// let found = precisions(&concept, &images, &carried, None, &Cuts::default(), Options::default())?;
/// assert_eq!(found[0].as_ref().map(|found| (found.average, found.ndcg)), Some((1.0, 1.0)));
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn precisions(
    queries: &Embeddings,
    gallery: &Embeddings,
    positives: &Positives,
    groups: Option<&Groups>,
    cuts: &Cuts,
    options: Options,
) -> Result<Vec<Option<Precision>>> {
    options.install(|| one_way(queries, gallery, positives, groups, cuts))?
}

/// Where all right rows of each text and of each image stand: [`precisions`] in both directions, in one pass over the
/// scores if there are no more than some millions of right rows. `positives` are the right images of each text.
pub fn precisions_both(
    texts: &Embeddings,
    images: &Embeddings,
    positives: &Positives,
    cuts: &Cuts,
    options: Options,
) -> Result<[Vec<Option<Precision>>; 2]> {
    options.install(|| {
        check(texts, images)?;
        positives.check(texts.len(), images.len())?;
        let back = positives.transposed(images.len())?;
        let (rows, columns) = (Lookup::new(positives, None), Lookup::new(&back, None));
        if (0..texts.len()).map(|text| rows.most(text)).sum::<usize>() > BOTH {
            return Ok([
                one_way(texts, images, positives, None, cuts)?,
                one_way(images, texts, &back, None, cuts)?,
            ]);
        }
        let mut rows = steps(&rows, texts, 0, images, None);
        let columns = steps(&columns, images, 0, texts, None);
        sweep(texts, images, &mut rows, |rows, _, strip| {
            count_rows(rows, strip);
            count_columns(&columns[strip.column..], strip);
        });
        Ok([rows, columns].map(|steps| finish(steps, cuts).collect()))
    })?
}

fn one_way(
    queries: &Embeddings,
    gallery: &Embeddings,
    positives: &Positives,
    groups: Option<&Groups>,
    cuts: &Cuts,
) -> Result<Vec<Option<Precision>>> {
    check(queries, gallery)?;
    positives.check(queries.len(), gallery.len())?;
    check_groups(groups, gallery.len())?;
    let lookup = Lookup::new(positives, groups);
    let ordered = groups.map(|groups| groups.in_order(gallery)).transpose()?;
    let mut found = Vec::with_capacity(queries.len());
    while found.len() < queries.len() {
        let part = together(&lookup, found.len()..queries.len());
        let queries = rows(queries, part.clone())?;
        let mut steps = steps(&lookup, &queries, part.start, gallery, groups);
        match &ordered {
            None => sweep(&queries, gallery, &mut steps, |steps, _, strip| {
                count_rows(steps, strip)
            }),
            Some((gallery, of)) => sweep(&queries, gallery, &mut steps, |steps, _, strip| {
                count_groups(steps, of, strip);
            }),
        }
        found.par_extend(finish(steps, cuts));
    }
    Ok(found)
}

/// The steps of queries, the first of which has this number.
fn steps(
    lookup: &Lookup<'_>,
    queries: &Embeddings,
    first: usize,
    gallery: &Embeddings,
    groups: Option<&Groups>,
) -> Vec<Steps> {
    (0..queries.len())
        .into_par_iter()
        .map_init(Vec::new, |right, query| {
            lookup.find(first + query, right);
            Steps::new(queries.row(query), gallery, right, groups)
        })
        .collect()
}

fn finish(steps: Vec<Steps>, cuts: &Cuts) -> impl ParallelIterator<Item = Option<Precision>> {
    steps.into_par_iter().map(|mut steps| {
        steps.close();
        Precision::of(&steps, cuts)
    })
}

/// Groups are of these rows.
pub(crate) fn check_groups(groups: Option<&Groups>, gallery: usize) -> Result<()> {
    match groups {
        Some(groups) if groups.members() != gallery => Err(Error::invalid(format!(
            "groups of {} rows for a gallery of {gallery}",
            groups.members()
        ))),
        _ => Ok(()),
    }
}

/// The next queries that have together no more right rows than are kept; one at least.
fn together(lookup: &Lookup<'_>, left: Range<usize>) -> Range<usize> {
    let mut kept = 0;
    let more = left.clone().skip(1).find(|&query| {
        kept += lookup.most(query - 1);
        kept + lookup.most(query) > TOGETHER
    });
    left.start..more.unwrap_or(left.end)
}

fn rows(embeddings: &Embeddings, part: Range<usize>) -> Result<Cow<'_, Embeddings>> {
    if part.len() == embeddings.len() {
        return Ok(Cow::Borrowed(embeddings));
    }
    let dim = embeddings.dim();
    let data = embeddings.data()[part.start * dim..part.end * dim].to_vec();
    Embeddings::new(data, dim).map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::PositiveLists;
    use crate::precision::{PrecisionFigures, discount};

    fn rows(values: &[f32]) -> Embeddings {
        Embeddings::new(values.to_vec(), 1).unwrap()
    }

    fn lists(rows: &[Vec<usize>]) -> Positives {
        let mut lists = PositiveLists::default();
        rows.iter().for_each(|rows| lists.push(rows.iter().copied()).unwrap());
        Positives::Lists(lists)
    }

    fn find(gallery: &[f32], positives: &Positives, queries: usize, groups: Option<&[u64]>) -> Vec<Option<Precision>> {
        let groups = groups.map(Groups::new);
        let queries = rows(&vec![1.0; queries]);
        precisions(
            &queries,
            &rows(gallery),
            positives,
            groups.as_ref(),
            &Cuts::default(),
            Options::default(),
        )
        .unwrap()
    }

    #[test]
    fn by_hand() {
        // Right: the second and the last. The tie counts against: ranks 3 and 4.
        let found = find(&[0.9, 0.5, 0.5, 0.1], &lists(&[vec![1, 3], vec![]]), 2, None);
        let first = found[0].as_ref().unwrap();
        assert!((first.average - (1.0 / 3.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
        // log2(4) and log2(5) below 1/log2(2) + 1/log2(3).
        assert!((first.ndcg - (0.5 + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2())).abs() < 1e-12);
        assert_eq!((first.rank.get(), first.right, &found[1]), (3, 2, &None));
        assert_eq!([1, 5, 10].map(|k| first.precisions.get(k).unwrap()), [0.0, 0.4, 0.2]);
        assert_eq!((first.ndcgs.get(1), first.ndcgs.get(5)), (Some(0.0), Some(first.ndcg)));
        let figures = PrecisionFigures::new(&found, 4).unwrap();
        assert_eq!(
            (figures.queries, figures.gallery, figures.precisions.get(10)),
            (1, 4, Some(20.0))
        );
        let json = serde_json::to_value(figures).unwrap();
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let wanted = "queries gallery map precision@1 precision@5 precision@10 ndcg ndcg@1 ndcg@5 ndcg@10";
        assert_eq!(names.join(" "), wanted);
    }

    #[test]
    fn grades_weigh_and_the_least_worth_of_equal_scores_stands_first() {
        let mut graded = PositiveLists::default();
        graded.push_graded([(0, 3.0), (1, 1.0), (2, 2.0)]).unwrap();
        let found = find(&[0.5, 0.5, 0.9, 0.5], &Positives::Lists(graded), 1, None);
        let first = found[0].as_ref().unwrap();
        // In order: worth 2; then, all at 0.5, wrong, 1, 3.
        let [second, third, fourth] = [2u64, 3, 4].map(discount);
        let ideal = 3.0 + 2.0 * second + third;
        assert!((first.ndcg - (2.0 + third + 3.0 * fourth) / ideal).abs() < 1e-12);
        assert!((first.ndcgs.get(1).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(first.rank.get(), 1);
    }

    #[test]
    fn a_product_counts_once_by_its_best_picture() {
        // Products 7, 8, 9, 7, 9. Best pictures: 9 at 0.9, 7 at 0.7, 8 at 0.6.
        let gallery = [0.7, 0.6, 0.9, 0.1, 0.8];
        let found = find(&gallery, &lists(&[vec![3]]), 1, Some(&[7, 8, 9, 7, 9]));
        let first = found[0].as_ref().unwrap();
        // The right picture itself is last; its product is second.
        assert_eq!((first.rank.get(), first.right, first.average), (2, 1, 0.5));
        // Two right pictures of one product are one right product.
        let found = find(&gallery, &lists(&[vec![0, 3, 1]]), 1, Some(&[7, 8, 9, 7, 9]));
        let first = found[0].as_ref().unwrap();
        assert_eq!((first.right, first.average), (2, (1.0 / 2.0 + 2.0 / 3.0) / 2.0));
    }

    /// More right rows than are kept at a time: the queries go in parts.
    #[test]
    fn parts_are_the_whole() {
        let side = 1200;
        let values: Vec<f32> = (0..side)
            .map(|row| ((row * 7919) % side) as f32 / side as f32)
            .collect();
        let labels = |_: usize| vec![3u64; side];
        let all = Positives::Labels {
            queries: labels(0),
            gallery: labels(1),
        };
        assert!(side * side > TOGETHER);
        let found = find(&values, &all, side, None);
        assert_eq!(found.len(), side);
        assert!(
            found
                .iter()
                .flatten()
                .all(|one| one.average == 1.0 && one.right == side && one.ndcg == 1.0)
        );
        let one = find(&values, &lists(&[vec![5, 900]]), 1, None);
        let half = |row: u64| if row < 600 { 5 } else { 6 };
        let [forth, back] = precisions_both(
            &rows(&[1.0; 20]),
            &rows(&values),
            &Positives::Labels {
                queries: vec![3; 20],
                gallery: labels(1),
            },
            &Cuts::default(),
            Options::default(),
        )
        .unwrap();
        assert!(forth[0] == found[0] && back.len() == side && forth.len() == 20);
        let halves = Positives::Labels {
            queries: (0..side as u64).map(half).collect(),
            gallery: (0..side as u64).map(half).collect(),
        };
        let found = find(&values, &halves, side, None);
        assert!(
            found[..600].windows(2).all(|pair| pair[0] == pair[1])
                && found[600..].windows(2).all(|pair| pair[0] == pair[1])
        );
        assert!(found[0] != found[600] && one[0].is_some());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let what = |positives: &Positives, groups: Option<&Groups>| {
            let (query, gallery) = (rows(&[1.0]), rows(&[1.0, 0.5]));
            precisions(
                &query,
                &gallery,
                positives,
                groups,
                &Cuts::default(),
                Options::default(),
            )
            .unwrap_err()
            .what()
            .to_owned()
        };
        assert_eq!(what(&lists(&[]), None), "0 lists of right rows for 1 queries");
        assert_eq!(
            what(&lists(&[vec![2]]), None),
            "query 0 names gallery row 2, but the gallery has 2 rows"
        );
        let groups = Groups::new(&[1]);
        assert_eq!(
            what(&lists(&[vec![1]]), Some(&groups)),
            "groups of 1 rows for a gallery of 2"
        );
        assert!(PrecisionFigures::new(&[None], 2).is_err());
        let none = precisions(
            &rows(&[1.0]),
            &Embeddings::default(),
            &lists(&[vec![]]),
            None,
            &Cuts::default(),
            Options::default(),
        );
        assert_eq!(none.unwrap(), [None]);
    }
}
