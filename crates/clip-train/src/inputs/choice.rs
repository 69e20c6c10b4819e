//! Which of a pair's texts and pictures, and which view of it, an epoch sees: functions of seed, epoch and pair alone.

use clip_core::{Concept, Pair};

use crate::seeds::{Draw, seed};

/// What a pass over a table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Training: chance by seed and epoch decides.
    Train { seed: u64, epoch: u64 },
    /// Everything else: the first text and the first picture, as it is.
    Plain,
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Number of the text or picture among the pair's.
    pub(crate) which: usize,
    /// The view: 0 as it is, others changed.
    pub(crate) view: usize,
    /// Seeds what changes a view that is not kept.
    pub(crate) draw: u64,
}

fn below(number: u64, count: usize) -> usize {
    // Counts are small, so the bias of a remainder is far below chance.
    (number % count.max(1) as u64) as usize
}

impl Purpose {
    /// The picture of a pair for the objective's view number `view`, of `kept` views that are kept of each. Several views
    /// of one pair are different ones as long as there are enough.
    pub(crate) fn image(self, pair: &Pair, view: usize, kept: usize) -> Choice {
        let Self::Train { seed: run, epoch } = self else {
            return Choice {
                which: 0,
                view: 0,
                draw: 0,
            };
        };
        let first = seed(run, Draw::Choice, epoch, pair.key.0);
        Choice {
            which: below(first, pair.images.len()),
            view: (below(first >> 32, kept) + view) % kept.max(1),
            draw: seed(run ^ view as u64, Draw::Augment, epoch, pair.key.0),
        }
    }

    /// A number drawn for a use and a pair, another one each epoch.
    pub(crate) fn draw(self, draw: Draw, key: u64) -> u64 {
        match self {
            Self::Train { seed: run, epoch } => seed(run, draw, epoch, key),
            Self::Plain => 0,
        }
    }

    /// The text of a pair for the objective's view number `view`.
    pub(crate) fn text(self, pair: &Pair, view: usize) -> usize {
        let Self::Train { seed: run, epoch } = self else {
            return 0;
        };
        let first = seed(run, Draw::Choice, epoch, !pair.key.0);
        (below(first, pair.texts.len()) + view) % pair.texts.len().max(1)
    }

    /// What decides how the text of view number `view` is changed; `None` where it stays as it is: each of the pair's texts
    /// does so once before one of them comes again.
    pub(crate) fn text_change(self, pair: &Pair, view: usize) -> Option<u64> {
        match self {
            Self::Train { seed: run, epoch } if view >= pair.texts.len() => {
                Some(seed(run ^ view as u64, Draw::Augment, epoch, !pair.key.0))
            }
            _ => None,
        }
    }

    /// The concept of a pair whose name stands in for its text: one of its own, in so large a share of the pairs that carry
    /// any.
    pub(crate) fn caption(self, pair: &Pair, share: f64) -> Option<&Concept> {
        let Self::Train { seed: run, epoch } = self else {
            return None;
        };
        let drawn = seed(run, Draw::Caption, epoch, pair.key.0);
        let stands_in = ((drawn >> 32) as f64) < share * 2f64.powi(32);
        let concept = pair
            .concepts
            .get(below(drawn & u64::from(u32::MAX), pair.concepts.len()));
        concept.filter(|_| stands_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_core::{EncodedImage, Id, Origin};
    use std::collections::HashSet;
    use std::path::PathBuf;
    use std::sync::Arc;

    fn pair(key: u64) -> Pair {
        Pair {
            key: Id(key),
            item: None,
            texts: vec!["a".into(), "b".into(), "c".into()],
            images: vec![EncodedImage::File("a.png".into()), EncodedImage::File("b.png".into())],
            concepts: Vec::new(),
            weight: 1.0,
            origin: Origin {
                file: Arc::new(PathBuf::from("t.tsv")),
                row: 1,
            },
        }
    }

    #[test]
    fn every_text_picture_and_view_gets_its_turn() {
        let mut seen = HashSet::new();
        for epoch in 0..200 {
            let purpose = Purpose::Train { seed: 3, epoch };
            let image = purpose.image(&pair(9), 0, 4);
            seen.insert((image.which, image.view, purpose.text(&pair(9), 0)));
            assert_eq!(image, purpose.image(&pair(9), 0, 4));
            assert_ne!(image.view, purpose.image(&pair(9), 1, 4).view);
            assert_ne!(purpose.text(&pair(9), 0), purpose.text(&pair(9), 1));
        }
        assert_eq!(seen.len(), 2 * 4 * 3);
    }

    #[test]
    fn names_stand_in_for_a_share_of_texts() {
        let mut pair = pair(9);
        let train = |epoch| Purpose::Train { seed: 3, epoch };
        assert!(train(0).caption(&pair, 1.0).is_none(), "it carries no concept");
        let concept = |id| Concept {
            id: Id(id),
            name: "a".into(),
        };
        pair.concepts = (0..3).map(concept).collect();
        let mut counts = [0; 3];
        for epoch in 0..4000 {
            assert!(train(epoch).caption(&pair, 0.0).is_none() && train(epoch).caption(&pair, 1.0).is_some());
            if let Some(concept) = train(epoch).caption(&pair, 0.3) {
                assert_eq!(train(epoch).caption(&pair, 0.3), Some(concept));
                counts[concept.id.0 as usize] += 1;
            }
        }
        // A third of 1,200 each, give or take five deviations.
        assert!(counts.iter().all(|count| (305..495).contains(count)), "{counts:?}");
        assert!(Purpose::Plain.caption(&pair, 1.0).is_none());
    }

    #[test]
    fn a_text_is_changed_when_it_comes_again() {
        let (one, other) = (
            Purpose::Train { seed: 3, epoch: 1 },
            Purpose::Train { seed: 3, epoch: 2 },
        );
        assert!((0..3).all(|view| one.text_change(&pair(9), view).is_none()));
        let draws: HashSet<_> = [one, other]
            .iter()
            .flat_map(|purpose| [3, 4].map(|view| purpose.text_change(&pair(9), view).unwrap()))
            .collect();
        assert_eq!(draws.len(), 4);
        assert_eq!(Purpose::Plain.text_change(&pair(9), 5), None);
    }

    #[test]
    fn outside_of_training_nothing_is_drawn() {
        let image = Purpose::Plain.image(&pair(9), 0, 4);
        assert_eq!((image.which, image.view, Purpose::Plain.text(&pair(9), 0)), (0, 0, 0));
    }
}
