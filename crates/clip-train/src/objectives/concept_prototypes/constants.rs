//! Cross-entropy of features against constants, in bounded memory.

use clip_core::Result;
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{door, with_gradient};

use super::targets::{Row, Targets};

/// Similarities held at once.
const TILE: usize = 1 << 20;

/// `Σ weight · cross-entropy(softmax(unit · anchorsᵀ / tau), target)` over the rows that have a target, a scalar in the
/// graph of `unit` `[batch, dim]`; `anchors` are `[concepts, dim]`.
///
/// Since the anchors are constants, the gradient is known as the loss is computed,
/// `weight · (softmax − target) · anchors / tau`, so rows are taken a tile at a time and no tile is kept.
pub(super) fn cross_entropy(unit: &Tensor, anchors: &Tensor, targets: &Targets, tau: f64) -> Result<Tensor> {
    let columns = anchors.size().first().copied().unwrap_or(0).max(1);
    let tile = (TILE / columns as usize).max(1);
    let (value, gradient) = door(|| {
        let _guard = tch::no_grad_guard();
        let mut value = Tensor::zeros([], (Kind::Float, unit.device()));
        let mut gradient = unit.zeros_like();
        for rows in targets.rows.chunks(tile) {
            let (loss, index, part) = tile_of(unit, anchors, rows, tau);
            value += loss;
            let _ = gradient.index_add_(0, &index, &part);
        }
        (value, gradient)
    })?;
    door(|| with_gradient(&value, &[(unit, &gradient)]))
}

/// The loss of some rows, their numbers, and the gradient with respect to them.
fn tile_of(unit: &Tensor, anchors: &Tensor, rows: &[Row], tau: f64) -> (Tensor, Tensor, Tensor) {
    let device = unit.device();
    let count = rows.len() as i64;
    let index = Tensor::from_slice(&rows.iter().map(|row| row.row).collect::<Vec<_>>()).to_device(device);
    let weights = rows.iter().map(|row| row.weight).collect::<Vec<_>>();
    let weights = Tensor::from_slice(&weights).to_device(device).unsqueeze(1);
    let logs = (unit.index_select(0, &index).matmul(&anchors.tr()) / tau).log_softmax(1, Kind::Float);
    let (mut at, mut shares) = ([Vec::new(), Vec::new()], Vec::new());
    for (number, row) in (0i64..).zip(rows) {
        for &(column, share) in &row.shares {
            at[0].push(number);
            at[1].push(column as i64);
            shares.push(share);
        }
    }
    let at = at.map(|numbers| Some(Tensor::from_slice(&numbers).to_device(device)));
    let shares = Tensor::from_slice(&shares).to_device(device);
    let target = Tensor::zeros([count, anchors.size()[0]], (Kind::Float, device)).index_put(&at, &shares, false);
    let loss = -(&target * &logs * &weights).sum(Kind::Float);
    let gradient = ((logs.exp() - target) * weights / tau).matmul(anchors);
    (loss, index, gradient)
}
