//! How well texts find their images, and images their texts.

use std::borrow::Cow;

use clip_core::{Embeddings, Error, Result};
use clip_index::{Figures, Options, chance_both, rank_both};
use serde::{Deserialize, Serialize};

use crate::relevance::Relevance;

/// The figures of both directions. As JSON, this is the object that `clipzoo evaluate --json` prints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Texts as queries, images as gallery.
    pub text_to_image: Figures,
    /// Images as queries, texts as gallery.
    pub image_to_text: Figures,
}

/// Ranks texts among images and images among texts, in one pass and in bounded memory. A tie counts against.
///
/// Rows that are not of length 1 are brought there first. Texts without a right image, and images without a right
/// text, are no queries, but stay in the gallery.
///
/// ```
/// use clip_apps::{Relevance, evaluate};
/// use clip_core::Embeddings;
/// let texts = Embeddings::new(vec![1.0, 0.0, 0.0, 1.0], 2)?;
/// let images = Embeddings::new(vec![3.0, 1.0, 1.0, 2.0], 2)?;
/// let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), Default::default())?;
/// assert_eq!(evaluation.text_to_image.recall_1, 100.0);
/// # Ok::<(), clip_core::Error>(())
/// ```
pub fn evaluate(
    texts: &Embeddings,
    images: &Embeddings,
    relevance: &Relevance,
    options: Options,
) -> Result<Evaluation> {
    if texts.is_empty() || images.is_empty() {
        return Err(Error::invalid(format!(
            "{} texts and {} images are nothing to evaluate",
            texts.len(),
            images.len()
        )));
    }
    let (forth, back) = rank_both(&unit(texts), &unit(images), relevance.positives(), options)?;
    Ok(Evaluation {
        text_to_image: Figures::new(&forth)?,
        image_to_text: Figures::new(&back)?,
    })
}

/// What blind guessing would reach on average with so many texts and images.
pub fn chance(relevance: &Relevance, texts: usize, images: usize) -> Result<Evaluation> {
    let (text_to_image, image_to_text) = chance_both(relevance.positives(), texts, images)?;
    Ok(Evaluation {
        text_to_image,
        image_to_text,
    })
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
    use clip_core::serde_json::{json, to_value};

    use super::*;

    fn rows(values: &[[f32; 2]]) -> Embeddings {
        Embeddings::new(values.concat(), 2).unwrap()
    }

    #[test]
    fn the_object_is_the_one_of_evaluate_json() {
        let (texts, images) = (rows(&[[1.0, 0.0], [0.0, 1.0]]), rows(&[[0.0, 1.0], [0.6, 0.8]]));
        let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), Options::default()).unwrap();
        // Text 0 scores 0, 0.6; text 1 scores 1, 0.8. Image 0 scores 0, 1; image 1 scores 0.6, 0.8.
        let figures = |recall: f64, mean: f64, median: f64, mrr: f64| {
            json!({
                "queries": 2, "gallery": 2, "r@1": recall, "r@5": 100.0, "r@10": 100.0,
                "mean_recall": mean, "median_rank": median, "mrr": mrr,
            })
        };
        let (forth, back) = (
            figures(0.0, 200.0 / 3.0, 2.0, 0.5),
            figures(50.0, 250.0 / 3.0, 1.5, 0.75),
        );
        let printed = to_value(evaluation).unwrap();
        assert_eq!(printed, json!({ "text_to_image": forth, "image_to_text": back }));
        assert_eq!(
            printed.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["text_to_image", "image_to_text"]
        );
    }

    #[test]
    fn lengths_do_not_count() {
        let (texts, images) = (rows(&[[0.0, 2.0], [9.0, 0.0]]), rows(&[[0.1, 0.3], [8.0, 0.1]]));
        let evaluation = evaluate(&texts, &images, &Relevance::diagonal(), Options::default()).unwrap();
        assert_eq!(
            (evaluation.text_to_image.recall_1, evaluation.image_to_text.recall_1),
            (100.0, 100.0)
        );
    }

    #[test]
    fn equal_texts_share_their_pictures() {
        let texts = rows(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]);
        let images = rows(&[[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]]);
        let shared = Relevance::by_same_text(&["red shoe", "red shoe", "cup"]);
        let apart = evaluate(&texts, &images, &Relevance::diagonal(), Options::default()).unwrap();
        let together = evaluate(&texts, &images, &shared, Options::default()).unwrap();
        assert!(apart.text_to_image.recall_1 < 67.0 && together.text_to_image.recall_1 == 100.0);
        let guessed = chance(&shared, 3, 3).unwrap().text_to_image;
        // Two texts have two right pictures of three, one has one.
        assert!((guessed.recall_1 - 100.0 * (2.0 * 2.0 / 3.0 + 1.0 / 3.0) / 3.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_no_evaluation() {
        let error = evaluate(
            &Embeddings::default(),
            &rows(&[[1.0, 0.0]]),
            &Relevance::diagonal(),
            Options::default(),
        );
        assert_eq!(
            error.unwrap_err().what(),
            "0 texts and 1 images are nothing to evaluate"
        );
        let bad = evaluate(
            &rows(&[[f32::NAN, 0.0]]),
            &rows(&[[1.0, 0.0]]),
            &Relevance::diagonal(),
            Options::default(),
        );
        assert!(bad.unwrap_err().what().starts_with("row 0 of the queries"));
    }
}
