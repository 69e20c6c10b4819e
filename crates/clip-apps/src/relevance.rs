//! Which images are right for which text.

mod file;
mod names;

use clip_core::Id;
use clip_index::{PositiveLists, Positives};

use crate::protocol::{Labels, own};

pub use file::Unmet;
pub use names::Side;

/// Which images are right for which text, whence also which texts for which image.
#[derive(Debug, Clone, PartialEq)]
pub struct Relevance {
    positives: Positives,
}

impl Relevance {
    /// Text `i` belongs to image `i`.
    pub fn diagonal() -> Self {
        Self {
            positives: Positives::Diagonal,
        }
    }

    /// Text and image of each row belong together, and so do all rows of one item. A row without an item stands for
    /// itself.
    pub fn by_items(items: &[Option<Id>]) -> Self {
        let labels = own(items, "no item");
        Self::by_labels(Labels {
            texts: labels.clone(),
            images: labels,
        })
    }

    /// Text and image of each row belong together, and so do all rows with the same text: several products are often
    /// described alike, and each of their pictures is then right.
    pub fn by_same_text<T: AsRef<str>>(texts: &[T]) -> Self {
        let items: Vec<_> = texts.iter().map(|text| Some(Id::of(text.as_ref()))).collect();
        Self::by_items(&items)
    }

    /// Texts and images of equal labels belong together.
    pub fn by_labels(labels: Labels) -> Self {
        Self {
            positives: Positives::Labels {
                queries: labels.texts,
                gallery: labels.images,
            },
        }
    }

    /// The right images of each text, as rows.
    pub fn lists(lists: PositiveLists) -> Self {
        Self {
            positives: Positives::Lists(lists),
        }
    }

    /// As the ranking takes it: right images of each text.
    pub fn positives(&self) -> &Positives {
        &self.positives
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_an_item_stand_for_themselves() {
        let relevance = Relevance::by_items(&[None, Some(Id(7)), None, Some(Id(7))]);
        let Positives::Labels { queries, gallery } = relevance.positives() else {
            panic!("no labels")
        };
        assert_eq!(queries, gallery);
        assert_eq!((queries[1], queries[0] == queries[2]), (queries[3], false));
    }
}
