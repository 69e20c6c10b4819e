//! Where a model's tensors come from: one checkpoint, or a tower of one and a tower of another.

use std::sync::Arc;

use clip_format::Weights;
use clip_nn::clip_core::Result;
use clip_nn::tch::Tensor;
use clip_nn::{Release, WeightSource};

use crate::map;

/// A checkpoint's tensors under canonical names.
pub(crate) struct CheckpointWeights(pub(crate) Arc<dyn Weights>);

impl WeightSource for CheckpointWeights {
    fn names(&self) -> Vec<String> {
        self.0.names().into_iter().map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        map::tensor(&self.0, name)
    }

    fn release(&self) -> Option<Release> {
        let weights = self.0.clone();
        Some(Release::new(move || weights.release()))
    }
}

/// The image tower of one checkpoint and the text tower of another.
pub(crate) struct JoinedWeights {
    pub(crate) image: Arc<dyn Weights>,
    pub(crate) text: Arc<dyn Weights>,
}

/// What stands between two towers, by the first parts of its names.
pub(crate) const BETWEEN_TOWERS: [&str; 4] = ["image_projection", "text_projection", "logit_scale", "logit_bias"];

/// What a tower leaves behind where it joins another: the other tower, and what stands between the two.
fn left_behind(name: &str, other: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    first == other || BETWEEN_TOWERS.contains(&first)
}

impl WeightSource for JoinedWeights {
    fn names(&self) -> Vec<String> {
        let image = self.image.names().into_iter().filter(|name| !left_behind(name, "text"));
        let text = self.text.names().into_iter().filter(|name| !left_behind(name, "image"));
        image.chain(text).map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        match name.split('.').next() {
            Some("image") => map::tensor(&self.image, name),
            Some("text") => map::tensor(&self.text, name),
            _ => Ok(None),
        }
    }
}
