//! InfoNCE over two views of each picture and two of each text, as in DeCLIP.

use clip_core::Result;
use clip_nn::{Context, Features, ModelShape, Needs, Objective, ObjectiveKind, Params, Terms};

use super::{InfoNce, InfoNceConfig};

/// Multi-view supervision (Li et al. 2022, "Supervision Exists Everywhere", DeCLIP): the mean of four InfoNCE losses, of
/// each of two views of the pictures with each of two views of the texts.
///
/// It is [`InfoNce`], which averages over the views there are, and asks for them; so its settings are that loss's. A run
/// has one or the other: beside `info_nce` it only adds to its weight. How further views are changed stands in
/// `[augmentation]` and `[text_augmentation]`.
#[derive(Debug)]
pub struct MultiView {
    loss: InfoNce,
}

impl MultiView {
    /// The loss of given settings.
    ///
    /// # Errors
    /// As [`InfoNce::new`].
    pub fn new(config: InfoNceConfig) -> Result<Self> {
        Ok(Self {
            loss: InfoNce::new(config)?,
        })
    }
}

impl Objective for MultiView {
    fn needs(&self) -> Needs {
        let mut needs = self.loss.needs();
        needs.image_views = needs.image_views.max(2);
        needs.text_views = needs.text_views.max(2);
        needs
    }

    fn loss(&self, features: &Features, context: &Context<'_>) -> Result<Terms> {
        let Terms(terms) = self.loss.loss(features, context)?;
        let renamed = terms.into_iter().map(|(name, term)| match name {
            InfoNce::NAME => (Self::NAME, term),
            other => (other, term),
        });
        Ok(Terms(renamed.collect()))
    }
}

impl ObjectiveKind for MultiView {
    const NAME: &'static str = "multi_view";

    type Config = InfoNceConfig;

    fn build(config: Self::Config, _: &ModelShape, _: &Params) -> Result<Self> {
        Self::new(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objectives::testing::{Batch, drawn};
    use clip_nn::View;
    use clip_nn::tch::Tensor;

    #[test]
    fn it_is_the_mean_of_four_losses_under_its_own_name() {
        let (pairs, scale) = (Batch::new(&[0; 5]), Tensor::from(5f32));
        let context = pairs.context(&scale, 0..5);
        let views = |seeds: &[i64]| seeds.iter().map(|seed| View::new(drawn(*seed, 5, 6))).collect();
        let config: InfoNceConfig = serde_json::from_str(r#"{"label_smoothing": 0.2}"#).unwrap();
        let one = InfoNce::new(config).unwrap();
        let mean = [(1, 3), (1, 4), (2, 3), (2, 4)].map(|(image, text)| {
            let terms = one
                .loss(&Features::new(views(&[image]), views(&[text])), &context)
                .unwrap();
            terms.0[0].1.double_value(&[]) / 4.0
        });
        let both = MultiView::new(config).unwrap();
        assert_eq!((both.needs().image_views, both.needs().text_views), (2, 2));
        let terms = both
            .loss(&Features::new(views(&[1, 2]), views(&[3, 4])), &context)
            .unwrap();
        assert_eq!(terms.0[0].0, "multi_view");
        assert!((terms.0[0].1.double_value(&[]) - mean.iter().sum::<f64>()).abs() < 1e-6);
    }
}
