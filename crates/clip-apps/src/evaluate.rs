//! How well texts find their images, and images their texts.

use std::borrow::Cow;

use clip_core::{Embeddings, Error, Result};
use clip_index::{
    Figures, Groups, Positives, Precision, PrecisionFigures, Ranks, Sample, chance_precision, chance_sampled,
    precisions, precisions_both, rank_both, rank_sampled,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::protocol::{Protocol, Rules};
use crate::relevance::Relevance;

/// The figures of both directions. As JSON, this is the object that `clipzoo evaluate --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Texts as queries, images as gallery.
    pub text_to_image: Direction,
    /// Images as queries, texts as gallery.
    pub image_to_text: Direction,
    /// What each query was ranked among.
    pub protocol: Protocol,
}

/// The figures of one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    /// By the best right row of each query.
    pub figures: Figures,
    /// By all right rows of each query; where queries have several, or grades.
    pub precision: Option<PrecisionFigures>,
    /// What each query was ranked among.
    pub protocol: Protocol,
    /// Queries that were ranked among fewer rows than the protocol names, since their category has no more.
    pub short_queries: usize,
    /// By what rows were grouped, if groups were ranked.
    pub group_by: Option<String>,
}

/// The figures' entries, then `protocol`, and where they say something `short_queries` and `group_by`. Parts of the
/// object are often shown alone, so each names its protocol.
impl Serialize for Direction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.figures.serialize_figures(&mut map)?;
        if let Some(precision) = &self.precision {
            precision.serialize_figures(&mut map)?;
        }
        map.serialize_entry("protocol", &self.protocol)?;
        if self.protocol != Protocol::Full {
            map.serialize_entry("short_queries", &self.short_queries)?;
        }
        if let Some(name) = &self.group_by {
            map.serialize_entry("group_by", name)?;
        }
        map.end()
    }
}

/// Ranks texts among images and images among texts, in bounded memory. A tie counts against.
///
/// Rows that are not of length 1 are brought there first. Texts without a right image, and images without a right
/// text, are no queries, but stay in the gallery. Both directions come from one pass over the scores; where groups are ranked,
/// or right pairs are many millions, each takes a pass of its own.
///
/// ```
/// use clip_apps::{Relevance, Rules, evaluate};
/// use clip_core::Embeddings;
/// let texts = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0], 2)?;
/// let images = Embeddings::new(vec![3.0, 1.0, 1.0, 2.0], 2)?;
/// let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), &Rules::default())?;
/// assert_eq!(evaluation.text_to_image.figures.recall(1), Some(100.0));
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn evaluate(texts: &Embeddings, images: &Embeddings, relevance: &Relevance, rules: &Rules) -> Result<Evaluation> {
    if texts.is_empty() || images.is_empty() {
        return Err(Error::invalid(format!(
            "{} texts and {} images are nothing to evaluate",
            texts.len(),
            images.len()
        )));
    }
    rules.check(texts.len(), images.len())?;
    let (texts, images) = (unit(texts), unit(images));
    let forth = relevance.positives();
    let back = forth.transposed(images.len())?;
    if let Protocol::Sampled { .. } = rules.protocol {
        return Ok(rules.evaluation(
            rules.rank_sampled(&texts, &images, forth, true)?,
            rules.rank_sampled(&images, &texts, &back, false)?,
        ));
    }
    let graded = forth.graded();
    let [found, found_back] = match &rules.grouping {
        Some(_) => {
            let way = |queries: &Embeddings, gallery: &Embeddings, right, forth| {
                let groups = rules.groups(forth);
                precisions(queries, gallery, right, groups.as_ref(), &rules.cuts, rules.options)
            };
            [way(&texts, &images, forth, true)?, way(&images, &texts, &back, false)?]
        }
        None if forth.several() || back.several() => {
            precisions_both(&texts, &images, forth, &rules.cuts, rules.options)?
        }
        None => {
            let (forth, back) = rank_both(&texts, &images, forth, rules.options)?;
            let direction = |ranks| Ok::<_, Error>(rules.direction(Figures::new(&ranks, &rules.cuts)?));
            return Ok(rules.evaluation(direction(forth)?, direction(back)?));
        }
    };
    let rows = |gallery: usize, forth| rules.groups(forth).as_ref().map_or(gallery, Groups::len);
    Ok(rules.evaluation(
        rules.figures(&found, rows(images.len(), true), graded)?,
        rules.figures(&found_back, rows(texts.len(), false), graded)?,
    ))
}

/// What blind guessing would reach on average with so many texts and images. Where groups are ranked, all orders of groups are
/// equally likely.
pub fn chance(relevance: &Relevance, texts: usize, images: usize, rules: &Rules) -> Result<Evaluation> {
    rules.check(texts, images)?;
    let forth = relevance.positives();
    let back = forth.transposed(images)?;
    let several = forth.several() || back.several();
    Ok(rules.evaluation(
        rules.guess(forth, [texts, images], true, several)?,
        rules.guess(&back, [images, texts], false, several)?,
    ))
}

impl Rules {
    /// The figures of one direction by samples. `forth`: texts are the queries.
    fn rank_sampled(
        &self,
        queries: &Embeddings,
        gallery: &Embeddings,
        right: &Positives,
        forth: bool,
    ) -> Result<Direction> {
        // Rules were checked: who samples has categories.
        let sample = self
            .sample(forth)
            .ok_or_else(|| Error::internal("nothing to draw from"))?;
        let found = rank_sampled(queries, gallery, right, sample, self.options)?;
        Ok(Direction {
            short_queries: found.sizes.range(..=sample.others).map(|(_, queries)| queries).sum(),
            ..self.direction(Figures::new(&found.ranks, &self.cuts)?)
        })
    }

    /// The figures of where all right rows stand among so many rows or groups.
    fn figures(&self, found: &[Option<Precision>], gallery: usize, graded: bool) -> Result<Direction> {
        // A query with one right product among many says no more by its precision than by its rank.
        let several = graded || found.iter().flatten().any(|found| found.right > 1);
        Ok(Direction {
            precision: several.then(|| PrecisionFigures::new(found, gallery)).transpose()?,
            ..self.direction(Figures::new(&Ranks::of_precisions(found, gallery), &self.cuts)?)
        })
    }

    fn guess(
        &self,
        right: &Positives,
        [queries, gallery]: [usize; 2],
        forth: bool,
        several: bool,
    ) -> Result<Direction> {
        if let Some(sample) = self.sample(forth) {
            return Ok(self.direction(chance_sampled(right, queries, gallery, sample, &self.cuts)?));
        }
        let groups = self.groups(forth);
        let figures = clip_index::chance(right, queries, gallery, groups.as_ref(), &self.cuts)?;
        let precision = || chance_precision(right, queries, gallery, groups.as_ref(), &self.cuts);
        Ok(Direction {
            precision: several.then(precision).transpose()?,
            ..self.direction(figures)
        })
    }

    /// What is drawn for each query, if rows are drawn.
    fn sample(&self, forth: bool) -> Option<Sample<'_>> {
        let (Protocol::Sampled { others }, Some(categories)) = (self.protocol, &self.categories) else {
            return None;
        };
        Some(Sample {
            others: others as usize,
            seed: self.seed,
            categories: if forth { &categories.images } else { &categories.texts },
        })
    }

    /// The groups of images for texts, or of texts for images.
    pub(crate) fn groups(&self, forth: bool) -> Option<Groups> {
        let labels = &self.grouping.as_ref()?.labels;
        Some(Groups::new(if forth { &labels.images } else { &labels.texts }))
    }

    fn direction(&self, figures: Figures) -> Direction {
        Direction {
            figures,
            precision: None,
            protocol: self.protocol,
            short_queries: 0,
            group_by: self.grouping.as_ref().map(|grouping| grouping.name.clone()),
        }
    }

    fn evaluation(&self, text_to_image: Direction, image_to_text: Direction) -> Evaluation {
        Evaluation {
            text_to_image,
            image_to_text,
            protocol: self.protocol,
        }
    }
}

/// The rows at length 1, copied only if one is not.
pub(crate) fn unit(rows: &Embeddings) -> Cow<'_, Embeddings> {
    // What rounding in f32 leaves of a row that was brought to length 1 before.
    const ROUNDING: f64 = 1e-5;
    let is_unit = |row: &[f32]| (row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() - 1.0).abs() < ROUNDING;
    if rows.rows().all(is_unit) {
        Cow::Borrowed(rows)
    } else {
        Cow::Owned(rows.clone().normalised())
    }
}

#[cfg(test)]
mod tests {
    use clip_core::Id;
    use clip_core::serde_json::{Value, json, to_value};

    use super::*;
    use crate::protocol::{Grouping, Labels};

    fn rows(values: &[[f32; 2]]) -> Embeddings {
        Embeddings::new(values.concat(), 2).unwrap()
    }

    fn first(direction: &Direction) -> f64 {
        direction.figures.recall(1).unwrap()
    }

    #[test]
    fn the_object_is_the_one_of_evaluate_json() {
        let (texts, images) = (rows(&[[1.0, 0.0], [0.0, 1.0]]), rows(&[[0.0, 1.0], [0.6, 0.8]]));
        let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), &Rules::default()).unwrap();
        // Text 0 scores 0, 0.6; text 1 scores 1, 0.8. Image 0 scores 0, 1; image 1 scores 0.6, 0.8.
        let figures = |recall: f64, mean: f64, median: f64, mrr: f64| {
            json!({
                "queries": 2, "gallery": 2, "r@1": recall, "r@5": 100.0, "r@10": 100.0,
                "mean_recall": mean, "median_rank": median, "mrr": mrr, "mean_rank": median, "protocol": "full",
            })
        };
        let (forth, back) = (
            figures(0.0, 200.0 / 3.0, 2.0, 0.5),
            figures(50.0, 250.0 / 3.0, 1.5, 0.75),
        );
        let printed = to_value(evaluation).unwrap();
        assert_eq!(
            printed,
            json!({ "text_to_image": forth, "image_to_text": back, "protocol": "full" })
        );
        assert_eq!(
            printed.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["text_to_image", "image_to_text", "protocol"]
        );
    }

    #[test]
    fn lengths_do_not_count() {
        let (texts, images) = (rows(&[[0.0, 2.0], [9.0, 0.0]]), rows(&[[0.1, 0.3], [8.0, 0.1]]));
        let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), &Rules::default()).unwrap();
        assert_eq!(
            (first(&evaluation.text_to_image), first(&evaluation.image_to_text)),
            (100.0, 100.0)
        );
    }

    #[test]
    fn equal_texts_share_their_pictures() {
        let texts = rows(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
        let images = rows(&[[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]);
        let shared = Relevance::by_same_text(&["red shoe", "red shoe", "cup"]);
        let apart = evaluate(&texts, &images, &Relevance::diagonal(), &Rules::default()).unwrap();
        let together = evaluate(&texts, &images, &shared, &Rules::default()).unwrap();
        assert!(first(&apart.text_to_image) < 67.0 && first(&together.text_to_image) == 100.0);
        let guessed = chance(&shared, 3, 3, &Rules::default()).unwrap().text_to_image;
        // Two texts have two right pictures of three, one has one.
        assert!((first(&guessed) - 100.0 * (2.0 * 2.0 / 3.0 + 1.0 / 3.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_no_evaluation() {
        let error = evaluate(
            &Embeddings::default(),
            &rows(&[[1.0, 0.0]]),
            &Relevance::diagonal(),
            &Rules::default(),
        );
        assert_eq!(
            error.unwrap_err().what(),
            "0 texts and 1 images are nothing to evaluate"
        );
        let bad = evaluate(
            &rows(&[[f32::NAN, 0.0]]),
            &rows(&[[1.0, 0.0]]),
            &Relevance::diagonal(),
            &Rules::default(),
        );
        assert!(bad.unwrap_err().what().starts_with("row 0 of the queries"));
    }

    /// Three products: the first with two rows, whose texts are mixed up.
    fn products() -> (Embeddings, Embeddings, Labels) {
        let texts = rows(&[[0.6, 0.8], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]);
        let images = rows(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]);
        let items = [Some(Id(5)), Some(Id(5)), None, None];
        (texts, images, Labels::own(&items, &items))
    }

    #[test]
    fn products_count_once_and_by_their_best() {
        let (texts, images, labels) = products();
        let rules = Rules {
            grouping: Some(Grouping {
                name: "item".into(),
                labels,
            }),
            ..Rules::default()
        };
        let apart = evaluate(&texts, &images, &Relevance::diagonal(), &Rules::default()).unwrap();
        let grouped = evaluate(&texts, &images, &Relevance::diagonal(), &rules).unwrap();
        assert_eq!(
            (first(&apart.text_to_image), first(&grouped.text_to_image)),
            (50.0, 100.0)
        );
        assert_eq!(
            (first(&apart.image_to_text), first(&grouped.image_to_text)),
            (50.0, 100.0)
        );
        let figures = &grouped.text_to_image.figures;
        assert_eq!((figures.queries, figures.gallery), (4, 3));
        let printed = to_value(&grouped).unwrap();
        assert_eq!(
            (&printed["image_to_text"]["group_by"], &printed["text_to_image"]["map"]),
            (&json!("item"), &json!(null))
        );
        let guessed = chance(&Relevance::diagonal(), 4, 4, &rules).unwrap();
        assert!((first(&guessed.text_to_image) - 100.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn several_right_rows_are_all_looked_at() {
        let (texts, images, labels) = products();
        let items: Vec<_> = labels.texts.iter().map(|&label| Some(Id(label))).collect();
        let found = evaluate(&texts, &images, &Relevance::by_items(&items), &Rules::default()).unwrap();
        let printed = to_value(&found).unwrap();
        // Text 0 finds its pictures first and third, behind that of text 2; all other queries find theirs first.
        let map = 100.0 * ((1.0 + 2.0 / 3.0) / 2.0 + 3.0) / 4.0;
        let close = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1e-4;
        assert!(close(&printed["text_to_image"]["map"], map), "{printed}");
        let keys: Vec<_> = printed["text_to_image"].as_object().unwrap().keys().cloned().collect();
        let wanted = "queries gallery r@1 r@5 r@10 mean_recall median_rank mrr mean_rank \
                      map precision@1 precision@5 precision@10 ndcg ndcg@1 ndcg@5 ndcg@10 protocol";
        assert_eq!(keys.join(" "), wanted);
    }

    #[test]
    fn a_sample_is_named_and_says_where_it_was_short() {
        let (texts, images, _) = products();
        let categories = [Some(Id(1)), Some(Id(1)), Some(Id(1)), None];
        let rules = Rules {
            protocol: "sampled:2".parse().unwrap(),
            categories: Some(Labels::shared(&categories, &categories)),
            ..Rules::default()
        };
        let found = evaluate(&texts, &images, &Relevance::diagonal(), &rules).unwrap();
        // The last is alone in its category, so it is found whatever the model.
        let forth = &found.text_to_image;
        assert_eq!((forth.figures.gallery, forth.short_queries), (3, 1));
        let printed = to_value(&found).unwrap();
        assert_eq!(
            (&printed["protocol"], &printed["image_to_text"]["protocol"]),
            (&json!("sampled:2"), &json!("sampled:2"))
        );
        assert_eq!(printed["image_to_text"]["short_queries"], 1);
        let guessed = chance(&Relevance::diagonal(), 4, 4, &rules).unwrap().text_to_image;
        assert!((first(&guessed) - 100.0 * (3.0 / 3.0 + 1.0) / 4.0).abs() < 1e-9);
    }
}
