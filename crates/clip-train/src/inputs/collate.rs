//! Rows made ready, joined to a batch of tensors.

use clip_core::{Concept, Error, PixelBatch, Result, TokenBatch};
use clip_data::Prepared;
use clip_nn::tch::{Device, Tensor};
use clip_nn::{DualEncoder, ImageInput, TeacherFeatures, TextInput, door, pad, pixels};

use super::row::{Inputs, Taken};
use super::teacher::TeacherRow;
use crate::batch::{Batch, MaskedTokens};

/// What inputs are made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shapes {
    /// Height and width of the pixels.
    pub(crate) size: [usize; 2],
    /// What shorter texts are padded with.
    pub(crate) pad: i64,
    /// Where the tensors live.
    pub(crate) device: Device,
}

impl Shapes {
    pub(crate) fn of(model: &DualEncoder) -> Self {
        let [height, width] = model.image().image_size();
        Self {
            size: [height as usize, width as usize],
            pad: model.text().pad_id(),
            device: model.logit_scale().device(),
        }
    }
}

/// Pooled features as rows of a tensor.
fn pooled(rows: &[&Vec<f32>], device: Device) -> Result<Tensor> {
    let width = rows.first().map_or(0, |row| row.len());
    let values: Vec<f32> = rows.iter().flat_map(|row| row.iter().copied()).collect();
    let shape = [rows.len() as i64, width as i64];
    door(|| Tensor::from_slice(&values).view(shape).to_device(device))
}

/// Rows that are all raw or all pooled.
fn split<'a, R>(rows: impl Iterator<Item = &'a Taken<R>>) -> Result<(Vec<&'a R>, Vec<&'a Vec<f32>>)>
where
    R: 'a,
{
    let (mut raw, mut kept) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Taken::Raw(row) => raw.push(row),
            Taken::Pooled(row) => kept.push(row),
        }
    }
    if !raw.is_empty() && !kept.is_empty() {
        return Err(Error::internal("a batch of raw and of pooled rows"));
    }
    Ok((raw, kept))
}

pub(crate) fn images<'a>(rows: impl Iterator<Item = &'a Taken<Vec<f32>>>, shapes: Shapes) -> Result<ImageInput> {
    let (raw, kept) = split(rows)?;
    if raw.is_empty() {
        return Ok(ImageInput::Pooled(pooled(&kept, shapes.device)?));
    }
    let data = raw.into_iter().flatten().copied().collect();
    Ok(ImageInput::Pixels(pixels(
        &PixelBatch::new(data, shapes.size)?,
        shapes.device,
    )?))
}

pub(crate) fn texts<'a>(rows: impl Iterator<Item = &'a Taken<Vec<u32>>>, shapes: Shapes) -> Result<TextInput> {
    let (raw, kept) = split(rows)?;
    if raw.is_empty() {
        return Ok(TextInput::Pooled(pooled(&kept, shapes.device)?));
    }
    let tokens: TokenBatch = raw.into_iter().map(Vec::as_slice).collect();
    Ok(TextInput::Tokens(pad(&tokens, shapes.pad, shapes.device)?))
}

/// The masked texts of rows, where all have one.
fn masked(rows: &[Prepared<Inputs>], shapes: Shapes) -> Result<Option<MaskedTokens>> {
    let Some(all) = rows
        .iter()
        .map(|row| row.output.masked.as_ref())
        .collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let tokens: TokenBatch = all.iter().map(|masked| masked.ids.as_slice()).collect();
    let tokens = pad(&tokens, shapes.pad, shapes.device)?;
    let width = tokens.ids.size().get(1).copied().unwrap_or(0);
    let places = (0..)
        .zip(&all)
        .flat_map(|(row, masked)| masked.places.iter().map(move |&place| row * width + place as i64))
        .collect();
    let targets: Vec<i64> = all
        .iter()
        .flat_map(|masked| masked.targets.iter().map(|&id| i64::from(id)))
        .collect();
    let targets = door(|| Tensor::from_slice(&targets).to_device(shapes.device))?;
    Ok(Some(MaskedTokens {
        tokens,
        places,
        targets,
    }))
}

/// The concepts of rows, each once, ascending by id.
fn names(rows: &[Prepared<Inputs>]) -> Vec<Concept> {
    let mut names: Vec<Concept> = rows.iter().flat_map(|row| row.concepts.iter().cloned()).collect();
    names.sort_by_key(|concept| concept.id);
    names.dedup_by_key(|concept| concept.id);
    names
}

/// The teacher's features, where every row has them.
fn teacher(rows: &[Prepared<Inputs>], device: Device) -> Result<Option<TeacherFeatures>> {
    let taught: Option<Vec<&TeacherRow>> = rows.iter().map(|row| row.output.teacher.as_ref()).collect();
    let Some((taught, first)) = taught.as_ref().and_then(|rows| Some((rows, rows.first()?))) else {
        return Ok(None);
    };
    let images: Vec<&Vec<f32>> = taught.iter().map(|row| &row.image).collect();
    let texts: Vec<&Vec<f32>> = taught.iter().map(|row| &row.text).collect();
    Ok(Some(TeacherFeatures {
        images: pooled(&images, device)?,
        texts: pooled(&texts, device)?,
        scale: first.scale,
    }))
}

/// A loader's batch as a step takes it.
pub(crate) fn batch(loaded: &clip_data::Batch<Inputs>, shapes: Shapes) -> Result<Batch> {
    let rows: &[Prepared<Inputs>] = &loaded.rows;
    let (image_views, text_views) = rows
        .first()
        .map_or((0, 0), |row| (row.output.images.len(), row.output.texts.len()));
    let image = |view: usize| images(rows.iter().map(|row| &row.output.images[view]), shapes);
    let text = |view: usize| texts(rows.iter().map(|row| &row.output.texts[view]), shapes);
    Ok(Batch {
        images: (0..image_views).map(image).collect::<Result<_>>()?,
        texts: (0..text_views).map(text).collect::<Result<_>>()?,
        keys: rows.iter().map(|row| row.key).collect(),
        items: rows.iter().map(|row| row.item).collect(),
        concepts: rows
            .iter()
            .map(|row| row.concepts.iter().map(|concept| concept.id).collect())
            .collect(),
        captions: rows.iter().map(|row| row.output.caption).collect(),
        weights: rows.iter().map(|row| row.weight).collect(),
        masked: masked(rows, shapes)?,
        teacher: teacher(rows, shapes.device)?,
        names: names(rows),
        origins: rows.iter().map(|row| row.origin.clone()).collect(),
        position: loaded.reached.clone(),
        refused: loaded.rejected.len() as u64,
    })
}
