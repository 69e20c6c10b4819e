//! Features that stay in memory, for ranking.

use clip_core::{Embeddings, FeatureRows, FeatureSink, Result};
use clip_data::Rejects;

use super::args::note;

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

/// Ends a list of refused rows, and tells of it, where refused rows are left out; gives how many there were.
pub(super) fn tell_left_out(rejects: Rejects) -> Result<u64> {
    let count = rejects.count();
    if let Some(list) = rejects.finish()? {
        note(&format!(
            "{count} rows were refused and left out; they are listed in {}",
            list.display()
        ));
    }
    Ok(count)
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
