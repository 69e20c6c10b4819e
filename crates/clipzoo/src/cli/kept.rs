//! Features that stay in memory, for ranking.

use clip_core::{Embeddings, FeatureRows, FeatureSink, Result};

/// Keeps the features in memory.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) texts: Embeddings,
    pub(super) images: Embeddings,
}

impl FeatureSink for Kept {
    fn append(&mut self, rows: FeatureRows) -> Result<()> {
        rows.texts.map_or(Ok(()), |texts| self.texts.append(&texts))?;
        rows.images.map_or(Ok(()), |images| self.images.append(&images))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// The given rows.
pub(super) fn pick(features: Embeddings, rows: &[usize]) -> Result<Embeddings> {
    if rows.len() == features.len() || features.is_empty() {
        return Ok(features);
    }
    Embeddings::new(
        rows.iter().flat_map(|&row| features.row(row)).copied().collect(),
        features.dim(),
    )
}
