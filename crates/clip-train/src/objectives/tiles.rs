//! The cosines of all pictures with all texts, a tile at a time.

use std::ops::Range;

use clip_core::{Error, Result};
use clip_nn::tch::{self, Kind, Tensor};
use clip_nn::{Context, Features, View, with_gradient};

/// The tiles of a batch's matrix that concern this process: those of its pictures or of its texts.
pub(super) struct Grid {
    blocks: Vec<Range<i64>>,
    rows: Range<i64>,
}

/// A tile: some pictures, some texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tile {
    /// The pictures' rows.
    pub(super) images: Range<i64>,
    /// The texts' rows.
    pub(super) texts: Range<i64>,
    /// Whether the pictures are this process's.
    pub(super) own_images: bool,
    /// Whether the texts are this process's.
    pub(super) own_texts: bool,
}

impl Grid {
    /// Tiles of at most `size` rows and columns. None of them crosses an end of `rows`.
    pub(super) fn new(batch: i64, rows: &Range<i64>, size: i64) -> Self {
        let parts = [0..rows.start, rows.clone(), rows.end..batch];
        let blocks = parts.into_iter().flat_map(|part| {
            let end = part.end;
            part.step_by(size.max(1) as usize)
                .map(move |start| start..(start + size.max(1)).min(end))
        });
        Self {
            blocks: blocks.collect(),
            rows: rows.clone(),
        }
    }

    pub(super) fn tiles(&self) -> impl Iterator<Item = Tile> {
        let own = |block: &Range<i64>| self.rows.start <= block.start && block.end <= self.rows.end;
        self.blocks.iter().flat_map(move |images| {
            let tiles = self.blocks.iter().map(move |texts| Tile {
                images: images.clone(),
                texts: texts.clone(),
                own_images: own(images),
                own_texts: own(texts),
            });
            tiles.filter(|tile| tile.own_images || tile.own_texts)
        })
    }
}

/// Checks that every view has a row a pair.
pub(super) fn check_rows(features: &Features, context: &Context<'_>) -> Result<()> {
    let batch = context.items.len() as i64;
    for view in features.images.iter().chain(&features.texts) {
        if view.unit.size().first() != Some(&batch) {
            return Err(Error::internal(format!(
                "features of shape {:?} for {batch} pairs",
                view.unit.size()
            )));
        }
    }
    Ok(())
}

/// Rows `range` of a tensor.
pub(super) fn part(tensor: &Tensor, range: &Range<i64>) -> Tensor {
    tensor.narrow(0, range.start, range.end - range.start)
}

/// `scale · cosine` of a view of pictures and a view of texts, without graph.
pub(super) struct Product {
    /// Which view of the pictures and of the texts.
    views: (usize, usize),
    images: Tensor,
    texts: Tensor,
    scale: f64,
}

impl Product {
    /// The products of all views of pictures with all views of texts.
    pub(super) fn all(features: &Features, scale: &Tensor) -> Vec<Self> {
        let scale = scale.double_value(&[]);
        let images = features.images.iter().enumerate();
        let pairs = images.flat_map(|image| features.texts.iter().enumerate().map(move |text| (image, text)));
        pairs
            .map(|((image, of_images), (text, of_texts))| Self {
                views: (image, text),
                images: of_images.unit.detach(),
                texts: of_texts.unit.detach(),
                scale,
            })
            .collect()
    }

    /// A tile's logits `[images, texts]`, in memory of their own.
    pub(super) fn logits(&self, tile: &Tile) -> Tensor {
        let images = part(&self.images, &tile.images) * self.scale;
        images.matmul(&part(&self.texts, &tile.texts).tr())
    }
}

/// The gradient of a loss of logits with respect to each view's unit rows over the scale, gathered a tile at a time.
pub(super) struct Slopes {
    images: Vec<Tensor>,
    texts: Vec<Tensor>,
}

impl Slopes {
    pub(super) fn new(features: &Features) -> Self {
        let zeros = |views: &[View]| views.iter().map(|view| view.unit.detach().zeros_like()).collect();
        Self {
            images: zeros(&features.images),
            texts: zeros(&features.texts),
        }
    }

    /// Adds a tile, whose gradient with respect to its logits is `slope`.
    pub(super) fn add(&mut self, product: &Product, tile: &Tile, slope: &Tensor) {
        let (images, texts) = (part(&product.images, &tile.images), part(&product.texts, &tile.texts));
        let (image, text) = product.views;
        let _ = part(&self.images[image], &tile.images).addmm_(slope, &texts);
        let _ = part(&self.texts[text], &tile.texts).addmm_(&slope.tr(), &images);
    }

    /// A term of value `value` with this gradient in the features and in the scale, and `others` beside.
    pub(super) fn term(
        mut self,
        value: &Tensor,
        features: &Features,
        scale: &Tensor,
        others: &[(&Tensor, &Tensor)],
    ) -> Tensor {
        let views = || features.images.iter().chain(&features.texts);
        let of_scale = {
            let _guard = tch::no_grad_guard();
            let mut of_scale = Tensor::zeros([], (Kind::Double, scale.device()));
            // Each logit is the scale times a picture's row times a text's: the pictures' gradients hold all of them.
            for (slope, view) in self.images.iter().zip(&features.images) {
                of_scale += Tensor::linalg_vecdot(slope, &view.unit, -1).sum(Kind::Double);
            }
            let by = scale.double_value(&[]);
            for (slope, view) in self.images.iter_mut().chain(&mut self.texts).zip(views()) {
                let _ = slope.g_mul_scalar_(by);
                to_raw(slope, view);
            }
            of_scale.to_kind(Kind::Float)
        };
        let mut gradients: Vec<(&Tensor, &Tensor)> = views()
            .map(|view| &view.raw)
            .zip(self.images.iter().chain(&self.texts))
            .collect();
        gradients.push((scale, &of_scale));
        gradients.extend(others);
        with_gradient(&value.to_kind(Kind::Float), &gradients)
    }
}

/// Makes the gradient with respect to a view's unit rows one with respect to its un-normalised rows, in place: autograd
/// would make several matrices of the features' size. `d(x / |x|) = (1 − u uᵀ) dx / |x|` with `u = x / |x|`.
fn to_raw(gradient: &mut Tensor, view: &View) {
    // Rows that are not normalised here are their own unit rows.
    if view.raw.data_ptr() == view.unit.data_ptr() {
        return;
    }
    let along = Tensor::linalg_vecdot(gradient, &view.unit, -1).unsqueeze(-1);
    let _ = gradient.addcmul_(&view.unit, &along.neg());
    let length = view.raw.norm_scalaropt_dim(2, [-1i64], true).clamp_min(1e-12);
    let _ = gradient.g_div_(&length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_slices_rows_and_columns_once() {
        for (batch, rows, size) in [(7, 0..7, 3), (7, 2..5, 2), (7, 2..5, 100), (4, 3..4, 1), (5, 5..5, 2)] {
            let mut seen = vec![0; (batch * batch) as usize];
            for tile in Grid::new(batch, &rows, size).tiles() {
                assert_eq!(tile.own_images, tile.images.clone().all(|row| rows.contains(&row)));
                assert_eq!(tile.own_texts, tile.texts.clone().all(|row| rows.contains(&row)));
                assert!(tile.images.end - tile.images.start <= size);
                for image in tile.images {
                    for text in tile.texts.clone() {
                        seen[(image * batch + text) as usize] += 1;
                    }
                }
            }
            for image in 0..batch {
                for text in 0..batch {
                    let wanted = i32::from(rows.contains(&image) || rows.contains(&text));
                    assert_eq!(seen[(image * batch + text) as usize], wanted);
                }
            }
        }
    }
}
