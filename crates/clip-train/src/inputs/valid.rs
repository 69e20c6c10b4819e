//! The pairs of an evaluation, out of a table.

use std::sync::{Arc, Mutex};

use clip_core::{Embeddings, Error, Origin, Pair, PairTable, Result};
use clip_data::{BadRows, Rejects, thumbnail};
use clip_nn::{Compute, DualEncoder};

use super::Reading;
use super::choice::Purpose;
use super::collate::{Shapes, batch};
use super::concepts::Captions;
use super::pass::{image_rows, text_rows};
use super::row::{PrepareInputs, Stores};
use super::source::{list, loader};
use crate::evaluate::{Embedded, Evaluation, Shown};
use crate::views::Views;

/// A table's pairs, each with its first text and its first picture as it is.
pub(crate) struct ValidTable {
    pub(crate) table: Arc<dyn PairTable>,
    pub(crate) reading: Reading,
    pub(crate) stores: Stores,
    pub(crate) views: Arc<Views>,
    pub(crate) batch: usize,
    pub(crate) bad_rows: BadRows,
    pub(crate) rejects: Arc<Mutex<Rejects>>,
    /// Where the rows embedded last came from.
    pub(crate) origins: Vec<Origin>,
}

/// Pixels on the shorter side of a picture that is shown.
const SHORTEST: usize = 96;

impl ValidTable {
    /// The pair of a row embedded last. Rows that were refused move it down the table.
    fn pair(&self, row: usize) -> Option<Pair> {
        let origin = self.origins.get(row)?;
        let pairs = (row..self.table.rows()).filter_map(|at| self.table.get(at).ok());
        let mut reached = pairs.skip_while(|pair| pair.origin.row < origin.row);
        reached.next().filter(|pair| pair.origin == *origin)
    }
}

impl Evaluation for ValidTable {
    fn embed(&mut self, model: &DualEncoder, compute: Compute) -> Result<Embedded> {
        let prepare = PrepareInputs {
            reading: self.reading.clone(),
            stores: self.stores.clone(),
            views: Arc::clone(&self.views),
            purpose: Purpose::Plain,
            wanted: [1, 1],
            captions: Captions::default(),
            masking: None,
            teacher: None,
        };
        let shapes = Shapes::of(model);
        let mut loader = loader(
            &self.table,
            self.batch,
            self.reading.workers,
            self.bad_rows,
            Arc::new(prepare),
        )?;
        let (mut texts, mut images, mut items) = (Vec::new(), Vec::new(), Vec::new());
        self.origins.clear();
        while let Some(loaded) = loader.next().transpose()? {
            list(&self.rejects, &loaded.rejected)?;
            self.origins.extend(loaded.rows.iter().map(|row| row.origin.clone()));
            let batch = batch(&loaded, shapes)?;
            images.extend(image_rows(model, &batch.images[0], compute)?);
            texts.extend(text_rows(model, &batch.texts[0], compute)?);
            items.extend(batch.items);
        }
        list(&self.rejects, &loader.rejected_behind())?;
        if items.is_empty() {
            return Err(Error::invalid("the table to evaluate on has no usable row"));
        }
        let dim = model.info().dim;
        Ok(Embedded {
            texts: Embeddings::new(texts, dim)?,
            images: Embeddings::new(images, dim)?,
            items,
        })
    }

    fn shown(&mut self, row: usize) -> Result<Option<Shown>> {
        let Some(pair) = self.pair(row) else { return Ok(None) };
        let image = pair.images.first();
        let image = image.and_then(|image| self.reading.decoder.decode(image).ok());
        Ok(Some(Shown {
            text: pair.texts.first().map(ToString::to_string).unwrap_or_default(),
            picture: image.and_then(|image| thumbnail(&image, SHORTEST).ok()),
        }))
    }
}
