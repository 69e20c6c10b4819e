//! A tower's pooled features of rows, outside of training.

use clip_core::Result;
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{Compute, DualEncoder, ImageInput, Pass, TextInput, door};

use crate::numbers::on_cpu;

fn pass(compute: Compute) -> Pass {
    Pass { compute, ..Pass::INFER }
}

/// Pooled features of pictures, `[batch, width]`; cached ones pass through.
pub(crate) fn pooled_images(model: &DualEncoder, input: &ImageInput, compute: Compute) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    Ok(model.encode_images(input, pass(compute))?.pooled)
}

/// Pooled features of texts, `[batch, width]`; cached ones pass through.
pub(crate) fn pooled_texts(model: &DualEncoder, input: &TextInput, compute: Compute) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    Ok(model.encode_texts(input, pass(compute))?.pooled)
}

/// Embeddings of pictures: unit rows `[batch, dim]`.
pub(crate) fn image_rows(model: &DualEncoder, input: &ImageInput, compute: Compute) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let raw = model.encode_images(input, pass(compute))?.raw;
    door(|| values(&clip_nn::unit_rows(&raw)))
}

/// Embeddings of texts: unit rows `[batch, dim]`.
pub(crate) fn text_rows(model: &DualEncoder, input: &TextInput, compute: Compute) -> Result<Vec<f32>> {
    let _guard = tch::no_grad_guard();
    let raw = model.encode_texts(input, pass(compute))?.raw;
    door(|| values(&clip_nn::unit_rows(&raw)))
}

/// The values of a tensor, row by row. Runs inside a door.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    on_cpu(&tensor.detach().to_kind(Kind::Float))
}
