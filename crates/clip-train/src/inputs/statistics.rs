//! Mean and deviation of a tower's features, for projections that standardise.

use std::sync::Arc;

use clip_core::{Error, PairTable, Result};
use clip_data::BadRows;
use clip_nn::layers::Projection;
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{Compute, DualEncoder, door};

use super::Reading;
use super::choice::Purpose;
use super::collate::{Shapes, batch};
use super::concepts::Captions;
use super::pass::{pooled_images, pooled_texts};
use super::row::{PrepareInputs, Stores};
use super::source::loader;
use crate::views::Views;

/// A dimension whose deviation is below this share of the usual one counts as constant: towers have dead dimensions. It is
/// divided by the usual deviation, since by its own it would be blown up as soon as training the tower moves it.
const CONSTANT: f64 = 1e-3;

/// Sums of features, in f64.
struct Sums {
    rows: f64,
    sum: Tensor,
    squares: Tensor,
}

impl Sums {
    fn new(width: i64, like: &Tensor) -> Self {
        let zeros = || Tensor::zeros([width], (Kind::Double, like.device()));
        Self {
            rows: 0.0,
            sum: zeros(),
            squares: zeros(),
        }
    }

    fn add(&mut self, features: &Tensor) {
        let features = features.to_kind(Kind::Double);
        self.rows += features.size()[0] as f64;
        self.sum = &self.sum + features.sum_dim_intlist(0, false, Kind::Double);
        self.squares = &self.squares + features.square().sum_dim_intlist(0, false, Kind::Double);
    }

    fn set(&self, projection: &Projection) -> Result<()> {
        let (mean, scale) = door(|| self.mean_and_scale())?;
        projection.set_statistics(&mean, &scale)
    }

    /// The mean and what to divide by, `[width]` each.
    fn mean_and_scale(&self) -> (Tensor, Tensor) {
        let mean = &self.sum / self.rows;
        let variance = (&self.squares / self.rows - mean.square()).clamp_min(0.0);
        let deviation = variance.sqrt();
        let usual = match variance.mean(Kind::Double).sqrt().double_value(&[]) {
            0.0 => 1.0,
            usual => usual,
        };
        let scale = deviation.where_scalarother(&deviation.ge(CONSTANT * usual), usual);
        (mean, scale)
    }
}

/// Whether a projection standardises and still has the statistics it was made with: mean 0 and scale 1.
fn waits(model: &DualEncoder, projection: &Projection, name: &str) -> Result<bool> {
    if !projection.standardises() {
        return Ok(false);
    }
    let made_with = |part: &str, value: f64| {
        let name = format!("{name}.{part}");
        let buffer = model.parameters().iter().find(|parameter| parameter.name == name);
        buffer.is_some_and(|buffer| buffer.tensor.eq(value).all().int64_value(&[]) == 1)
    };
    door(|| made_with("mean", 0.0) && made_with("scale", 1.0))
}

/// Sets the statistics of projections that wait for them, from the first text and the first picture of each training
/// pair. A model that was trained before keeps its own. Says which were set.
pub(crate) fn standardise(
    model: &DualEncoder,
    table: &Arc<dyn PairTable>,
    reading: &Reading,
    stores: &Stores,
    batch_size: usize,
    compute: Compute,
    bad_rows: BadRows,
) -> Result<Vec<&'static str>> {
    let images = waits(model, model.image_projection(), "image_projection")?;
    let texts = waits(model, model.text_projection(), "text_projection")?;
    if !images && !texts {
        return Ok(Vec::new());
    }
    let prepare = PrepareInputs {
        reading: reading.clone(),
        stores: stores.clone(),
        views: Arc::new(Views::new(
            &crate::config::Augmentation::default(),
            clip_data::TextAugment::default(),
        )),
        purpose: Purpose::Plain,
        wanted: [usize::from(images), usize::from(texts)],
        captions: Captions::default(),
        masking: None,
        teacher: None,
    };
    let shapes = Shapes::of(model);
    let scale = model.logit_scale();
    let (mut of_images, mut of_texts) = door(|| {
        (
            Sums::new(model.image().width(), scale),
            Sums::new(model.text().width(), scale),
        )
    })?;
    for loaded in loader(table, batch_size, reading.workers, bad_rows, Arc::new(prepare))? {
        let batch = batch(&loaded?, shapes)?;
        for input in &batch.images {
            let features = pooled_images(model, input, compute)?;
            door(|| of_images.add(&features))?;
        }
        for input in &batch.texts {
            let features = pooled_texts(model, input, compute)?;
            door(|| of_texts.add(&features))?;
        }
    }
    if of_images.rows + of_texts.rows == 0.0 {
        return Err(Error::invalid("the training table has no usable row"));
    }
    let mut set = Vec::new();
    if images {
        of_images.set(model.image_projection())?;
        set.push("image_projection");
    }
    if texts {
        of_texts.set(model.text_projection())?;
        set.push("text_projection");
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scales(rows: [[f64; 4]; 2]) -> Vec<f64> {
        let rows = Tensor::from_slice2(&rows);
        let mut sums = Sums::new(4, &rows);
        sums.add(&rows);
        let (mean, scale) = sums.mean_and_scale();
        assert_eq!(mean, rows.mean_dim(0, false, Kind::Double));
        Vec::try_from(scale).unwrap()
    }

    /// Divided by what little they moved, dead dimensions of a tower had gradients thousands of times those of all others.
    #[test]
    fn constant_dimensions_are_divided_by_the_usual_deviation() {
        let found = scales([[3.0, 0.0, 1e-9, 5.0], [-3.0, 0.0, 0.0, 5.1]]);
        let usual = ((9.0 + 0.0025) / 4.0f64).sqrt();
        for (found, wanted) in found.iter().zip([3.0, usual, usual, 0.05]) {
            assert!((found - wanted).abs() < 1e-6, "{found} {wanted}");
        }
        assert_eq!(scales([[3.0, 0.0, 1.0, 5.0]; 2]), [1.0; 4]);
    }
}
