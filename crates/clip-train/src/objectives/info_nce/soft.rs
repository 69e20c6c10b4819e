//! How alike the pairs of a batch match the queue's prototypes.

use std::ops::Range;

use clip_core::Result;
use clip_nn::tch::{Device, Kind, Tensor};
use clip_nn::{Context, Features, Modality, View};

use super::super::tiles::part;

/// Match distributions of up to so many values are kept for the whole batch (128 MiB); of more they are made again for
/// each tile.
const KEPT: i64 = 1 << 25;

/// The match distributions of a batch's pairs: the softmax over the live concepts of the cosines to their prototypes over
/// `tau`, of pictures to the prototypes of pictures and of texts to those of texts, in the mean over modalities and
/// views. Constants.
pub(super) struct Matches {
    tau: f64,
    concepts: i64,
    device: Device,
    /// Unit rows and the prototypes of their modality.
    sides: Vec<(Tensor, Tensor)>,
    kept: Option<Tensor>,
}

impl Matches {
    /// `None` where no concept is live.
    pub(super) fn new(features: &Features, context: &Context<'_>, tau: f64) -> Result<Option<Self>> {
        let Some(queue) = context.queue.filter(|queue| !queue.live().is_empty()) else {
            return Ok(None);
        };
        let images = queue.prototypes(Modality::Image, queue.live())?;
        let texts = queue.prototypes(Modality::Text, queue.live())?;
        let side = |views: &[View], prototypes: &Tensor| -> Vec<(Tensor, Tensor)> {
            let rows = views.iter().map(|view| view.unit.detach());
            rows.map(|rows| (rows, prototypes.shallow_clone())).collect()
        };
        let mut sides = side(&features.images, &images);
        sides.extend(side(&features.texts, &texts));
        let batch = context.items.len() as i64;
        let mut matches = Self {
            tau,
            concepts: images.size()[0],
            device: images.device(),
            sides,
            kept: None,
        };
        if batch.saturating_mul(matches.concepts) <= KEPT {
            matches.kept = Some(matches.made(&(0..batch)));
        }
        Ok(Some(matches))
    }

    /// The distributions of some rows, `[rows, concepts]`.
    fn rows(&self, range: &Range<i64>) -> Tensor {
        match &self.kept {
            Some(kept) => part(kept, range),
            None => self.made(range),
        }
    }

    fn made(&self, range: &Range<i64>) -> Tensor {
        let shape = [range.end - range.start, self.concepts];
        let mut sum = Tensor::zeros(shape, (Kind::Float, self.device));
        for (rows, prototypes) in &self.sides {
            let cosines = part(rows, range).matmul(&prototypes.tr());
            sum += (cosines / self.tau).softmax(1, Kind::Float);
        }
        sum / self.sides.len() as f64
    }

    /// How alike they match: the inner products of the distributions, `[rows, columns]`.
    pub(super) fn alike(&self, rows: &Range<i64>, columns: &Range<i64>) -> Tensor {
        self.rows(rows).matmul(&self.rows(columns).tr())
    }
}
