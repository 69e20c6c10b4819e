//! A model measured on a table outside of a run, as the run's evaluations measure.

use std::path::Path;
use std::sync::{Arc, Mutex};

use clip_core::{PairTable, Result};
use clip_data::{Rejects, TextAugment};
use clip_nn::DualEncoder;
use clip_nn::tch;
use serde_json::{Map, Value};

use crate::config::RunConfig;
use crate::evaluate::{Evaluation, figures};
use crate::inputs::{Reading, Stores, ValidTable};
use crate::job::bad_rows;
use crate::views::Views;

/// The figures of a model on a table, as [`figures`] names them, with the settings of a run: its type to compute in, its
/// evaluation's batches, what it does at bad rows (which are not listed again).
///
/// # Errors
/// A row that cannot be used, unless they are skipped; no usable row; what libtorch throws.
pub fn measure(
    model: &DualEncoder,
    reading: &Reading,
    table: Arc<dyn PairTable>,
    config: &RunConfig,
) -> Result<Map<String, Value>> {
    let mut evaluation = ValidTable {
        table,
        reading: reading.clone(),
        stores: Stores::default(),
        views: Arc::new(Views::new(&config.augmentation, TextAugment::default())),
        batch: config.evaluation.batch_size,
        bad_rows: bad_rows(config),
        // Never finished, so no file appears.
        rejects: Arc::new(Mutex::new(Rejects::beside(Path::new("measured")))),
        origins: Vec::new(),
    };
    let _guard = tch::no_grad_guard();
    figures(&evaluation.embed(model, config.dtype.of_pass())?)
}
