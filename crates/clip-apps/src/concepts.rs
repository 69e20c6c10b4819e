//! How well the names of concepts find the pictures that carry them.

use std::collections::HashMap;

use clip_core::{Concept, Embeddings, Error, Id, Result};
use clip_index::{Groups, PositiveLists, Positives, Precision, PrecisionFigures, chance_precision, precisions};

use crate::evaluate::unit;
use crate::protocol::Rules;

/// The concepts of a table as queries, each with the pictures that carry it.
///
/// ```
/// use clip_apps::{ConceptQueries, Rules};
/// use clip_core::{Concept, Embeddings, Id};
/// let concept = |name: &str| Concept { id: Id::of(name), name: name.into() };
/// let mut queries = ConceptQueries::default();
/// queries.push(vec![concept("shoe"), concept("red")])?;
/// queries.push(vec![concept("shoe")])?;
/// let queries = queries.at_least(2);
/// assert_eq!(queries.concepts(), [concept("shoe")]);
/// // One query, and two pictures that carry it.
/// let (names, images) = (Embeddings::new(vec![1.0, 0.0], 2)?, Embeddings::new(vec![0.6, 0.8, 1.0, 0.0], 2)?);
/// assert_eq!(queries.evaluate(&names, &images, &Rules::default())?.map, 100.0);
/// # Ok::<(), clip_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ConceptQueries {
    concepts: Vec<Concept>,
    /// The pictures of each concept, ascending.
    carried: Vec<Vec<u32>>,
    numbers: HashMap<Id, usize>,
    images: usize,
}

impl ConceptQueries {
    /// Takes in the concepts of the next picture. A concept is called as where it first comes.
    ///
    /// # Errors
    /// There are more than `u32::MAX` pictures.
    pub fn push(&mut self, concepts: Vec<Concept>) -> Result<()> {
        let image = u32::try_from(self.images)
            .map_err(|_| Error::exhausted(format!("there are more than {} pictures", u32::MAX)))?;
        self.images += 1;
        for concept in concepts {
            let number = *self.numbers.entry(concept.id).or_insert(self.concepts.len());
            if number == self.concepts.len() {
                self.concepts.push(concept);
                self.carried.push(Vec::new());
            }
            if self.carried[number].last() != Some(&image) {
                self.carried[number].push(image);
            }
        }
        Ok(())
    }

    /// Those that at least so many pictures carry.
    #[must_use]
    pub fn at_least(self, images: usize) -> Self {
        self.retain(|_, carried| carried >= images)
    }

    /// Those that `keep` wants, given a concept and how many pictures carry it.
    #[must_use]
    pub fn retain(self, mut keep: impl FnMut(&Concept, usize) -> bool) -> Self {
        let mut kept = Self {
            images: self.images,
            ..Self::default()
        };
        for (concept, carried) in self.concepts.into_iter().zip(self.carried) {
            if keep(&concept, carried.len()) {
                kept.numbers.insert(concept.id, kept.concepts.len());
                kept.concepts.push(concept);
                kept.carried.push(carried);
            }
        }
        kept
    }

    /// The concepts, in the order of their first picture: row `i` of the names' embeddings is of concept `i`.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// Ranks all pictures for each concept, in bounded memory; of pictures that score alike those that carry the concept
    /// come last. Rows that are not of length 1 are brought there first. With a grouping, products are ranked by their
    /// best pictures, and a product carries what one of its pictures carries. The gallery is the full one whatever the
    /// rules' protocol: what is drawn for one right row would say nothing of many.
    ///
    /// # Errors
    /// There is no concept, a number of rows does not fit, dimensions differ, or a value is not finite.
    pub fn evaluate(&self, names: &Embeddings, images: &Embeddings, rules: &Rules) -> Result<PrecisionFigures> {
        let gallery = rules.groups(true).as_ref().map_or(images.len(), Groups::len);
        PrecisionFigures::new(&self.precisions(names, images, rules)?, gallery)
    }

    /// The figures of each concept by itself, for comparisons concept by concept.
    ///
    /// # Errors
    /// As for [`evaluate`](Self::evaluate).
    pub fn precisions(&self, names: &Embeddings, images: &Embeddings, rules: &Rules) -> Result<Vec<Option<Precision>>> {
        if images.len() != self.images {
            let what = format!("{} pictures, where {} have concepts", images.len(), self.images);
            return Err(Error::invalid(what).remedy("take the pictures of the same table"));
        }
        let groups = rules.groups(true);
        let (names, images) = (unit(names), unit(images));
        precisions(
            &names,
            &images,
            &self.positives()?,
            groups.as_ref(),
            &rules.cuts,
            rules.options,
        )
    }

    /// What blind guessing would reach on average.
    ///
    /// # Errors
    /// There is no concept.
    pub fn chance(&self, rules: &Rules) -> Result<PrecisionFigures> {
        let (positives, groups) = (self.positives()?, rules.groups(true));
        chance_precision(
            &positives,
            self.concepts.len(),
            self.images,
            groups.as_ref(),
            &rules.cuts,
        )
    }

    fn positives(&self) -> Result<Positives> {
        let mut lists = PositiveLists::default();
        for carried in &self.carried {
            lists.push(carried.iter().map(|&image| image as usize))?;
        }
        Ok(Positives::Lists(lists))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Grouping, Labels};

    fn concept(name: &str) -> Concept {
        Concept {
            id: Id::of(name),
            name: name.into(),
        }
    }

    #[test]
    fn by_hand_and_by_chance() {
        let mut queries = ConceptQueries::default();
        for carried in [&["red", "shoe"][..], &[], &["shoe", "shoe"], &["red"]] {
            queries
                .push(carried.iter().map(|name| concept(name)).collect())
                .unwrap();
        }
        assert_eq!(queries.concepts(), [concept("red"), concept("shoe")]);
        // Rows of any length; pictures at 0, 45, 90 and 180 degrees from the first name.
        let images = Embeddings::new(vec![2.0, 0.0, 1.0, 1.0, 0.0, 3.0, -1.0, 0.0], 2).unwrap();
        let names = Embeddings::new(vec![5.0, 0.0, 0.0, 1.0], 2).unwrap();
        let rules = Rules::default();
        let found = queries.precisions(&names, &images, &rules).unwrap();
        // `red` finds pictures 0 and 3 at ranks 1 and 4. `shoe` finds 2, then 1; 0 and 3 tie at 0, and the wrong one counts first.
        let average = |found: &Option<Precision>| found.as_ref().unwrap().average;
        assert_eq!(average(&found[0]), f64::midpoint(1.0, 2.0 / 4.0));
        assert_eq!(average(&found[1]), f64::midpoint(1.0, 2.0 / 4.0));
        let figures = queries.evaluate(&names, &images, &rules).unwrap();
        assert_eq!((figures.queries, figures.gallery, figures.map), (2, 4, 75.0));
        assert_eq!([1, 10].map(|k| figures.precisions.get(k)), [Some(100.0), Some(20.0)]);
        assert_eq!(queries.chance(&rules).unwrap().queries, 2);
        assert!(queries.evaluate(&names, &names, &rules).is_err());
        let none = queries.clone().at_least(3);
        assert!(none.evaluate(&Embeddings::default(), &images, &rules).is_err());

        // Pictures 0 and 1, and 2 and 3, are of one product each: both products carry both concepts.
        let grouping = Grouping {
            name: "item".into(),
            labels: Labels {
                texts: vec![],
                images: vec![8, 8, 9, 9],
            },
        };
        let rules = Rules {
            grouping: Some(grouping),
            ..Rules::default()
        };
        let figures = queries.evaluate(&names, &images, &rules).unwrap();
        assert_eq!((figures.gallery, figures.map), (2, 100.0));
        assert_eq!(figures.precisions.get(5), Some(40.0));
    }
}
