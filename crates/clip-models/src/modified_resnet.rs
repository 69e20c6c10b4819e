//! `modified_resnet`: the convolutional picture towers of OpenAI's release, RN50 to RN50x64 (Radford et al., 2021, section
//! 2.4; `ModifiedResNet` of open_clip 3.3.0).
//!
//! ```text
//! x = halve(relu(conv3(relu(conv2(relu(conv1(pixels)))))))        x = stages(x)        pooled = attention_pool(x)
//! ```
//!
//! A ResNet with a stem of three convolutions, with an average of 2 × 2 places wherever it halves a picture (behind the first
//! convolution of the stem alone a stride does), and attention in the place of the mean over places. Statistics of the norms
//! stay frozen. The last matrix of the attention is the projection behind the tower.

use clip_nn::clip_core::{Error, Result};
use clip_nn::layers::{AttentionPool, ConvNorm, ConvShape, Padding};
use clip_nn::tch::{Kind, Tensor};
use clip_nn::{ImageBackbone, ImageEncoder, Params, Pass, TowerOutput};
use serde::{Deserialize, Serialize};

use crate::sizes::{self, MOST_BLOCKS};

/// The fields of a canonical `vision_config`; defaults are RN50's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModifiedResNetConfig {
    /// Blocks of each of the four stages.
    pub layers: [u32; 4],
    /// Channels that the stem gives; an even number. Features are 32 times as wide.
    pub width: i64,
    /// Heads of the attention pool; a divisor of the features' width.
    pub num_attention_heads: i64,
    /// Height and width of the pixels.
    pub image_size: i64,
}

impl Default for ModifiedResNetConfig {
    fn default() -> Self {
        Self {
            layers: [3, 4, 6, 3],
            width: 64,
            num_attention_heads: 32,
            image_size: 224,
        }
    }
}

/// PyTorch's eps.
const EPS: f64 = 1e-5;
/// A block gives this many times the channels it works in.
const EXPANSION: i64 = 4;

fn shape([input, output]: [i64; 2], kernel: i64, stride: i64) -> ConvShape {
    ConvShape {
        input,
        output,
        kernel,
        stride,
        groups: 1,
        padding: Padding::Sides(kernel / 2),
    }
}

fn relu(mut x: Tensor) -> Tensor {
    x.relu_()
}

/// The mean of each 2 × 2 places; a last odd row or column is left out.
fn halve(x: &Tensor) -> Tensor {
    x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)
}

/// Narrow, look around, widen; added to what came in (He et al., 2016), smoothed where it halves (Zhang, 2019).
#[derive(Debug)]
struct Block {
    narrow: ConvNorm,
    around: ConvNorm,
    widen: ConvNorm,
    shortcut: Option<ConvNorm>,
    halves: bool,
}

impl Block {
    fn new(params: &Params, [input, channels]: [i64; 2], halves: bool) -> Self {
        let output = EXPANSION * channels;
        let part = |i: u32| (params.at(format!("conv{i}")), params.at(format!("norm{i}")));
        let conv = |i: u32, channels, kernel| {
            let (conv, norm) = part(i);
            ConvNorm::new(&conv, &norm, shape(channels, kernel, 1), EPS)
        };
        let (last, norm) = part(3);
        let shortcut = params.at("downsample");
        Self {
            narrow: conv(1, [input, channels], 1),
            around: conv(2, [channels, channels], 3),
            widen: ConvNorm::silent(&last, &norm, shape([channels, output], 1, 1), EPS),
            shortcut: (halves || input != output).then(|| {
                let shape = shape([input, output], 1, 1);
                ConvNorm::new(&shortcut.at("conv"), &shortcut.at("norm"), shape, EPS)
            }),
            halves,
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let halved = |x: Tensor| if self.halves { halve(&x) } else { x };
        let inner = relu(self.narrow.forward(x, pass));
        let inner = halved(relu(self.around.forward(&inner, pass)));
        let inner = self.widen.forward(&inner, pass);
        let straight = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&halved(x.shallow_clone()), pass),
            None => x.shallow_clone(),
        };
        relu(inner + straight)
    }
}

/// The tower.
#[derive(Debug)]
pub struct ModifiedResNet {
    stem: [ConvNorm; 3],
    blocks: Vec<Block>,
    pool: AttentionPool,
    width: i64,
    image_size: i64,
}

impl ImageBackbone for ModifiedResNet {
    const MODEL_TYPES: &'static [&'static str] = &["modified_resnet"];

    type Config = ModifiedResNetConfig;

    fn build(config: ModifiedResNetConfig, params: &Params) -> Result<Self> {
        let name = Self::MODEL_TYPES[0];
        let ModifiedResNetConfig {
            layers,
            width,
            num_attention_heads: heads,
            image_size,
        } = config;
        sizes::positive(name, &[("width", width), ("image_size", image_size)])?;
        let blocks = layers.iter().fold(0, |sum: u32, &stage| sum.saturating_add(stage));
        if width % 2 != 0 || layers.contains(&0) || blocks > MOST_BLOCKS {
            return Err(
                Error::invalid(format!("config of `{name}`: width is {width}, layers is {layers:?}")).remedy(format!(
                    "the width is even, and each of the four stages has a block or more, {MOST_BLOCKS} together at the most"
                )),
            );
        }
        let features = 32 * width;
        sizes::heads(name, features, heads)?;
        let side = places(image_size, name)?;

        let first = params.layer(0).at("stem");
        let stem = |i: u32, channels, stride| {
            let (conv, norm) = (first.at(format!("conv{i}")), first.at(format!("norm{i}")));
            ConvNorm::new(&conv, &norm, shape(channels, 3, stride), EPS)
        };
        let stem = [
            stem(1, [3, width / 2], 2),
            stem(2, [width / 2, width / 2], 1),
            stem(3, [width / 2, width], 1),
        ];
        let mut blocks = Vec::new();
        let mut input = width;
        for (stage, repeats) in layers.into_iter().enumerate() {
            let channels = width << stage;
            for repeat in 0..repeats {
                let depth = blocks.len() as u32 + 1;
                let params = params.at("stages").at(stage + 1).at(repeat).layer(depth);
                blocks.push(Block::new(&params, [input, channels], stage > 0 && repeat == 0));
                input = EXPANSION * channels;
            }
        }
        Ok(Self {
            stem,
            blocks,
            pool: AttentionPool::new(&params.at("pool"), side * side, features, heads),
            width: features,
            image_size,
        })
    }
}

/// The side of the grid that the last stage gives. The reference takes a 32nd of a picture's, which is not always as much:
/// then its positions do not fit either.
fn places(image_size: i64, name: &str) -> Result<i64> {
    // The stride of the stem rounds up, the four means round down.
    let side = (image_size + 1) / 2 / 16;
    if side == image_size / 32 && side > 0 {
        return Ok(side);
    }
    Err(
        Error::invalid(format!("config of `{name}`: image_size is {image_size}"))
            .remedy("it is a multiple of 32, 32 or more"),
    )
}

impl ImageEncoder for ModifiedResNet {
    fn width(&self) -> i64 {
        self.width
    }

    fn image_size(&self) -> [i64; 2] {
        [self.image_size; 2]
    }

    fn has_batch_statistics(&self) -> bool {
        true
    }

    fn forward(&self, pixels: &Tensor, pass: Pass) -> TowerOutput {
        let stem = self.stem.iter();
        let x = stem.fold(pixels.shallow_clone(), |x, conv| relu(conv.forward(&x, pass)));
        let blocks = self.blocks.iter();
        let x = blocks.fold(halve(&x), |x, block| block.forward(&x, pass));
        let places = x.flatten(2, 3).transpose(1, 2).to_kind(Kind::Float);
        TowerOutput {
            pooled: self.pool.forward(&places, pass),
            tokens: pass.tokens.then(|| places.contiguous()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clip_nn::{Fresh, ParamOptions};

    fn fresh() -> Params {
        let options = ParamOptions {
            fresh: Fresh::Everything,
            ..Default::default()
        };
        Params::new(None, options)
    }

    fn config(change: impl Fn(&mut ModifiedResNetConfig)) -> ModifiedResNetConfig {
        let mut config = ModifiedResNetConfig {
            layers: [1, 2, 1, 1],
            width: 4,
            num_attention_heads: 2,
            image_size: 64,
        };
        change(&mut config);
        config
    }

    #[test]
    fn a_picture_of_any_size_that_positions_fit() {
        for (image_size, side) in [(32, 1), (64, 2), (65, 2), (96, 3)] {
            let params = fresh();
            let tower = ModifiedResNet::build(config(|config| config.image_size = image_size), &params).unwrap();
            let parameters = params.finish().unwrap();
            let positions = parameters.iter().find(|p| p.name == "pool.position_embedding").unwrap();
            assert_eq!(positions.tensor.size(), [side * side + 1, 128]);
            let pass = Pass {
                tokens: true,
                ..Pass::INFER
            };
            let pixels = Tensor::ones([2, 3, image_size, image_size], (Kind::Float, positions.tensor.device()));
            let output = tower.forward(&pixels, pass);
            assert_eq!(output.pooled.size(), [2, tower.width()]);
            assert_eq!(output.tokens.unwrap().size(), [2, side * side, 128]);
        }
    }

    #[test]
    fn depth_is_noted_and_the_counts_are_not_missed() {
        let params = fresh();
        let _ = ModifiedResNet::build(config(|_| ()), &params).unwrap();
        let parameters = params.finish().unwrap();
        let layer = |name: &str| parameters.iter().find(|p| p.name == name).map(|p| p.layer);
        assert_eq!(layer("stem.conv1.weight"), Some(Some(0)));
        assert_eq!(layer("stages.2.1.norm3.weight"), Some(Some(3)));
        assert_eq!(layer("pool.attention.qkv.bias"), Some(None));
        assert_eq!(layer("stages.2.1.downsample.conv.weight"), None);
        assert_eq!(layer("stem.norm1.num_batches_tracked"), None);
    }

    #[test]
    fn a_config_that_makes_no_sense_is_refused() {
        let error = |change: &dyn Fn(&mut ModifiedResNetConfig)| {
            ModifiedResNet::build(config(change), &fresh()).unwrap_err().to_string()
        };
        assert_eq!(
            error(&|config| config.image_size = 63),
            "config of `modified_resnet`: image_size is 63; it is a multiple of 32, 32 or more"
        );
        assert!(error(&|config| config.image_size = 31).contains("image_size is 31"));
        assert!(error(&|config| config.num_attention_heads = 3).contains("3 attention heads do not divide"));
        assert!(error(&|config| config.layers[2] = 0).contains("layers is [1, 2, 0, 1]"));
        assert!(error(&|config| config.layers[2] = u32::MAX).contains("layers is"));
        assert!(error(&|config| config.width = 5).contains("width is 5"));
    }
}
