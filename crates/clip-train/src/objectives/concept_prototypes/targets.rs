//! Which concepts are a pair's own, and how its target is spread over them.

use clip_core::{Id, Result};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Context, View, door};

/// Pairs and concepts whose match is computed at once.
const MATCHES: usize = 8192;

/// The columns of each pair's own concepts among concepts in play, ascending; a row a pair of the whole batch.
pub(super) struct Own(Vec<Vec<usize>>);

impl Own {
    /// Of pictures: all of a pair's concepts that are in play. `concepts` ascend.
    pub(super) fn of_images(concepts: &[Id], context: &Context<'_>) -> Self {
        let rows = context.concepts.iter().map(|own| columns(own, concepts));
        Self(rows.collect())
    }

    /// Of texts: as of pictures, but a concept's name in a text's place is of that concept alone.
    pub(super) fn of_texts(concepts: &[Id], context: &Context<'_>) -> Self {
        let rows = context.concepts.iter().zip(context.captions);
        let rows = rows.map(|(own, caption)| match caption {
            Some(caption) => columns(&[*caption], concepts),
            None => columns(own, concepts),
        });
        Self(rows.collect())
    }

    /// Whether no pair has a concept in play.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }
}

fn columns(own: &[Id], concepts: &[Id]) -> Vec<usize> {
    let mut columns: Vec<usize> = own.iter().filter_map(|id| concepts.binary_search(id).ok()).collect();
    // A pair may name a concept twice.
    columns.sort_unstable();
    columns.dedup();
    columns
}

/// A pair's target.
pub(super) struct Row {
    /// Its row in the batch.
    pub(super) row: i64,
    /// Its weight, over the weight of all pairs of the batch that have a target.
    pub(super) weight: f32,
    /// Columns and their shares, which sum to 1.
    pub(super) shares: Vec<(usize, f32)>,
}

/// The targets of this process's pairs; those without a concept in play, or of weight 0, have none.
pub(super) struct Targets {
    pub(super) rows: Vec<Row>,
    empty: bool,
}

impl Targets {
    /// Each pair's target evenly over its own concepts.
    pub(super) fn even(own: Own, context: &Context<'_>) -> Result<Self> {
        Self::new(own, context, |own| {
            Ok(own
                .iter()
                .map(|(_, columns)| vec![1.0 / columns.len() as f64; columns.len()])
                .collect())
        })
    }

    /// Each pair's target over its own concepts by softmax of `match / tau`, where the match is the mean of the cosines of
    /// each modality's features (the mean over views) and that modality's prototypes `[concepts, dim]`.
    pub(super) fn matched(
        own: Own,
        modalities: [(&[View], &Tensor); 2],
        tau: f64,
        context: &Context<'_>,
    ) -> Result<Self> {
        Self::new(own, context, |own| {
            let matches = matches(own, modalities)?;
            let mut rest = matches.as_slice();
            Ok(own
                .iter()
                .map(|(_, columns)| {
                    let (row, tail) = rest.split_at(columns.len());
                    rest = tail;
                    softmax(row, tau)
                })
                .collect())
        })
    }

    /// `spread` gives the shares of each of the rows it is handed, row and columns.
    fn new(
        Own(own): Own,
        context: &Context<'_>,
        spread: impl FnOnce(&[(i64, Vec<usize>)]) -> Result<Vec<Vec<f64>>>,
    ) -> Result<Self> {
        let weights: Vec<f32> = door(|| Vec::try_from(context.weights.to_kind(Kind::Float)).unwrap_or_default())?;
        let counted = (0i64..).zip(own).zip(&weights);
        let counted = counted.filter(|((_, columns), weight)| !columns.is_empty() && **weight > 0.0);
        let (rows, weights): (Vec<_>, Vec<_>) = counted.map(|(row, weight)| (row, f64::from(*weight))).unzip();
        let whole: f64 = weights.iter().sum();
        let slice = rows.partition_point(|(row, _)| *row < context.rows.start)
            ..rows.partition_point(|(row, _)| *row < context.rows.end);
        let shares = spread(&rows[slice.clone()])?;
        let empty = rows.is_empty();
        let rows = rows[slice.clone()].iter().zip(&weights[slice]).zip(shares);
        let rows = rows.map(|(((row, columns), weight), shares)| Row {
            row: *row,
            weight: (weight / whole) as f32,
            shares: columns
                .iter()
                .copied()
                .zip(shares.into_iter().map(|share| share as f32))
                .collect(),
        });
        Ok(Self {
            rows: rows.collect(),
            empty,
        })
    }

    /// Whether no pair of the whole batch has a target.
    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }
}

fn softmax(row: &[f64], tau: f64) -> Vec<f64> {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|value| ((value - most) / tau).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The match of each row with each of its columns, one after another.
fn matches(own: &[(i64, Vec<usize>)], modalities: [(&[View], &Tensor); 2]) -> Result<Vec<f64>> {
    let flat: Vec<(i64, i64)> = own
        .iter()
        .flat_map(|(row, columns)| columns.iter().map(|&column| (*row, column as i64)))
        .collect();
    door(|| {
        let _guard = clip_nn::tch::no_grad_guard();
        let means = modalities.map(|(views, prototypes)| {
            let units: Vec<Tensor> = views.iter().map(|view| view.unit.detach()).collect();
            (Tensor::stack(&units, 0).mean_dim(0, false, Kind::Float), prototypes)
        });
        let mut matches = Vec::with_capacity(flat.len());
        for piece in flat.chunks(MATCHES) {
            let (rows, columns): (Vec<i64>, Vec<i64>) = piece.iter().copied().unzip();
            let device = means[0].0.device();
            let (rows, columns) = (Tensor::from_slice(&rows), Tensor::from_slice(&columns));
            let (rows, columns) = (rows.to_device(device), columns.to_device(device));
            let [image, text] = means.each_ref().map(|(features, prototypes)| {
                let products = features.index_select(0, &rows) * prototypes.index_select(0, &columns);
                products.sum_dim_intlist(1, false, Kind::Float)
            });
            let values: Vec<f64> = Vec::try_from(((image + text) / 2.0).to_kind(Kind::Double)).unwrap_or_default();
            matches.extend(values);
        }
        matches
    })
}
