//! Which rows of a batch a loss that is not finite came from.

use clip_core::Result;
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{Parameters, door};

use crate::batch::Batch;
use crate::step::Stepped;

/// How many rows a message names.
const NAMED: usize = 8;

/// What a step that was left out is put down to.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// The rows whose features are not finite; where all features are finite (the loss or a gradient is not), all rows of
    /// the batch. As `file, rows 3, 8 and 12 more`; empty where nothing is known of where the rows came from.
    pub(super) rows: String,
    /// Whether it may be the weights: they are not finite, or no row of several stands out and the loss itself is not finite.
    /// Otherwise they gave finite features to the other rows, or a finite loss.
    pub(super) weights: bool,
}

/// Looks at a step's features and loss, and at the weights that gave them.
pub(super) fn suspects(stepped: &Stepped, batch: &Batch, weights: &Parameters) -> Result<Suspects> {
    let rows = bad_rows(&[&stepped.images, &stepped.texts], batch.len())?;
    let none_stands_out = batch.len() > 1 && rows.len() == batch.len() && !stepped.loss.total.is_finite();
    Ok(Suspects {
        weights: none_stands_out || !finite(weights)?,
        rows: named(&rows, batch),
    })
}

fn finite(weights: &Parameters) -> Result<bool> {
    let _guard = tch::no_grad_guard();
    for weight in weights.iter() {
        if door(|| weight.tensor.isfinite().all().int64_value(&[])).map(|all| all == 0)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn named(rows: &[usize], batch: &Batch) -> String {
    let origins = rows.iter().filter_map(|&row| batch.origins.get(row));
    let Some(first) = origins.clone().next() else {
        return String::new();
    };
    let numbers: Vec<String> = origins
        .clone()
        .take(NAMED)
        .map(|origin| origin.row.to_string())
        .collect();
    let more = match origins.count() {
        count if count > NAMED => format!(" and {} more", count - NAMED),
        _ => String::new(),
    };
    format!("{}, rows {}{more}", first.file.display(), numbers.join(", "))
}

fn bad_rows(features: &[&Tensor], rows: usize) -> Result<Vec<usize>> {
    let mut bad = vec![false; rows];
    for raw in features {
        if raw.size().first() != Some(&(rows as i64)) {
            continue;
        }
        let finite = door(|| raw.isfinite().flatten(1, -1).all_dim(1, false).to_kind(Kind::Int64))?;
        let finite: Vec<i64> = door(|| Vec::try_from(&finite))?.unwrap_or_default();
        bad.iter_mut().zip(finite).for_each(|(bad, finite)| *bad |= finite == 0);
    }
    let some = bad.contains(&true);
    Ok((0..rows).filter(|&row| bad[row] || !some).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_finite_are_found_and_all_where_none_is() {
        let rows = Tensor::from_slice(&[1f32, 2.0, f32::NAN, 4.0, 5.0, f32::INFINITY]).view([3, 2]);
        assert_eq!(bad_rows(&[&rows], 3).unwrap(), [1, 2]);
        assert_eq!(bad_rows(&[&rows.ones_like()], 3).unwrap(), [0, 1, 2]);
        assert_eq!(bad_rows(&[&Tensor::new()], 2).unwrap(), [0, 1]);
    }
}
