//! Prepared inputs: what another program already made of texts and pictures.

use std::path::Path;

use clip_core::{Embedder, Embeddings, Error, FeatureRows, FeatureSink, PixelBatch, Result};
use clip_data::TensorFile;
use clip_nn::tch::Tensor;
use clip_nn::{Pipeline, Tokens, door};

use super::failure::Outcome;
use super::predict::Rows;

/// Embeds `pixels` `[N, 3, H, W]` and/or `input_ids` `[N, L]` (under `attention_mask`) of a safetensors file, a batch at
/// a time.
pub(crate) fn embed(pipeline: &Pipeline, path: &Path, batch: usize, sink: &mut dyn FeatureSink) -> Outcome<Rows> {
    let file = TensorFile::open(path)?;
    let mut rows = Rows::default();
    if !file.contains("pixels") && !file.contains("input_ids") {
        let error = Error::invalid(format!(
            "neither `pixels` nor `input_ids`, but: {}",
            file.names().join(", ")
        ));
        return Err(error.file(path).remedy("name the tensors so").into());
    }
    let place = |error: Error| error.file(path);
    if file.contains("input_ids") {
        let total = file.shape("input_ids")?.first().copied().unwrap_or(0);
        for first in (0..total).step_by(batch) {
            let tokens = read_tokens(&file, pipeline, first, batch.min(total - first)).map_err(place)?;
            let texts = pipeline.embed_ids(tokens).map_err(place)?;
            rows.texts += append(sink, first, Some(texts), None)?;
        }
    }
    if file.contains("pixels") {
        let &[total, 3, height, width] = file.shape("pixels")? else {
            let error = Error::invalid(format!(
                "`pixels` of shape {:?} instead of [N, 3, H, W]",
                file.shape("pixels")?
            ));
            return Err(place(error).into());
        };
        for first in (0..total).step_by(batch) {
            let values = file.floats("pixels", first..total.min(first + batch))?;
            let images = pipeline
                .embed_pixels(&PixelBatch::new(values, [height, width])?)
                .map_err(place)?;
            rows.images += append(sink, first, None, Some(images))?;
        }
    }
    Ok(rows)
}

fn append(
    sink: &mut dyn FeatureSink,
    first: usize,
    texts: Option<Embeddings>,
    images: Option<Embeddings>,
) -> Result<u64> {
    let rows = texts.as_ref().or(images.as_ref()).map_or(0, Embeddings::len) as u64;
    sink.append(FeatureRows {
        first: first as u64,
        texts,
        images,
        columns: Vec::new(),
    })?;
    Ok(rows)
}

/// Ids `[rows, tokens]` and their mask. Without `attention_mask` the pad id is masked.
fn read_tokens(file: &TensorFile, pipeline: &Pipeline, first: usize, rows: usize) -> Result<Tokens> {
    let shape = file.shape("input_ids")?;
    let &[_, length] = shape else {
        return Err(Error::invalid(format!(
            "`input_ids` of shape {shape:?} instead of [N, L]"
        )));
    };
    let ids = file.integers("input_ids", first..first + rows)?;
    let mask: Vec<bool> = if file.contains("attention_mask") {
        if file.shape("attention_mask")? != shape {
            let mask = file.shape("attention_mask")?;
            return Err(Error::invalid(format!(
                "`attention_mask` of shape {mask:?}, `input_ids` of {shape:?}"
            )));
        }
        file.integers("attention_mask", first..first + rows)?
            .into_iter()
            .map(|id| id != 0)
            .collect()
    } else {
        let pad = pipeline.model().text().pad_id();
        ids.iter().map(|&id| id != pad).collect()
    };
    let shape = [rows as i64, length as i64];
    door(|| Tokens {
        ids: Tensor::from_slice(&ids).view(shape).to_device(pipeline.device()),
        mask: Tensor::from_slice(&mask).view(shape).to_device(pipeline.device()),
    })
}
