//! The pairs of an evaluation, out of a table.

use std::sync::{Arc, Mutex};

use clip_core::{Embeddings, Error, PairTable, Result};
use clip_data::{BadRows, Rejects};
use clip_nn::DualEncoder;
use clip_nn::tch::Kind;

use super::Reading;
use super::choice::Purpose;
use super::collate::{Shapes, batch};
use super::concepts::Captions;
use super::pass::{image_rows, text_rows};
use super::row::{PrepareInputs, Stores};
use super::source::{list, loader};
use crate::evaluate::{Embedded, Evaluation};
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
}

impl Evaluation for ValidTable {
    fn embed(&mut self, model: &DualEncoder, compute: Kind) -> Result<Embedded> {
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
        while let Some(loaded) = loader.next().transpose()? {
            list(&self.rejects, &loaded.rejected)?;
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
}
