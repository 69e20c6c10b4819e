//! Locks and rates by how deep a parameter lies in its tower.

use clip_core::{Error, Result};
use clip_nn::{Parameter, Parameters};
use serde::{Deserialize, Serialize};

use crate::groups::{locked, under};

/// The names of the towers, as parameters begin with them.
const TOWERS: [&str; 2] = ["image", "text"];

/// How many of each tower's first blocks keep their weights (and adapters), the embeddings below them included; 0 locks
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table, as `lock_layers = { image = 4, text = 6 }` or `--set lock_layers.image=4`"
)]
pub struct LockLayers {
    /// Blocks of the image tower.
    pub image: u32,
    /// Blocks of the text tower.
    pub text: u32,
}

/// The number of a tower's blocks: the greatest depth that its backbone notes.
fn blocks(parameters: &Parameters, tower: &str) -> Option<u32> {
    let own = parameters.iter().filter(|parameter| under(&parameter.name, tower));
    own.filter_map(|parameter| parameter.layer).max()
}

fn no_depth(setting: &str, tower: &str) -> Error {
    Error::invalid(format!(
        "{setting} is set for the {tower} tower, whose backbone does not say how deep its layers lie"
    ))
}

/// Locks the embeddings and the first blocks of the towers.
///
/// # Errors
/// A tower has fewer blocks, or its backbone notes no depths.
pub(crate) fn lock_layers(parameters: &Parameters, layers: LockLayers) -> Result<()> {
    for (tower, count) in TOWERS.into_iter().zip([layers.image, layers.text]) {
        if count == 0 {
            continue;
        }
        let there = blocks(parameters, tower)
            .ok_or_else(|| no_depth("lock_layers", tower).remedy("name what is locked by its prefix, in `lock`"))?;
        if count > there {
            return Err(Error::invalid(format!(
                "lock_layers.{tower} is {count}, and the tower has {there} blocks"
            ))
            .remedy("lock fewer, or the whole tower by `lock`"));
        }
        parameters
            .lock(|parameter| under(&parameter.name, tower) && parameter.layer.is_some_and(|layer| layer <= count));
    }
    Ok(())
}

/// Layer-wise decay of the rate (Clark et al., 2020; as BEiT numbers the layers): a parameter at depth `l` of a tower of
/// `L` blocks learns at `decay^(L + 1 − l)` of the rate, 0 being the embeddings. What follows the last block, the
/// projections and all else learn at the whole rate.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDecay {
    decay: f64,
    /// Blocks of each tower.
    blocks: [u32; 2],
}

impl LayerDecay {
    /// The whole rate for everything.
    pub const NONE: Self = Self {
        decay: 1.0,
        blocks: [0; 2],
    };

    /// The decay over a model's towers.
    ///
    /// # Errors
    /// The backbone of a tower that is trained notes no depths.
    pub fn new(parameters: &Parameters, decay: f64) -> Result<Self> {
        let mut all = [0; 2];
        if decay == 1.0 {
            return Ok(Self::NONE);
        }
        for (tower, count) in TOWERS.into_iter().zip(&mut all) {
            *count = match blocks(parameters, tower) {
                Some(blocks) => blocks,
                None if locked(parameters, tower) => 0,
                None => return Err(no_depth("layer_decay", tower).remedy("set a rate by prefix in `rates`")),
            };
        }
        Ok(Self { decay, blocks: all })
    }

    /// The share of the rate that a parameter learns at.
    pub fn share(&self, parameter: &Parameter) -> f64 {
        let tower = TOWERS.iter().position(|tower| under(&parameter.name, tower));
        match (tower, parameter.layer) {
            (Some(tower), Some(layer)) => {
                let above = (self.blocks[tower] + 1).saturating_sub(layer);
                self.decay.powf(f64::from(above))
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::{Fresh, Init, ParamOptions, Params, Role};

    /// An image tower of two blocks, and a text tower that says nothing of its depths.
    fn model() -> Parameters {
        let options = ParamOptions {
            fresh: Fresh::Everything,
            trainable: true,
            ..ParamOptions::default()
        };
        let root = Params::new(None, options);
        let image = root.at("image");
        let make = |params: &Params, name: &str| drop(params.tensor(name, &[2], Role::Weight, Init::Constant(1.0)));
        make(&image.layer(0), "class");
        for i in 0..2 {
            make(&image.at("blocks").at(i).layer(i + 1), "weight");
        }
        make(&image.at("norm"), "weight");
        make(&root.at("text"), "words");
        make(&root.at("image_projection"), "weight");
        make(&root, "logit_scale");
        root.finish().unwrap()
    }

    fn trained(parameters: &Parameters) -> Vec<&str> {
        parameters
            .trainable()
            .map(|parameter| parameter.name.as_str())
            .collect()
    }

    #[test]
    fn embeddings_and_first_blocks_are_locked() {
        let lock = |image, text| {
            let parameters = model();
            lock_layers(&parameters, LockLayers { image, text }).map(|()| parameters)
        };
        let whole = lock(0, 0).unwrap();
        assert_eq!(trained(&whole).len(), 7);
        let rest = [
            "image.norm.weight",
            "text.words",
            "image_projection.weight",
            "logit_scale",
        ];
        assert_eq!(
            trained(&lock(1, 0).unwrap()),
            [&["image.blocks.1.weight"], &rest[..]].concat()
        );
        assert_eq!(trained(&lock(2, 0).unwrap()), rest);
        let error = lock(3, 0).err().unwrap().to_string();
        assert!(
            error.contains("lock_layers.image is 3, and the tower has 2 blocks"),
            "{error}"
        );
        let error = lock(0, 1).err().unwrap().to_string();
        assert!(error.contains("text tower") && error.contains("how deep"), "{error}");
    }

    #[test]
    fn deeper_layers_learn_faster() {
        let parameters = model();
        assert!(
            LayerDecay::new(&parameters, 0.5).is_err(),
            "the text tower has no depths"
        );
        parameters.lock(|parameter| parameter.name == "text.words");
        let decay = LayerDecay::new(&parameters, 0.5).unwrap();
        let shares: Vec<(&str, f64)> = parameters.iter().map(|p| (p.name.as_str(), decay.share(p))).collect();
        let wanted = [
            ("image.class", 0.125),
            ("image.blocks.0.weight", 0.25),
            ("image.blocks.1.weight", 0.5),
            ("image.norm.weight", 1.0),
            ("text.words", 1.0),
            ("image_projection.weight", 1.0),
            ("logit_scale", 1.0),
        ];
        assert_eq!(shares, wanted);
        // Locks above do not move the depths below.
        parameters.lock(|parameter| parameter.name == "image.blocks.1.weight");
        assert_eq!(LayerDecay::new(&parameters, 0.5).unwrap(), decay);
        assert_eq!(LayerDecay::new(&model(), 1.0).unwrap(), LayerDecay::NONE);
    }
}
