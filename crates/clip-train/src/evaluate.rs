//! What an evaluation reports.

use clip_core::{Embeddings, Error, Id, Metric, Result};
use clip_index::{Cuts, Figures, Options, Positives, rank_both};
use clip_nn::{Compute, DualEncoder};
use serde_json::{Map, Value};

/// The pairs of an evaluation, embedded.
#[derive(Debug, Clone)]
pub struct Embedded {
    /// A row a pair.
    pub texts: Embeddings,
    /// A row a pair.
    pub images: Embeddings,
    /// The pairs' products, where known: all rows of a product are right for each other.
    pub items: Vec<Option<Id>>,
}

/// Gives the pairs that a run is evaluated on.
pub trait Evaluation {
    /// Embeds them with the model as it is now. Runs without gradients.
    fn embed(&mut self, model: &DualEncoder, compute: Compute) -> Result<Embedded>;

    /// What people see of a pair, by its row among those that were embedded last; `None` where there is nothing to see.
    fn shown(&mut self, row: usize) -> Result<Option<Shown>> {
        let _ = row;
        Ok(None)
    }
}

/// What people see of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its text.
    pub text: String,
    /// Its picture, small, as a file that browsers show; `None` where it cannot be opened.
    pub picture: Option<Vec<u8>>,
}

/// The right pictures of each text: its own, and those of its product.
fn positives(items: &[Option<Id>]) -> Positives {
    if items.iter().all(Option::is_none) {
        return Positives::Diagonal;
    }
    // Numbers from 0, so that a row of no known product can have one of its own.
    let mut known: Vec<Id> = items.iter().flatten().copied().collect();
    known.sort_unstable();
    known.dedup();
    let labels: Vec<u64> = items
        .iter()
        .enumerate()
        .map(|(row, item)| match item {
            Some(item) => known.partition_point(|other| other < item) as u64,
            None => (known.len() + row) as u64,
        })
        .collect();
    Positives::Labels {
        queries: labels.clone(),
        gallery: labels,
    }
}

/// The figures of an evaluation: `valid_FIGURE_DIRECTION` for the figures `r@1`, `r@5`, `r@10`, `mean_recall` (percent),
/// `median_rank` and `mrr` (0 to 1) and the directions `text_to_image` and `image_to_text`; `valid_mean_recall`, the mean
/// of both directions' mean recall; `valid_queries`. A tie counts against.
pub fn figures(embedded: &Embedded) -> Result<Map<String, Value>> {
    let pairs = embedded.items.len();
    if embedded.texts.len() != pairs || embedded.images.len() != pairs {
        return Err(Error::internal(format!(
            "{} texts and {} pictures of {pairs} pairs to evaluate",
            embedded.texts.len(),
            embedded.images.len()
        )));
    }
    let positives = positives(&embedded.items);
    let (forth, back) = rank_both(&embedded.texts, &embedded.images, &positives, Options::default())?;
    let directions = [
        ("text_to_image", Figures::new(&forth, &Cuts::default())?),
        ("image_to_text", Figures::new(&back, &Cuts::default())?),
    ];
    let mut map = Map::new();
    let mean = directions.iter().map(|(_, figures)| figures.mean_recall).sum::<f64>() / 2.0;
    map.insert("valid_mean_recall".into(), mean.into());
    for (direction, figures) in &directions {
        let recalls = figures.recalls.iter().map(|(k, recall)| (format!("r@{k}"), recall));
        let others = [
            ("mean_recall", figures.mean_recall),
            ("median_rank", figures.median_rank),
            ("mrr", figures.mrr),
        ];
        let values = recalls.chain(others.map(|(name, value)| (name.to_owned(), value)));
        map.extend(values.map(|(name, value)| (format!("valid_{name}_{direction}"), value.into())));
    }
    map.insert("valid_queries".into(), directions[0].1.queries.into());
    Ok(map)
}

/// The figure that `best` is best by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    name: String,
}

impl Figure {
    /// A figure by its name, as [`figures`] names it; ranks are better lower, all else higher.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Its value among the [`figures`] of an evaluation.
    ///
    /// # Errors
    /// There is no figure of its name; the error lists those there are.
    pub(crate) fn of(&self, figures: &Map<String, Value>) -> Result<f64> {
        self.value(figures).ok_or_else(|| {
            let known: Vec<&str> = figures
                .keys()
                .map(String::as_str)
                .filter(|key| *key != "step")
                .collect();
            Error::invalid(format!("an evaluation has no figure `{}`", self.name))
                .remedy(format!("set evaluation.metric to one of {}", known.join(", ")))
        })
    }

    /// Looks whether there is a figure of its name, before anything is trained.
    pub(crate) fn check(&self) -> Result<()> {
        let one = Embeddings::new(vec![1.0], 1)?;
        let pair = Embedded {
            texts: one.clone(),
            images: one,
            items: vec![None],
        };
        self.of(&figures(&pair)?).map(drop)
    }
}

impl Metric for Figure {
    fn name(&self) -> &str {
        &self.name
    }

    fn higher_is_better(&self) -> bool {
        !self.name.contains("rank")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(items: &[u64]) -> Embedded {
        let texts = vec![1.0, 0.0, 0.0, 1.0, 0.8, 0.6];
        let images = vec![0.8, 0.6, 0.0, 1.0, 1.0, 0.0];
        Embedded {
            texts: Embeddings::new(texts, 2).unwrap(),
            images: Embeddings::new(images, 2).unwrap(),
            items: items.iter().map(|&item| Some(Id(item)).filter(|id| id.0 > 0)).collect(),
        }
    }

    #[test]
    fn figures_have_names_and_both_directions() {
        let map = figures(&embedded(&[0, 0, 0])).unwrap();
        assert!(map.keys().all(|key| key.starts_with("valid_")), "{map:?}");
        assert_eq!(map.len(), 14);
        // Text 1 finds its own first; texts 0 and 2 find each other's before their own.
        assert!((map["valid_r@1_text_to_image"].as_f64().unwrap() - 100.0 / 3.0).abs() < 1e-9);
        assert_eq!(map["valid_median_rank_text_to_image"], 2.0);
        assert_eq!(map["valid_queries"], 3);
    }

    #[test]
    fn rows_of_one_product_are_right_for_each_other() {
        let map = figures(&embedded(&[5, 0, 5])).unwrap();
        assert_eq!(map["valid_r@1_text_to_image"], 100.0);
        assert_eq!(map["valid_mean_recall"], 100.0);
    }

    #[test]
    fn ranks_are_better_lower() {
        assert!(!Figure::new("valid_median_rank_text_to_image").higher_is_better());
        assert!(Figure::new("valid_mrr_image_to_text").higher_is_better());
        assert_eq!(Figure::new("valid_mrr").value(&Map::new()), None);
    }
}
